"""Program -> text, in canonical form: `parse(show(program)) == program`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from loopgrad.diagnostics import display_width
from loopgrad.ir import operations
from loopgrad.ir.nodes import (
    NO_COMMENTS,
    Accumulate,
    Apply,
    Argument,
    Block,
    Call,
    Comments,
    Compare,
    Conditional,
    Constant,
    Default,
    Expression,
    Extent,
    Index,
    Input,
    Local,
    Number,
    Program,
    Range,
    Read,
    Reduce,
    Size,
    Statement,
)
from loopgrad.ir.operations import OPERATIONS, ElementType
from loopgrad.ir.walk import all_statements, plus_one

INDENT = "    "
LINE_LENGTH = 100  # headers that are longer go over several lines


def show(program: Program, comments: bool = False) -> str:
    """The canonical text: the programs that it calls, then itself. Comments on request."""
    texts = [show_one(p, comments) for p in (*called_programs(program), program)]
    return "\n\n".join(texts)


def show_one(program: Program, comments: bool = False) -> str:
    """The text of the program alone."""
    said = program.comments if comments else NO_COMMENTS
    lines = [f"#{c}" for c in said.above]
    lines += _header(program)
    lines[-1] += f"  #{said.behind}" if said.behind is not None else ""
    if program.locals:
        lines.append(INDENT + "local " + ", ".join(_local(local) for local in program.locals))
    lines += _statements(program.statements, INDENT, comments)
    return "\n".join(lines)


def called_programs(program: Program) -> tuple[Program, ...]:
    """The programs defined with this one that it calls, directly or not, each before its callers.

    Those of the standard library are left out: every text can call them.
    """
    found: dict[Program, None] = {}

    def visit(caller: Program) -> None:
        for statement in all_statements(caller.statements):
            if isinstance(statement, Call) and not statement.callee.__dict__.get("is_library"):
                visit(statement.callee)
                found.setdefault(statement.callee)

    visit(program)
    return tuple(found)


# ---------------------------------------------------------------------------------------- headers


def _header(program: Program) -> list[str]:
    """One line where it fits; else the arguments under each other, and so the results.

    name(x[A,B], y[B,C],
         z[C,D])
            -> p[A,B,C],
               q[D]:
    """
    arguments = [_argument(a) for a in program.arguments]
    results = [_tensor(r.name, r.extents) for r in program.results]
    opening = f"{program.name}("
    closing = ")" + (f" batch {program.batch}" if program.batch else "")
    ending = f" -> {', '.join(results)}:"
    whole = opening + ", ".join(arguments) + closing + ending
    if display_width(whole) <= LINE_LENGTH:
        return [whole]
    lines = _wrapped(opening, arguments, closing)
    if display_width(lines[-1] + ending) <= LINE_LENGTH:
        return [*lines[:-1], lines[-1] + ending]
    return [*lines, *_wrapped(2 * INDENT + "-> ", results, ":")]


def _wrapped(opening: str, pieces: Sequence[str], closing: str) -> list[str]:
    """The pieces behind `opening`, parted by commas, on as many lines as they need."""
    pad = " " * display_width(opening)
    lines, current, empty = [], opening, True
    for i, piece in enumerate(pieces):
        piece += "," if i < len(pieces) - 1 else closing
        if not empty and display_width(current) + 1 + display_width(piece) > LINE_LENGTH:
            lines.append(current)
            current, empty = pad, True
        current += piece if empty else f" {piece}"
        empty = False
    return [*lines, current if pieces else current + closing]


def _argument(argument: Argument) -> str:
    match argument:
        case Input(name, extents, kind):
            return ("" if kind == "input" else f"{kind} ") + _tensor(name, extents)
        case Size(name):
            return f"size {name}"
        case Default(name, value):
            return f"{name} = {'-' if _negative(value) else ''}{literal(abs(value))}"


def _negative(value: int | float) -> bool:
    return math.copysign(1, value) < 0


def _local(local: Local) -> str:
    return ("int " if local.element is ElementType.INT else "") + _tensor(local.name, local.extents)


def _tensor(name: str, subscripts: Sequence[Expression]) -> str:
    return name + (f"[{_subscripts(subscripts)}]" if subscripts else "")


# ------------------------------------------------------------------------------------- statements


def show_statement(statement: Statement) -> str:
    """One statement on its own, a block with its body, not indented."""
    return "\n".join(_statements((statement,), "", False))


def show_statements(statements: Iterable[Statement]) -> list[str]:
    """Several statements, a line each, neighbours aligned, not indented."""
    return _statements(statements, "", False)


def _statements(body: Iterable[Statement], indent: str, comments: bool) -> list[str]:
    lines: list[str] = []
    run: list[Accumulate | Call] = []

    def flush() -> None:
        lines.extend(_aligned(run, indent, comments))
        run.clear()

    for statement in body:
        if isinstance(statement, Block):
            flush()
            said = statement.comments if comments else NO_COMMENTS
            lines += [f"{indent}#{c}" for c in said.above]
            lines.append(f"{indent}for {show_ranges(statement.ranges)}:{_behind(said)}")
            lines += _statements(statement.body, indent + INDENT, comments)
        else:
            # A statement without loops starts at the margin: nothing lines up with what follows it.
            if run and bool(run[-1].ranges) != bool(statement.ranges):
                flush()
            run.append(statement)
    flush()
    return lines


def _behind(comments: Comments) -> str:
    return f"  #{comments.behind}" if comments.behind is not None else ""


def _aligned(run: Sequence[Accumulate | Call], indent: str, comments: bool) -> list[str]:
    """Neighbouring statements with their targets and operators under each other."""
    heads = [f"for {show_ranges(s.ranges)}:" if s.ranges else "" for s in run]
    targets = [
        show_expression(s.target)
        if isinstance(s, Accumulate)
        else ", ".join(show_expression(t) for t in s.targets)
        for s in run
    ]
    head_width = max((display_width(h) + 2 for h in heads if h), default=0)
    target_width = max(map(display_width, targets), default=0)
    lines = []
    for statement, head, target in zip(run, heads, targets, strict=True):
        said = statement.comments if comments else NO_COMMENTS
        lines += [f"{indent}#{c}" for c in said.above]
        # A line without a `for` starts where the others start: it would read as a block's body.
        lead = (_pad(head, head_width) if head else "") + _pad(target, target_width)
        match statement:
            case Accumulate():
                rest = f"{statement.reduction.value} {_guarded(statement)}"
            case Call():
                rest = f"= {_call(statement)}"
        lines.append(f"{indent}{lead} {rest}{_behind(said)}")
    return lines


def _pad(text: str, width: int) -> str:
    return text + " " * (width - display_width(text))


def _guarded(statement: Accumulate) -> str:
    value = show_expression(statement.value)
    if statement.guard is None:
        return value
    if isinstance(statement.value, Conditional):
        value = f"({value})"
    return f"{value}   if {show_expression(statement.guard)}"


def _call(call: Call) -> str:
    arguments = [show_expression(a) for a in call.arguments]
    arguments += [f"{name}={show_expression(value)}" for name, value in call.keywords]
    return f"{call.callee.name}({', '.join(arguments)})"


def show_ranges(ranges: Sequence[Range]) -> str:
    return ", ".join(show_range(r) for r in ranges)


def show_range(r: Range) -> str:
    """`b`, `t < n`, `1 <= t <= T-1`, `u <= t`, each perhaps `descending`."""
    text = r.index
    if r.upper is not None:
        match r.upper:
            case Apply("+", (base, Number(1))) if plus_one(base) == r.upper:
                text += f" <= {_show(base, operations.SUM, True)}"
            case _:
                text += f" < {_show(r.upper, operations.SUM, True)}"
    if r.lower is not None and not (r.lower == Number(0) and r.upper is not None):
        text = f"{_show(r.lower, operations.SUM, True)} <= {text}"
    return text + (" descending" if r.descending else "")


# ------------------------------------------------------------------------------------ expressions


def show_expression(expression: Expression, compact: bool = False) -> str:
    """The expression's text; `compact` leaves out the spaces around operators, as in subscripts."""
    return _show(expression, operations.CONDITIONAL, compact)


