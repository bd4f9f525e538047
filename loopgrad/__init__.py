"""loopgrad turns small loop programs written with `+=` into gradients and fast kernels.

    text -> Program -> backward -> compiled -> called

>>> import loopgrad as lg, numpy as np
>>> softmax = lg.program('''
... softmax(s[B,J]) -> p[B,J]:
...     for b, j:  Z[b]   += exp(s[b,j])
...     for b, j:  p[b,j] += exp(s[b,j]) / Z[b]
... ''')
>>> print(softmax.backward())
softmax.backward(s[B,J], Z[B], p.grad[B,J]) -> s.grad[B,J]:
    for b, j:  s.grad[b,j] += p.grad[b,j] * exp(s[b,j]) / Z[b]
    for b, j:  Z.grad[b]   -= p.grad[b,j] * exp(s[b,j]) / Z[b]**2
    for b, j:  s.grad[b,j] += Z.grad[b] * exp(s[b,j])
>>> p, pullback = lg.vjp(softmax, np.zeros((1, 2)))
>>> p
array([[0.5, 0.5]])
>>> pullback([[1.0, 0.0]])
(array([[ 0.25, -0.25]]),)
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from loopgrad.diagnostics import ProgramError, ProgramWarning
from loopgrad.ir.nodes import Program

if TYPE_CHECKING:
    from loopgrad.frontend.library import lib, load
    from loopgrad.frontend.tracing import indices, tensor
    from loopgrad.functions import jvp, value_and_grad, vjp
    from loopgrad.pipeline import compile

__version__ = "0.1.0"

# Name -> the module it comes from, imported when the name is first used: `import loopgrad` is fast.
_LAZY = {
    "lib": "loopgrad.frontend.library",
    "load": "loopgrad.frontend.library",
    "indices": "loopgrad.frontend.tracing",
    "tensor": "loopgrad.frontend.tracing",
    "compile": "loopgrad.pipeline",
    "jvp": "loopgrad.functions",
    "value_and_grad": "loopgrad.functions",
    "vjp": "loopgrad.functions",
}

__all__ = [
    "Program",
    "ProgramError",
    "ProgramWarning",
    "__version__",
    "compile",
    "indices",
    "jvp",
    "lib",
    "load",
    "program",
    "tensor",
    "value_and_grad",
    "vjp",
]


def program(source: str | Callable[..., Any]) -> Program:
    """A program, from its text or, as a decorator, from a Python function.

    A text may hold several programs, of which the later may call those above; the last is
    returned. A function is run once on symbolic tensors; `loopgrad.frontend.tracing` shows how
    everything is spelled there.

    Raises ProgramError, with all that is wrong, where the program cannot be read or breaks a rule
    for every input.

    >>> import loopgrad as lg
    >>> double = lg.program("double(x[N]) -> y[N]:\\n    for n:  y[n] += 2 * x[n]")
    >>> double([1.0, 2.0])
    array([2., 4.])
    """
    if isinstance(source, str):
        from loopgrad.frontend.library import program as parsed

        return parsed(source)
    if callable(source):
        from loopgrad.frontend.tracing import trace
        from loopgrad.pipeline import check

        return check(trace(source))
    raise TypeError(f"a program's text or a Python function is needed, got {type(source).__name__}")


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'loopgrad' has no attribute {name!r}")
    value = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
