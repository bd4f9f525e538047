"""Calls -> the callee's statements, in the caller's names.

A callee's input is read where the argument is, its result written where the target is, and its
temporaries get fresh names, with an axis for each loop around the call. The ranges that the
callee's own declarations gave are spelled out (as `FoundRange`), because the caller may not repeat
those declarations; `frontend.settling` leaves out again what `infer` finds without them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from loopgrad.analysis import extents as ext
from loopgrad.analysis.infer import infer
from loopgrad.analysis.types import element_type, join
from loopgrad.diagnostics import Diagnostic, ProgramError
from loopgrad.frontend.binding import (
    Access,
    Agreement,
    AxisOf,
    Binding,
    Caller,
    accessor,
    axes_of,
    filled,
)
from loopgrad.frontend.equations import axis_subscripts, free_indices
from loopgrad.frontend.knowledge import Knowledge, lone_uses
from loopgrad.frontend.names import Names
from loopgrad.frontend.writes import Writes
from loopgrad.ir.limits import MOST_INLINED
from loopgrad.ir.nodes import (
    Accumulate,
    Block,
    Call,
    Compare,
    Constant,
    Expression,
    Extent,
    Index,
    Local,
    Program,
    Range,
    Read,
    Reduction,
    Statement,
)
from loopgrad.ir.operations import ElementType
from loopgrad.ir.printer import show_expression, show_statement
from loopgrad.ir.walk import (
    ZERO,
    all_statements,
    bounds,
    computed_tensors,
    map_statement,
    reads,
    rebuild,
    subexpressions,
    without_neutral,
)

FLOAT, INT = ElementType.FLOAT, ElementType.INT
DIRECT = (Reduction.SET, Reduction.ADD, Reduction.SUBTRACT)


@dataclass(frozen=True, slots=True)
class FoundRange(Range):
    """A range that was bare where it was written; its bounds are what its own program says."""


@dataclass(frozen=True)
class Inlined:
    """A program without calls, and what its calls need: locals, and extents that agree."""

    program: Program
    locals: tuple[Local, ...]
    agreements: tuple[Agreement, ...]


def inline_calls(program: Program) -> Inlined:
    """The program with every call replaced by its callee's statements, equations left as they are.

    Raises ProgramError, with all that is wrong, where arguments do not fit.
    """
    return _Inlining(program).run()


class _Inlining:
    """The working state for one caller."""

    def __init__(self, program: Program):
        self.program = program
        self.names = Names(program)
        self.writes = Writes(program)
        self.declared: dict[str, tuple[Expression, ...]] = {
            **{i.name: i.extents for i in program.inputs},
            **{r.name: r.extents for r in program.results},
            **{local.name: local.extents for local in program.locals},
        }
        self.computed = set(computed_tensors(program))
        self.to_find: dict[str, AxisOf] = {}
        self.constants = {
            c.name: INT if isinstance(c.value, int) else FLOAT for c in program.constants
        }
        self.locals: list[Local] = []
        self.size = 0
        self.agreements: list[Agreement] = []
        self.wrong: list[Diagnostic] = []
        self.caller = Caller(
            self.declared,
            self._ranks(),
            self._elements(),
            self.constants,
            self.extent,
        )

    def run(self) -> Inlined:
        statements = self.body(self.program.statements, ())
        if self.wrong:
            raise ProgramError(self.wrong)
        program = replace(self.program, statements=statements)
        return self.resolve(Inlined(program, tuple(self.locals), tuple(self.agreements)))

    def body(
        self, statements: Iterable[Statement], around: tuple[Range, ...]
    ) -> tuple[Statement, ...]:
        done: list[Statement] = []
        for statement in statements:
            match statement:
                case Accumulate():
                    done.append(statement)
                case Block(ranges, inner):
                    body = self.body(inner, (*around, *ranges))
                    done.append(replace(statement, body=body))
                case Call():
                    try:
                        new = _OneCall(self, statement, around).inlined()
                    except ProgramError as error:
                        self.wrong.extend(error.diagnostics)
                        continue
                    if new:
                        new[0] = replace(new[0], comments=statement.comments)
                    done.extend(new)
        return tuple(done)

    # ----------------------------------------------------------- what is known before inlining

    def _ranks(self) -> dict[str, int]:
        ranks = {name: len(extents) for name, extents in self.declared.items()}
        for statement in all_statements(self.program.statements):
            match statement:
                case Accumulate(target):
                    ranks.setdefault(target.tensor, len(target.subscripts))
                case Call(targets, callee):
                    for target, result in zip(targets, callee.results, strict=False):
                        given = len(target.subscripts) or len(result.extents)
                        ranks.setdefault(target.tensor, given)
        return ranks

    def _elements(self) -> dict[str, ElementType]:
        """Element types, by repetition: a computed tensor is an integer until something is not."""
        kinds = {"int": INT, "bool": ElementType.BOOL}
        elements = {i.name: kinds.get(i.kind, FLOAT) for i in self.program.inputs}
        growing = True
        while growing:
            growing = False
            for statement in all_statements(self.program.statements):
                for name, element in _written(statement, elements, self.constants):
                    joined = join(elements.get(name, INT), element)
                    growing |= elements.get(name) is not joined
                    elements[name] = joined
        return elements

    # ------------------------------------------------------------------ extents found afterwards

    def extent(self, axis: AxisOf) -> Expression:
        """The axis' extent; for a computed tensor that nobody declared a name to be resolved."""
        declared = self.declared.get(axis.tensor)
        if declared is not None:
            return declared[axis.axis]
        name = f"? {axis.tensor} {axis.axis}"
        self.to_find[name] = axis
        return Extent(name)

    def resolve(self, inlined: Inlined) -> Inlined:
        """The program with the extents filled in that were still to be found."""
        if not self.to_find:
            return inlined
        draft = replace(inlined.program, locals=(*self.program.locals, *inlined.locals))
        knowledge = Knowledge(draft)
        found: dict[str, Expression | None] = {}

        def find(name: str) -> Expression | None:
            if name not in found:
                found[name] = None  # an extent that hangs on itself is not known
                axis = self.to_find[name]
                extent = knowledge.extent(axis.tensor, axis.axis)
                if extent is not None:
                    extent = change(extent)
                    if not _unresolved(extent):
                        found[name] = extent
            return found[name]

        def change(node: Expression) -> Expression:
            if isinstance(node, Extent) and node.name in self.to_find:
                return find(node.name) or node
            return rebuild(node, change)

        statements = tuple(map_statement(s, change) for s in inlined.program.statements)
        self._refuse_unresolved(statements, knowledge)
        locals_ = [
            replace(local, extents=tuple(map(change, local.extents))) for local in inlined.locals
        ]
        agreements = [
            replace(a, found=change(a.found), wanted=change(a.wanted)) for a in inlined.agreements
        ]
        return Inlined(
            replace(inlined.program, statements=statements),
            tuple(one for one in locals_ if not any(map(_unresolved, one.extents))),
            tuple(a for a in agreements if not _unresolved(a.found) and not _unresolved(a.wanted)),
        )

    def _refuse_unresolved(self, statements: Sequence[Statement], knowledge: Knowledge) -> None:
        missing: dict[AxisOf, Statement] = {}

        def look(expression: Expression, statement: Statement) -> Expression:
            for node in subexpressions(expression):
                if isinstance(node, Extent) and node.name in self.to_find:
                    missing.setdefault(self.to_find[node.name], statement)
            return expression

        for statement in all_statements(statements):
            if not isinstance(statement, Block):
                map_statement(statement, lambda e, s=statement: look(e, s))  # type: ignore[misc]
        if not missing:
            return
        own = [d for d in knowledge.inference.diagnostics if "`?" not in d.message]
        wrong = own or [
            Diagnostic(
                f"nothing gives the extent of axis {axis.axis} of `{axis.tensor}`, for a call",
                statement.span,
                help=f"declare it: `local {axis.tensor}["
                f"{', '.join('...' for _ in range(self.caller.ranks.get(axis.tensor, 1)))}]`",
                context=show_statement(statement),
            )
            for axis, statement in missing.items()
        ]
        raise ProgramError(wrong)


