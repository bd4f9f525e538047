"""Symbols that stand for the notation's expressions while a Python function is traced.

Operators on them build nodes; assigning to an element of a tensor records a statement. What Python
cannot pass on (`if`, `and`, `for`, `float()`) is an error that says what to write instead.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, Protocol

from loopgrad.frontend.python_places import calling_frame, mistake, refuse
from loopgrad.ir.nodes import (
    Apply,
    Compare,
    Conditional,
    Expression,
    Extent,
    Index,
    Program,
    Range,
    Read,
    Reduction,
)
from loopgrad.ir.operations import RESERVED
from loopgrad.ir.printer import show_expression
from loopgrad.ir.walk import number

Kind = Literal["input", "param", "int", "bool"]

# NumPy's names for what the notation has too: `np.exp(s[b, j])` is understood.
UFUNCS = {
    **{
        f: f
        for f in ["exp", "log", "log1p", "expm1", "sqrt", "tanh", "sin", "cos", "sign", "floor"]
    },
    "absolute": "abs",
    "maximum": "max",
    "minimum": "min",
    "negative": "neg",
    "add": "+",
    "subtract": "-",
    "multiply": "*",
    "divide": "/",
    "floor_divide": "//",
    "remainder": "%",
    "power": "**",
    "float_power": "**",
    "logical_and": "and",
    "logical_or": "or",
    "logical_not": "not",
    "bitwise_and": "and",
    "bitwise_or": "or",
    "invert": "not",
}
COMPARING = {
    "less": "<",
    "less_equal": "<=",
    "greater": ">",
    "greater_equal": ">=",
    "equal": "==",
    "not_equal": "!=",
}


# ---------------------------------------------------------------------------------------- symbols


class Recorder(Protocol):
    """What a traced function's tensors report to."""

    def update(self, target: Read, reduction: Reduction, value: Expression) -> None: ...

    def retarget(self, result: Tensor, target: Read) -> bool: ...

    def call(self, callee: Program, arguments: Sequence[Any], named: dict[str, Any]) -> Any: ...


RECORDER: ContextVar[Recorder | None] = ContextVar("recorder", default=None)


