"""Python written for one operator: loops over its tensors unrolled, as a call has no time for them.

    looked_up(2)      def call(t0, t1): ...     is it a plain call, and which entry knows it?
    addressed(...)    def run(t0, t1): ...      from tensors to tensors, by compiled code

What the texts say is what `eager.py` would, had it a microsecond more for each tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
    if grad_enabled():
{wants}
        key = (threads(), spelled, {known})
        try:
            entry = entries.get(key) or enter(key, ({tensors},), numbers)
            if entry is None:
                return None
            if entry.chosen is not None:
                return apply(entry, {tensors})
            return returned(entry.forward({tensors}))
        except Elsewhere:
            return None
    key = (threads(), spelled, {unknown})
    try:
        entry = entries.get(key) or enter(key, ({tensors},), numbers)
        if entry is None:
            return None
        return returned(entry.forward({tensors}))
    except Elsewhere:
        return None
"""

CHECK = """
    kind = type(t{n})
    if (kind is not Tensor and kind is not Parameter) or not t{n}.is_cpu or t{n}.is_neg():
        return None
"""

RUN = """
def run({tensors}):
    try:
{reads}
    except RuntimeError as error:
        raise Elsewhere from error
{makes}
    if code({addresses}):
        {made} = slowly(({tensors},))
    return ({returned},)
"""


def looked_up(count: int, names: Mapping[str, Any]) -> Callable[..., Any]:
    """A function of so many tensors: what the operator returns, None for a call that is not plain."""
    return _function("call", _look_up_text(count), names)


def _look_up_text(count: int) -> CodeType:
    return _compiled(
        LOOK_UP.format(
            tensors=_names("t", count),
            checks="".join(CHECK.format(n=n) for n in range(count)),
            wants="\n".join(f"        w{n} = t{n}.requires_grad" for n in range(count))
            or "        pass",
            known=", ".join(f"t{n}.shape, t{n}.dtype, w{n}" for n in range(count)),
            unknown=", ".join(f"t{n}.shape, t{n}.dtype, False" for n in range(count)),
        )
    )


def addressed(
    count: int,
    reads: Sequence[int],
    makers: Sequence[Any],
    returned: Sequence[int | None],
    names: Mapping[str, Any],
) -> Callable[..., Any]:
    """A function of so many tensors, of which `code` reads some, to new ones.

    makers: for each new tensor an example, or its shape and type. returned: which of them are, with
    None between them.
    """
    known: dict[str, Any] = dict(names)
    makes = []
    for n, maker in enumerate(makers):
        if isinstance(maker, tuple):
            known[f"shape{n}"], known[f"dtype{n}"] = maker
            makes.append(f"    m{n} = empty(shape{n}, dtype{n})")
        else:
            known[f"like{n}"] = maker
            makes.append(f"    m{n} = empty_like(like{n})")
    lines = [
        f"        if not t{n}.is_contiguous():\n            t{n} = t{n}.contiguous()"
        for n in dict.fromkeys(reads)
    ]
    lines += [f"        a{n} = t{n}.data_ptr()" for n in dict.fromkeys(reads)]
    addresses = [f"a{n}" for n in reads] + [f"m{n}.data_ptr()" for n in range(len(makers))]
    text = RUN.format(
        tensors=_names("t", count),
        reads="\n".join(lines) or "        pass",
        makes="\n".join(makes),
        addresses=", ".join(addresses),
        made=_names("m", len(makers)) + ",",
        returned=", ".join("None" if n is None else f"m{n}" for n in returned),
    )
    return _function("run", _compiled(text), known)


def _names(stem: str, count: int) -> str:
    return ", ".join(f"{stem}{n}" for n in range(count))


@cache
def _compiled(text: str) -> CodeType:
    return compile(text, "<loopgrad: a call written out>", "exec")


def _function(name: str, code: CodeType, names: Mapping[str, Any]) -> Callable[..., Any]:
    found = dict(names)
    exec(code, found)
    function: Callable[..., Any] = found[name]
    return function
