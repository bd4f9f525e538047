"""Python written for one kind of call: loops over its tensors unrolled, as a call has no time for them.

    looked_up(2, ...)   def call(t0, t1): ...           is it a plain call, and who knows it?
    outside(...)        def forward(t0, t1): ...        a call that has no gradient
    forward(...)        def forward(ctx, t0, t1): ...   a node of PyTorch's graph, on the way there
    backward(...)       def backward(ctx, g0): ...      and back

What the texts say is what `nodes.py` would, had it a microsecond more for each tensor. Their variables:
t0, t1 what is given, m0, m1 what is made, g0, g1 seeds; r0, a0 an operand as it is read, and its address.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import CodeType
from typing import Any

LOOK_UP = """
def call({tensors}):
    if is_transformed() or watchers() or functions() or level._current_level >= 0 or is_autocast():
        return None
    if is_traced() is not None:
        return None
    {checks}
    try:
        if grad_enabled():
            key = (threads(), hooks(True) is not None, spelled, {known})
        else:
            key = (threads(), False, spelled, {unknown})
    except RuntimeError:  # a nested tensor has no shape
        return None
    try:
        run = runs.get(key) or enter(key, [{tensors}], numbers)
        return None if run is None else run({tensors})
    except Elsewhere:
        return None
"""

CHECK = """kind = type({t})
    if (kind is not Tensor and kind is not Parameter) or not {t}.is_cpu or {t}.is_neg():
        return None"""

READ = """try:
        {read}
    except RuntimeError as error:
        raise Elsewhere from error"""

OUTSIDE = """
def forward({tensors}):
    {read}
    {make}
    if code({addresses}):
        {made} = slowly([{tensors}])
    return {returned}
"""

FORWARD = """
def forward(ctx, {tensors}):
    {read}
    kept = ctx.kept = Kept()
    {make}
    if code({addresses}):
        {made} = slowly([{tensors}], kept)
    ctx.save_for_backward({saved})
    {mark}
    return {returned}
"""

BACKWARD = """
def backward(ctx, {seeds}):
    saved = ctx.saved_tensors
    {unpack}
    if grad_enabled() or is_transformed() or watchers() or level._current_level >= 0 or {unlike}:
        return again(ctx, saved, [{seeds}])
    kept = ctx.kept
    try:
        {read}
    except RuntimeError:
        return again(ctx, saved, [{seeds}])
    {make}
    if code({addresses}):
        return again(ctx, saved, [{seeds}])
    return {returned}
