"""A program to an equal one that costs less: candidates, of which the cheapest that is certified is taken."""

from __future__ import annotations

from collections.abc import Sequence

from loopgrad.analysis.infer import infer
from loopgrad.analysis.real_results import with_real_results
from loopgrad.analysis.tidy import tidy
from loopgrad.ir.limits import within_limits
from loopgrad.ir.nodes import (
    Accumulate,
    Constant,
    Expression,
    Extent,
    Input,
    Program,
    Size,
)
from loopgrad.ir.walk import (
    all_statements,
    statement_expressions,
    statement_reads,
    subexpressions,
)
from loopgrad.simplify.algebra import normal_form as nf
from loopgrad.simplify.certifying.probe import MORE
from loopgrad.simplify.reading.contributions import Unsupported
from loopgrad.simplify.reading.statements import Reading
from loopgrad.simplify.searching.joint import completed
from loopgrad.simplify.searching.judging import Judge, Option, best
from loopgrad.simplify.searching.search import cheaper
from loopgrad.simplify.searching.work import Candidate
from loopgrad.simplify.telling.telling import Story
from loopgrad.tuning import Tuned


def improved(program: Program, forward: Program | None) -> tuple[Program, Story] | None:
    """The optimised program, and how it came about; None where there is no better one."""
    try:
        with nf.WORKING, Tuned():
            return _improved(program, forward)
    except (Unsupported, nf.TooLarge, RecursionError):  # too much for it, in width or in depth
        return None


def _improved(program: Program, forward: Program | None) -> tuple[Program, Story] | None:
    nf.restart_names()
    known = whole = None
    if forward is not None:
        known = Reading(forward, naming="sums")
        whole = completed(program, forward)
    # Differences stay factors here too: multiplied out, `(x - mu)**2` would cancel digits.
    own = Reading(whole or program, naming="reads", names=known.names if known else None)
    joint = whole is not None
    judge = Judge(program, forward, whole or program)

    def assembled(candidate: Candidate) -> Program:
        result = assemble(program, candidate.work.own, known, candidate)
        return within_limits(with_real_results(result, infer(program)))

    found, lossy = judge.first(cheaper(program, own, known, joint), assembled)
    if found is None and judge.refused:  # they may differ over empty axes alone
        candidates = cheaper(program, own, known, joint, theorems=False)
        found, more = judge.first(candidates, assembled)
        lossy = lossy or more
    if lossy or (found is not None and not found.accurate):
        options = list[Option]()
        for apart in judge.apart(found):
            reading = Reading(apart.program, naming="reads", names=own.names)
            reading.apart, reading.made = apart.kept, apart.made
            other, _ = judge.first(cheaper(program, reading, known, joint), assembled)
            if other is not None:
                options.append(other)
                if other.accurate or (found is not None and found.times(other) <= MORE):
                    break  # in the second case these factors make no difference
        found = best(found, options)
    if found is None:
        return None
    return found.result, Story(program, found.result, forward, found.candidate, nf.naming())


def assemble(program: Program, own: Reading, known: Reading | None, winner: Candidate) -> Program:
    """The candidate's statements under a header with what they read."""
    every = list(all_statements(winner.statements))
    read = {r.tensor for s in every for r in statement_reads(s)}
    inputs = _inputs(program, known, read)
    results = tuple(program.results)
    expressions = [e for s in every for e in statement_expressions(s)]
    declared: list[Sequence[Expression]] = [i.extents for i in inputs]
    declared += [r.extents for r in results]
    declared += [x.extents for x in winner.locals]
    used = {
        n.name
        for e in (*expressions, *(x for d in declared for x in d))
        for n in subexpressions(e)
        if isinstance(n, Extent | Constant)
    }
    fixed = {e.name for i in inputs for e in i.extents if isinstance(e, Extent)}
    sources = [program, *([known.facts.program] if known is not None else [])]
    constants = {c.name: c for p in sources for c in reversed(p.constants)}
    sizes = [s for s in program.sizes if s.name in used - fixed or known is None]
    unknown = sorted(used - fixed - set(constants) - {s.name for s in sizes})
    sizes += [Size(name) for name in unknown]
    kept = [c for c in constants.values() if c.name in used or known is None]
    draft = Program(
        program.name,
        (*inputs, *sizes, *kept),
        results,
        tuple(winner.statements),
        tuple(winner.locals),
        batch=program.batch,
        primal=program.primal,
    )
    return tidy(draft, own.facts)


def _inputs(program: Program, known: Reading | None, read: set[str]) -> list[Input]:
    """The forward's inputs and computed tensors that are read, then what else is given."""
    if known is None or completed(program, known.facts.program) is not None:
        return list(program.inputs)
    given = {i.name: i for i in program.inputs}
    forward = known.facts
    found = [given.get(i.name, i) for i in forward.program.inputs if i.name in read]
    for name in known.complete:
        if name in read and name not in program_computes(program):
            fact = forward.tensors[name]
            kind = "input" if fact.element.value == "float" else "int"
            found.append(given.get(name, Input(name, fact.extents, kind)))  # type: ignore[arg-type]
    there = {i.name for i in forward.program.inputs} | set(known.complete)
    return found + [i for i in program.inputs if i.name not in there]


def program_computes(program: Program) -> set[str]:
    return {
        s.target.tensor for s in all_statements(program.statements) if isinstance(s, Accumulate)
    }
