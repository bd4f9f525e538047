"""What a statement lacks, or has too much, beside the right one: the one place where the two differ.

Sums and products are compared whatever their order. Where more than one place differs, there is no
small change: then nothing is said.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from loopgrad.checking.edits import Edit
from loopgrad.checking.findings import Kind
from loopgrad.checking.likeness import alike
from loopgrad.diagnostics import listing
from loopgrad.ir.nodes import Accumulate, Apply, Expression, Number, Read
from loopgrad.ir.operations import FUNCTIONS
from loopgrad.ir.printer import show_expression
from loopgrad.ir.walk import ONE, apply, children, rebuild

COST = 3
FAR = 9  # of several parts: one other change is likelier


@dataclass(frozen=True)
class Part:
    """A summand, or a factor; `away` where it is taken off, or divided by."""

    value: Expression
    away: bool


@dataclass(frozen=True)
class Difference:
    """The one place: what stands there and what is right, and the whole with that.

    parts: how many terms or factors are missing there, or too much.
    """

    kind: Kind
    message: str
    old: Expression
    new: Expression
    parts: int = 1


def compared(mine: Accumulate, right: Accumulate) -> Edit | None:
    """The edit that makes one statement the other, if their values differ at one place inside."""
    if replace(mine, value=ONE, span=None) != replace(right, value=ONE, span=None):
        return None
    found = _difference(mine.value, right.value)
    if found is None or found.new is right.value:  # all of it
        return None
    cost = COST if found.parts == 1 else FAR
    return Edit(cost, found.kind, found.message, replace(mine, value=found.new), found.old.span)


def _difference(mine: Expression, right: Expression) -> Difference | None:
    """None where the two are the same."""
    if alike(mine, right):
        return None
    composed = False
    for taken_apart, joined, what in (
        (_summands, _sum, "term"),
        (_factors, _product, "factor"),
    ):
        one, other = taken_apart(mine), taken_apart(right)
        if len(one) > 1 or len(other) > 1:
            composed = True
            found = _of_parts(mine, right, one, other, joined, what)
            if found is not None:
                return found
    if composed:
        return _instead(mine, right)
    inner, there = children(mine), children(right)
    if _head(mine) == _head(right) and len(inner) == len(there):
        off = [k for k, (a, b) in enumerate(zip(inner, there, strict=True)) if not alike(a, b)]
        if len(off) == 1 and not isinstance(mine, Read):
            found = _difference(inner[off[0]], there[off[0]])
            assert found is not None
            return replace(found, new=_with_child(mine, off[0], found.new))
    return _instead(mine, right)


def _of_parts(
    mine: Expression,
    right: Expression,
    one: Sequence[Part],
    other: Sequence[Part],
    joined: Callable[[Sequence[Part]], Expression],
    what: str,
) -> Difference | None:
    """Of sums or products: parts more or less, or one other; None where more than that differs."""
    missing = list(other)
    extra: list[int] = []
    for at, part in enumerate(one):
        same = next(
            (m for m in missing if m.away == part.away and alike(m.value, part.value)), None
        )
        if same is None:
            extra.append(at)
        else:
            missing.remove(same)
    if not extra:
        kind: Kind = "missing term" if what == "term" else "missing factor"
        said = f"{_listed(missing, what)} missing"
        whole = [*one, *missing] if len(missing) == 1 else other
        return Difference(kind, said, mine, joined(whole), len(missing))
    if not missing and len(one) > len(extra):
        kind = "superfluous term" if what == "term" else "superfluous factor"
        gone = [one[at] for at in extra]
        rest = [part for at, part in enumerate(one) if at not in extra]
        place = gone[0].value if len(gone) == 1 else mine
        said = f"{_listed(gone, what)} too much"
        return Difference(kind, said, place, joined(rest), len(gone))
    if len(extra) == 1 and len(missing) == 1:
        part, wanted = one[extra[0]], missing[0]

        def put_back(new: Part) -> Expression:
            return joined([*one[: extra[0]], new, *one[extra[0] + 1 :]])

        if part.away == wanted.away:
            found = _difference(part.value, wanted.value)
            assert found is not None
            return replace(found, new=put_back(replace(part, value=found.new)))
        if alike(part.value, wanted.value):
            kind = "sign" if what == "term" else "wrong operation"
            lead = "the sign is wrong" if what == "term" else "the operation is wrong"
            said = f"{lead}: `{_shown(part, what)}`, and right is `{_shown(wanted, what)}`"
            return Difference(kind, said, part.value, put_back(wanted))
    return None


def _instead(mine: Expression, right: Expression) -> Difference:
    said = f"`{show_expression(mine)}`, and right is `{show_expression(right)}`"
    kind, lead = _kind(mine, right)
    return Difference(kind, f"{lead}{said}", mine, right)


def _kind(mine: Expression, right: Expression) -> tuple[Kind, str]:
    match mine, right:
        case Read(one, subscripts), Read(other, others):
            if one != other:
                return "wrong tensor", "the tensor is wrong: "
            if len(subscripts) > 1 and sorted(map(repr, subscripts)) == sorted(map(repr, others)):
                return "transposed", f"`{one}` is transposed: "
            return "wrong subscript", "a subscript is wrong: "
        case Number(1 | 1.0), _ if not isinstance(right, Number):
            return "missing factor", "a factor is missing: "
        case Number(), Number():
            return "wrong number", "the number is wrong: "
        case Apply(one, operands), Apply(other, others) if one != other and operands == others:
            if one in FUNCTIONS:
                return "wrong function", "the function is wrong: "
            return "wrong operation", "the operation is wrong: "
        case _ if alike(apply("neg", mine), right) or alike(mine, apply("neg", right)):
            return "sign", "the sign is wrong: "
        case Apply("**", _), _:
            return "wrong power", "the power is wrong: "
        case _, Apply("**", (base, _)) if alike(base, mine):
            return "wrong power", "the power is wrong: "
        case _, Apply(name, (operand,)) if name in FUNCTIONS and alike(operand, mine):
            return "wrong function", "the function is missing: "
    return "wrong value", "this is wrong: "


def _head(expression: Expression) -> object:
    """What an expression is, its operands aside."""
    kind = type(expression).__name__
    return kind, getattr(expression, "operation", None), getattr(expression, "operators", None)


def _with_child(node: Expression, at: int, new: Expression) -> Expression:
    count = iter(range(len(children(node))))
    return rebuild(node, lambda e: new if next(count) == at else e)


# ----------------------------------------------------------------------------------- sums, products


def _summands(expression: Expression, away: bool = False) -> list[Part]:
    match expression:
        case Apply("+" | "-" as sign, (left, right)):
            return [*_summands(left, away), *_summands(right, away != (sign == "-"))]
        case Apply("neg", (operand,)):
            return _summands(operand, not away)
    return [Part(expression, away)]


def _sum(parts: Sequence[Part]) -> Expression:
    first = next((p for p in parts if not p.away), parts[0])
    total = apply("neg", first.value) if first.away else first.value
    for part in parts:
        if part is not first:
            total = apply("-" if part.away else "+", total, part.value)
    return total


def _factors(expression: Expression, away: bool = False) -> list[Part]:
    match expression:
        case Apply("*" | "/" as sign, (left, right)):
            return [*_factors(left, away), *_factors(right, away != (sign == "/"))]
    return [Part(expression, away)]


def _product(parts: Sequence[Part]) -> Expression:
    over = [p.value for p in parts if not p.away]
    under = [p.value for p in parts if p.away]
    total = over[0] if over else ONE
    for factor in over[1:]:
        total = apply("*", total, factor)
    if not under:
        return total
    below = under[0]
    for factor in under[1:]:
        below = apply("*", below, factor)
    return apply("/", total, below)


def _listed(parts: Sequence[Part], what: str) -> str:
    shown = listing([_shown(part, what) for part in parts])
    return f"the {what} {shown} is" if len(parts) == 1 else f"the {what}s {shown} are"


def _shown(part: Part, what: str) -> str:
    if what == "term":
        return f"{'-' if part.away else '+'} {show_expression(part.value)}"
    shown = show_expression(apply("*", part.value, part.value))
    alone = shown[: (len(shown) - 3) // 2]
    return f"/ {alone}" if part.away else alone