"""


@dataclass(frozen=True)
class Operand:
    """A tensor that compiled code reads.

    place: the variable that holds it; or the byte at which it begins in what the node keeps.
    dtype: what it has to be converted to, None where it has that type.
    """

    place: str | int
    dtype: Any = None


@dataclass(frozen=True)
class Run:
    """What a text has compiled code do.

    makes: for each tensor that it writes an example, or shape and type; or the byte at which it
        begins in what the node keeps.
    """

    code: Callable[..., int]
    reads: Sequence[Operand]
    makes: Sequence[Any]


def looked_up(count: int, names: Mapping[str, Any]) -> Callable[..., Any]:
    """A function of so many tensors: what the operator returns, None for a call that is not plain."""
    tensors = variables("t", count)
    text = LOOK_UP.format(
        tensors=", ".join(tensors),
        checks=_lines(CHECK.format(t=t) for t in tensors),
        known=", ".join(f"{t}.shape, {t}.dtype, {t}.requires_grad" for t in tensors),
        unknown=", ".join(f"{t}.shape, {t}.dtype, False" for t in tensors),
    )
    return _function("call", text, names)


def outside(
    count: int, run: Run, slowly: Callable[..., Any], names: Mapping[str, Any]
) -> Callable[..., Any]:
    """A function of so many tensors: what the operator returns. slowly: what does it where code gives up."""
    return _forward(OUTSIDE, count, run, len(run.makes), {**names, "slowly": slowly})


def forward(
    count: int,
    run: Run,
    results: int,
    saved: Sequence[str],
    fixed: Sequence[str],
    names: Mapping[str, Any],
) -> Callable[..., Any]:
    """The same of a node, which makes more than results.

    saved: the variables that are saved. fixed: those of results without a gradient.
    """
    mark = f"ctx.mark_non_differentiable({', '.join(fixed)})" if fixed else ""
    return _forward(FORWARD, count, run, results, names, saved=", ".join(saved), mark=mark)


def _forward(
    template: str, count: int, run: Run, results: int, names: Mapping[str, Any], **parts: str
) -> Callable[..., Any]:
    read, make, addresses, known = _pieces(run)
    made = [f"m{n}" for n, maker in enumerate(run.makes) if not isinstance(maker, int)]
    text = template.format(
        tensors=", ".join(variables("t", count)),
        read=READ.format(read="\n        ".join(read)) if read else "",
        make=_lines(make),
        addresses=addresses,
        made=f"[{', '.join(made)}]",
        returned=_returned(made[:results]),
        **parts,
    )
    return _function("forward", text, {**names, **known})


def backward(
    seeds: int,
    saved: Sequence[str],
    run: Run,
    unlike: Sequence[str],
    gradients: Sequence[int | None],
    names: Mapping[str, Any],
) -> Callable[..., Any]:
    """What pulls so many seeds back through a node.

    saved: the variables that its forward saved. unlike: any of these has to be false for code to do it.
    gradients: for each tensor of the forward which of those made is its gradient.
    """
    read, make, addresses, known = _pieces(run)
    text = BACKWARD.format(
        seeds=", ".join(variables("g", seeds)),
        unlike=" or ".join(unlike),
        unpack=f"[{', '.join(saved)}] = saved",
        read="\n        ".join(read) or "pass",
        make=_lines(make),
        addresses=addresses,
        returned=_returned(["None" if n is None else f"m{n}" for n in gradients]),
    )
    return _function("backward", text, {**names, **known})


def variables(stem: str, count: int) -> list[str]:
    return [f"{stem}{n}" for n in range(count)]


def _pieces(run: Run) -> tuple[list[str], list[str], str, dict[str, Any]]:
    """Lines that read, lines that make, the addresses of both, and names that these need."""
    known: dict[str, Any] = {"code": run.code}
    read, addresses = [], []
    for n, operand in enumerate(run.reads):
        if isinstance(operand.place, int):
            addresses.append(f"memory + {operand.place}")
            continue
        known[f"read{n}"] = operand.dtype
        given = f"{operand.place}.to(read{n})" if operand.dtype else operand.place
        read.append(f"r{n} = {given}")
        read.append(f"if not r{n}.is_contiguous(): r{n} = r{n}.contiguous()")
        read.append(f"a{n} = r{n}.data_ptr()")
        addresses.append(f"a{n}")
    make = []
    for n, maker in enumerate(run.makes):
        if isinstance(maker, int):
            addresses.append(f"memory + {maker}")
            continue
        known[f"like{n}"] = maker
        how = f"empty(*like{n})" if isinstance(maker, tuple) else f"empty_like(like{n})"
        make.append(f"m{n} = {how}")
        addresses.append(f"m{n}.data_ptr()")
    if any("memory" in address for address in addresses):
        make.append("memory = address_of(kept)")
    return read, make, ", ".join(addresses), known


def _returned(values: Sequence[str]) -> str:
    return values[0] if len(values) == 1 else f"({', '.join(values)})"


def _lines(lines: Iterable[str]) -> str:
    return "\n    ".join(lines)


def _function(name: str, text: str, names: Mapping[str, Any]) -> Callable[..., Any]:
    found = dict(names)
    exec(_compiled(text), found)
    function: Callable[..., Any] = found[name]
    return function


@cache
def _compiled(text: str) -> CodeType:
    return compile(text, "<loopgrad: a call written out>", "exec")