class Symbol:
    """An expression of the notation: operators, comparisons, `&`, `|`, `~` build on it."""

    __slots__ = ("_node",)
    # Symbols are compared into expressions, so they are told apart by identity only.
    __hash__ = object.__hash__

    def __init__(self, node: Expression):
        self._node = node

    @property
    def node(self) -> Expression:
        return self._node

    def __repr__(self) -> str:
        return show_expression(self.node)

    def __add__(self, other: Any) -> Symbol:
        return binary("+", self, other)

    def __radd__(self, other: Any) -> Symbol:
        return binary("+", other, self)

    def __sub__(self, other: Any) -> Symbol:
        return binary("-", self, other)

    def __rsub__(self, other: Any) -> Symbol:
        return binary("-", other, self)

    def __mul__(self, other: Any) -> Symbol:
        return binary("*", self, other)

    def __rmul__(self, other: Any) -> Symbol:
        return binary("*", other, self)

    def __truediv__(self, other: Any) -> Symbol:
        return binary("/", self, other)

    def __rtruediv__(self, other: Any) -> Symbol:
        return binary("/", other, self)

    def __floordiv__(self, other: Any) -> Symbol:
        return binary("//", self, other)

    def __rfloordiv__(self, other: Any) -> Symbol:
        return binary("//", other, self)

    def __mod__(self, other: Any) -> Symbol:
        return binary("%", self, other)

    def __rmod__(self, other: Any) -> Symbol:
        return binary("%", other, self)

    def __pow__(self, other: Any) -> Symbol:
        return binary("**", self, other)

    def __rpow__(self, other: Any) -> Symbol:
        return binary("**", other, self)

    def __neg__(self) -> Symbol:
        return Symbol(Apply("neg", (self.node,)))

    def __pos__(self) -> Symbol:
        return Symbol(self.node)

    def __abs__(self) -> Symbol:
        return Symbol(Apply("abs", (self.node,)))

    def __floor__(self) -> Symbol:
        return Symbol(Apply("floor", (self.node,)))

    def __lt__(self, other: Any) -> Symbol:
        return comparison("<", self, other)

    def __le__(self, other: Any) -> Symbol:
        return comparison("<=", self, other)

    def __gt__(self, other: Any) -> Symbol:
        return comparison(">", self, other)

    def __ge__(self, other: Any) -> Symbol:
        return comparison(">=", self, other)

    def __eq__(self, other: Any) -> Symbol:  # type: ignore[override]
        return comparison("==", self, other)

    def __ne__(self, other: Any) -> Symbol:  # type: ignore[override]
        return comparison("!=", self, other)

    def __and__(self, other: Any) -> Symbol:
        return binary("and", self, other)

    def __rand__(self, other: Any) -> Symbol:
        return binary("and", other, self)

    def __or__(self, other: Any) -> Symbol:
        return binary("or", self, other)

    def __ror__(self, other: Any) -> Symbol:
        return binary("or", other, self)

    def __invert__(self) -> Symbol:
        return Symbol(Apply("not", (self.node,)))

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Symbol:
        name = ufunc.__name__
        if method != "__call__" or options or not (name in UFUNCS or name in COMPARING):
            refuse(
                f"`np.{name}` cannot be traced",
                "write the loops of it, or the notation's functions: `lg.exp`, `lg.sum[i](...)`",
            )
        if name in COMPARING:
            return comparison(COMPARING[name], *inputs)
        return Symbol(Apply(UFUNCS[name], tuple(map(node_of, inputs))))

    def __bool__(self) -> bool:
        refuse(
            f"the truth of `{self!r}` is not known while the function is traced",
            "for a value that hangs on it write `lg.where(condition, a, b)`, to guard statements "
            "`with lg.when(condition):`, and `&`, `|`, `~`, `lg.compare(0, '<=', i, '<', N)` for "
            "`and`, `or`, `not` and chained comparisons",
        )

    def __iter__(self) -> Iterator[Any]:
        refuse(
            f"`{self!r}` cannot be iterated over: its extent is not known while tracing",
            "loop with an index: `i = lg.index('i')`, or in order `with lg.loop(i):`",
        )

    def __len__(self) -> int:
        refuse(
            f"`{self!r}` has no length while tracing",
            "take the extent: `B, J = x.shape`, and use it as a number",
        )

    def _loopgrad_call(
        self, callee: Program, arguments: Sequence[Any], named: dict[str, Any]
    ) -> Any:
        """`callee(..., self, ...)` in a function that is traced (see `Program.__call__`)."""
        recorder = RECORDER.get()
        if recorder is None:
            refuse(
                f"`{callee.name}` is called with symbols outside a function that is traced",
                "decorate the function with `@lg.program`",
            )
        return recorder.call(callee, arguments, named)

    def _no_number(self, *_: Any, **__: Any) -> NoReturn:
        refuse(
            f"`{self!r}` is no number while the function is traced",
            "keep it symbolic: the notation's functions are `lg.exp`, `lg.floor`, ...",
        )

    __float__ = __int__ = __index__ = __complex__ = __array__ = _no_number
    __round__ = __trunc__ = __ceil__ = __contains__ = _no_number


def binary(operation: str, left: Any, right: Any) -> Symbol:
    return Symbol(Apply(operation, (node_of(left), node_of(right))))


def comparison(operator: str, left: Any, right: Any) -> Symbol:
    return Symbol(Compare((operator,), (node_of(left), node_of(right))))


def node_of(value: Any) -> Expression:
    """The expression that a Python value stands for."""
    if isinstance(value, Symbol):
        return value.node
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        value = value.item()
    if isinstance(value, bool):
        value = int(value)
    if isinstance(value, int | float) and not math.isnan(value):
        return Apply("pi", ()) if value == math.pi else number(value)
    raise mistake(
        f"{type(value).__name__} {value!r} cannot stand in a program",
        "use a number, or make what it holds an input: a parameter of the function",
    )


# ---------------------------------------------------------------------------------------- indices


@dataclass(frozen=True, slots=True)
class RangedIndex(Index):
    """An index that knows, while the function is traced, the range that it was made with."""

    range: Range | None = None


class IndexSymbol(Symbol):
    """An index, with its range where it has one of its own."""

    __slots__ = ("range",)

    def __init__(self, given: Range):
        super().__init__(RangedIndex(given.index, range=given))
        self.range = given

    def __reversed__(self) -> IndexSymbol:
        r = self.range
        return IndexSymbol(Range(r.index, r.lower, r.upper, not r.descending))


