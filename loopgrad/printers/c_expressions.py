"""Expressions as C that computes what the notation means.

Integers are int64_t. A sum or product of extents and constants whose sizes the printed function has checked
cannot overflow; any other is computed by a function that says so where it would. What goes wrong in an
expression is noted in `error`, and something harmless computed in its stead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import assert_never

from loopgrad.ir.nodes import (
    Apply,
    Compare,
    Conditional,
    Constant,
    Expression,
    Extent,
    Index,
    Number,
    Range,
    Read,
    Reduce,
)
from loopgrad.ir.operations import OPERATIONS, ElementType, Typing
from loopgrad.ir.printer import literal
from loopgrad.printers.c_names import Names

BOOL, INT, FLOAT = ElementType

# Extents and integer constants are below these powers of two, or the function refuses them.
EXTENT_BITS, CONSTANT_BITS = 40, 20
PLAIN_BITS = 62  # of an integer that is computed without looking
ALL_BITS = 64

# Precedences of C, loosest first.
CHOICE, OR, AND, EQUALITY, RELATION, SUM, PRODUCT, UNARY, ATOM = range(9)

_LIBRARY = frozenset("exp log log1p expm1 sqrt tanh erf sin cos".split())
_CHECKED = {"+": "add", "-": "subtract", "*": "multiply", "neg": "negate"}


@dataclass(frozen=True)
class Piece:
    """Source text, the precedence of its outermost operator, its type, and how large an integer is."""

    text: str
    precedence: int
    kind: ElementType
    bits: int = ALL_BITS

    def at(self, context: int) -> str:
        return f"({self.text})" if self.precedence < context else self.text


@dataclass
class Scope:
    """What the expressions of the statement at hand are printed from."""

    names: Names
    elements: Mapping[str, ElementType]
    constants: Mapping[str, ElementType]
    axes: Mapping[str, Sequence[str]]  # of each tensor: the extents, as text
    scalars: frozenset[str]  # tensors without axes that are passed by value
    in_range: frozenset[tuple[int, Read]]
    tracked: frozenset[str]
    real: str = "double"
    statement: int = 0
    ranges: dict[str, Range] = field(default_factory=dict)
    helpers: set[str] = field(default_factory=set)
    fails: bool = False  # whether something in the statement may go wrong

    def call(self, helper: str, *arguments: str, fails: bool = False) -> str:
        """A call of a function that the text defines."""
        self.helpers.add(helper)
        self.fails |= fails
        return f"{helper}({', '.join((*arguments, '&error') if fails else arguments)})"


def piece(e: Expression, scope: Scope) -> Piece:
    """The expression's source text."""
    match e:
        case Number(int(value)):
            text = f"INT64_C({value})" if value.bit_length() > 31 else str(value)
            return Piece(text, ATOM, INT, value.bit_length())
        case Number(value):
            return Piece(_literal(value, scope), ATOM, FLOAT)
        case Index(name):
            return Piece(
                scope.names.of("index", name), ATOM, INT, _bits_of(scope.ranges[name], scope)
            )
        case Extent(name):
            return Piece(scope.names.of("extent", name), ATOM, INT, EXTENT_BITS)
        case Constant(name):
            kind = scope.constants[name]
            return Piece(scope.names.of("constant", name), ATOM, kind, CONSTANT_BITS)
        case Read():
            return _read(e, scope)
        case Compare(operators, operands):
            return _comparison(operators, [piece(o, scope) for o in operands], scope)
        case Conditional(condition, then, otherwise):
            test = truth(condition, scope).at(OR)
            yes, no = piece(then, scope), piece(otherwise, scope)
            kind = _join([yes.kind, no.kind])
            yes, no = (converted(p, kind, scope) for p in (yes, no))
            text = f"{test} ? {yes.at(OR)} : {no.at(CHOICE)}"
            return Piece(text, CHOICE, kind, max(yes.bits, no.bits))
        case Apply(operation, operands):
            return _apply(operation, operands, scope)
        case Reduce():
            raise AssertionError("reductions are unfolded before printing")
    assert_never(e)


def truth(e: Expression, scope: Scope) -> Piece:
    """The text of a condition."""
    found = piece(e, scope)
    if found.kind is BOOL:
        return found
    return Piece(f"{found.at(RELATION)} != 0", EQUALITY, BOOL)


def integer(e: Expression, scope: Scope, context: int = CHOICE) -> str:
    return converted(piece(e, scope), INT, scope).at(context)


def converted(p: Piece, kind: ElementType, scope: Scope) -> Piece:
    """The value as one of that type, which holds those of its own."""
    if p.kind is kind:
        return p
    if kind is FLOAT:
        if p.text.isdigit():
            return Piece(_literal(float(p.text), scope), ATOM, FLOAT)
        return Piece(f"({scope.real}){p.at(UNARY)}", UNARY, FLOAT)
    return Piece(f"(int64_t){p.at(UNARY)}", UNARY, INT, 1)


