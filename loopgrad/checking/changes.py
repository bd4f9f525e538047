"""Small changes of an expression, at any place in it; `edits` makes edits of statements of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, permutations, product

from loopgrad.checking.findings import Kind
from loopgrad.diagnostics import Span
from loopgrad.ir.nodes import (
    Apply,
    Compare,
    Conditional,
    Constant,
    Expression,
    Extent,
    Index,
    Number,
    Read,
)
from loopgrad.ir.printer import show_expression
from loopgrad.ir.walk import ONE, apply, children, rebuild

MOST_ELEMENTS = 40  # ways to write an element of some tensor
FUNCTIONS = ("exp", "log", "sqrt", "tanh", "sigmoid")
ORDERS = {
    "<": ("<=", ">"),
    "<=": ("<", ">="),
    ">": (">=", "<"),
    ">=": (">", "<="),
    "==": ("!=",),
    "!=": ("==",),
}
TWO = Number(2)


@dataclass(frozen=True)
class Vocabulary:
    """What a changed statement may name.

    lengths: the extents, in some trial, of the indices in force; shapes: those of the tensors that
    may be read, the claim's own first. unread: elements that the claim computes and does not read;
    sums: elements that it sums up, whose means may be missing; numbers, factors: those that right
    statements have, such as `0.044715` and `sqrt(D)`.
    """

    lengths: Mapping[str, int]
    shapes: Mapping[str, tuple[int, ...]]
    extents: Sequence[str]
    constants: Sequence[str]
    conditions: Sequence[Expression] = ()
    reads: Sequence[Read] = ()
    unread: Sequence[Read] = ()
    sums: Sequence[Read] = ()
    numbers: Sequence[int | float] = ()
    factors: Sequence[Expression] = ()

    def elements(self) -> Iterator[Read]:
        """What right statements read; then elements of tensors that the indices reach, in any order of
        indices that fits."""
        yield from self.reads
        for name, shape in self.shapes.items():
            choices = [[i for i, n in self.lengths.items() if n == extent] for extent in shape]
            ways = (w for w in product(*choices) if len(set(w)) == len(w))
            for way in islice(ways, 4):
                yield Read(name, tuple(map(Index, way)))


@dataclass(frozen=True)
class Change:
    """A changed expression, and what was changed in it."""

    cost: int
    kind: Kind
    message: str
    new: Expression
    span: Span | None


def everywhere(expression: Expression, words: Vocabulary) -> Iterator[Change]:
    """Changes of the expression at any place: those of each node, put back into the whole."""
    elements = list(islice(words.elements(), MOST_ELEMENTS))
    yield from _insertions(expression, words, elements, top=True)
    stack: list[tuple[Expression, Callable[[Expression], Expression]]] = [(expression, lambda e: e)]
    while stack:
        node, put_back = stack.pop(0)
        for change in _here(node, words):
            yield replace(change, new=put_back(change.new))
        if isinstance(node, Read):
            continue
        inner = children(node)
        for at, child in enumerate(inner):
            stack.append((child, _at(node, at, put_back)))
            whole = isinstance(node, Apply) and node.operation in ("//", "%")
            if isinstance(node, Apply) and not whole and not isinstance(child, Number):
                for change in _insertions(child, words, elements, top=False):
                    yield replace(change, new=_at(node, at, put_back)(change.new))


def _at(
    node: Expression, at: int, put_back: Callable[[Expression], Expression]
) -> Callable[[Expression], Expression]:
    def change(new: Expression) -> Expression:
        count = iter(range(len(children(node))))
        return put_back(rebuild(node, lambda e: new if next(count) == at else e))

    return change


def _here(node: Expression, words: Vocabulary) -> Iterator[Change]:
    match node:
        case Read():
            yield from of_read(node, words)
        case Number(value):
            yield from _number(node, value, words.numbers)
        case Apply():
            yield from _apply(node)
        case Compare(operators, operands):
            for at, operator in enumerate(operators):
                for other in ORDERS.get(operator, ()):
                    changed = (*operators[:at], other, *operators[at + 1 :])
                    yield _change(2, "wrong condition", node, Compare(changed, operands))
        case Conditional(condition, then, otherwise):
            yield _change(2, "wrong condition", node, Conditional(condition, otherwise, then))
            yield _change(3, "wrong condition", node, then)
            yield _change(3, "wrong condition", node, otherwise)
        case Extent(name) | Constant(name):
            same = words.extents if isinstance(node, Extent) else words.constants
            for other in same:
                if other != name:
                    new = replace(node, name=other, span=None)
                    lead = "the extent is wrong" if isinstance(node, Extent) else None
                    yield _change(3, "wrong number", node, new, lead)
            if isinstance(node, Extent):
                yield _change(3, "wrong number", node, apply("-", node, ONE))


LEADS: dict[Kind, str] = {
    "sign": "the sign is wrong",
    "wrong subscript": "a subscript is wrong",
    "wrong tensor": "the tensor is wrong",
    "wrong power": "the power is wrong",
    "wrong number": "the number is wrong",
    "wrong function": "the function is wrong",
    "wrong operation": "the operation is wrong",
    "wrong condition": "the condition is wrong",
    "wrong value": "the brackets are wrong",
}


def _change(
    cost: int, kind: Kind, old: Expression, new: Expression, lead: str | None = None
) -> Change:
    lead = LEADS[kind] if lead is None else lead
    said = f"{lead}: `{show_expression(old)}`, and right is `{show_expression(new)}`"
    return Change(cost, kind, said, new, old.span)


def _number(node: Number, value: int | float, known: Sequence[int | float]) -> Iterator[Change]:
    if not math.isfinite(value):
        return
    others: list[int | float] = [value + 1, value - 1, 2 * value, value / 2, 3 * value, value / 3]
    others += [v for v in known if v != value and math.isfinite(v)]
    for other in others:
        whole = int(other) if isinstance(value, int) and other == int(other) else other
        new: Expression = Number(whole) if whole >= 0 else apply("neg", Number(-whole))
        yield _change(3, "wrong number", node, new)


def _apply(node: Apply) -> Iterator[Change]:
    match node:
        case Apply("+", (left, right)):
            yield _sign(node, Apply("-", (left, right)))
            yield _sign(node, Apply("-", (right, left)))
            for kept, gone in ((left, right), (right, left)):
                yield _dropped("superfluous term", node, kept, gone)
            match left, right:
                case _, Apply("*", (a, b)):
                    yield _brackets(node, Apply("*", (Apply("+", (left, a)), b)))
                case Apply("*", (a, b)), _:
                    yield _brackets(node, Apply("*", (a, Apply("+", (b, right)))))
        case Apply("-", (left, right)):
            yield _sign(node, Apply("+", (left, right)))
            yield _sign(node, Apply("-", (right, left)))
            yield _dropped("superfluous term", node, left, right)
            yield _dropped("superfluous term", node, apply("neg", right), left)
            match left, right:
                case _, Apply("**", (base, power)):
                    yield _brackets(node, Apply("**", (Apply("-", (left, base)), power)))
                case Apply("*", (a, b)), _:
                    yield _brackets(node, Apply("*", (a, Apply("-", (b, right)))))
                case Apply("-", (a, b)), _:
                    yield _brackets(node, Apply("-", (a, Apply("-", (b, right)))))
        case Apply("neg", (operand,)):
            yield _sign(node, operand)
        case Apply("*", (left, right)):
            for kept, gone in ((left, right), (right, left)):
                yield _dropped("superfluous factor", node, kept, gone)
                yield _change(4, "wrong operation", node, Apply("/", (kept, gone)))
                match kept:
                    case Apply("+" | "-" as operation, (a, b)):
                        yield _brackets(node, Apply(operation, (a, Apply("*", (b, gone)))))
                        yield _brackets(node, Apply(operation, (Apply("*", (a, gone)), b)))
        case Apply("/", (left, right)):
            yield _dropped("superfluous factor", node, left, right)
            yield _change(3, "wrong operation", node, Apply("*", (left, right)))
            yield _change(4, "wrong power", node, Apply("/", (left, Apply("**", (right, TWO)))))
            match left:
                case Apply("+" | "-" as operation, (a, b)):
                    yield _brackets(node, Apply(operation, (a, Apply("/", (b, right)))))
        case Apply("**", (base, exponent)):
            yield _change(3, "wrong power", node, base)
            for other in _exponents(exponent):
                yield _change(3, "wrong power", node, Apply("**", (base, other)))
            match base:
                case Apply("+" | "-" as operation, (a, b)):
                    new = Apply(operation, (a, Apply("**", (b, exponent))))
                    yield _change(
                        2, "wrong power", node, new, "the power stands outside the brackets"
                    )
        case Apply(name, (operand,)) if name not in ("neg", "not"):
            yield _change(3, "wrong function", node, operand)
            for function in FUNCTIONS:
                if function != name:
                    yield _change(4, "wrong function", node, Apply(function, (operand,)))
        case Apply("max" | "min" as name, operands):
            opposite = "min" if name == "max" else "max"
            yield _change(3, "wrong function", node, Apply(opposite, operands))


def _sign(node: Expression, new: Expression) -> Change:
    return _change(1, "sign", node, new)


def _dropped(kind: Kind, node: Expression, kept: Expression, gone: Expression) -> Change:
    what = "term" if kind == "superfluous term" else "factor"
    said = f"the {what} `{show_expression(gone)}` is too much"
    return Change(3, kind, said, kept, gone.span or node.span)


def _brackets(node: Expression, new: Expression) -> Change:
    return _change(3, "wrong value", node, new)


def _exponents(exponent: Expression) -> Iterator[Expression]:
    match exponent:
        case Number(value):
            for other in (value + 1, value - 1, 2 * value, value / 2, value + 0.5, value - 0.5):
                if other > 0:
                    yield Number(int(other) if other == int(other) else other)
            yield apply("neg", exponent)
        case Apply("neg", (Number() as operand,)):
            yield operand
            for changed in _exponents(operand):
                if isinstance(changed, Number):
                    yield apply("neg", changed)


def _insertions(
    node: Expression, words: Vocabulary, elements: Iterable[Read], top: bool
) -> Iterator[Change]:
    """Factors and terms that may be missing beside a node."""
    extra = 0 if top else 1
    shown = show_expression(node)
    squared, one_less = apply("**", node, TWO), apply("-", ONE, node)
    yield _change(4 + extra, "wrong power", node, squared)
    said = f"`1 -` is missing before `{shown}`"
    yield Change(4 + extra, "missing term", said, one_less, node.span)
    for name in () if top else FUNCTIONS:
        yield _change(5, "wrong function", node, apply(name, node))
    factors: list[Expression] = [*map(Extent, words.extents), *map(Constant, words.constants)]
    for factor in (*factors, *words.factors):
        for operation in "/*":
            yield _missing_factor(4 + extra, node, operation, factor)
    if not top:  # of a whole statement it shows as a factor by which it is off
        by_two: tuple[tuple[str, Kind], ...] = (
            ("*", "too small by a factor"),
            ("/", "too large by a factor"),
        )
        for operation, kind in by_two:
            yield replace(_missing_factor(4, node, operation, TWO), kind=kind)
    if isinstance(node, Read) and not all(isinstance(s, Index) for s in node.subscripts):
        for name, shape in words.shapes.items():  # at the same place: of the turn after, say
            if name != node.tensor and len(shape) == len(node.subscripts):
                yield _missing_factor(5, node, "*", Read(name, node.subscripts))
    for read in words.unread:
        yield _missing_factor(3, node, "*", read)
        yield from _missing_term(3, node, read)
        for extent in map(Extent, words.extents):
            yield from _missing_term(3, node, apply("/", read, extent))
    for total, extent in product(words.sums, map(Extent, words.extents)):
        yield from _missing_term(5 + extra, node, apply("/", total, extent))
    for constant in map(Constant, words.constants):
        yield from _missing_term(5 + extra, node, constant)
    for element in elements:
        yield _missing_factor(4 + extra, node, "*", element)
        yield _missing_factor(5 + extra, node, "/", element)
        yield from _missing_term(5 + extra, node, element)
        if top:
            yield _missing_factor(6, node, "*", apply("-", ONE, element))
            yield _missing_factor(6, node, "*", apply("exp", element))
            yield _missing_factor(6, node, "*", apply("**", element, TWO))


def _missing_term(cost: int, node: Expression, term: Expression) -> Iterator[Change]:
    for operation in "+-":
        said = f"the term `{operation} {show_expression(term)}` is missing"
        yield Change(cost, "missing term", said, apply(operation, node, term), node.span)


def _missing_factor(cost: int, node: Expression, operation: str, factor: Expression) -> Change:
    new = apply(operation, node, factor)
    shown = show_expression(apply("*", factor, factor)).split(" * ")[0]
    written = f"/ {shown}" if operation == "/" else shown
    return Change(cost, "missing factor", f"the factor `{written}` is missing", new, node.span)


# ------------------------------------------------------------------------------------------- reads


def of_read(node: Read, words: Vocabulary) -> Iterator[Change]:
    subscripts = node.subscripts
    ways = permutations(subscripts) if len(subscripts) <= 3 else _swaps(subscripts)
    for way in ways:
        if way != subscripts:
            new = replace(node, subscripts=tuple(way), span=None)
            yield _change(1, "transposed", node, new, f"`{node.tensor}` is transposed")
    for at, subscript in enumerate(subscripts):
        for cost, other in _subscripts(subscript, words):
            new = replace(
                node, subscripts=(*subscripts[:at], other, *subscripts[at + 1 :]), span=None
            )
            change = _change(cost, "wrong subscript", node, new)
            yield replace(change, span=subscript.span or node.span)
    for name in words.constants:
        yield _change(4, "wrong tensor", node, Constant(name))
    rank = len(subscripts)
    for name, shape in words.shapes.items():
        if name != node.tensor and len(shape) == rank:
            yield _change(3, "wrong tensor", node, Read(name, subscripts))


def _swaps(subscripts: tuple[Expression, ...]) -> Iterator[tuple[Expression, ...]]:
    for a in range(len(subscripts)):
        for b in range(a):
            swapped = list(subscripts)
            swapped[a], swapped[b] = swapped[b], swapped[a]
            yield tuple(swapped)


def _subscripts(subscript: Expression, words: Vocabulary) -> Iterator[tuple[int, Expression]]:
    for name in words.lengths:
        if subscript != Index(name):
            yield 2, Index(name)
            yield 4, apply("+", subscript, Index(name))
            yield 4, apply("-", subscript, Index(name))
    yield 2, apply("+", subscript, ONE)
    yield 2, apply("-", subscript, ONE)
    match subscript:
        case Apply("+", (left, right)):
            yield 2, left
            yield 2, right
            yield 2, apply("-", left, right)
        case Apply("-", (left, right)):
            yield 2, left
            yield 2, apply("+", left, right)
        case Number(int(value)):
            yield 2, Number(value + 1)
    for node in children(subscript):
        if isinstance(node, Index):
            for name in words.lengths:
                if name != node.name:
                    yield 3, rebuild(subscript, lambda e: Index(name) if e is node else e)  # noqa: B023
