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
from typing import TYPE_CHECKING, Any, overload

import loopgrad.forks  # noqa: F401  (a fork waits for imports too, such as those of a first call)

if TYPE_CHECKING:
    from loopgrad import edf
    from loopgrad.backends.recycling import trim_memory
    from loopgrad.backends.thread_count import get_num_threads, set_num_threads
    from loopgrad.checking.judging import check
    from loopgrad.cost.costs import analyze
    from loopgrad.diagnostics import ProgramError, ProgramWarning
    from loopgrad.frontend.library import lib, load
    from loopgrad.frontend.symbolic import compare, extents, index, indices, where  # noqa: F401
    from loopgrad.frontend.tracing import batch, loop, over, tensor, when  # noqa: F401
    from loopgrad.frontend.vocabulary import *  # noqa: F403
    from loopgrad.functions import jvp, value_and_grad, vjp
    from loopgrad.ir.nodes import Program
    from loopgrad.pipeline import compile
    from loopgrad.simplify.equality import equal

__version__ = "0.1.0"

# Module -> the names that come from it, imported when first used: `import loopgrad` is fast.
_PLACES = {
    "loopgrad.diagnostics": "ProgramError ProgramWarning",
    "loopgrad.ir.nodes": "Program",
    "loopgrad.frontend.library": "lib load",
    "loopgrad.pipeline": "compile",
    "loopgrad.functions": "vjp jvp value_and_grad",
    "loopgrad.backends.thread_count": "set_num_threads get_num_threads",
    "loopgrad.backends.recycling": "trim_memory",
    "loopgrad.simplify.equality": "equal",
    "loopgrad.checking.judging": "check",
    "loopgrad.cost.costs": "analyze",
    # for Python functions that become programs
    "loopgrad.frontend.tracing": "tensor loop over when batch",
    "loopgrad.frontend.symbolic": "index indices extents where compare",
    "loopgrad.frontend.vocabulary": (
        "exp log log1p expm1 sqrt rsqrt tanh sigmoid relu softplus erf sin cos abs sign floor "
        "stop_gradient max min sum mean prod logsumexp softmax pi inf"
    ),
}
_EXTRAS = ("jax", "torch")  # modules, each for another library: imported when first used, too
_LAZY = {name: module for module, names in _PLACES.items() for name in names.split()}
_MODULES = ("edf",)

__all__ = [
    "Program",
    "ProgramError",
    "ProgramWarning",
    "__version__",
    "analyze",
    "check",
    "compile",
    "edf",
    "equal",
    "extents",
    "get_num_threads",
    "index",
    "indices",
    "jvp",
    "lib",
    "load",
    "loop",
    "over",
    "program",
    "set_num_threads",
    "tensor",
    "trim_memory",
    "value_and_grad",
    "vjp",
    "when",
    "where",
]


@overload
def program(
    source: str | Callable[..., Any], *, name: str | None = None, batch: str | None = None
) -> Program: ...


@overload
def program(
    source: None = None, *, name: str | None = None, batch: str | None = None
) -> Callable[[Callable[..., Any]], Program]: ...


def program(
    source: str | Callable[..., Any] | None = None,
    *,
    name: str | None = None,
    batch: str | None = None,
) -> Program | Callable[[Callable[..., Any]], Program]:
    """A program, from its text or, as a decorator, from a Python function.

    A text may hold several programs, of which the later may call those above; the last is
    returned. A function is run once on symbolic tensors; `loopgrad.frontend.tracing` shows how
    everything is spelled there. `@lg.program(name="affine'", batch="B")` gives it a name that
    Python has not, and a batch extent.

    Raises ProgramError, with all that is wrong, where the program cannot be read or breaks a rule
    for every input.

    >>> import loopgrad as lg
    >>> double = lg.program("double(x[N]) -> y[N]:\\n    for n:  y[n] += 2 * x[n]")
    >>> double([1.0, 2.0])
    array([2., 4.])
    >>> @lg.program
    ... def double(x: "N"):
    ...     y, n = lg.tensor(), lg.index("n")
    ...     y[n] += 2 * x[n]
    ...     return y
    >>> print(double)
    double(x[N]) -> y[N]:
        for n:  y[n] += 2 * x[n]
    """
    if isinstance(source, str):
        from loopgrad.frontend.library import program as parsed

        return parsed(source)
    if source is None:
        return lambda function: program(function, name=name, batch=batch)
    if callable(source):
        from loopgrad.frontend.tracing import trace
        from loopgrad.pipeline import verify

        return verify(trace(source, name=name, batch=batch))
    raise TypeError(f"a program's text or a Python function is needed, got {type(source).__name__}")


def load_ipython_extension(shell: Any) -> None:
    """For `%load_ext loopgrad` in a notebook: the cell magic `%%loops`."""
    from loopgrad.interop.notebook import register

    register(shell)


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"loopgrad.{name}")
    if name in _EXTRAS:
        return import_module(f"loopgrad.interop.{name}")
    if name not in _LAZY:
        raise AttributeError(f"module 'loopgrad' has no attribute {name!r}")
    value = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, *_LAZY, *_MODULES})
