"""`lg.jax`: programs as functions of JAX. An extra: `pip install "loopgrad[jax]"`."""

from __future__ import annotations

try:
    import jax as _jax  # noqa: F401
except ImportError as error:
    raise ImportError(
        "lg.jax needs JAX, which is not installed: pip install 'loopgrad[jax]'"
    ) from error

from loopgrad.interop.jax.function import Function, function

__all__ = ["Function", "function"]