def literal(value: int | float) -> str:
    """A number that is not negative, in its shortest form that reads back exactly."""
    if isinstance(value, int):
        return str(value)
    if math.isinf(value):
        return "inf"
    mantissa, e, exponent = repr(value).partition("e")
    return mantissa + (f"e{int(exponent)}" if e else "")


def _subscripts(subscripts: Sequence[Expression]) -> str:
    comma = "," if all(map(_is_short, subscripts)) else ", "
    return comma.join(_show(s, operations.CONDITIONAL, True) for s in subscripts)


def _is_short(subscript: Expression) -> bool:
    match subscript:
        case Apply("+" | "-", (left, Number())):
            return not isinstance(left, Apply)
        case Apply("neg", (Number(),)):
            return True
        case Apply() | Compare() | Conditional() | Reduce():
            return False
        case Read(_, inner):
            return len(inner) <= 1
    return True


def _show(expression: Expression, context: int, compact: bool) -> str:
    """The text of an expression that stands where precedence `context` or tighter is needed."""
    text, precedence = _pieces(expression, compact)
    return f"({text})" if precedence < context else text


def _pieces(expression: Expression, compact: bool) -> tuple[str, int]:
    match expression:
        case Number(value):
            return literal(value), operations.ATOM
        case Index(name) | Extent(name) | Constant(name):
            return name, operations.ATOM
        case Read(name, subscripts):
            return _tensor(name, subscripts), operations.ATOM
        case Apply(operation, operands):
            return _apply(operation, operands, compact)
        case Compare(operators, operands):
            shown = [_show(o, operations.SUM, compact) for o in operands]
            pairs = zip(operators, shown[1:], strict=True)
            return shown[0] + "".join(f" {o} {s}" for o, s in pairs), operations.COMPARISON
        case Conditional(condition, then, otherwise):
            return (
                f"{_show(then, operations.OR, compact)} if {_show(condition, operations.OR, compact)}"
                f" else {_show(otherwise, operations.CONDITIONAL, compact)}"
            ), operations.CONDITIONAL
        case Reduce(name, ranges, body):
            return f"{name}[{show_ranges(ranges)}]({show_expression(body)})", operations.ATOM


def _apply(name: str, operands: Sequence[Expression], compact: bool) -> tuple[str, int]:
    precedence = OPERATIONS[name].precedence
    if precedence is None:
        if not operands:
            return name, operations.ATOM
        inside = ", ".join(show_expression(o, compact) for o in operands)
        return f"{name}({inside})", operations.ATOM
    show: Callable[[Expression, int], str] = lambda e, context: _show(e, context, compact)
    match name:
        case "neg":
            return f"-{show(operands[0], operations.UNARY)}", precedence
        case "not":
            return f"not {show(operands[0], operations.NOT)}", precedence
        case "**":
            # Binds tighter than a minus on its left, looser than one on its right; from the right.
            left, right = show(operands[0], operations.ATOM), show(operands[1], operations.UNARY)
            return f"{left}**{right}", precedence
    space = "" if compact and name not in ("and", "or") else " "
    left, right = show(operands[0], precedence), show(operands[1], precedence + 1)
    return f"{left}{space}{name}{space}{right}", precedence
