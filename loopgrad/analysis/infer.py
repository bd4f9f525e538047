"""What the writer left out: ranges, extents, element types. `infer(program) -> Facts`.

The rules are those of the language reference. A bare index ranges over the extent of the axes that
it alone subscripts in inputs, results and `local`s; names for one extent are unified. Where none
gives it, computed tensors do, whose extents are their largest written index + 1. Both depend on
each other, so they are found together, by repetition until nothing new is learnt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

from loopgrad.analysis import extents as ext
from loopgrad.analysis.facts import Equality, Facts, TensorFacts
from loopgrad.analysis.types import FLOAT, INT, element_type, join
from loopgrad.diagnostics import Diagnostic, ProgramError, Span, suggestion
from loopgrad.ir.memo import once_per_program
from loopgrad.ir.nodes import (
    Accumulate,
    Block,
    Call,
    Expression,
    Extent,
    Index,
    Number,
    Program,
    Range,
    Read,
    Statement,
)
from loopgrad.ir.operations import ElementType
from loopgrad.ir.printer import show_expression, show_statement
from loopgrad.ir.walk import (
    ZERO,
    map_statement,
    rebuild,
    statement_expressions,
    subexpressions,
)


@once_per_program
def infer(program: Program) -> Facts:
    """Every range, extent and element type of the program, its equations and calls unfolded first.

    Raises ProgramError, with all that is wrong, where something cannot be found or disagrees.
    """
    from loopgrad.frontend.unfold import unfold

    inference = inference_of(unfold(program))
    if inference.diagnostics:
        raise ProgramError(inference.diagnostics)
    return inference.facts()


@once_per_program
def inference_of(program: Program) -> Inference:
    """Of an unfolded program: what was found, and what is wrong."""
    return Inference(program)


@dataclass(eq=False)
class Scope:
    """An index of a loop: what has been found out of its range, and where it subscripts alone."""

    given: Range
    statement: Statement
    outer: tuple[Scope, ...]
    uses: list[tuple[Read, int]] = field(default_factory=list)
    upper: Expression | None = None

    @property
    def name(self) -> str:
        return self.given.index

    def resolved(self) -> Range:
        assert self.upper is not None
        return replace(self.given, lower=self.given.lower or ZERO, upper=self.upper)


@dataclass(eq=False)
class Write:
    """A target, under the scopes that enclose it, innermost last."""

    target: Read
    scopes: tuple[Scope, ...]
    statement: Accumulate


class Inference:
    """The working state of `infer`; incomplete where there are `diagnostics`."""

    def __init__(self, program: Program):
        self.program = program
        self.diagnostics: list[Diagnostic] = []
        self.constants: dict[str, ElementType] = {
            c.name: INT if isinstance(c.value, int) else FLOAT for c in program.constants
        }
        self.declared: dict[str, tuple[Expression, ...]] = {
            **{i.name: i.extents for i in program.inputs},
            **{r.name: r.extents for r in program.results},
            **{local.name: local.extents for local in program.locals},
        }
        self.names = Unification(self._fixed_names())
        self.equalities: list[Equality] = []
        self.unified_by: dict[Equality, Scope] = {}
        self.scopes: list[Scope] = []
        self.faulty: set[Scope] = set()
        self.scopes_of: dict[int, tuple[Scope, ...]] = {}
        self.writes: dict[str, list[Write]] = {}
        self.computed: dict[str, list[Expression | None]] = {}

        self._collect(program.statements, ())
        if self.diagnostics:
            return
        self._find_ranges()
        self._unwritten()
        self._declared_twice()
        self.elements = self._element_types()
        self.defined = self._define_names()

    # ------------------------------------------------------------------------------ collecting

    def _fixed_names(self) -> tuple[str, ...]:
        """The extents that a call knows, in header order: bare names on inputs' axes, and sizes."""
        names: dict[str, None] = {}
        for argument in self.program.inputs:
            for extent in argument.extents:
                if isinstance(extent, Extent):
                    names.setdefault(extent.name)
        for size in self.program.sizes:
            names.setdefault(size.name)
        return tuple(names)

    def _collect(self, body: Iterable[Statement], around: tuple[Scope, ...]) -> None:
        for statement in body:
            scopes = around
            for given in statement.ranges:
                scope = Scope(given, statement, scopes)
                if given.upper is not None:
                    scope.upper = given.upper
                self.scopes.append(scope)
                scopes = (*scopes, scope)
            self.scopes_of[id(statement)] = scopes[len(around) :]
            by_name = {s.name: s for s in scopes}
            for expression in statement_expressions(statement):
                self._collect_uses(expression, by_name, statement)
            match statement:
                case Accumulate(target):
                    self._note_uses(target, by_name)
                    self._check_rank(target, statement)
                    self.writes.setdefault(target.tensor, []).append(
                        Write(target, scopes, statement)
                    )
                    self.computed.setdefault(target.tensor, [None] * len(target.subscripts))
                case Block(_, inner):
                    self._collect(inner, scopes)
                case Call():
                    raise AssertionError("infer needs an unfolded program")

    def _collect_uses(
        self, expression: Expression, scopes: Mapping[str, Scope], statement: Statement
    ) -> None:
        for node in subexpressions(expression):
            match node:
                case Read():
                    self._note_uses(node, scopes)
                    self._check_rank(node, statement)
                case Index(name) if name not in scopes:
                    self._error(
                        f"index `{name}` is not bound by a loop", node.span, statement=statement
                    )

    def _note_uses(self, read: Read, scopes: Mapping[str, Scope]) -> None:
        for axis, subscript in enumerate(read.subscripts):
            if isinstance(subscript, Index) and subscript.name in scopes:
                scopes[subscript.name].uses.append((read, axis))

    def _check_rank(self, read: Read, statement: Statement) -> None:
        extents = self.declared.get(read.tensor)
        rank = len(extents) if extents is not None else len(self.computed.get(read.tensor, ()))
        known = extents is not None or read.tensor in self.computed
        if known and rank != len(read.subscripts):
            self._error(
                f"`{read.tensor}` has {_axes(rank)}, and is given {len(read.subscripts)} "
                f"subscript{'s' * (len(read.subscripts) != 1)}",
                read.span,
                statement=statement,
            )

    # ------------------------------------------------------------------------ ranges and extents

    def _find_ranges(self) -> None:
        for scope in self.scopes:
            if scope.upper is None:
                scope.upper = self._from_axes(scope, self.declared.get)
        self._waiting: dict[str, list[Scope]] = {}
        for scope in self.scopes:
            if scope.upper is None:
                for read, _ in scope.uses:
                    self._waiting.setdefault(read.tensor, []).append(scope)
        learning = True
        while learning:
            learning = self._find_computed_extents(all_writers=True)
            learning = learning or self._find_computed_extents(all_writers=False)
            for scope in self.scopes:
                if scope.upper is None:
                    scope.upper = self._from_axes(scope, self._computed_extents)
                    learning |= scope.upper is not None
        for scope in self.scopes:
            if scope.upper is None:
                self._cannot_range(scope)
                break  # what hangs on it would only repeat the message
        else:
            for tensor, axes in self.computed.items():
                self._complain_of_extents(tensor, axes)

    def _range_over(self, tensor: str) -> None:
        """Ranges that follow at once: so a chain of tensors is found in one round, not in many."""
        for scope in self._waiting.get(tensor, ()):
            if scope.upper is None and all(
                read.tensor in self.declared
                or None not in self.computed.get(read.tensor, [None])
                or self._is_target(read, scope.statement)
                for read, _ in scope.uses
            ):
                scope.upper = self._from_axes(scope, self._computed_extents)

    @staticmethod
    def _is_target(read: Read, statement: Statement) -> bool:
        return isinstance(statement, Accumulate) and read.tensor == statement.target.tensor

    def _computed_extents(self, tensor: str) -> Sequence[Expression | None] | None:
        return None if tensor in self.declared else self.computed.get(tensor)

    def _from_axes(
        self, scope: Scope, extents_of: Callable[[str], Sequence[Expression | None] | None]
    ) -> Expression | None:
        """The extent on which all axes that the index alone subscripts agree; None without any."""
        first: tuple[Expression, Read, int] | None = None
        for read, axis in scope.uses:
            extents = extents_of(read.tensor)
            extent = extents[axis] if extents is not None and axis < len(extents) else None
            if extent is None:
                continue
            if first is None:
                first = (extent, read, axis)
            elif extent != first[0]:
                self._unify(scope, first, (extent, read, axis))
                if not isinstance(first[0], Extent) and isinstance(extent, Extent):
                    first = (extent, read, axis)
        return first and first[0]

    def _unify(
        self, scope: Scope, one: tuple[Expression, Read, int], other: tuple[Expression, Read, int]
    ) -> None:
        (left, left_read, left_axis), (right, right_read, right_axis) = one, other
        reason = (
            f"index `{scope.name}` runs over axis {left_axis} of `{left_read.tensor}` "
            f"and axis {right_axis} of `{right_read.tensor}`"
        )
        span = right_read.span
        if isinstance(left, Extent) and isinstance(right, Extent):
            if self.names.merge(left.name, right.name):
                self._equal(scope, Equality(left, right, reason, span))
            return
        distance = ext.difference(self.names.apply(left), self.names.apply(right))
        if distance == 0:
            return
        smaller = right if distance is not None and distance > 0 else left
        simple = [e for e in (left, right) if isinstance(e, Extent | Number)]
        common = ext.extent_names(left) & ext.extent_names(right)
        if (
            distance is not None
            or not simple
            or common & set().union(*map(ext.extent_names, simple))
        ):
            self.faulty.add(scope)
            self._error(
                f"index `{scope.name}` has two extents, "
                f"`{show_expression(left, True)}` and `{show_expression(right, True)}`",
                _subscript_span(right_read, right_axis),
                help=f"write its range: `for {scope.name} < {show_expression(smaller, True)}`",
                notes=(
                    (
                        _subscript_span(left_read, left_axis),
                        f"`{show_expression(left, True)}` is axis {left_axis} "
                        f"of `{left_read.tensor}`",
                    ),
                    (
                        None,
                        f"`{show_expression(right, True)}` is axis {right_axis} "
                        f"of `{right_read.tensor}`",
                    ),
                ),
                statement=scope.statement,
            )
            return
        self._equal(scope, Equality(left, right, reason, span))

    def _equal(self, scope: Scope, equality: Equality) -> None:
        self.equalities.append(equality)
        self.unified_by[equality] = scope

    def _find_computed_extents(self, all_writers: bool) -> bool:
        """Finds more extents of computed tensors; is any of them new?

        With `all_writers`, where the ranges of all that write the axis are known. Else also where
        the others write it with a bare index that has no range yet: that index will take its range
        from this axis (`for b, j:  a[b,j] -= c[j]` below other statements into `a`).
        """
        learnt = False
        for tensor, axes in self.computed.items():
            if tensor in self.declared:
                continue
            for axis, extent in enumerate(axes):
                if extent is None:
                    axes[axis] = self._largest_written(tensor, axis, all_writers)
                    learnt |= axes[axis] is not None
            if learnt:
                self._range_over(tensor)
        return learnt

    def _largest_written(self, tensor: str, axis: int, all_writers: bool) -> Expression | None:
        found: Expression | None = None
        for write in self.writes[tensor]:
            if axis >= len(write.target.subscripts):
                return None
            subscript = write.target.subscripts[axis]
            used = ext.free_names(subscript)
            if any(s.upper is None and s.name in used for s in write.scopes):
                if all_writers or not isinstance(subscript, Index):
                    return None
                continue
            last = self._last(write, axis)
            if last is None:
                return None
            extent = self.names.apply(ext.plus(last, 1))
            found = extent if found is None else ext.maximum(found, extent, self.positive_constants)
        return found

    def _last(self, write: Write, axis: int) -> Expression | None:
        """The largest subscript that the statement writes on the axis."""
        ranges = [(s.name, s.given.lower or ZERO, s.upper) for s in write.scopes if s.upper]
        return ext.largest(write.target.subscripts[axis], ranges, self.positive_constants)

    @cached_property
    def positive_constants(self) -> frozenset[str]:
        return frozenset(
            c.name for c in self.program.constants if isinstance(c.value, int) and c.value >= 1
        )

    def _cannot_range(self, scope: Scope) -> None:
        known = [i.name for i in self.program.inputs] + list(self.computed)
        hint = suggestion(scope.name, [*self.names.fixed, *known, *self.constants])
        alike = hint is not None and hint.casefold() == scope.name.casefold()
        maybe = f", or `{hint}` if that is meant" if hint and not alike else ""
        self.faulty.add(scope)
        self._error(
            f"the range of index `{scope.name}` is not known: alone it subscripts no axis of an "
            "input, a result or a `local`",
            scope.given.span or scope.statement.span,
            help=f"give its range, as in `for {scope.name} < N`{maybe}",
            statement=scope.statement,
        )

    def _complain_of_extents(self, tensor: str, axes: Sequence[Expression | None]) -> None:
        if tensor in self.declared or None not in axes:
            return
        axis = list(axes).index(None)
        write = next(w for w in self.writes[tensor] if self._last(w, axis) is None)
        wanted = ["N" if e is None else show_expression(e, True) for e in axes]
        self._error(
            f"the extent of axis {axis} of `{tensor}` cannot be found from what is written to it",
            _subscript_span(write.target, axis),
            help=f"declare it before its first use: `local {tensor}[{', '.join(wanted)}]`",
            statement=write.statement,
        )

    def _unwritten(self) -> None:
        for result in self.program.results:
            if result.name not in self.writes:
                self._error(f"result `{result.name}` is never computed", result.span)
        for local in self.program.locals:
            if local.name not in self.writes:
                self._error(f"`local {local.name}` is never computed", local.span)

    def _declared_twice(self) -> None:
        """A result's extents stand in the header; a `local` may say what it is made of, and them again."""
        results = {r.name: r.extents for r in self.program.results}
        for local in self.program.locals:
            extents = results.get(local.name, local.extents)
            if list(map(ext.polynomial, extents)) != list(map(ext.polynomial, local.extents)):
                shown = [show_expression(Read(local.name, e)) for e in (local.extents, extents)]
                self._error(
                    f"`local {shown[0]}` is `{shown[1]}` in the header",
                    local.span,
                    help="a result has its extents from the header: write the same here, or nothing",
                )

    # ---------------------------------------------------------------------------- element types

    def _element_types(self) -> dict[str, ElementType]:
        kinds = {"int": ElementType.INT, "bool": ElementType.BOOL}
        elements = {i.name: kinds.get(i.kind, FLOAT) for i in self.program.inputs}
        integers = {local.name for local in self.program.locals if local.element is INT}
        elements.update((name, INT) for name in self.writes)
        growing = True
        while growing:
            growing = False
            for name, writes in self.writes.items():
                if name in integers or elements[name] is FLOAT:
                    continue
                values = (element_type(w.statement.value, elements, self.constants) for w in writes)
                if join(INT, *values) is FLOAT:
                    elements[name] = FLOAT
                    growing = True
        for name in integers & self.writes.keys():
            for write in self.writes[name]:
                if element_type(write.statement.value, elements, self.constants) is FLOAT:
                    self._error(
                        f"`{name}` is declared `local int` and is given a real value",
                        write.statement.value.span or write.statement.span,
                        help=f"write `floor(...)`, or declare `local {name}` without `int`",
                        statement=write.statement,
                    )
        return elements

    # ------------------------------------------------------------------------------------ names

    def _define_names(self) -> dict[str, Expression]:
        """Formulas for the extents that no input fixes, from the equalities found."""
        program = self.program
        wanted: dict[str, Span | None] = {}
        declarations = [
            *((i.extents, i.span) for i in program.inputs),
            *((r.extents, r.span) for r in program.results),
            *((local.extents, local.span) for local in program.locals),
        ]
        for extents, span in declarations:
            for extent in extents:
                for node in subexpressions(extent):
                    if isinstance(node, Extent):
                        wanted.setdefault(node.name, node.span or span)
        if program.batch is not None:
            wanted.setdefault(program.batch, program.span)
        known = set(self.names.fixed)
        defined: dict[str, Expression] = {}
        facts = [pair for e in self.equalities for pair in ((e.left, e.right), (e.right, e.left))]
        progress = True
        while progress:
            progress = False
            for left, right in facts:
                if (
                    isinstance(left, Extent)
                    and left.name not in known
                    and ext.extent_names(right) <= known
                ):
                    defined[left.name] = right
                    known.add(left.name)
                    progress = True
        for name, span in wanted.items():
            if name not in known:
                hint = suggestion(name, known)
                meant = f"`{hint}` is known; or " if hint else ""
                self._error(
                    f"nothing fixes the extent `{name}`",
                    span,
                    help=f"{meant}add `size {name}` to the arguments, and give it at a call",
                )
        return defined

    # ------------------------------------------------------------------------------- the answer

    def facts(self) -> Facts:
        program = replace(
            self.program,
            statements=tuple(self._explicit(s) for s in self.program.statements),
        )
        tensors: dict[str, TensorFacts] = {}
        results = {r.name for r in program.results}
        for argument in program.inputs:
            tensors[argument.name] = self._tensor(argument.name, "input", argument.extents)
        for name, axes in self.computed.items():
            extents = self.declared.get(name)
            if extents is None:
                extents = tuple(e for e in axes if e is not None)
            tensors[name] = self._tensor(
                name, "result" if name in results else "temporary", extents
            )
        return Facts(
            program=program,
            tensors=tensors,
            extents=tuple(dict.fromkeys((*self.names.fixed, *self.defined))),
            constants=self.constants,
            equalities=tuple(self.equalities),
            defined=self.defined,
        )

    def _tensor(
        self,
        name: str,
        role: Literal["input", "result", "temporary"],
        extents: tuple[Expression, ...],
    ) -> TensorFacts:
        return TensorFacts(name, role, tuple(map(self._apply, extents)), self.elements[name])

    def _apply(self, expression: Expression) -> Expression:
        """The expression in the names that stand for all those unified, and in fixed names."""

        def change(node: Expression) -> Expression:
            if isinstance(node, Extent):
                name = self.names.find(node.name)
                if name in self.defined and not isinstance(self.defined[name], Extent):
                    return change(self.defined[name])
                return node if name == node.name else Extent(name, node.span)
            return rebuild(node, change)

        return change(expression)

    def _explicit(self, statement: Statement) -> Statement:
        ranges = tuple(scope.resolved() for scope in self.scopes_of[id(statement)])
        if isinstance(statement, Block):
            body = tuple(self._explicit(s) for s in statement.body)
            shallow = replace(statement, ranges=ranges, body=())
            block = map_statement(shallow, self._apply)
            assert isinstance(block, Block)
            return replace(block, body=body)
        return map_statement(replace(statement, ranges=ranges), self._apply)

    def ranges(self) -> Iterator[tuple[Range, Range | None]]:
        """Each range as given and as found, in program order (None where it was not)."""
        for scope in self.scopes:
            found = scope.resolved() if scope.upper is not None else None
            yield scope.given, found

    # ----------------------------------------------------------------------------------- errors

    def _error(
        self,
        found: str,
        span: Span | None,
        help: str | None = None,
        notes: tuple[tuple[Span | None, str], ...] = (),
        statement: Statement | None = None,
    ) -> None:
        context = show_statement(statement).split("\n")[0] if statement and not span else None
        self.diagnostics.append(Diagnostic(found, span, help, notes, context))


