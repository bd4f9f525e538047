"""What a claim claims: which results are judged, against which program, and is its header right?"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from loopgrad.analysis.facts import Facts
from loopgrad.analysis.infer import infer
from loopgrad.analysis.returning import returning
from loopgrad.checking.claims import Claim, Lendable
from loopgrad.checking.findings import Finding
from loopgrad.checking.naming import gradient_meant
from loopgrad.checking.trials import Misfit, Trial, Trials, bound
from loopgrad.diagnostics import listing, suggestion
from loopgrad.ir.nodes import (
    Constant,
    Expression,
    Extent,
    Input,
    Program,
    Read,
    Result,
    Size,
)
from loopgrad.ir.operations import ElementType
from loopgrad.ir.printer import show_expression, show_statement
from loopgrad.ir.walk import (
    accumulates,
    all_statements,
    map_declared,
    map_statement,
    number,
    rebuild,
    statement_expressions,
    statement_reads,
    subexpressions,
)

SIZES = 4  # trials on which a header is tried


@dataclass(frozen=True)
class Task:
    """A claim made ready to be judged.

    right: the program that returns the judged results: the literal backward, or the forward.
    program: the claim, of which the judged results alone are results. missing: the gradients asked
    for that it does not give.
    """

    forward: Program
    right: Program
    claim: Claim
    program: Program
    judged: tuple[str, ...]
    not_given: tuple[str, ...]
    missing: tuple[str, ...]
    is_backward: bool

    @property
    def facts(self) -> Facts:
        return infer(self.program)


@dataclass(frozen=True)
class Gradients:
    """The names of a forward's gradients: of its inputs, and of all that its backward computes."""

    of_inputs: Mapping[str, str]  # input -> its gradient
    computed: frozenset[str]
    seeds: tuple[str, ...]
    full: Program


def lendable(forward: Program) -> Lendable:
    """Every tensor of the forward and of its backward, as it would be declared."""
    known = gradients(forward)
    facts = [infer(known.full), infer(forward)]
    return Lendable(
        {
            t.name: ("int " if t.element is ElementType.INT else "")
            + declaration(t.name, t.extents)
            for one in facts
            for t in one.tensors.values()
        }
    )


def declaration(name: str, extents: Sequence[Expression]) -> str:
    shown = ",".join(show_expression(e, True) for e in extents)
    return f"{name}[{shown}]" if extents else name


def gradients(forward: Program) -> Gradients:
    full = forward.backward()
    inputs = [i.name for i in infer(forward).program.inputs if i.differentiable]
    named = dict(zip(inputs, (r.name for r in full.results), strict=True))
    known = {i.name for i in forward.inputs} | set(infer(forward).tensors)
    seeds = tuple(i.name for i in full.inputs if i.name not in known)
    return Gradients(
        named, frozenset(infer(full).tensors) - {i.name for i in full.inputs}, seeds, full
    )


def understand(
    forward: Program, claim: Claim, wrt: Sequence[str] | None
) -> tuple[Task | None, list[Finding]]:
    """The task, and what is wrong with the claim's header; no task where nothing can be judged."""
    program = claim.program
    assert program is not None
    computed = [t.name for t in infer(forward).tensors.values() if t.role != "input"]
    names = [r.name for r in program.results]
    is_rewriting = (
        wrt is None and any(n in computed for n in names) and not _any_gradient(forward, names)
    )
    known = None if is_rewriting else gradients(forward)
    faults = [*_unknown_results(program, forward, computed, known)]
    possible = (
        computed if known is None else [*known.of_inputs.values(), *known.computed, *computed]
    )
    judged = [n for n in names if n in possible]
    missing: list[str] = []
    if known is not None:
        asked = None if wrt is None else [known.of_inputs[name] for name in _wanted(known, wrt)]
        if asked is not None:
            missing = [n for n in asked if n not in names]
            judged = [n for n in judged if n in asked]
    everything = [r.name for r in forward.results] if known is None else known.of_inputs.values()
    others = tuple(n for n in everything if n not in names and n not in missing)
    faults += _inputs(program, forward, known, claim.lent)
    if not judged and not missing:
        return None, faults
    right = _right(forward, known, judged or missing)
    task = Task(
        forward,
        right,
        claim,
        returning(program, judged) if judged else program,
        tuple(judged),
        others,
        tuple(missing),
        known is not None,
    )
    if not faults and judged:
        faults = [*_constants(program, forward), *_elements(task), *_extents(task)]
    return (None if faults else task), faults