def _unresolved(expression: Expression) -> bool:
    return any(isinstance(n, Extent) and n.name.startswith("?") for n in subexpressions(expression))


def _written(
    statement: Statement, elements: dict[str, ElementType], constants: dict[str, ElementType]
) -> Iterable[tuple[str, ElementType]]:
    match statement:
        case Accumulate(target, _, value):
            yield target.tensor, element_type(value, elements, constants)
        case Call(targets, callee):
            tensors = infer(callee).tensors
            for target, result in zip(targets, callee.results, strict=False):
                yield target.tensor, tensors[result.name].element


@dataclass
class _OneCall:
    """The inlining of one call."""

    within: _Inlining
    call: Call
    around: tuple[Range, ...]
    before: list[Statement] = field(default_factory=list)
    after: list[Statement] = field(default_factory=list)
    renamed: dict[str, str] = field(default_factory=dict)

    def inlined(self) -> list[Statement]:
        # The callee's own mistakes are reported as such, before those of the call.
        facts = infer(self.call.callee)
        plain = self.call.callee.unfold()
        self.count(plain)
        self.binding = Binding(self.within.caller, self.call).bind()
        self.loops = tuple(map(self.loop, self.call.ranges))
        self.lead = axis_subscripts((*self.around, *self.loops))
        if self.binding.wrong:
            raise ProgramError(self.binding.wrong)
        for name, formula in facts.defined.items():
            if name not in self.binding.extents:
                value = self.binding.in_callers_terms(formula)
                if value is not None:
                    self.binding.extents[name] = value
        for equality in facts.equalities:
            left = self.binding.in_callers_terms(equality.left)
            if left is not None:
                what = f"`{show_expression(equality.left)}` of `{self.call.callee.name}`"
                self.binding.agree(left, equality.right, what, self.call.span)
        self.rename_indices(plain)
        self.scalars()
        self.targets: dict[str, Access] = {}
        self.results(plain)
        self.temporaries(plain, facts.tensors)
        if self.binding.wrong:
            raise ProgramError(self.binding.wrong)
        self.within.agreements.extend(self.binding.agreements)
        found = facts.program.statements
        return [*self.before, *self.statements(plain.statements, found), *self.after]

    def count(self, plain: Program) -> None:
        """Refuses calls of calls that together would not fit into memory."""
        self.within.size += sum(1 for _ in all_statements(plain.statements))
        if self.within.size > MOST_INLINED:
            raise ProgramError(
                Diagnostic(
                    f"with its calls inlined, `{self.within.program.name}` has more than "
                    f"{MOST_INLINED} statements",
                    self.call.span,
                    "call in a loop, with an index, what is called so often",
                    context=show_statement(self.call),
                )
            )

    # ------------------------------------------------------------------------------------ loops

    def loop(self, r: Range) -> Range:
        """A loop around the call; a bare one over the axes that its index subscripts alone."""
        if r.upper is not None:
            return r
        uppers = [
            (self.within.extent(AxisOf(read.tensor, axis)), read, axis)
            for expression in (*self.call.arguments, *self.call.targets)
            for read, axis in lone_uses(r.index, expression)
            if read.tensor in self.within.caller.ranks
        ]
        if not uppers:
            return r
        upper = uppers[0][0]
        for other, read, axis in uppers[1:]:
            if other != upper and not _unresolved(other) and not _unresolved(upper):
                what = f"axis {axis} of `{read.tensor}`, where `{r.index}` runs,"
                shown = show_expression(upper)
                self.binding.agreements.append(
                    Agreement(other, upper, what, shown, read.span, self.call)
                )
        return FoundRange(r.index, r.lower or ZERO, upper, r.descending, r.span)

    def rename_indices(self, plain: Program) -> None:
        """Gives the callee's indices names that mean nothing yet where the call stands."""
        names = self.within.names
        own = {r.index: None for s in all_statements(plain.statements) for r in s.ranges}
        live = {r.index for r in (*self.around, *self.loops)}
        for expression in (*self.call.arguments, *self.call.targets):
            live |= free_indices(expression)
        for index in own:
            if index in live or index in names.not_indices:
                fresh = names.index(index, live | own.keys() | set(self.renamed.values()))
                self.renamed[index] = fresh
            else:
                names.taken.add(index)  # what is inlined after this may not call a tensor so

    # ---------------------------------------------------------------------------------- tensors

    def scalars(self) -> None:
        """Scalar arguments that are more than a name are computed once, before."""
        for declared, value in self.binding.scalars:
            name = self.within.names.tensor(declared.name)
            read = Read(name, self.lead)
            self.before.append(
                Accumulate(read, Reduction.SET, value, self.loops, None, self.call.span)
            )
            self.binding.access[declared.name] = lambda _, read=read: read  # type: ignore[misc]

    def results(self, plain: Program) -> None:
        """Each result goes straight into its target where that is the same, else is copied."""
        named = [t.tensor for t in self.call.targets]
        for target, result in zip(self.call.targets, plain.results, strict=True):
            rank = len(result.extents)
            whole = self.binding.whole_axes(target, rank)
            if whole is None:
                self.refuse_target(target, result.name, rank)
                continue
            for axis, k in enumerate(whole):
                if target.tensor in self.within.declared:
                    found = self.within.declared[target.tensor][k]
                    what = f"axis {axis} of its result `{result.name}`"
                    self.binding.agree(found, result.extents[axis], what, target.span)
            if named.count(target.tensor) == 1 and self.may_write(plain, result.name, target):
                self.targets[result.name] = accessor(target, whole)
                declared = self.within.declared
                if target.tensor not in declared and not target.subscripts:
                    self.declare(target.tensor, result.extents, FLOAT, ())
            else:
                self.copy(target, whole, result.name, result.extents)

    def may_write(self, plain: Program, result: str, target: Read) -> bool:
        writes = self.within.writes
        if not writes.is_alone(self.call, target.tensor):
            return False
        operations = {
            s.reduction
            for s in all_statements(plain.statements)
            if isinstance(s, Accumulate) and s.target.tensor == result
        }
        whole = not target.subscripts or writes.sets_whole_axes(self.call, target.tensor)
        return operations <= set(DIRECT) or whole

    def copy(
        self, target: Read, whole: Sequence[int], result: str, extents: Sequence[Expression]
    ) -> None:
        names = self.within.names
        name = names.tensor(result)
        self.targets[result] = lambda s: Read(name, (*self.lead, *s))
        self.declare(name, extents, FLOAT, (*self.around, *self.loops))
        live = {r.index for r in (*self.around, *self.loops)} | free_indices(target)
        axes: list[Range] = []
        for extent in extents:
            wanted = extent.name.lower() if isinstance(extent, Extent) else "i"
            upper = self.binding.in_callers_terms(extent)
            axes.append(FoundRange(names.index(wanted, live), ZERO, upper))
            live.add(axes[-1].index)
        at = tuple(Index(r.index) for r in axes)
        value = self.targets[result](at)
        written = filled(target, whole, at)
        self.after.append(
            Accumulate(written, Reduction.SET, value, (*self.loops, *axes), None, self.call.span)
        )

    def temporaries(self, plain: Program, tensors: object) -> None:
        from loopgrad.analysis.facts import TensorFacts

        assert isinstance(tensors, dict)
        integers = {local.name for local in plain.locals if local.element is INT}
        for old in computed_tensors(plain):
            if old in self.targets:
                continue
            facts = tensors[old]
            assert isinstance(facts, TensorFacts)
            name = self.within.names.tensor(old)
            self.targets[old] = lambda s, name=name: Read(name, (*self.lead, *s))  # type: ignore[misc]
            element = INT if old in integers else FLOAT
            self.declare(name, facts.extents, element, (*self.around, *self.loops))

    def declare(
        self,
        name: str,
        extents: Sequence[Expression],
        element: ElementType,
        loops: tuple[Range, ...],
    ) -> None:
        own = [self.binding.in_callers_terms(e) for e in extents]
        lead = [self.lead_extent(k, loops) for k in range(len(loops))]
        if None not in own and None not in lead:
            known = tuple(e for e in (*lead, *own) if e is not None)
            self.within.locals.append(Local(name, known, element))

    def lead_extent(self, k: int, loops: tuple[Range, ...]) -> Expression | None:
        """The extent of the axis that a temporary has for a loop around the call."""
        at = axis_subscripts(loops)[k]
        outer = loops[: k + 1]
        if all(o.upper is not None for o in outer):
            known = [(o.index, o.lower or ZERO, o.upper) for o in outer if o.upper is not None]
            last = ext.largest(at, known, frozenset())
            if last is not None:
                return ext.plus(last, 1)
        r = loops[k]
        for expression in (*self.call.arguments, *self.call.targets):
            for read, axis in lone_uses(r.index, expression):
                if read.tensor in self.within.caller.ranks:
                    return self.within.extent(AxisOf(read.tensor, axis))
        return None

    def refuse_target(self, target: Read, result: str, rank: int) -> None:
        has = self.within.caller.ranks.get(target.tensor, 0)
        self.binding.wrong.append(
            Diagnostic(
                f"result `{result}` of `{self.call.callee.name}` has {axes_of(rank)}, and "
                f"`{show_expression(target)}` is no place for it"
                + (f": `{target.tensor}` has {axes_of(has)}" if has else ""),
                target.span or self.call.span,
                help=f"pass {rank} axes of the target whole, by their extents' names, "
                "as in `h[t,B,J]`",
                context=show_statement(self.call),
            )
        )

    # ------------------------------------------------------------------------------- statements

    def statements(self, plain: Sequence[Statement], found: Sequence[Statement]) -> list[Statement]:
        own = {r.index for r in self.loops}
        hangs = any(
            free_indices(b) & own
            for s in all_statements(plain)
            if isinstance(s, Block)
            for r in s.ranges
            for b in map(self.expression, bounds((r,)))
        )
        if hangs:
            loops, self.loops = self.loops, ()
            body = tuple(self.statement(s, f) for s, f in zip(plain, found, strict=True))
            return [Block(loops, body, self.call.span)]
        return [self.statement(s, f) for s, f in zip(plain, found, strict=True)]

    def statement(self, plain: Statement, found: Statement) -> Statement:
        ranges = tuple(map(self.range, plain.ranges, found.ranges))
        match plain, found:
            case Block(_, body), Block(_, found_body):
                inner = tuple(map(self.statement, body, found_body))
                return replace(plain, ranges=ranges, body=inner, span=self.call.span)
            case Accumulate(target, _, value, _, guard), _:
                at = tuple(map(self.integer, target.subscripts))
                written = self.targets[target.tensor](at)
                assert isinstance(written, Read)
                return replace(
                    plain,
                    target=written,
                    value=self.expression(value),
                    ranges=(*self.loops, *ranges),
                    guard=None if guard is None else self.expression(guard),
                    span=self.call.span,
                )
        raise AssertionError("a callee is unfolded before it is inlined")

    def range(self, given: Range, found: Range) -> Range:
        index = self.renamed.get(given.index, given.index)
        lower = None if found.lower is None else self.integer(found.lower)
        upper = None if found.upper is None else self.integer(found.upper)
        kind = FoundRange if given.upper is None else Range
        if given.upper is not None:  # as written, before names were unified
            lower = None if given.lower is None else self.integer(given.lower)
            upper = self.integer(given.upper)
        return kind(index, lower, upper, given.descending, given.span)

    def expression(self, node: Expression) -> Expression:
        match node:
            case Index(name):
                return Index(self.renamed.get(name, name), node.span)
            case Extent(name):
                return self.binding.extents.get(name, node)
            case Constant(name):
                return self.binding.constants.get(name, node)
            case Read(tensor, subscripts):
                at = tuple(map(self.integer, subscripts))
                access = self.targets.get(tensor) or self.binding.access[tensor]
                return access(at)
            case Compare(_, operands) if not any(True for _ in reads(node)):
                return replace(node, operands=tuple(map(self.integer, operands)))
        return rebuild(node, self.expression)

    def integer(self, node: Expression) -> Expression:
        """A subscript or a bound: as one would write it for the values of the constants."""
        found = self.expression(node)
        return _worked_out(found) if self.binding.constants else found


def _worked_out(e: Expression) -> Expression:
    return without_neutral(rebuild(e, _worked_out))
