"""Programs of the library as functions of tensors, with what they are called with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import loopgrad as lg
from tests.lib.test_library import ROWS

torch = pytest.importorskip("torch")

NAMES = list(ROWS)


def tensors_of(row: str, seed: int, dtype: Any = None) -> tuple[Any, ...]:
    """The inputs of a row of the library's tables, in order; floating ones want a gradient."""
    program, case = lg.lib[row.partition(":")[0]], ROWS[row]
    values = case.inputs(program, seed)
    found = [torch.tensor(values[i.name]) for i in program.inputs]
    return tuple(
        (t if dtype is None else t.to(dtype)).requires_grad_() if t.is_floating_point() else t
        for t in found
    )


def call_of(row: str, **options: Any) -> Callable[..., Any]:
    """The program of a row as a function of tensors alone."""
    function = lg.torch.function(lg.lib[row.partition(":")[0]], **options)
    constants = dict(ROWS[row].constants)
    return lambda *tensors: function(*tensors, **constants)


def operator_call(row: str, tensors: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
    """PyTorch's operator of a row, and all its arguments."""
    program = lg.lib[row.partition(":")[0]]
    known = {c.name: c.value for c in program.constants} | dict(ROWS[row].constants)
    numbers = [known[n.name] for n in (*program.sizes, *program.constants)]
    return lg.torch.function(program).operator, (*tensors, *numbers)


def seeded(*shape: int, dtype: Any = torch.float64, seed: int = 0) -> Any:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def gradients(function: Any, tensors: Any, seed: Any) -> Any:
    """By a new graph, of fresh leaves."""
    leaves = [t.detach().clone().requires_grad_(t.is_floating_point()) for t in tensors]
    function(*leaves).backward(seed)
    return [t.grad for t in leaves]


# With a size that no shape fixes, and a constant.
GROUP_NORM = """group_norm(x[B,C,N], param γ[C], param β[C], size G, eps = 1e-5) batch B -> y[B,C,N]:
    local μ[B,G], v[B,G]
    for b, c, n:  μ[b,c*G//C] += x[b,c,n] * G / (C * N)
    for b, c, n:  v[b,c*G//C] += (x[b,c,n] - μ[b,c*G//C])**2 * G / (C * N)
    for b, c, n:  y[b,c,n]    += γ[c] * (x[b,c,n] - μ[b,c*G//C]) * rsqrt(v[b,c*G//C] + eps) + β[c]"""
