"""A Python function, run once on symbolic tensors -> a Program.

The same program in text and in Python, with everything that the notation has:

>>> import loopgrad as lg
>>> text = lg.program('''
... f(x[T,B], param W[B], int n[B], bool m[T,B], size K, eps=1e-5) batch B -> y[T,B], L[B], C[B,K]:
...     local z[T,B], int w[B]
...     for b:             w[b]   = min(n[b] // 2, T - 1)
...     for b, k < K:      C[b,k] *= W[b] + k
...     for t, u <= t, b:  z[t,b] max= x[u,b]   if 0 <= u < n[b] and not m[u,b]
...     for 1 <= t < T descending:
...         for b:  y[t,b] += x[t-1,b] if m[t,b] else exp(-W[b])
...         for b:  y[t,b] -= stop_gradient(sum[t'](x[t',b])) / (x[w[b],b] + eps)
...     for b:             L[b]   = W[B-1] * z[T-1,b] + pi
... ''')
>>> @lg.program(batch="B")
... def f(x: "T B", W: "param B", n: "int B", m: "bool T B", K: "size", eps=1e-5):
...     T, B = x.shape
...     b, t, tt = lg.indices("b t t'")
...     k, u = lg.index("k", K), lg.index("u", t + 1)
...     z, w = lg.tensor("T B"), lg.tensor("B", kind="int")
...     y, L, C = lg.tensor("T B"), lg.tensor("B"), lg.tensor("B K")
...     w[b] = lg.min(n[b] // 2, T - 1)
...     C[b, k] *= W[b] + k
...     with lg.over(t, u, b), lg.when(lg.compare(0, "<=", u, "<", n[b]) & ~m[u, b]):
...         z.at[t, b].max(x[u, b])
...     with lg.loop(lg.index("t", 1, T, descending=True)):
...         y[t, b] += lg.where(m[t, b], x[t - 1, b], lg.exp(-W[b]))
...         y[t, b] -= lg.stop_gradient(lg.sum[tt](x[tt, b])) / (x[w[b], b] + eps)
...     L[b] = W[B - 1] * z[T - 1, b] + lg.pi
...     return y, L, C
>>> f == text
True

An argument is declared by its annotation or its default: `"B J"`, `"param J I"`, `"size"`, or
`lg.tensor("B", X - DX + 1, kind="int", name="x'")`; one whose default is a number is a constant.
Loops are those over the free indices, unless `with lg.over(j, b):` names them; `with lg.loop(t):`
is a block, whose statements run in order. `with lg.when(c):` guards statements. Other programs are
called as they are: `p = softmax(s)`, `h[t, B, J] = cell(W, x[t, B, K], h[t - 1, B, J])`.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from loopgrad.frontend.formulas import extents_from
from loopgrad.frontend.python_places import refuse
from loopgrad.frontend.recording import Recording
from loopgrad.frontend.symbolic import (
    RECORDER,
    IndexSymbol,
    Kind,
    Tensor,
    checked_name,
    indices,
    node_of,
)
from loopgrad.ir.nodes import (
    Program,
    Range,
)

# ------------------------------------------------------------------------------- inside a function


def tensor(*given: Any, kind: Kind = "input", name: str | None = None) -> Tensor:
    """A tensor with the extents given: `lg.tensor("B J")`, `lg.tensor("B", X - DX + 1)`.

    For a parameter (as annotation or default) without extents it is a scalar. Made inside the
    function it is a computed tensor, whose extents are inferred where none are given, and which
    bears the name of its variable unless `name` is given. `kind` is "input", "param", "int" or
    "bool"; "int" of a computed tensor is `local int`.
    """
    if kind not in ("input", "param", "int", "bool"):
        refuse(f"there is no kind {kind!r}", "kinds are 'input', 'param', 'int' and 'bool'")
    recording = RECORDER.get()
    declared = extents_from(given)
    if not isinstance(recording, Recording):
        return Tensor(declared, kind, name)
    if kind in ("param", "bool"):
        refuse(f"a computed tensor is no {kind}", "leave `kind` out, or say `kind='int'`")
    return recording.computed(declared if given else None, kind, name)


@contextmanager
def loop(*given: Any) -> Iterator[None]:
    """A block: `with lg.loop(t):` runs its statements in order, once for each value of t."""
    with _recording().block(_ranges(given)):
        yield


@contextmanager
def over(*given: Any) -> Iterator[None]:
    """The loops of each statement inside, all of them and in this order: `with lg.over(j, b):`."""
    with _recording().loops(_ranges(given)):
        yield


@contextmanager
def when(condition: Any) -> Iterator[None]:
    """Guards the statements inside: they run only where the condition holds."""
    with _recording().guarded(node_of(condition)):
        yield


def batch(name: str) -> None:
    """Names the batch extent of the program that is traced."""
    _recording().batch = str(name)


def _ranges(given: Sequence[Any]) -> tuple[Range, ...]:
    found: list[Range] = []
    for one in given:
        if isinstance(one, str):
            made = indices(one)
            found.extend(i.range for i in (made if isinstance(made, tuple) else (made,)))
        elif isinstance(one, IndexSymbol):
            found.append(one.range)
        else:
            refuse(f"{one!r} is no index", "make one: `t = lg.index('t', 0, T)`")
    if not found:
        refuse("a loop over nothing", "name its indices: `with lg.loop(t):`")
    return tuple(found)


# ----------------------------------------------------------------------------------------- tracing


def trace(
    function: Callable[..., Any], *, name: str | None = None, batch: str | None = None
) -> Program:
    """The program that a Python function describes; it is run once, on symbolic tensors.

    `name` is the function's own unless given, for names that Python has not (`softmax.backward`).

    Raises ProgramError, with the line of Python, for what has no meaning in the notation.
    """
    recording = Recording(checked_name(name or function.__name__), batch)
    arguments = recording.arguments(function)
    mark = RECORDER.set(recording)
    try:
        with _names_at_return(function, recording):
            returned = function(**arguments)
    finally:
        RECORDER.reset(mark)
    return recording.program(returned, function)


def _recording() -> Recording:
    recording = RECORDER.get()
    if not isinstance(recording, Recording):
        refuse("this stands outside a function that is traced", "decorate it with `@lg.program`")
    return recording


@contextmanager
def _names_at_return(function: Callable[..., Any], recording: Recording) -> Iterator[None]:
    """Looks, when the function returns, which variables hold tensors that have no name yet."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    before = sys.getprofile()

    def look(frame: FrameType, event: Any, argument: Any) -> None:
        if event == "return" and frame.f_code is code:
            for variable, value in frame.f_locals.items():
                if isinstance(value, Tensor) and value.given_name is None:
                    value.given_name = variable
        if before is not None:
            before(frame, event, argument)

    sys.setprofile(look)
    try:
        yield
    finally:
        sys.setprofile(before)