class Unification:
    """Names for one extent, in classes; the one that a call knows first speaks for its class."""

    def __init__(self, fixed: tuple[str, ...], equalities: Iterable[Equality] = ()):
        self.fixed = fixed
        self._rank = {name: i for i, name in enumerate(fixed)}
        self._parent: dict[str, str] = {}
        for equality in equalities:
            if isinstance(equality.left, Extent) and isinstance(equality.right, Extent):
                self.merge(equality.left.name, equality.right.name)

    def find(self, name: str) -> str:
        while name in self._parent:
            name = self._parent[name]
        return name

    def merge(self, one: str, other: str) -> bool:
        """Makes one class of two; False where they were one already."""
        one, other = self.find(one), self.find(other)
        if one == other:
            return False
        last = len(self.fixed)
        if self._rank.get(other, last) < self._rank.get(one, last):
            one, other = other, one
        self._parent[other] = one
        return True

    def apply(self, expression: Expression) -> Expression:
        if isinstance(expression, Extent):
            return Extent(self.find(expression.name), expression.span)
        return rebuild(expression, self.apply)


def _subscript_span(read: Read, axis: int) -> Span | None:
    subscript = read.subscripts[axis] if axis < len(read.subscripts) else read
    return subscript.span or read.span


def _axes(rank: int) -> str:
    return "no axes (it is a scalar)" if rank == 0 else f"{rank} {'axes' if rank > 1 else 'axis'}"
