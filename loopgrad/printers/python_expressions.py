"""Expressions as Python source that computes what the notation means, with NumPy scalars.

Python's own numbers differ from the notation's real ones: `1 / 0` raises, `(-8) ** 0.5` is complex,
and NumPy's truth values add up to truth values. Which kind of value an expression has in the
printed function (`Kind`) says where a function of NumPy has to stand in for the operator.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import assert_never

from loopgrad.ir import operations
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
from loopgrad.ir.operations import OPERATIONS, ElementType
from loopgrad.ir.printer import literal
from loopgrad.printers.identifiers import Identifiers


class Kind(Enum):
    """What an expression's value is in the printed function."""

    TRUTH = "a truth value, Python's or NumPy's"
    INTEGER = "a Python int"
    PLAIN = "a Python number that stands for a real one (or, by a conditional, perhaps NumPy's)"
    REAL = "a NumPy floating scalar"


TRUTH, INTEGER, PLAIN, REAL = Kind
_OF_ELEMENT = {ElementType.BOOL: TRUTH, ElementType.INT: INTEGER, ElementType.FLOAT: REAL}

# Functions of a real value, as NumPy or a helper of the printed function spells them.
_IN_NUMPY = ("exp", "log", "log1p", "expm1", "sqrt", "tanh", "sin", "cos")
_CALLS = {name: f"np.{name}" for name in _IN_NUMPY}
_CALLS |= {name: name for name in ("sigmoid", "softplus", "erf")}

HELPERS = {
    "at": """
def at(subscript, extent, axis):
    # NumPy would count a negative subscript from the end.
    if not 0 <= subscript < extent:
        raise IndexError(f"subscript {subscript} is out of range for {axis} with extent {extent}")
    return subscript
""",
    "done": """
def done(state, statement, *place):
    # Reading what is not complete is an error; what is read may not change any more.
    if state[place] == statement:
        raise ValueError(f"element {place} is read by the statement that writes it")
    state[place] = -1
    return place
""",
    "begin": """
def begin(state, statement, once, *place):
    # A later change of what was read is an error, and so is a second or a late `=`.
    if state[place] == -1:
        raise ValueError(f"element {place} is changed after it was read")
    if once and state[place] != 0:
        raise ValueError(f"element {place} is written twice")
    state[place] = statement
    return place
""",
    "floor": """
def floor(value):
    if not -(2.0**63) <= value < 2.0**63:
        raise ValueError(f"floor({value}) is no integer")
    return int(np.floor(value))
""",
    "power": """
def power(base, exponent):
    if exponent < 0:
        raise ValueError(f"{base} ** {exponent} is no integer")
    return base**exponent
""",
    "sigmoid": """
def sigmoid(value):
    return 1 / (1 + np.exp(-value))
""",
    "softplus": """
def softplus(value):
    return np.logaddexp(value, 0.0)
""",
    "erf": """
def erf(value):
    return np.float64(math.erf(value))
""",
}


@dataclass
class Scope:
    """What the expressions of the statement at hand are printed from."""

    names: Identifiers
    elements: Mapping[str, ElementType]
    extents: Mapping[str, tuple[Expression, ...]]
    constants: Mapping[str, ElementType]
    in_range: frozenset[tuple[int, Read]]
    tracked: frozenset[str]
    statement: int = 0
    ranges: dict[str, Range] = field(default_factory=dict)
    helpers: set[str] = field(default_factory=set)

    def helper(self, name: str) -> str:
        self.helpers.add(name)
        return name


@dataclass(frozen=True)
class Piece:
    """Source text with the precedence of its outermost operator."""

    text: str
    precedence: int
    kind: Kind

    def at(self, context: int) -> str:
        return f"({self.text})" if self.precedence < context else self.text


