"""The same program with other results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from loopgrad.analysis import extents as ext
from loopgrad.analysis.facts import Facts
from loopgrad.analysis.infer import infer
from loopgrad.analysis.tidy import tidy
from loopgrad.diagnostics import ProgramError, listing, suggestion
from loopgrad.ir.nodes import Expression, Local, Program, Result
from loopgrad.ir.walk import computed_tensors


def returning(program: Program, names: str | Sequence[str]) -> Program:
    """The same program with the computed tensors `names` as its results, in that order.

    Equations and calls are unfolded where one of the names is a temporary of theirs.

    Raises ValueError for a name that is no computed tensor, or stands twice.

    >>> import loopgrad as lg
    >>> softmax = lg.program('''
    ... softmax(s[B,J]) -> p[B,J]:
    ...     for b, j:  Z[b]   += exp(s[b,j])
    ...     for b, j:  p[b,j] += exp(s[b,j]) / Z[b]
    ... ''')
    >>> print(softmax.returning("p", "Z"))
    softmax(s[B,J]) -> p[B,J], Z[B]:
        for b, j:  Z[b]   += exp(s[b,j])
        for b, j:  p[b,j] += exp(s[b,j]) / Z[b]
    """
    wanted = (names,) if isinstance(names, str) else tuple(names)
    facts = infer(program)
    _refuse_unknown(program, wanted, facts)
    if wanted == tuple(r.name for r in program.results):
        return program
    if not set(wanted) <= set(computed_tensors(program)):
        program = program.unfold()
    declared = {r.name: r for r in program.results}
    declared_locals = {local.name: local.extents for local in program.locals}

    def result(name: str) -> Result:
        extents = declared_locals.get(name, facts.tensors[name].extents)
        return declared.get(name) or Result(name, extents)

    kept = tuple(local for local in program.locals if local.name not in wanted)
    former = [
        Local(r.name, r.extents, span=r.span) for r in program.results if r.name not in wanted
    ]
    new = replace(program, results=tuple(map(result, wanted)), locals=(*kept, *former))
    if not _means(new, facts):
        # The extents of a temporary, now given, would count for bare ranges too: spell those out.
        return tidy(replace(facts.program, results=new.results, locals=new.locals), facts)
    for local in former:
        without = replace(new, locals=tuple(one for one in new.locals if one is not local))
        if _means(without, facts):
            new = without
    return new


def _refuse_unknown(program: Program, wanted: tuple[str, ...], facts: Facts) -> None:
    computed = [t.name for t in facts.tensors.values() if t.role != "input"]
    if not wanted:
        raise ValueError(
            f"returning() needs the name of a tensor of `{program.name}`, and got none"
        )
    for k, name in enumerate(wanted):
        if not isinstance(name, str):
            raise TypeError(f"returning() takes names of tensors, and got {name!r}")
        if name in wanted[:k]:
            raise ValueError(f"returning() got `{name}` twice, and needs each result once")
        if name in computed:
            continue
        if name in facts.tensors:
            raise ValueError(
                f"`{name}` is an input of `{program.name}`; it computes {listing(computed)}"
            )
        hint = suggestion(name, computed)
        meant = f"did you mean `{hint}`?" if hint else f"it computes {listing(computed)}"
        raise ValueError(f"`{program.name}` computes no tensor `{name}`; {meant}")


def _means(program: Program, facts: Facts) -> bool:
    """Does inference find in the program what it found in the one that declares more?"""
    try:
        found = infer(program)
    except ProgramError:
        return False
    same_loops = found.program.statements == facts.program.statements
    return same_loops and all(
        _same_extents(found.tensors[name].extents, tensor.extents)
        for name, tensor in facts.tensors.items()
    )


def _same_extents(found: Sequence[Expression], wanted: Sequence[Expression]) -> bool:
    return len(found) == len(wanted) and all(
        a == b or ext.difference(a, b) == 0 for a, b in zip(found, wanted, strict=True)
    )
