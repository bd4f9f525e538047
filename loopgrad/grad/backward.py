"""Reverse mode: the backward of each statement, the statements in the opposite order.

The one rule: for every place where a tensor R is read in e,

    T[f] += e    gives    R.grad[g] += T.grad[f] * (de / dR[g])

over the same loops. Values never change once read, so the rule needs no tape and no case analysis;
`max=`, `min=` and `*=` add a condition (`winners`) or a factor (`exclusive`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from loopgrad.analysis.tidy import tidy
from loopgrad.diagnostics import Diagnostic, ProgramError, listing, suggestion
from loopgrad.grad.activity import Leaf, Names, Path, Primal, flipped, primal, within_depth
from loopgrad.grad.assembly import (
    assemble,
    locals_of,
    needed,
    set_whole,
    tensors_read,
    written,
)
from loopgrad.grad.contributions import Contribution, Contributions
from loopgrad.ir.limits import within_limits
from loopgrad.ir.nodes import (
    Accumulate,
    Block,
    Extent,
    Input,
    Local,
    Program,
    Read,
    Result,
    Statement,
)


def backward(
    program: Program,
    wrt: str | Sequence[str] | None = None,
    batch: str | Literal[False] | None = None,
    *,
    recompute: bool = False,
) -> Program:
    """The backward program of `program`; see `Program.backward`.

    >>> import loopgrad as lg
    >>> square = lg.program("square(x[N]) -> y[N]:\\n    for n:  y[n] = x[n]**2")
    >>> print(square.backward())
    square.backward(x[N], y.grad[N]) -> x.grad[N]:
        for n:  x.grad[n] += 2 * y.grad[n] * x[n]
    """
    return with_origins(program, wrt, batch, recompute=recompute)[0]


def _batch_extent(asked: Primal, batch: str | Literal[False] | None) -> str | None:
    """The extent to average over, after checking that averaging is what it means."""
    program = asked.program
    extent = program.batch if batch is None else batch
    if extent is False or extent is None:
        return None
    if extent not in asked.facts.extents:
        raise ValueError(_no_such_extent(asked, extent))
    without = [r.name for r in asked.results if Extent(extent) not in asked.extents(r.name)]
    if without:
        span = next(r.span for r in program.results if r.name == without[0])
        raise ProgramError(
            Diagnostic(
                f"gradients of parameters are averaged over the batch `{extent}`, and "
                + ("the result " if len(without) == 1 else "the results ")
                + listing(without)
                + (" does" if len(without) == 1 else " do")
                + " not have that extent",
                span,
                notes=((None, f"a result already averaged over `{extent}` would be so twice"),),
                help=f"leave out `batch {extent}`, or ask for sums: `backward(batch=False)`",
                context=program.name,
            )
        )
    return extent


def _no_such_extent(asked: Primal, extent: object) -> str:
    name = asked.program.name
    if not isinstance(extent, str):
        return f"batch takes the name of an extent of `{name}`, or False, and got {extent!r}"
    close = suggestion(extent, asked.facts.extents)
    meant = f"; did you mean `{close}`?" if close else f": it has {listing(asked.facts.extents)}"
    return f"batch: `{name}` has no extent `{extent}`{meant}"


@dataclass(frozen=True)
class Origin:
    """Where an update of the backward comes from: a statement, and the place in it."""

    update: Accumulate
    statement: Accumulate
    contribution: Contribution


def with_origins(
    program: Program,
    wrt: str | Sequence[str] | None = None,
    batch: str | Literal[False] | None = None,
    *,
    recompute: bool = False,
) -> tuple[Program, list[Origin]]:
    """The backward program, and the origins of its updates, in its order."""
    asked = primal(program, wrt)
    with within_depth(program):
        builder = _Backward(asked, _batch_extent(asked, batch))
        return within_limits(builder.program(recompute)), builder.origins


class _Backward:
    """Builds one backward program."""

    def __init__(self, asked: Primal, batch: str | None):
        self.asked = asked
        self.averaged = {i.name for i in asked.wanted if batch and i.kind == "param"}
        self.batch = batch
        self.names = Names(asked.program)
        self.leaf_at = {leaf.path: leaf for leaf in asked.leaves}
        self.contributions = Contributions(asked, self.names)
        self.seeds = {r.name: self.names.fresh(f"{r.name}.grad") for r in asked.results}
        self.gradients = self._gradients()
        self.origins: list[Origin] = []

    def _gradients(self) -> dict[str, str]:
        """The tensor that holds the gradient of each tensor: for a result its seed, if nothing is
        added to it."""
        asked = self.asked
        updated = {
            source
            for target, sources in asked.sources.items()
            if target in asked.useful
            for source in sources & asked.varied
        }
        wanted = [i.name for i in asked.wanted]
        found: dict[str, str] = {}
        for tensor in (*wanted, *asked.sources):
            if tensor in self.seeds:
                seed = self.seeds[tensor]
                found[tensor] = self.names.primed(seed) if tensor in updated else seed
            elif tensor in updated or tensor in wanted:
                found[tensor] = self.names.fresh(f"{tensor}.grad")
        return found

    # ------------------------------------------------------------------------------- the program

    def program(self, recompute: bool) -> Program:
        asked, forward = self.asked, self.asked.program
        statements = [*self._totals(), *self._statements()]
        done = written(statements)
        statements += [
            set_whole(asked, self.gradients[i.name], i.extents, None)
            for i in asked.wanted
            if self.gradients[i.name] not in done
        ]
        read = tensors_read(statements)
        if recompute:
            statements[:0] = needed(forward.statements, read)
            inputs = list(forward.inputs)
        else:
            inputs = [i for i in forward.inputs if i.name in read]
            inputs += [self._computed_input(name) for name in asked.leaves_of if name in read]
        inputs += [Input(self.seeds[r.name], r.extents) for r in asked.results]
        return tidy(
            assemble(
                asked,
                f"{forward.name}.backward",
                inputs,
                [Result(self.gradients[i.name], i.extents) for i in asked.wanted],
                statements,
                self._locals(written(statements)),
                keep_all=recompute,
            ),
            asked.facts,
        )

    def _computed_input(self, name: str) -> Input:
        kind: Literal["input", "int"] = "input" if self.asked.is_floating(name) else "int"
        return Input(name, self.asked.extents(name), kind)

    def _locals(self, made: set[str]) -> list[Local]:
        returned = {i.name for i in self.asked.wanted}
        others = {t: d for t, d in self.gradients.items() if t not in returned}
        return locals_of(self.asked, others, self.contributions.prepare.locals, made)

    def _totals(self) -> Iterator[Statement]:
        """Where a result is also read, its gradient starts as the seed: `h.grad' = h.grad`."""
        for result in self.asked.results:
            seed, total = self.seeds[result.name], self.gradients[result.name]
            if total != seed:
                yield set_whole(self.asked, total, result.extents, seed)

    def _statements(self) -> list[Statement]:
        found: list[Statement] = []
        forward = self.asked.program.statements
        for position in reversed(range(len(forward))):
            own = list(self._reversed(forward[position], (position,)))
            found += self.contributions.prepare.taken()
            found += own
        return found

    def _reversed(self, statement: Statement, path: Path) -> Iterator[Statement]:
        match statement:
            case Accumulate():
                yield from self._of_update(self.leaf_at[path])
            case Block(ranges, body):
                inner = [
                    made
                    for position in reversed(range(len(body)))
                    for made in self._reversed(body[position], (*path, position))
                ]
                if inner:
                    yield Block(flipped(ranges), tuple(inner))

    def _of_update(self, leaf: Leaf) -> Iterator[Accumulate]:
        tensor = leaf.target.tensor
        if tensor not in self.asked.useful or tensor not in self.asked.varied:
            return
        incoming = Read(self.gradients[tensor], leaf.target.subscripts)
        for each in self.contributions.of(leaf):
            source = each.read.tensor
            partial = each.partial.led_by(incoming)
            if source in self.averaged:
                assert self.batch is not None
                partial = partial.divided_by(Extent(self.batch))
            update = each.update(Read(self.gradients[source], each.read.subscripts), partial)
            self.origins.append(Origin(update, leaf.statement, each))
            yield update