def place(read: Read, scope: Scope) -> tuple[str, str]:
    """The element, and the condition on which it is there; "" where that was proved."""
    name, axes = scope.names.of("tensor", read.tensor), scope.axes[read.tensor]
    if read.tensor in scope.scalars:
        return name, ""
    found = [piece(s, scope) for s in read.subscripts]
    subscripts = [converted(p, INT, scope) for p in found]
    proved = (scope.statement, read) in scope.in_range
    checks = [
        scope.call("within", s.text, extent, fails=True)
        for s, axis, extent in zip(subscripts, read.subscripts, axes, strict=True)
        if not proved and not _is_whole_axis(axis, extent, scope)
    ]
    if not subscripts:
        return f"*{name}", ""
    offset = subscripts[0]
    for s, extent in zip(subscripts[1:], axes[1:], strict=True):
        offset = Piece(f"{offset.at(PRODUCT)} * {extent} + {s.at(PRODUCT)}", SUM, INT)
    return f"{name}[{offset.text}]", " && ".join(checks)


def _read(read: Read, scope: Scope) -> Piece:
    kind = scope.elements[read.tensor]
    text, condition = place(read, scope)
    if kind is BOOL:
        text = f"{text} != 0"
    if read.tensor in scope.tracked:
        state = text.replace(scope.names.of("tensor", read.tensor), _state(read.tensor, scope), 1)
        done = scope.call(
            "done",
            f"&{state.removeprefix('*')}" if state[0] != "*" else state[1:],
            "step",
            fails=True,
        )
        condition = f"{condition} && {done}" if condition else done
    if condition:
        return Piece(f"{condition} ? {text} : 0", CHOICE, kind)
    if kind is BOOL:
        return Piece(text, EQUALITY, kind)
    return Piece(text, UNARY if text.startswith("*") else ATOM, kind)


def _state(tensor: str, scope: Scope) -> str:
    return scope.names.of("state", f"{tensor}.state")


def state_of(target: Read, scope: Scope) -> str:
    """The address of the state of an element of a tracked tensor."""
    text, _ = place(target, scope)
    state = text.replace(scope.names.of("tensor", target.tensor), _state(target.tensor, scope), 1)
    return state[1:] if state.startswith("*") else f"&{state}"


def _is_whole_axis(subscript: Expression, extent: str, scope: Scope) -> bool:
    """Whether it is an index that runs over the axis' extent."""
    if not isinstance(subscript, Index):
        return False
    r = scope.ranges[subscript.name]
    return (
        r.lower == Number(0)
        and isinstance(r.upper, Extent)
        and (scope.names.of("extent", r.upper.name) == extent)
    )


def _bits_of(r: Range, scope: Scope) -> int:
    assert r.lower is not None and r.upper is not None
    return max(piece(bound, scope).bits for bound in (r.lower, r.upper))


def _literal(value: float, scope: Scope) -> str:
    if value == float("inf"):
        return f"({scope.real})INFINITY"
    text = literal(value)
    text = text if any(c in text for c in ".e") else f"{text}.0"
    return f"{text}f" if scope.real == "float" else text


def _comparison(operators: Sequence[str], operands: Sequence[Piece], scope: Scope) -> Piece:
    links = []
    for operator, left, right in zip(operators, operands, operands[1:], strict=False):
        kind = _join([left.kind, right.kind])
        a, b = (converted(p, kind, scope).at(SUM) for p in (left, right))
        links.append(f"{a} {operator} {b}")
    precedence = AND if len(links) > 1 else EQUALITY if operators[0] in ("==", "!=") else RELATION
    return Piece(" && ".join(links), precedence, BOOL)


def _apply(name: str, operands: Sequence[Expression], scope: Scope) -> Piece:
    if name in ("and", "or"):
        # An `and` in an `or` is put in brackets, as compilers want it.
        left, right = (truth(o, scope).at(EQUALITY) for o in operands)
        return Piece(
            f"{left} {'&&' if name == 'and' else '||'} {right}", AND if name == "and" else OR, BOOL
        )
    if name == "not":
        return Piece(f"!{truth(operands[0], scope).at(UNARY)}", UNARY, BOOL)
    pieces = [piece(o, scope) for o in operands]
    typing = OPERATIONS[name].typing
    if name == "floor":
        return _floor(pieces[0], scope)
    kind = FLOAT if typing is Typing.FLOAT else _join([INT, *(p.kind for p in pieces)])
    pieces = [converted(p, kind, scope) for p in pieces]
    return (
        _of_reals(name, pieces, operands, scope)
        if kind is FLOAT
        else _of_integers(name, pieces, scope)
    )


