"""Derivatives as functions of arrays: `vjp`, `jvp` and `value_and_grad`, as in JAX.

Each derives a program once, compiles it, and keeps both with the program that it was asked of.
"""

from loopgrad.functions.calls import jvp, value_and_grad, vjp

__all__ = ["jvp", "value_and_grad", "vjp"]