def index(
    name: str, start: Any = None, stop: Any = None, *, descending: bool = False
) -> IndexSymbol:
    """An index with its range, `start <= name < stop`, as in Python; bare without.

    `index("t", T)` is `t < T`, `index("t", 1, T)` is `1 <= t < T`; `index("u", 0, t + 1)`, which
    hangs on another index, is `u <= t`.
    """
    if stop is None and start is not None:
        start, stop = 0, start
    lower = None if start is None else node_of(start)
    upper = None if stop is None else node_of(stop)
    return IndexSymbol(Range(checked_name(name), lower, upper, descending))


def indices(names: str) -> Any:
    """Bare indices, by name: `b, j = lg.indices("b j")`. A single one is returned by itself.

    A bare index ranges over the axes that it alone subscripts; `lg.index` gives one a range.
    """
    found = tuple(index(name) for name in re.split(r"[\s,]+", names.strip()))
    return found[0] if len(found) == 1 else found


def extents(names: str) -> Any:
    """Extents by name: `B, J = lg.extents("B J")`, to subscript whole axes or as numbers."""
    found = tuple(Symbol(Extent(checked_name(n))) for n in re.split(r"[\s,]+", names.strip()))
    return found[0] if len(found) == 1 else found


NAME = re.compile(r"[^\W\d]\w*'*(?:\.[^\W\d]\w*'*)*")