def _floor(p: Piece, scope: Scope) -> Piece:
    if p.kind is not FLOAT:
        return converted(p, INT, scope)
    return Piece(scope.call("whole", p.text, fails=True), ATOM, INT)


def _of_reals(name: str, p: Sequence[Piece], operands: Sequence[Expression], scope: Scope) -> Piece:
    match name:
        case "+" | "-":
            return Piece(f"{p[0].at(SUM)} {name} {p[1].at(PRODUCT)}", SUM, FLOAT)
        case "*" | "/":
            return Piece(f"{p[0].at(PRODUCT)} {name} {p[1].at(UNARY)}", PRODUCT, FLOAT)
        case "neg":
            return Piece(f"-{p[0].at(ATOM)}", UNARY, FLOAT)
        case "pi":
            return Piece(_literal(3.141592653589793, scope), ATOM, FLOAT)
        case "stop_gradient":
            return p[0]
        case "**" if operands[1] in (Number(2), Number(2.0)):
            return Piece(scope.call("square", p[0].text), ATOM, FLOAT)
        case "**":
            # In double, which is what the other backends round.
            power = f"pow({p[0].text}, {p[1].text})"
            return Piece(f"(float){power}" if scope.real == "float" else power, UNARY, FLOAT)
        case "abs":
            return Piece(f"{_function('fabs', scope)}({p[0].text})", ATOM, FLOAT)
        case "rsqrt":
            one = _literal(1.0, scope)
            return Piece(f"{one} / {_function('sqrt', scope)}({p[0].text})", PRODUCT, FLOAT)
        case "max" | "min":
            return Piece(scope.call(f"{name}imum", p[0].text, p[1].text), ATOM, FLOAT)
        case "relu":
            return Piece(scope.call("maximum", p[0].text, _literal(0.0, scope)), ATOM, FLOAT)
    if name in _LIBRARY:
        return Piece(f"{_function(name, scope)}({p[0].text})", ATOM, FLOAT)
    return Piece(scope.call(name, p[0].text), ATOM, FLOAT)  # sign, sigmoid, softplus


def _function(name: str, scope: Scope) -> str:
    return f"{name}f" if scope.real == "float" else name


def _of_integers(name: str, p: Sequence[Piece], scope: Scope) -> Piece:
    most = max(x.bits for x in p)
    match name:
        case "+" | "-" if most < PLAIN_BITS:
            return Piece(f"{p[0].at(SUM)} {name} {p[1].at(PRODUCT)}", SUM, INT, most + 1)
        case "*" if p[0].bits + p[1].bits <= PLAIN_BITS:
            text = f"{p[0].at(PRODUCT)} * {p[1].at(UNARY)}"
            return Piece(text, PRODUCT, INT, p[0].bits + p[1].bits)
        case "neg" if most <= PLAIN_BITS:
            return Piece(f"-{p[0].at(ATOM)}", UNARY, INT, most)
        case "stop_gradient":
            return p[0]
        case "//" | "%":
            return _division(name, p, scope)
        case "**":
            return Piece(scope.call("power", *(x.text for x in p), fails=True), ATOM, INT)
        case "max" | "min":
            a, b = (x.at(SUM) for x in p)
            sign = ">" if name == "max" else "<"
            return Piece(f"{a} {sign} {b} ? {a} : {b}", CHOICE, INT, most)
        case "relu":
            return Piece(f"{p[0].at(SUM)} > 0 ? {p[0].at(OR)} : 0", CHOICE, INT, most)
        case "sign":
            a = p[0].at(SUM)
            return Piece(f"({a} > 0) - ({a} < 0)", SUM, INT, 1)
        case "abs":
            a = p[0].at(SUM)
            negated = _of_integers("neg", p, scope)
            return Piece(f"{a} < 0 ? {negated.at(OR)} : {a}", CHOICE, INT, most)
    return Piece(scope.call(_CHECKED[name], *(x.text for x in p), fails=True), ATOM, INT)


def _division(name: str, p: Sequence[Piece], scope: Scope) -> Piece:
    """Rounded down. By a positive number that stands there nothing can go wrong."""
    sure = p[1].text.isdigit() and int(p[1].text) > 0
    words = {"//": ("floor_divide", "divide"), "%": ("floor_modulo", "modulo")}[name]
    text = scope.call(words[0 if sure else 1], *(x.text for x in p), fails=not sure)
    return Piece(text, ATOM, INT, p[0].bits if name == "//" else p[1].bits)


def _join(kinds: Sequence[ElementType]) -> ElementType:
    if FLOAT in kinds:
        return FLOAT
    return INT if INT in kinds else BOOL
