"""A program as literal loops in Python source, which numba compiles as they stand.

    for b, j:  Z[b] += exp(s[b,j])        for b in range(B):
                                              for j in range(J):
                                                  Z[b] += math.exp(s[b, j])

Nothing is checked: the source is for calls that are known to be right.
"""

from __future__ import annotations

from collections.abc import Iterator

from loopgrad.analysis.facts import Facts
from loopgrad.analysis.types import element_type
from loopgrad.ir.nodes import (
    Accumulate,
    Apply,
    Block,
    Compare,
    Conditional,
    Constant,
    Expression,
    Extent,
    Index,
    Number,
    Range,
    Read,
    Reduction,
    Statement,
)
from loopgrad.ir.operations import OPERATIONS, ElementType, Typing
from loopgrad.ir.walk import reductions_of
from loopgrad.printers.identifiers import Identifiers

INDENT = "    "

IDENTITY = {
    Reduction.MULTIPLY: "1",
    Reduction.MAXIMUM: "-math.inf",
    Reduction.MINIMUM: "math.inf",
}
_LEAST, _GREATEST = "-(2**63)", "2**63 - 1"
INTEGER_IDENTITY = {
    Reduction.MULTIPLY: "1",
    Reduction.MAXIMUM: _LEAST,
    Reduction.MINIMUM: _GREATEST,
}

# How a function of real values is computed; `{0}` is its operand, used more than once where it is a name.
FUNCTIONS = {
    **{f: f"math.{f}({{0}})" for f in "exp log log1p expm1 sqrt tanh erf sin cos".split()},
    "rsqrt": "(real(1) / math.sqrt({0}))",
    "sigmoid": "(real(1) / (real(1) + math.exp(-({0}))))",
    "softplus": "(max({0}, real(0)) + math.log1p(math.exp(-abs({0}))))",
    "floor": "int(math.floor({0}))",
    "abs": "abs({0})",
    "sign": "np.sign({0})",
    "stop_gradient": "({0})",
    "max": "max({0}, {1})",
    "min": "min({0}, {1})",
    "pi": "real(math.pi)",
}


