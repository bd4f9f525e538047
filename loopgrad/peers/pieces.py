"""Texts of arrays, with an axis for each loop, and how they are put together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from loopgrad.ir.nodes import Apply, Expression, Index, Number, Range
from loopgrad.ir.walk import ZERO, indices_of, reads


@dataclass(frozen=True)
class Piece:
    """The text of an array, an axis for each of `indices`; a scalar has none."""

    text: str
    indices: tuple[str, ...] = ()


@dataclass
class Loops:
    """The loops around an expression, in the order of its arrays' axes."""

    number: int  # of the statement
    order: tuple[str, ...] = ()
    bounds: dict[str, tuple[str, str]] = field(default_factory=dict)
    ranges: dict[str, Range] = field(default_factory=dict)
    all_run: bool = True  # no condition keeps an iteration from running


@dataclass
class Step:
    """The block that is being written: its index, and each tensor that it writes slice by slice."""

    index: str
    axes: dict[str, int]  # by tensor, where the block's index stands
    lags: dict[tuple[str, int], str]  # earlier slices that are read, by tensor and distance
    kept: list[str] = field(default_factory=list)  # tensors of which somebody else reads the slices


def union_of(parts: Iterable[Piece], loops: Loops) -> tuple[str, ...]:
    found = {i for p in parts for i in p.indices}
    return tuple(i for i in loops.order if i in found)


def aligned(piece: Piece, wanted: tuple[str, ...]) -> str:
    """Its text, with an axis of length 1 for each index it lacks; those in front come by themselves."""
    if piece.indices == wanted or not piece.indices:
        return piece.text
    axes = [":" if i in piece.indices else "None" for i in wanted]
    while axes[0] == "None":
        axes.pop(0)
    text = piece.text if is_closed(piece.text) else f"({piece.text})"
    return f"{text}[{', '.join(axes)}]" if "None" in axes else piece.text


def permuted(text: str, order: Sequence[int]) -> str:
    return text if list(order) == sorted(order) else f"xp.permute({text}, {tuple(order)})"


def is_closed(text: str) -> bool:
    """Whether an operator can stand beside it: a name, a call, something in brackets."""
    depth = 0
    for c in text:
        depth += (c in "([") - (c in ")]")
        if depth == 0 and c in " -":
            return False
    return True


def closed(text: str) -> str:
    return text if is_closed(text) else f"({text})"


def tuple_of(texts: Sequence[str]) -> str:
    return f"({', '.join(texts)}{',' if len(texts) == 1 else ''})"


def slice_at(name: str, axis: int, place: str) -> str:
    return f"{name}[{', '.join([':'] * axis + [place])}]"


def hangs(bound: Expression) -> bool:
    """On an index or on data, not on extents and constants alone."""
    return bool(indices_of(bound)) or any(True for _ in reads(bound))


def distance_of(subscript: Expression, index: str) -> int | None:
    """c of `t + c`; None for anything else."""
    match subscript:
        case Index(name) if name == index:
            return 0
        case Apply("+", (Index(name), Number(int(c)))) if name == index:
            return c
        case Apply("-", (Index(name), Number(int(c)))) if name == index:
            return -c
    return None


def offset_of(subscript: Expression, index: str) -> Expression | None:
    """What is added to the index, once; None where it is not so."""
    match subscript:
        case Index():
            return ZERO
        case Apply("+", (left, right)):
            inner, other = (left, right) if index in indices_of(left) else (right, left)
            before = offset_of(inner, index)
            if before is None or index in indices_of(other):
                return None
            return other if before == ZERO else Apply("+", (before, other))
        case Apply("-", (left, right)) if index not in indices_of(right):
            before = offset_of(left, index)
            return None if before is None else Apply("-", (before, right))
    return None
