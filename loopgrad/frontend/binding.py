"""What a call gives to each name of its callee, and what then has to agree."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from loopgrad.analysis.types import element_type
from loopgrad.diagnostics import Diagnostic, Span, listing, suggestion
from loopgrad.ir.nodes import (
    Apply,
    Call,
    Constant,
    Default,
    Expression,
    Extent,
    Index,
    Input,
    Number,
    Program,
    Read,
)
from loopgrad.ir.operations import ElementType
from loopgrad.ir.printer import show_expression, show_statement
from loopgrad.ir.walk import apply, number, rebuild, subexpressions

FLOAT, INT, BOOL = ElementType.FLOAT, ElementType.INT, ElementType.BOOL
LARGEST_COPY = 16  # nodes of an integer argument that may stand wherever the callee reads it

Access = Callable[[tuple[Expression, ...]], Expression]


@dataclass(frozen=True)
class AxisOf:
    """The extent of an axis of one of the caller's tensors, known or still to be found."""

    tensor: str
    axis: int


@dataclass(frozen=True)
class Agreement:
    """Two extents that a call needs to be one; `formula` in the callee's own names."""

    found: Expression
    wanted: Expression
    what: str
    formula: str
    span: Span | None
    call: Call


@dataclass
class Caller:
    """What binding has to know of the program that calls."""

    declared: Mapping[str, tuple[Expression, ...]]
    ranks: Mapping[str, int]
    elements: Mapping[str, ElementType]
    constants: Mapping[str, ElementType]
    extent: Callable[[AxisOf], Expression]


