"""loopgrad in PyTorch: programs as functions of tensors, and as modules.

    lg.torch.function(program)                a differentiable function of tensors
    lg.torch.Module(program, J=10, W="ones")  an `nn.Module` that owns the program's parameters

docs/pytorch.md is the guide.
"""

from __future__ import annotations

try:
    import torch  # noqa: F401
except ImportError as error:
    raise ImportError(
        "lg.torch needs PyTorch, which is not installed: pip install 'loopgrad[torch]' "
        "(https://pytorch.org says how to get builds for the CPU alone)"
    ) from error

from loopgrad.interop.torch.function import Function, function
from loopgrad.interop.torch.module import Module

__all__ = ["Function", "Module", "function"]
