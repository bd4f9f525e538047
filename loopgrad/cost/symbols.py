"""From formulas of the notation to SymPy's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loopgrad.cost.polys import Formula, Log
from loopgrad.ir.nodes import (
    Apply,
    Compare,
    Conditional,
    Constant,
    Expression,
    Extent,
    Index,
    Number,
)

RELATIONS = {"==": "Eq", "!=": "Ne", "<": "Lt", "<=": "Le", ">": "Gt", ">=": "Ge"}


class Symbols:
    """The symbols of one program: its extents, 1 or more, and its integer constants.

    A constant is 1 or more where its default is; a real one is its default.
    """

    def __init__(self, extents: tuple[str, ...], constants: Mapping[str, int | float]):
        import sympy

        self.sympy: Any = sympy
        self.constants = constants
        self.of: dict[str, Any] = {
            name: sympy.Symbol(name, integer=True, positive=True) for name in extents
        }
        for name, value in constants.items():
            if isinstance(value, int):
                positive = True if value > 0 else None
                self.of[name] = sympy.Symbol(name, integer=True, positive=positive)

    def index(self, name: str) -> Any:
        return self.sympy.Symbol(name, integer=True)

    def formula(self, f: Formula) -> Any:
        total: Any = self.sympy.Integer(0)
        for monomial, coefficient in f.items():
            product = self.sympy.Rational(coefficient)
            for atom in monomial:
                product *= self.atom(atom)
            total += product
        return total

    def atom(self, atom: Any) -> Any:
        return (
            self.rounds(self.formula(atom.formula))
            if isinstance(atom, Log)
            else self.expression(atom)
        )

    def rounds(self, count: Any) -> Any:
        """`ceil(log2(count))`."""
        from loopgrad.cost.rounds import ceil_log2

        return ceil_log2(count)

    def expression(self, e: Expression) -> Any:
        """An integer or a condition that reads no tensor. Raises ValueError for what SymPy is not told of."""
        sympy = self.sympy
        match e:
            case Number(value):
                return sympy.nsimplify(value)
            case Extent(name):
                return self.of[name]
            case Constant(name):
                return self.of[name] if name in self.of else sympy.nsimplify(self.constants[name])
            case Index(name):
                return self.index(name)
            case Compare(operators, operands):
                values = [self.expression(o) for o in operands]
                links = zip(operators, values, values[1:], strict=False)
                return sympy.And(*(getattr(sympy, RELATIONS[o])(x, y) for o, x, y in links))
            case Conditional(condition, then, otherwise):
                branches = (self.expression(then), self.expression(condition))
                return sympy.Piecewise(branches, (self.expression(otherwise), True))
            case Apply(name, operands):
                return self._apply(name, [self.expression(o) for o in operands])
        raise ValueError(e)

    def _apply(self, name: str, values: list[Any]) -> Any:
        sympy = self.sympy
        match name, values:
            case "+", (x, y):
                return x + y
            case "-", (x, y):
                return x - y
            case "*", (x, y):
                return x * y
            case "/", (x, y):
                return x / y
            case "**", (x, y):
                return x**y
            case "neg", (x,):
                return -x
            case "//", (x, y):
                return sympy.floor(x / y)
            case "%", (x, y):
                return sympy.Mod(x, y)
            case "max", _:
                return sympy.Max(*values)
            case "min", _:
                return sympy.Min(*values)
            case "abs", (x,):
                return sympy.Abs(x)
            case "relu", (x,):
                return sympy.Max(0, x)
            case "floor", (x,):
                return sympy.floor(x)
            case "and", _:
                return sympy.And(*values)
            case "or", _:
                return sympy.Or(*values)
            case "not", (x,):
                return sympy.Not(x)
            case "pi", _:
                return sympy.pi
            case (("exp" | "log" | "sqrt" | "tanh" | "sin" | "cos" | "erf" | "sign"), (x,)):
                return getattr(sympy, name)(x)
        raise ValueError(name)
