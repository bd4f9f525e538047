r"""Program -> LaTeX: `for b, j:  Z[b] += exp(s[b,j])` as it stands on a whiteboard.

    \text{for } b, j\colon & Z_{b} &\mathrel{+}= \exp\left(s_{b,j}\right)

Standard `amsmath` is all it needs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import assert_never

from loopgrad.ir import operations
from loopgrad.ir.nodes import (
    Accumulate,
    Apply,
    Argument,
    Block,
    Call,
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
    Reduction,
    Size,
    Statement,
)
from loopgrad.ir.operations import OPERATIONS, ElementType
from loopgrad.ir.printer import called_programs, literal
from loopgrad.ir.walk import plus_one
from loopgrad.printers.latex_names import tensor_name, upright, word

_OPERATORS = {
    Reduction.ADD: r"\mathrel{+}=",
    Reduction.SUBTRACT: r"\mathrel{-}=",
    Reduction.MULTIPLY: r"\mathrel{\times}=",
    Reduction.MAXIMUM: r"\mathrel{\max}=",
    Reduction.MINIMUM: r"\mathrel{\min}=",
    Reduction.SET: "=",
}
_COMPARISONS = {"==": "=", "!=": r"\ne", "<": "<", "<=": r"\le", ">": ">", ">=": r"\ge"}
_REDUCTIONS = {
    "sum": r"\sum",
    "prod": r"\prod",
    "max": r"\max",
    "min": r"\min",
    "mean": r"\operatorname*{mean}",
    "logsumexp": r"\operatorname*{logsumexp}",
    "softmax": r"\operatorname*{softmax}",
}
_NAMED = frozenset(("exp", "log", "tanh", "sin", "cos", "max", "min"))  # have macros of their own


def latex(program: Program) -> str:
    r"""The program, and those it calls above it, as a displayed formula `\[ ... \]`.

    Compiles in a document that loads `amsmath`.

    >>> import loopgrad as lg
    >>> print(lg.program("double(x[N]) -> y[N]:\n    for n:  y[n] += 2 * x[n]").to("latex"))
    \[
    \begin{aligned}
    & \operatorname{double}\left(x_{N}\right) \to y_{N}\colon \\
    & \quad \begin{aligned}
    & \text{for } n\colon & y_{n} &\mathrel{+}= 2 \, x_{n}
    \end{aligned}
    \end{aligned}
    \]
    """
    return f"\\[\n{_formula(program)}\n\\]"


def notebook(program: Program) -> str:
    """The same, as notebooks want it."""
    return f"$\\displaystyle\n{_formula(program)}\n$"


def _formula(program: Program) -> str:
    rows: list[str] = []
    for p in (*called_programs(program), program):
        rows.append(f"& {_header(p)}")
        rows.append(f"& \\quad {_aligned([*_locals(p), *_statements(p.statements, 0)])}")
    return _aligned(rows)


def _aligned(rows: Iterable[str]) -> str:
    return "\\begin{aligned}\n" + " \\\\\n".join(rows) + "\n\\end{aligned}"


# ----------------------------------------------------------------------------------------- headers


def _header(program: Program) -> str:
    arguments = ", ".join(map(_argument, program.arguments))
    batch = rf" \text{{ batch }} {word(program.batch)}" if program.batch else ""
    results = ", ".join(_element(r.name, r.extents) for r in program.results)
    return rf"{upright(program.name)}\left({arguments}\right){batch} \to {results}\colon"


def _argument(argument: Argument) -> str:
    match argument:
        case Input(name, extents, kind):
            prefix = "" if kind == "input" else rf"\text{{{kind} }} "
            return prefix + _element(name, extents)
        case Size(name):
            return rf"\text{{size }} {_name(name)}"
        case Default(name, value):
            return f"{_name(name)} = {'-' if value < 0 else ''}{_number(abs(value))}"
    assert_never(argument)


def _locals(program: Program) -> Iterator[str]:
    if program.locals:
        shown = ", ".join(map(_local, program.locals))
        yield rf"& \text{{local }} {shown}"


def _local(local: Local) -> str:
    kind = r"\text{int } " if local.element is ElementType.INT else ""
    return kind + _element(local.name, local.extents)


# -------------------------------------------------------------------------------------- statements


def statements(body: Sequence[Statement]) -> str:
    """Statements under each other, without a header."""
    return _aligned(_statements(body, 0))


def _statements(body: Sequence[Statement], depth: int) -> Iterator[str]:
    """Rows of the columns: loops, target, the rest."""
    for s in body:
        loops = rf"\text{{for }} {_ranges(s.ranges)}\colon" if s.ranges else ""
        head = ("& " + r"\quad " * depth + loops).rstrip()
        match s:
            case Block():
                yield head
                yield from _statements(s.body, depth + 1)
            case Accumulate():
                guard = rf" \quad\text{{if }} {_show(s.guard, 0)}" if s.guard is not None else ""
                target = _show(s.target, 0)
                yield f"{head} & {target} &{_OPERATORS[s.reduction]} {_show(s.value, 0)}{guard}"
            case Call():
                targets = ", ".join(_show(t, 0) for t in s.targets)
                yield f"{head} & {targets} &= {_call(s)}"


def _call(call: Call) -> str:
    arguments = [_show(a, 0) for a in call.arguments]
    arguments += [f"{_name(name)} = {_show(value, 0)}" for name, value in call.keywords]
    return rf"{upright(call.callee.name)}\left({', '.join(arguments)}\right)"


def _ranges(ranges: Sequence[Range]) -> str:
    return ", ".join(map(_range, ranges))


def _range(r: Range) -> str:
    text = _name(r.index)
    match r.upper:
        case None:
            pass
        case Apply("+", (base, Number(1))) if plus_one(base) == r.upper:
            text += rf" \le {_show(base, operations.SUM)}"
        case upper:
            text += f" < {_show(upper, operations.SUM)}"
    if r.lower is not None and not (r.lower == Number(0) and r.upper is not None):
        text = rf"{_show(r.lower, operations.SUM)} \le {text}"
    return text + (r"\text{ descending}" if r.descending else "")


# ------------------------------------------------------------------------------------- expressions


def expression(e: Expression) -> str:
    """A formula, without the signs of a display around it."""
    return _show(e, 0)


def _name(name: str) -> str:
    return tensor_name(name)[0]


def _element(name: str, subscripts: Sequence[Expression]) -> str:
    if not subscripts:
        return _name(name)
    return f"{_name(name)}_{{{','.join(_show(s, 0) for s in subscripts)}}}"


def _number(value: int | float) -> str:
    text = literal(value)
    if text == "inf":
        return r"\infty"
    mantissa, e, exponent = text.partition("e")
    if not e:
        return text
    power = f"10^{{{exponent}}}"
    return power if mantissa == "1" else rf"{mantissa} \cdot {power}"


def _show(e: Expression, context: int) -> str:
    text, precedence = _pieces(e)
    return _parenthesised(text) if precedence < context else text


def _parenthesised(text: str) -> str:
    return rf"\left({text}\right)"


def _pieces(e: Expression) -> tuple[str, int]:
    """The text with the precedence of what is outermost in it."""
    match e:
        case Number(value):
            text = _number(value)
            return text, operations.PRODUCT if "10^" in text else operations.ATOM
        case Index(name) | Extent(name) | Constant(name):
            return _name(name), operations.ATOM
        case Read(name, subscripts):
            return _element(name, subscripts), operations.ATOM
        case Compare(operators, operands):
            parts = [_show(o, operations.SUM) for o in operands]
            pairs = zip(operators, parts[1:], strict=True)
            text = parts[0] + "".join(f" {_COMPARISONS[o]} {p}" for o, p in pairs)
            return text, operations.COMPARISON
        case Conditional():
            return _cases(e), operations.CONDITIONAL
        case Reduce(name, ranges, body):
            shown = _show(body, operations.PRODUCT)
            if name in ("max", "min", "softmax", "logsumexp", "mean"):
                shown = _parenthesised(_show(body, 0))
            return rf"{_REDUCTIONS[name]}_{{{_ranges(ranges)}}} {shown}", operations.PRODUCT
        case Apply(operation, operands):
            return _apply(operation, operands)
    assert_never(e)


def _cases(e: Conditional) -> str:
    rows: list[str] = []
    rest: Expression = e
    while isinstance(rest, Conditional):
        rows.append(rf"{_show(rest.then, 0)} & \text{{if }} {_show(rest.condition, 0)}")
        rest = rest.otherwise
    rows.append(rf"{_show(rest, 0)} & \text{{otherwise}}")
    return r"\begin{cases} " + r" \\ ".join(rows) + r" \end{cases}"


def _apply(name: str, operands: Sequence[Expression]) -> tuple[str, int]:
    match name, operands:
        case "pi", ():
            return r"\pi", operations.ATOM
        case "/", (above, below):
            return rf"\frac{{{_show(above, 0)}}}{{{_show(below, 0)}}}", operations.ATOM
        case "//", (above, below):
            fraction = rf"\frac{{{_show(above, 0)}}}{{{_show(below, 0)}}}"
            return rf"\left\lfloor {fraction} \right\rfloor", operations.ATOM
        case "%", (left, right):
            left_text, right_text = _show(left, operations.PRODUCT), _show(right, operations.UNARY)
            return rf"{left_text} \bmod {right_text}", operations.PRODUCT
        case "**", (base, exponent):
            return f"{_base(base)}^{{{_show(exponent, 0)}}}", operations.POWER
        case "*", (left, right):
            return _product(left, right), operations.PRODUCT
        case "neg", (operand,):
            return f"-{_show(operand, operations.UNARY)}", operations.UNARY
        case "not", (operand,):
            return rf"\text{{not }} {_show(operand, operations.NOT)}", operations.NOT
        case "sqrt", (operand,):
            return rf"\sqrt{{{_show(operand, 0)}}}", operations.ATOM
        case "rsqrt", (operand,):
            return rf"\frac{{1}}{{\sqrt{{{_show(operand, 0)}}}}}", operations.ATOM
        case "abs", (operand,):
            return rf"\left|{_show(operand, 0)}\right|", operations.ATOM
        case "floor", (operand,):
            return rf"\left\lfloor {_show(operand, 0)} \right\rfloor", operations.ATOM
    precedence = OPERATIONS[name].precedence
    if precedence is None:
        function = rf"\{name}" if name in _NAMED else upright(name)
        return function + _parenthesised(", ".join(_show(o, 0) for o in operands)), operations.ATOM
    left_text = _show(operands[0], precedence)
    right_text = _show(operands[1], precedence + 1)
    sign = rf"\text{{ {name} }}" if name in ("and", "or") else name
    return f"{left_text} {sign} {right_text}", precedence


def _base(base: Expression) -> str:
    """What carries an exponent: a letter or a bracket, with no superscript of its own."""
    match base:
        case Read(name, ()) | Index(name) | Extent(name) | Constant(name):
            text, raised = tensor_name(name)
            return _parenthesised(text) if raised else text
        case Read(name, subscripts) if not tensor_name(name)[1]:
            return _element(name, subscripts)
        case Number(value) if "10^" not in _number(value):
            return _number(value)
        case Apply("pi"):
            return r"\pi"
    return _parenthesised(_show(base, 0))


def _product(left: Expression, right: Expression) -> str:
    left_text = _show(left, operations.PRODUCT)
    right_text = _show(right, operations.UNARY)
    # A sum sign would swallow what follows it, and digits would run together.
    if isinstance(left, Reduce) or _ends_in_reduction(left):
        left_text = _parenthesised(left_text)
    sign = (
        r"\cdot" if right_text[:1].isdigit() or right_text.startswith(("-", r"\begin")) else r"\,"
    )
    return f"{left_text} {sign} {right_text}"


def _ends_in_reduction(e: Expression) -> bool:
    match e:
        case Apply("*", (_, right)):
            return isinstance(right, Reduce) or _ends_in_reduction(right)
    return isinstance(e, Reduce)