def _any_gradient(forward: Program, names: Sequence[str]) -> bool:
    """Does a name look like the gradient of one of the forward's tensors, and is none of its own?"""
    tensors = infer(forward).tensors
    return any(n not in tensors and n.rpartition(".grad")[0].rstrip("'") in tensors for n in names)


def _wanted(known: Gradients, wrt: Sequence[str]) -> list[str]:
    for name in wrt:
        if name not in known.of_inputs:
            there = listing(list(known.of_inputs)) or "none"
            close = suggestion(name, known.of_inputs)
            hint = f"did you mean `{close}`?" if close else f"there is {there}"
            raise ValueError(f"wrt: `{name}` is no input that has a gradient; {hint}")
    return list(wrt)


def _right(forward: Program, known: Gradients | None, judged: Sequence[str]) -> Program:
    if known is None:
        return (
            forward
            if [r.name for r in forward.results] == list(judged)
            else returning(forward, judged)
        )
    inputs = {gradient: name for name, gradient in known.of_inputs.items()}
    if all(n in inputs for n in judged):
        derived = forward.backward([inputs[n] for n in judged])
        if {r.name for r in derived.results} == set(judged):
            return derived
    full = known.full
    if any(n not in known.computed and n not in inputs for n in judged):  # the forward's as well
        full = _joint(forward, full)
    return replace(returning(full, judged), primal=forward)


def _joint(forward: Program, backward: Program) -> Program:
    """Forward and backward as one program, whose results are those of both."""
    first, second = infer(forward), infer(backward).program
    names = {*first.tensors, *(a.name for a in first.program.arguments)}
    return replace(
        first.program,
        name=backward.name,
        arguments=(
            *first.program.arguments,
            *(a for a in second.arguments if a.name not in names),
        ),
        results=(*first.program.results, *second.results),
        statements=(*first.program.statements, *second.statements),
        locals=(*first.program.locals, *second.locals),
    )


# -------------------------------------------------------------------------------- names and ranks


def _unknown_results(
    program: Program, forward: Program, computed: Sequence[str], known: Gradients | None
) -> list[Finding]:
    found = []
    for result in program.results:
        name = result.name
        if known is None:
            if name not in computed:
                hint = suggestion(name, computed)
                found.append(
                    Finding(
                        "unknown name",
                        f"`{name}` is no tensor that `{forward.name}` computes",
                        result.span,
                        note=f"did you mean `{hint}`?"
                        if hint
                        else f"it computes {listing(list(computed))}",
                    )
                )
            continue
        possible = [*known.of_inputs.values(), *known.computed]
        if name in possible or name in computed:
            continue
        of = name.removesuffix(".grad")
        integer = next((i for i in forward.inputs if i.name == of and not i.differentiable), None)
        if name in known.seeds:
            said, note = f"`{name}` is a seed: it is given, not computed", None
        elif integer is not None:
            said, note = f"`{of}` is {integer.kind}, and has no gradient", None
        else:
            said = f"`{name}` is no gradient of `{forward.name}`"
            hint = gradient_meant(name, possible) or suggestion(name, possible)
            names = listing(list(known.of_inputs.values()))
            note = f"did you mean `{hint}`?" if hint else f"its gradients are {names}"
        found.append(Finding("unknown name", said, result.span, note=note))
    return found


def _inputs(
    program: Program, forward: Program, known: Gradients | None, lent: Container[str]
) -> list[Finding]:
    """Inputs that there are not, or that have other ranks or kinds."""
    facts = infer(forward)
    right: dict[str, tuple[int, bool]] = {}
    for tensor in facts.tensors.values():
        if known is not None or tensor.role == "input":
            right[tensor.name] = (tensor.rank, tensor.element is ElementType.FLOAT)
    for name in known.seeds if known is not None else ():
        rank = next(len(i.extents) for i in known.full.inputs if i.name == name)  # type: ignore[union-attr]
        right[name] = (rank, True)
    found = [
        _input(i, right, forward, known is not None) for i in program.inputs if i.name not in lent
    ]
    return [f for f in found if f is not None]