def checked_name(name: Any) -> str:
    """The name, if the notation can write it."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        refuse(f"{name!r} is no name", "a name is letters, digits and `_`, with primes: `j'`")
    if name in RESERVED:
        refuse(f"`{name}` is a word of the notation", f"take another name, such as `{name}_`")
    return name


# ---------------------------------------------------------------------------------------- tensors


@dataclass(frozen=True)
class Update:
    """What `T[i] += e` hands to the assignment that follows it in Python."""

    target: Read
    reduction: Reduction
    value: Expression


class Element(Symbol):
    """`T[b, j]`: read in an expression, or updated: `T[b, j] += ...`."""

    __slots__ = ()

    def _update(self, reduction: Reduction, value: Any) -> Any:
        assert isinstance(self.node, Read)
        return Update(self.node, reduction, node_of(value))

    def __iadd__(self, value: Any) -> Any:
        return self._update(Reduction.ADD, value)

    def __isub__(self, value: Any) -> Any:
        return self._update(Reduction.SUBTRACT, value)

    def __imul__(self, value: Any) -> Any:
        return self._update(Reduction.MULTIPLY, value)


class Tensor(Symbol):
    """A tensor of a traced function: subscripted by indices, read and updated by element.

    `.shape` are its extents, where it declares them; `.at[b].max(e)` and `.at[b].min(e)` stand for
    the updates that Python has no operator for. A scalar is used as it is: `L += e`, `L[()] = e`.
    """

    __slots__ = ("declared", "given_name", "key", "kind", "owner", "rank", "used")

    def __init__(
        self,
        declared: tuple[Expression, ...] | None,
        kind: Kind = "input",
        given_name: str | None = None,
        owner: Recorder | None = None,
        key: str = "",
    ):
        self.declared = declared
        self.kind: Kind = kind
        self.given_name = given_name
        self.owner = owner
        self.key = key
        self.rank = None if declared is None else len(declared)
        self.used = False

    @property
    def node(self) -> Expression:
        if self.rank:
            refuse(
                f"{self._called()} has {self.rank} axes, and stands in an expression without "
                "subscripts",
                f"subscript it by indices, as in `x[{', '.join('ijklmn'[: self.rank])}]`",
            )
        self._notice(0)
        return Read(self.key, ())

    @property
    def shape(self) -> tuple[Symbol, ...]:
        if self.declared is None:
            refuse(
                f"the extents of {self._called()} are not declared",
                "declare them where it is made, as in `lg.tensor('B J')`",
            )
        return tuple(map(Symbol, self.declared))

    @property
    def at(self) -> At:
        return At(self)

    def __repr__(self) -> str:
        return self._called().strip("`")

    def __getitem__(self, subscripts: Any) -> Any:
        return Element(self.element(subscripts))

    def __setitem__(self, subscripts: Any, value: Any) -> None:
        target = self.element(subscripts)
        if isinstance(value, Update):
            if value.target != target:
                refuse("an update of one element is assigned to another", "write `T[b] += ...`")
            self.recorder().update(target, value.reduction, value.value)
        elif not (isinstance(value, Tensor) and self.recorder().retarget(value, target)):
            self.recorder().update(target, Reduction.SET, node_of(value))

    def __iadd__(self, value: Any) -> Tensor:
        return self._update_scalar(Reduction.ADD, value)

    def __isub__(self, value: Any) -> Tensor:
        return self._update_scalar(Reduction.SUBTRACT, value)

    def __imul__(self, value: Any) -> Tensor:
        return self._update_scalar(Reduction.MULTIPLY, value)

    def _update_scalar(self, reduction: Reduction, value: Any) -> Tensor:
        if self.rank:
            refuse(
                f"{self._called()} has {self.rank} axes, and is updated without subscripts",
                f"subscript it: `T[{', '.join('ijklmn'[: self.rank])}] {reduction.value} ...`",
            )
        self.recorder().update(self.element(()), reduction, node_of(value))
        return self

    def element(self, subscripts: Any) -> Read:
        given = subscripts if isinstance(subscripts, tuple) else (subscripts,)
        for one in given:
            if isinstance(one, slice) or one is Ellipsis or one is None:
                refuse(
                    f"{self._called()} is subscripted by `{_shown(one)}`, which names no index",
                    "name an index for each axis; in a call's arguments an extent, as in "
                    "`x[t, B, K]` with `B, K = lg.extents('B K')`, stands for the whole axis",
                )
        self._notice(len(given))
        return Read(self.key, tuple(map(node_of, given)))

    def recorder(self) -> Recorder:
        if self.owner is None:
            refuse(
                f"{self._called()} is written outside the function that is traced",
                "make computed tensors inside the function: `Z = lg.tensor('B')`",
            )
        return self.owner

    def _notice(self, rank: int) -> None:
        """The first use tells the rank, and by which variable the tensor goes."""
        if self.rank is None:
            self.rank = rank
        elif self.rank != rank:
            axes = "axis" if self.rank == 1 else "axes"
            refuse(
                f"{self._called()} has {self.rank} {axes}, and is given {rank} subscripts",
                f"give it {self.rank} subscript{'s' * (self.rank != 1)}",
            )
        self.used = True
        if self.given_name is None:
            self.given_name = variable_of(self)

    def _called(self) -> str:
        name = self.given_name or variable_of(self)
        return f"`{name}`" if name else "a tensor"


def _shown(one: Any) -> str:
    if one is Ellipsis:
        return "..."
    return "None" if one is None else ":"


def variable_of(tensor: Tensor) -> str | None:
    """The name of the variable, of the function that is traced, that holds the tensor."""
    held = calling_frame().f_locals
    return next((name for name, value in held.items() if value is tensor), None)


class At:
    """`T.at[b]`: the updates of an element by name, as in JAX."""

    __slots__ = ("target", "tensor")

    def __init__(self, tensor: Tensor, target: Read | None = None):
        self.tensor = tensor
        self.target = target

    def __getitem__(self, subscripts: Any) -> At:
        return At(self.tensor, self.tensor.element(subscripts))

    def _update(self, reduction: Reduction, value: Any) -> None:
        target = self.target if self.target is not None else self.tensor.element(())
        self.tensor.recorder().update(target, reduction, node_of(value))

    def set(self, value: Any) -> None:
        self._update(Reduction.SET, value)

    def add(self, value: Any) -> None:
        self._update(Reduction.ADD, value)

    def subtract(self, value: Any) -> None:
        self._update(Reduction.SUBTRACT, value)

    def multiply(self, value: Any) -> None:
        self._update(Reduction.MULTIPLY, value)

    def max(self, value: Any) -> None:
        self._update(Reduction.MAXIMUM, value)

    def min(self, value: Any) -> None:
        self._update(Reduction.MINIMUM, value)


# ------------------------------------------------------------------------------------- functions


def where(condition: Any, then: Any, otherwise: Any) -> Symbol:
    """`then if condition else otherwise`; the branch not taken is not evaluated, and may subscript
    out of range."""
    return Symbol(Conditional(node_of(condition), node_of(then), node_of(otherwise)))


def compare(first: Any, *rest: Any) -> Symbol:
    """A chain of comparisons: `compare(0, "<=", i, "<", N)` is `0 <= i < N`."""
    operators, operands = rest[::2], rest[1::2]
    if len(operators) != len(operands) or any(o not in COMPARING.values() for o in operators):
        refuse("no chain of comparisons", "write it as in `lg.compare(0, '<=', i, '<', N)`")
    return Symbol(Compare(tuple(operators), tuple(map(node_of, (first, *operands)))))