def piece(e: Expression, scope: Scope) -> Piece:
    """The expression's source text."""
    atom = operations.ATOM
    match e:
        case Number(int(value)):
            return Piece(str(value), atom, INTEGER)
        case Number(value):
            return Piece("np.inf" if value == float("inf") else literal(value), atom, PLAIN)
        case Index(name):
            return Piece(scope.names.of("index", name), atom, INTEGER)
        case Extent(name):
            return Piece(scope.names.of("extent", name), atom, INTEGER)
        case Constant(name):
            integer = scope.constants.get(name) is ElementType.INT
            return Piece(scope.names.of("constant", name), atom, INTEGER if integer else PLAIN)
        case Read():
            kind = _OF_ELEMENT[scope.elements[e.tensor]]
            text = element(e, scope)
            return Piece(f"int({text})" if kind is INTEGER else text, atom, kind)
        case Compare(operators, operands):
            parts = [piece(o, scope).at(operations.SUM) for o in operands]
            text = parts[0] + "".join(
                f" {o} {p}" for o, p in zip(operators, parts[1:], strict=True)
            )
            return Piece(text, operations.COMPARISON, TRUTH)
        case Conditional(condition, then, otherwise):
            return _conditional(condition, piece(then, scope), piece(otherwise, scope), scope)
        case Apply(operation, operands):
            return _apply(operation, [piece(o, scope) for o in operands], operands, scope)
        case Reduce():
            raise AssertionError("reductions are unfolded before printing")
    assert_never(e)


def expression(e: Expression, scope: Scope, context: int = operations.CONDITIONAL) -> str:
    return piece(e, scope).at(context)


def integer(e: Expression, scope: Scope, context: int = operations.CONDITIONAL) -> str:
    """The text of an expression whose value has to be a Python int."""
    return _as_number(piece(e, scope)).at(context)


def value_for(element: ElementType, e: Expression, scope: Scope) -> str:
    """The text of a value that is written into a tensor of that element type."""
    found = piece(e, scope)
    return (_as_number(found) if element is not ElementType.BOOL else found).text


def element(read: Read, scope: Scope, write: str | None = None) -> str:
    """`x[b, j]`, with a check of each subscript that was not proved to be in range.

    `write`: the text of `once` for the target of a statement, None for a read.
    """
    name = scope.names.of("tensor", read.tensor)
    proved = (scope.statement, read) in scope.in_range
    places = [
        integer(s, scope) if proved or _is_whole_axis(s, extent, scope) else _at(read, k, scope)
        for k, (s, extent) in enumerate(
            zip(read.subscripts, scope.extents[read.tensor], strict=True)
        )
    ]
    if read.tensor in scope.tracked:
        state = scope.names.of("state", f"{read.tensor}.state")
        if write is None:
            call = ", ".join([state, "statement", *places])
            return f"{name}[{scope.helper('done')}({call})]"
        call = ", ".join([state, "statement", write, *places])
        return f"{name}[{scope.helper('begin')}({call})]"
    return f"{name}[{', '.join(places) or '()'}]"


def _at(read: Read, axis: int, scope: Scope) -> str:
    place = f'"axis {axis} of {read.tensor}"'
    extent = integer(scope.extents[read.tensor][axis], scope)
    return f"{scope.helper('at')}({integer(read.subscripts[axis], scope)}, {extent}, {place})"


def _is_whole_axis(subscript: Expression, extent: Expression, scope: Scope) -> bool:
    """Whether it is an index that runs over the axis' extent."""
    if not isinstance(subscript, Index) or subscript.name not in scope.ranges:
        return False
    r = scope.ranges[subscript.name]
    return r.lower == Number(0) and r.upper == extent


def _as_number(p: Piece) -> Piece:
    return Piece(f"int({p.text})", operations.ATOM, INTEGER) if p.kind is TRUTH else p