def _input(
    i: Input, right: Mapping[str, tuple[int, bool]], forward: Program, is_backward: bool
) -> Finding | None:
    if i.name not in right:
        hint = gradient_meant(i.name, right) or suggestion(i.name, right)
        what = "an input, a computed tensor or a seed" if is_backward else "an input"
        return Finding(
            "unknown name",
            f"`{i.name}` is not {what} of `{forward.name}`",
            i.span,
            note=f"did you mean `{hint}`?" if hint else f"there is {listing(list(right)[:12])}",
        )
    rank, floating = right[i.name]
    if rank != len(i.extents):
        return Finding(
            "wrong rank",
            f"`{i.name}` has {_axes(len(i.extents))} here, and {_axes(rank)} in `{forward.name}`",
            i.span,
        )
    if floating != i.differentiable:
        kind = "floating" if floating else "an integer tensor"
        said = f"`{i.name}` is {kind} in `{forward.name}`"
        extents = ",".join(show_expression(e) for e in i.extents)
        tensor = f"{i.name}[{extents}]" if i.extents else i.name
        return Finding("wrong tensor", said, i.span, tensor if floating else f"int {tensor}")
    return None


def _axes(rank: int) -> str:
    return "no axes" if rank == 0 else "1 axis" if rank == 1 else f"{rank} axes"


def _constants(program: Program, forward: Program) -> list[Finding]:
    defaults = {c.name: c.value for c in forward.constants}
    return [
        Finding(
            "wrong number",
            f"`{c.name}` is {c.value} here, and {defaults[c.name]} in `{forward.name}`",
            c.span,
            f"{c.name} = {defaults[c.name]}",
        )
        for c in program.constants
        if c.name in defaults and c.value != defaults[c.name]
    ]


def _elements(task: Task) -> list[Finding]:
    """Results that have other ranks than they ought to."""
    right, claimed = infer(task.right).tensors, task.facts.tensors
    spans = {r.name: r.span for r in task.program.results}
    return [
        Finding(
            "wrong rank",
            f"`{name}` has {_axes(claimed[name].rank)} here, and ought to have {_axes(right[name].rank)}",
            spans.get(name),
        )
        for name in task.judged
        if right[name].rank != claimed[name].rank
    ]


# ----------------------------------------------------------------------------------------- extents


def _extents(task: Task) -> list[Finding]:
    """Where the header takes two of the forward's extents for one."""
    for trial in _sized(task.forward, task.right):
        try:
            bound(task.facts, trial)
        except Misfit as misfit:
            return [_misfit(task, misfit, trial)]
    return []


@lru_cache(maxsize=4)  # mended claims are judged beside the same programs
def _sized(forward: Program, right: Program) -> tuple[Trial, ...]:
    """Trials of several sizes."""
    trials = Trials(forward, right)
    drawn = (trials.draw("unit" if k % 2 else "signed", 0) for k in range(SIZES))
    return tuple(trial for trial in drawn if trial is not None)


def _misfit(task: Task, misfit: Misfit, trial: Trial) -> Finding:
    name, axis = misfit.tensor, misfit.axis
    declared: dict[str, Input | Result] = {i.name: i for i in task.program.inputs}
    declared |= {r.name: r for r in task.program.results}
    tensors = {**infer(task.forward).tensors, **infer(task.right).tensors}
    true, mine = tensors[name].extents, declared[name].extents

    def shown(extent: Expression) -> str:
        return f"`{show_expression(extent, True)}`"

    said = (
        f"axis {axis} of `{name}` has the extent {shown(true[axis])} in `{task.forward.name}`, "
        f"here {shown(mine[axis])}"
    )
    for other, tensor in declared.items():
        for k, extent in enumerate(tensor.extents):
            same = isinstance(extent, Extent) and extent == mine[axis]
            if same and trial.shape(other)[k] != trial.shape(name)[axis]:
                said = (
                    f"two extents of `{task.forward.name}` are one here, {shown(extent)}: "
                    f"{shown(true[axis])}, axis {axis} of `{name}`, and "
                    f"{shown(tensors[other].extents[k])}, axis {k} of `{other}`"
                )
                return Finding("wrong extent", said, declared[name].span, declaration(name, true))
    return Finding("wrong extent", said, declared[name].span, declaration(name, true))