@dataclass
class Binding:
    """The callee's names in the caller's terms. `wrong` holds what does not fit."""

    caller: Caller
    call: Call
    extents: dict[str, Expression] = field(default_factory=dict)
    constants: dict[str, Expression] = field(default_factory=dict)
    access: dict[str, Access] = field(default_factory=dict)
    scalars: list[tuple[Input, Expression]] = field(default_factory=list)
    agreements: list[Agreement] = field(default_factory=list)
    wrong: list[Diagnostic] = field(default_factory=list)

    @property
    def callee(self) -> Program:
        return self.call.callee

    def bind(self) -> Binding:
        self._keywords()
        inputs, given = self.callee.inputs, self.call.arguments
        if len(inputs) != len(given):
            self._count("argument", len(given), [i.name for i in inputs])
            return self
        if len(self.callee.results) != len(self.call.targets):
            self._count("result", len(self.call.targets), [r.name for r in self.callee.results])
            return self
        axes: list[tuple[Input, int, Expression, Span | None]] = []
        for declared, argument in zip(inputs, given, strict=True):
            if declared.extents:
                for k, axis in enumerate(self._tensor(declared, argument)):
                    axes.append((declared, k, self.caller.extent(axis), argument.span))
            else:
                self._scalar(declared, argument)
        self._unify(axes)
        return self

    # -------------------------------------------------------------------------------- arguments

    def _tensor(self, declared: Input, argument: Expression) -> Sequence[AxisOf]:
        """Binds a tensor; the caller's axes that stand for the callee's."""
        rank = len(declared.extents)
        if not isinstance(argument, Read) or argument.tensor not in self.caller.ranks:
            self._refuse(
                f"`{self.callee.name}` needs a tensor of {axes_of(rank)} for `{declared.name}`, "
                f"and is given `{show_expression(argument)}`",
                argument.span,
                "compute it into a tensor of its own first, and pass that",
            )
            return ()
        whole = self.whole_axes(argument, rank)
        if whole is None:
            shown = show_expression(argument)
            has = self.caller.ranks[argument.tensor]
            given = "is" if not argument.subscripts else f"of {axes_of(has)} is passed as"
            self._refuse(
                f"`{self.callee.name}` needs a tensor of {axes_of(rank)} for `{declared.name}`, "
                + (
                    f"and `{shown}` has {axes_of(has)}"
                    if not argument.subscripts
                    else f"and `{shown}` {given} {axes_of(_capitals(argument))}"
                ),
                argument.span,
                f"pass {rank} of the axes of `{argument.tensor}` whole, by their extents' names, "
                "as in `x[t,B,K]`" + _unnamed(argument),
            )
            return ()
        element = self.caller.elements.get(argument.tensor, FLOAT)
        if not self._fits(declared, element, argument):
            return ()
        convert = declared.differentiable and element is not FLOAT
        self.access[declared.name] = accessor(argument, whole, convert)
        return [AxisOf(argument.tensor, axis) for axis in whole]

    def whole_axes(self, read: Read, rank: int) -> list[int] | None:
        """The axes of the caller's tensor that are passed whole; None if they are not `rank`."""
        has = self.caller.ranks[read.tensor]
        if not read.subscripts:
            return list(range(rank)) if has == rank else None
        if len(read.subscripts) != has:
            return None
        named = [k for k, s in enumerate(read.subscripts) if isinstance(s, Extent)]
        if len(named) != rank:
            # On an axis whose extent is a formula or a number, a capital is a position.
            declared = self.caller.declared.get(read.tensor, ())
            named = [k for k in named if k < len(declared) and isinstance(declared[k], Extent)]
        return named if len(named) == rank and self._in_order(read, named) else None

    def _in_order(self, read: Read, named: Iterable[int]) -> bool:
        """`x[t,K,B]` where `x` is `[T,B,K]` asks for a transpose, which is not what a call does."""
        declared = self.caller.declared.get(read.tensor)
        if declared is None:
            return True
        for k in named:
            capital = Extent(read.subscripts[k].name)  # type: ignore[union-attr]
            if declared[k] != capital and any(declared[j] == capital for j in named):
                self._refuse(
                    f"`{show_expression(read)}` names the axes of `{read.tensor}` in another "
                    "order than they have",
                    read.span,
                    "write them in the tensor's order; a transpose is a statement of its own",
                )
                return True
        return True

    def _scalar(self, declared: Input, argument: Expression) -> None:
        if isinstance(argument, Read):
            rank = self.caller.ranks.get(argument.tensor, 0)
            if rank != len(argument.subscripts):
                self._refuse(
                    f"`{self.callee.name}` needs a scalar for `{declared.name}`, and "
                    f"`{argument.tensor}` has {axes_of(rank)}",
                    argument.span,
                    f"pass one element of it, as in `{argument.tensor}["
                    f"{', '.join('ijklmn'[k % 6] for k in range(rank))}]`",
                )
                return
        element = element_type(argument, self.caller.elements, self.caller.constants)
        if self._fits(declared, element, argument):
            value = (
                as_float(argument) if declared.differentiable and element is not FLOAT else argument
            )
            if is_atom(value) or (declared.kind == "int" and _is_small(value)):
                self.access[declared.name] = lambda _: value
            else:
                self.scalars.append((declared, value))

    def _fits(self, declared: Input, element: ElementType, argument: Expression) -> bool:
        needs = {"int": INT, "bool": BOOL}.get(declared.kind, FLOAT)
        if needs is FLOAT or element is needs or (needs is INT and element is BOOL):
            return True
        words = {FLOAT: "real", INT: "integer", BOOL: "bool"}
        mend = {
            INT: "write `floor(...)` of it into a tensor first, and pass that"
            if element is FLOAT
            else "",
            BOOL: "declare it `bool` in the header, or make the condition where it is used",
        }
        self._refuse(
            f"`{self.callee.name}` needs {words[needs]} values for `{declared.kind} "
            f"{declared.name}`, and `{show_expression(argument)}` holds {words[element]} ones",
            argument.span,
            mend[needs],
        )
        return False

    # ---------------------------------------------------------------------------------- extents

    def _unify(self, axes: Sequence[tuple[Input, int, Expression, Span | None]]) -> None:
        """Binds the callee's extents; what stands beside them has to agree with them."""
        for declared, k, found, _ in axes:
            extent = declared.extents[k]
            if isinstance(extent, Extent):
                self.extents.setdefault(extent.name, found)
        for declared, k, found, span in axes:
            self.agree(found, declared.extents[k], f"axis {k} of `{declared.name}`", span)

    def agree(self, found: Expression, formula: Expression, what: str, span: Span | None) -> None:
        """Notes that an extent of the caller has to be what the callee says."""
        wanted = self.in_callers_terms(formula)
        if wanted is not None and found != wanted:
            shown = show_expression(formula)
            self.agreements.append(Agreement(found, wanted, what, shown, span, self.call))

    def in_callers_terms(self, expression: Expression) -> Expression | None:
        """The callee's formula in the caller's extents; None where one of them is not bound."""
        names = (n.name for n in subexpressions(expression) if isinstance(n, Extent))
        if any(name not in self.extents for name in names):
            return None
        return self.substituted(expression)

    def substituted(self, expression: Expression) -> Expression:
        match expression:
            case Extent(name):
                return self.extents.get(name, expression)
            case Constant(name):
                return self.constants.get(name, expression)
        return rebuild(expression, self.substituted)

    # --------------------------------------------------------------------------------- keywords

    def _keywords(self) -> None:
        callee = self.callee
        defaults: dict[str, Default] = {c.name: c for c in callee.constants}
        sizes = [s.name for s in callee.sizes]
        for name, value in self.call.keywords:
            if name not in defaults and name not in sizes:
                self._unknown_keyword(name, value.span, [*defaults, *sizes])
            elif not _is_fixed(value):
                self._refuse(
                    f"`{name}` of `{callee.name}` is fixed for a whole call, and "
                    f"`{show_expression(value)}` hangs on data or on a loop",
                    value.span,
                    "give it a number, a constant or an extent",
                )
            else:
                self._keyword(name, value, defaults.get(name))
        for default in callee.constants:
            self.constants.setdefault(default.name, number(default.value))
        for name in sizes:
            if name not in self.extents and not any(k == name for k, _ in self.call.keywords):
                self._refuse(
                    f"`{callee.name}` needs its size `{name}`",
                    self.call.span,
                    f"give it by keyword: `{callee.name}(..., {name}=...)`",
                )

    def _keyword(self, name: str, value: Expression, default: Default | None) -> None:
        element = element_type(value, {}, self.caller.constants)
        if element is FLOAT and (default is None or isinstance(default.value, int)):
            self._refuse(
                f"`{name}` of `{self.callee.name}` is an integer, and is given "
                f"`{show_expression(value)}`",
                value.span,
                "give it an integer",
            )
        elif default is None:
            self.extents[name] = value
        else:
            real = isinstance(default.value, float) and element is not FLOAT
            self.constants[name] = as_float(value) if real else value

    def _unknown_keyword(self, name: str, span: Span | None, known: Sequence[str]) -> None:
        hint = suggestion(name, known)
        if hint:
            mend = f"did you mean `{hint}`?"
        elif any(i.name == name for i in self.callee.inputs):
            mend = f"`{name}` is an input: pass it by its place"
        else:
            mend = f"it has {listing(known)}" if known else "it has no constants or sizes"
        self._refuse(f"`{self.callee.name}` has no constant or size `{name}`", span, mend)

    # ----------------------------------------------------------------------------------- errors

    def _count(self, thing: str, got: int, needed: Sequence[str]) -> None:
        things = thing if len(needed) == 1 else thing + "s"
        names = f": {listing(needed)}" if needed else ""
        if thing == "argument":
            found = f"`{self.callee.name}` takes {len(needed)} {things}{names}, and is given {got}"
            mend = f"write `{self.callee.name}({', '.join(needed)})`"
        else:
            found = (
                f"`{self.callee.name}` returns {len(needed)} {things}{names}, and {got} is named"
            )
            found = found.replace(" is named", " are named") if got != 1 else found
            mend = f"write `{', '.join(needed)} = {self.callee.name}(...)`"
        self._refuse(found, self.call.span, mend)

    def _refuse(self, found: str, span: Span | None, help: str) -> None:
        place = span or self.call.span
        self.wrong.append(Diagnostic(found, place, help, context=show_statement(self.call)))