class Literal:
    """The source of one program's loops: `function(tensors..., extents..., constants...)`.

    All tensors are arguments, the computed ones too, which it begins by filling; so a caller may keep
    them. `real` is the element type, as in `real = np.float32`; `np` and `math` are the modules.
    """

    def __init__(self, facts: Facts):
        self.facts = facts
        self.names = Identifiers()
        self.elements = {t.name: t.element for t in facts.tensors.values()}
        self.arguments = (
            [("tensor", name) for name in facts.tensors]
            + [("extent", name) for name in facts.extents]
            + [("constant", name) for name in facts.constants]
        )

    def source(self, name: str = "function") -> str:
        arguments = ", ".join(self.names.of(kind, a) for kind, a in self.arguments)
        lines = [f"def {name}({arguments}):", *(INDENT + line for line in self._starts())]
        for statement in self.facts.program.statements:
            lines += [INDENT + line for line in self._statement(statement)]
        return "\n".join(lines) + "\n"

    # ---------------------------------------------------------------------------------- statements

    def _starts(self) -> Iterator[str]:
        reductions = reductions_of(self.facts.program.statements)
        for tensor in self.facts.tensors.values():
            if tensor.role != "input":
                whole = tensor.element is not ElementType.FLOAT
                table = INTEGER_IDENTITY if whole else IDENTITY
                start = table.get(reductions.get(tensor.name, Reduction.ADD), "0")
                yield f"{self.names.of('tensor', tensor.name)}[...] = {start}"

    def _statement(self, statement: Statement) -> Iterator[str]:
        indent = ""
        for r in statement.ranges:
            yield f"{indent}for {self.names.of('index', r.index)} in {self._range(r)}:"
            indent += INDENT
        match statement:
            case Block():
                for inner in statement.body:
                    yield from (indent + line for line in self._statement(inner))
            case Accumulate():
                yield from (indent + line for line in self._accumulate(statement))

    def _range(self, r: Range) -> str:
        assert r.lower is not None and r.upper is not None
        lower, upper = self._text(r.lower), self._text(r.upper)
        return (
            f"range({upper} - 1, {lower} - 1, -1)" if r.descending else f"range({lower}, {upper})"
        )

    def _accumulate(self, s: Accumulate) -> Iterator[str]:
        indent = ""
        if s.guard is not None:
            yield f"if {self._text(s.guard)}:"
            indent = INDENT
        target, value = self._text(s.target), self._text(s.value)
        if self.elements[s.target.tensor] is ElementType.FLOAT:
            value = self._real(s.value)
        match s.reduction:
            case Reduction.MAXIMUM | Reduction.MINIMUM:
                choose = "max" if s.reduction is Reduction.MAXIMUM else "min"
                yield f"{indent}{target} = {choose}({target}, {value})"
            case _:
                yield f"{indent}{target} {s.reduction.value} {value}"

    # --------------------------------------------------------------------------------- expressions

    def _type(self, e: Expression) -> ElementType:
        return element_type(e, self.elements, self.facts.constants)

    def _real(self, e: Expression) -> str:
        """As a value of the element type: Python's own numbers would widen what they meet."""
        match e:
            case Number(value):
                return (
                    f"real({value})" if abs(value) < float("inf") else f"real({_infinity(value)})"
                )
        text = self._text(e)
        needs = self._type(e) is not ElementType.FLOAT or isinstance(e, Constant)
        return f"real({text})" if needs else text

    def _text(self, e: Expression) -> str:
        match e:
            case Number(value):
                if isinstance(value, int):
                    return str(value)
                return self._real(e)
            case Index(name):
                return self.names.of("index", name)
            case Extent(name):
                return self.names.of("extent", name)
            case Constant(name):
                text = self.names.of("constant", name)
                return text if self._type(e) is ElementType.INT else f"real({text})"
            case Read(tensor, subscripts):
                places = ", ".join(map(self._text, subscripts)) or "()"
                return f"{self.names.of('tensor', tensor)}[{places}]"
            case Compare(operators, operands):
                parts = self._alike(operands)
                chain = [
                    f"{a} {o} {b}" for o, a, b in zip(operators, parts, parts[1:], strict=False)
                ]
                return f"({' and '.join(chain)})"
            case Conditional(condition, then, otherwise):
                first, second = self._alike((then, otherwise))
                return f"({first} if {self._text(condition)} else {second})"
            case Apply(operation, operands):
                return self._apply(operation, operands)
        raise AssertionError(f"{e} is unfolded before printing")

    def _alike(self, operands: tuple[Expression, ...]) -> list[str]:
        real = any(self._type(o) is ElementType.FLOAT for o in operands)
        return [self._real(o) if real else self._text(o) for o in operands]

    def _apply(self, operation: str, operands: tuple[Expression, ...]) -> str:
        row = OPERATIONS[operation]
        parts = self._alike(operands)
        if row.typing is Typing.FLOAT:
            parts = [self._real(o) for o in operands]
        match operation:
            case "neg":
                return f"(-{parts[0]})"
            case "not":
                return f"(not {parts[0]})"
            case "**":
                return self._power(operands)
            case "relu":
                zero = "real(0)" if self._type(operands[0]) is ElementType.FLOAT else "0"
                return f"max({parts[0]}, {zero})"
        if row.precedence is not None:
            return f"({parts[0]} {operation} {parts[1]})"
        return FUNCTIONS[operation].format(*parts)

    def _power(self, operands: tuple[Expression, ...]) -> str:
        base, exponent = operands
        if isinstance(exponent, Number) and isinstance(exponent.value, int):
            return f"({self._text(base)} ** {exponent.value})"
        left, right = self._alike(operands)
        return f"({left} ** {right})"


def _infinity(value: float) -> str:
    return "math.inf" if value > 0 else "-math.inf"