# ------------------------------------------------------------------------------------- constants


def certifiable(task: Task) -> Program:
    """The claim with constants of its own as numbers: they have no value but their default."""
    shared = {c.name for c in task.forward.constants}
    own = {c.name: c.value for c in task.program.constants if c.name not in shared}
    if not own:
        return task.program

    def change(node: Expression) -> Expression:
        if isinstance(node, Constant) and node.name in own:
            return number(own[node.name])
        return rebuild(node, change)

    program = map_declared(task.program, change)
    return replace(
        program,
        arguments=tuple(a for a in program.arguments if a.name not in own),
        statements=tuple(map_statement(s, change) for s in program.statements),
    )


def hoisted(program: Program, forward: Program) -> Program:
    """The claim with the tensors as inputs that it recomputes by the forward's own statements."""
    mine, theirs = infer(program), infer(forward)
    known = {i.name for i in theirs.program.inputs}
    texts = {show_statement(s) for s in theirs.program.statements}
    kept, taken = list(mine.program.statements), []
    for statement in mine.program.statements:
        targets = {s.target.tensor for _, s in accumulates((statement,))}
        reads = {r.tensor for s in all_statements((statement,)) for r in statement_reads(s)}
        if show_statement(statement) in texts and reads <= known | targets:
            taken.append(statement)
            known |= targets
    while taken:
        # A tensor that other statements write as well is the claim's own.
        gone = {s.target.tensor for _, s in accumulates(taken)}
        kept = [s for s in mine.program.statements if s not in taken]
        own = {s.target.tensor for _, s in accumulates(kept)} | set(_results(program))
        others = [
            s
            for s in theirs.program.statements
            if show_statement(s) not in map(show_statement, taken)
        ]
        own |= {s.target.tensor for _, s in accumulates(others)}
        if not gone & own:
            break
        taken = [s for s in taken if not {x.target.tensor for _, x in accumulates((s,))} & own]
    if not taken:
        return program
    gone = {s.target.tensor for _, s in accumulates(taken)}
    new = [
        Input(t.name, t.extents, "input" if t.element is ElementType.FLOAT else "int")
        for t in theirs.tensors.values()
        if t.name in gone
    ]
    left = _with_equal_extents(mine)  # what is taken may have said that they are
    return replace(
        left,
        arguments=(*left.arguments, *new),
        statements=tuple(s for s in left.statements if s not in taken),
        locals=tuple(local for local in left.locals if local.name not in gone),
    )


def without_spare(program: Program, right: Program) -> Program:
    """The claim without the arguments that it does not read, but for those that the right program has too.

    Raises ProgramError where one of them is needed, for an extent.
    """
    asked = {a.name for a in right.arguments}
    asked |= {
        node.tensor if isinstance(node, Read) else node.name
        for statement in all_statements(program.statements)
        for expression in statement_expressions(statement)
        for node in subexpressions(expression)
        if isinstance(node, Read | Constant)
    }
    kept = (a for a in program.arguments if a.name in asked or isinstance(a, Size))
    return infer(replace(program, arguments=tuple(kept))).program


def _with_equal_extents(facts: Facts) -> Program:
    """The program, of whose tensors those axes have one extent that its statements say are equal."""
    tensors, program = facts.tensors, facts.program
    arguments = (
        replace(a, extents=tensors[a.name].extents) if isinstance(a, Input) else a
        for a in program.arguments
    )
    return replace(
        program,
        arguments=tuple(arguments),
        results=tuple(replace(r, extents=tensors[r.name].extents) for r in program.results),
        locals=tuple(replace(one, extents=tensors[one.name].extents) for one in program.locals),
    )


def _results(program: Program) -> list[str]:
    return [r.name for r in program.results]