def _conditional(condition: Expression, then: Piece, other: Piece, scope: Scope) -> Piece:
    if then.kind is not other.kind:
        then, other = _as_number(then), _as_number(other)
    kind = then.kind if then.kind is other.kind else PLAIN
    text = (
        f"{then.at(operations.OR)} if {expression(condition, scope, operations.OR)}"
        f" else {other.at(operations.CONDITIONAL)}"
    )
    return Piece(text, operations.CONDITIONAL, kind)


def _apply(
    name: str, pieces: Sequence[Piece], operands: Sequence[Expression], scope: Scope
) -> Piece:
    row = OPERATIONS[name]
    match name:
        case "and" | "or":
            left, right = (p.at(row.precedence or 0) for p in pieces)
            return Piece(f"{left} {name} {right}", row.precedence or 0, TRUTH)
        case "not":
            return Piece(f"not {pieces[0].at(operations.NOT)}", operations.NOT, TRUTH)
        case "stop_gradient":
            return pieces[0]
    numbers = [_as_number(p) for p in pieces]
    kind = _join([p.kind for p in numbers])
    if row.precedence is None:
        return _function(name, numbers, kind, scope)
    match name:
        case "neg":
            return Piece(f"-{numbers[0].at(operations.UNARY)}", operations.UNARY, kind)
        case "**":
            return _power(numbers, operands, kind, scope)
        case "/" if kind is not REAL and not _is_nonzero_literal(operands[1]):
            return _call("np.divide", numbers, REAL)  # where Python's own would raise
        case "/" if kind is INTEGER:
            kind = PLAIN
    left, right = numbers[0].at(row.precedence), numbers[1].at(row.precedence + 1)
    return Piece(f"{left} {name} {right}", row.precedence, kind)


def _join(kinds: Sequence[Kind]) -> Kind:
    if REAL in kinds:
        return REAL
    return PLAIN if PLAIN in kinds else INTEGER


def _is_nonzero_literal(e: Expression) -> bool:
    return isinstance(e, Number) and e.value != 0


def _power(
    numbers: Sequence[Piece], operands: Sequence[Expression], kind: Kind, scope: Scope
) -> Piece:
    if kind is INTEGER and not isinstance(operands[1], Number):
        if isinstance(operands[1], Apply) and operands[1].operation == "neg":
            match operands[1].operands[0]:
                case Number():
                    return _call("np.float_power", numbers, REAL)
        return _call(scope.helper("power"), numbers, INTEGER)
    if kind is PLAIN:
        return _call("np.float_power", numbers, REAL)
    left, right = numbers[0].at(operations.ATOM), numbers[1].at(operations.UNARY)
    sign = "**" if (left + right).replace(".", "_").isidentifier() else " ** "
    return Piece(f"{left}{sign}{right}", operations.POWER, kind)


def _call(function: str, pieces: Sequence[Piece], kind: Kind) -> Piece:
    return Piece(f"{function}({', '.join(p.text for p in pieces)})", operations.ATOM, kind)


def _function(name: str, p: Sequence[Piece], kind: Kind, scope: Scope) -> Piece:
    whole = kind is INTEGER
    zero = Piece("0" if whole else "0.0", operations.ATOM, kind)
    match name:
        case "pi":
            return Piece("np.pi", operations.ATOM, PLAIN)
        case "max" | "min":
            return _call(name if whole else f"np.{name}imum", p, kind if whole else REAL)
        case "relu":
            return _call("max" if whole else "np.maximum", [*p, zero], kind if whole else REAL)
        case "abs":
            return _call("abs", p, kind)
        case "sign" if whole:
            return _call("int", [_call("np.sign", p, kind)], INTEGER)
        case "sign":
            return _call("np.sign", p, REAL)
        case "floor":
            return p[0] if whole else _call(scope.helper("floor"), p, INTEGER)
        case "rsqrt":
            return Piece(f"1 / np.sqrt({p[0].text})", operations.PRODUCT, REAL)
    function = _CALLS[name]
    return _call(function if function.startswith("np.") else scope.helper(function), p, REAL)