def accessor(read: Read, whole: Sequence[int], convert: bool = False) -> Access:
    """What reading `callee_tensor[...]` is in the caller: the slice with its axes filled in."""

    def at(subscripts: tuple[Expression, ...]) -> Expression:
        element = filled(read, whole, subscripts)
        return as_float(element) if convert else element

    return at


def filled(read: Read, whole: Sequence[int], subscripts: Sequence[Expression]) -> Read:
    if not read.subscripts:
        return replace(read, subscripts=tuple(subscripts))
    new = list(read.subscripts)
    for axis, subscript in zip(whole, subscripts, strict=True):
        new[axis] = subscript
    return replace(read, subscripts=tuple(new))


def as_float(expression: Expression) -> Expression:
    """An integer as a real number, as an array of integers given for a floating input would be."""
    match expression:
        case Number(value):
            return Number(float(value), expression.span)
        case Apply("neg", (Number(value),)):
            return number(-float(value))
    return apply("*", Number(1.0), expression)


def is_atom(expression: Expression) -> bool:
    """May the expression be repeated wherever the callee reads its value?"""
    match expression:
        case Number() | Constant() | Extent() | Index() | Apply("neg", (Number(),)):
            return True
        case Read(_, subscripts):
            return all(isinstance(s, Number | Constant | Index) for s in subscripts)
        case Apply("*", (Number(1.0), operand)):
            return is_atom(operand)
    return False


def _is_small(expression: Expression) -> bool:
    nodes = list(subexpressions(expression))
    return len(nodes) <= LARGEST_COPY and all(
        isinstance(n, Number | Constant | Extent | Index | Apply) for n in nodes
    )


def _is_fixed(expression: Expression) -> bool:
    return all(
        isinstance(n, Number | Constant | Extent | Apply) for n in subexpressions(expression)
    )


def _capitals(read: Read) -> int:
    return sum(isinstance(s, Extent) for s in read.subscripts)


def axes_of(rank: int) -> str:
    return "no axes" if rank == 0 else f"{rank} {'axis' if rank == 1 else 'axes'}"


def _unnamed(argument: Read) -> str:
    """What to do where a number stands for an axis: a number is a position, never an axis."""
    if not any(isinstance(s, Number) for s in argument.subscripts):
        return ""
    return (
        "; an extent that is a number needs a name for that, here and in the callee: "
        "`p[N,D]` for `p[N,3]`"
    )
