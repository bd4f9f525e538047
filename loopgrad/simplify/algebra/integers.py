"""Integer expressions in one form: sums of multiples, in a fixed order; and what is surely not negative.

Subscripts, bounds of ranges and comparisons of integers are all read by `linear`. What is neither a
sum nor a multiple (`w[b]`, `i // 2`) counts as one part.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from loopgrad.ir.nodes import Apply, Compare, Expression, Extent, Index, Number, Read
from loopgrad.ir.printer import show_expression
from loopgrad.ir.walk import ONE, apply, children, number, rebuild

UNIT = ONE  # the part whose multiple is the constant
Linear = dict[Expression, int]


def linear(expression: Expression) -> Linear:
    """The expression as a sum of multiples of its parts, none of them 0."""
    match expression:
        case Number(int(value)):
            return {UNIT: value} if value else {}
        case Apply("+", (left, right)):
            return combined(linear(left), linear(right))
        case Apply("-", (left, right)):
            return combined(linear(left), linear(right), -1)
        case Apply("neg", (operand,)):
            return combined({}, linear(operand), -1)
        case Apply("*", (left, right)):
            one, other = linear(left), linear(right)
            for factor, form in ((one, other), (other, one)):
                if set(factor) <= {UNIT}:
                    return combined({}, form, factor.get(UNIT, 0))
    return {rebuild(expression, canonical_inside): 1}


def combined(left: Linear, right: Linear, factor: int = 1) -> Linear:
    """`left + factor * right`."""
    total = dict(left)
    for part, multiple in right.items():
        value = total.get(part, 0) + factor * multiple
        if value:
            total[part] = value
        else:
            total.pop(part, None)
    return total


def shifted(form: Linear, value: int) -> Linear:
    return combined(form, {UNIT: value})


def canonical(expression: Expression) -> Expression:
    """The integer expression in the form that all equal sums share."""
    return expression_of(linear(expression))


def canonical_inside(expression: Expression) -> Expression:
    """Any expression, with the subscripts in it in that form."""
    if isinstance(expression, Read):
        return Read(expression.tensor, tuple(map(canonical, expression.subscripts)))
    return rebuild(expression, canonical_inside)


def expression_of(
    form: Mapping[Expression, int], places: Mapping[str, int] | None = None
) -> Expression:
    """`i + d - 1`: positive multiples first, indices before extents, the number last.

    places: where indices stand among one another; by default they are sorted by name.
    """
    result: Expression | None = None
    parts = sorted((p for p in form if p != UNIT), key=lambda p: (form[p] < 0, *_order(p, places)))
    if parts and form[parts[0]] < 0 and form.get(UNIT, 0) > 0:
        result = Number(form[UNIT])
    for part in parts:
        size = abs(form[part])
        value = part if size == 1 else apply("*", Number(size), part)
        if result is None:
            result = value if form[part] > 0 else apply("neg", value)
        else:
            result = apply("+" if form[part] > 0 else "-", result, value)
    constant = form.get(UNIT, 0)
    if result is None:
        return number(constant)
    if constant and not isinstance(result, Number) and not _starts_with(result, constant, form):
        return apply("+" if constant > 0 else "-", result, Number(abs(constant)))
    return result


def _starts_with(result: Expression, constant: int, form: Mapping[Expression, int]) -> bool:
    return constant > 0 and all(m < 0 for p, m in form.items() if p != UNIT)


def _order(part: Expression, places: Mapping[str, int] | None) -> tuple[int, int, str]:
    kind = 0 if isinstance(part, Index) else 1 if isinstance(part, Extent) else 2
    place = places.get(part.name, 0) if places and isinstance(part, Index) else 0
    return kind, place, show_expression(part)


def shape(expression: Expression) -> str:
    """The integer expression's text without the names of its indices; renaming does not change it."""
    form = linear(expression)
    parts = sorted(f"{multiple} {shape_inside(part)}" for part, multiple in form.items())
    return "+".join(parts) or "0"


def shape_inside(expression: Expression) -> str:
    """The same of any expression."""
    match expression:
        case Index():
            return "?"
        case Read(tensor, subscripts):
            return f"{tensor}[{','.join(map(shape, subscripts))}]"
        case Compare(operators, operands):
            return f"{','.join(operators)}({','.join(map(shape_inside, operands))})"
        case Apply(operation, operands) if operands:
            return f"{operation}({','.join(map(shape_inside, operands))})"
    below = children(expression)
    if below:
        return f"{type(expression).__name__}({','.join(map(shape_inside, below))})"
    return show_expression(expression)


# --------------------------------------------------------------------------------------- comparing


def not_negative(form: Mapping[Expression, int], extents: Mapping[str, Expression]) -> bool:
    """Is the sum surely 0 at least? `extents`: those of indices; an index below one is at least 0.

    Indices and extents are never negative, `i < N` makes `N - 1 - i` no less than 0.
    """
    form = dict(form)
    for part in [p for p in form if isinstance(p, Index) and form[p] < 0]:
        assert isinstance(part, Index)
        if part.name not in extents:
            return False
        highest = shifted(linear(extents[part.name]), -1)
        form = combined(form, highest, form[part])
        form.pop(part)
    return all(
        multiple > 0 and (part == UNIT or isinstance(part, Index | Extent))
        for part, multiple in form.items()
    )


def substituted(form: Mapping[Expression, int], index: str, value: Linear) -> Linear:
    """The sum with a value in the index's place; the index may stand inside other parts: then as it is."""
    rest = dict(form)
    multiple = rest.pop(Index(index), 0)
    return combined(rest, value, multiple)


def indices_in(forms: Iterable[Expression]) -> frozenset[str]:
    found: set[str] = set()
    stack = list(forms)
    while stack:
        node = stack.pop()
        if isinstance(node, Index):
            found.add(node.name)
        stack.extend(children(node))
    return frozenset(found)
