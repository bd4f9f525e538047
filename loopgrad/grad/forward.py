"""Forward mode: the tangent of each statement, by the same table as the backward.

    T[f] += e    gives    T.dot[f] += (de / dR[g]) * R.dot[g]    for every place R[g] in e

in the forward order, behind the statements that compute the values which the partials read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from loopgrad.analysis.tidy import tidy
from loopgrad.grad.activity import Leaf, Names, Path, Primal, primal, within_depth
from loopgrad.grad.assembly import (
    assemble,
    locals_of,
    needed,
    set_whole,
    tensors_read,
    written,
)
from loopgrad.grad.contributions import Contributions
from loopgrad.ir.limits import within_limits
from loopgrad.ir.nodes import Accumulate, Block, Input, Local, Program, Read, Result, Statement


def forward_mode(program: Program, wrt: str | Sequence[str] | None = None) -> Program:
    """The tangent program of `program`; see `Program.forward_mode`.

    Its inputs are the program's and a tangent `x.dot`, of the same shape, of each input of `wrt`
    (by default of all differentiable ones); its results are `y.dot` of each floating result.
    Raises ProgramError where there is nothing to differentiate, ValueError for a name that is no
    differentiable input.

    >>> import loopgrad as lg
    >>> square = lg.program("square(x[N]) -> y[N]:\\n    for n:  y[n] = x[n]**2")
    >>> print(square.forward_mode())
    square.forward(x[N], x.dot[N]) -> y.dot[N]:
        for n:  y.dot[n] += 2 * x.dot[n] * x[n]
    """
    asked = primal(program, wrt)
    with within_depth(program):
        return within_limits(_Forward(asked).program())


class _Forward:
    """Builds one tangent program."""

    def __init__(self, asked: Primal):
        self.asked = asked
        self.names = Names(asked.program)
        self.leaf_at = {leaf.path: leaf for leaf in asked.leaves}
        moving = asked.varied & asked.useful
        tensors = dict.fromkeys(
            [*(i.name for i in asked.wanted), *(t for t in asked.sources if t in moving)]
        )
        tensors.update(dict.fromkeys(r.name for r in asked.results))
        self.tangents = {t: self.names.fresh(f"{t}.dot") for t in tensors}
        self.contributions = Contributions(asked, self.names)

    def program(self) -> Program:
        asked, forward = self.asked, self.asked.program
        tangents = [
            made
            for position, statement in enumerate(forward.statements)
            for made in self._tangents(statement, (position,))
        ]
        statements = [*self.contributions.prepare.taken(), *tangents]
        done = written(statements)
        statements += [
            set_whole(asked, self.tangents[r.name], r.extents, None)
            for r in asked.results
            if self.tangents[r.name] not in done
        ]
        statements[:0] = needed(forward.statements, tensors_read(statements))
        inputs = [*forward.inputs]
        inputs += [Input(self.tangents[i.name], i.extents, i.kind) for i in asked.wanted]
        return tidy(
            assemble(
                asked,
                f"{forward.name}.forward",
                inputs,
                [Result(self.tangents[r.name], r.extents) for r in asked.results],
                statements,
                self._locals(written(statements)),
                keep_all=True,
            ),
            asked.facts,
        )

    def _locals(self, made: set[str]) -> list[Local]:
        returned = {r.name for r in self.asked.results}
        others = {t: d for t, d in self.tangents.items() if t not in returned}
        return locals_of(self.asked, others, self.contributions.prepare.locals, made)

    def _tangents(self, statement: Statement, path: Path) -> Iterator[Statement]:
        match statement:
            case Accumulate():
                yield from self._of_update(self.leaf_at[path])
            case Block(ranges, body):
                inner = [
                    made
                    for position, each in enumerate(body)
                    for made in self._tangents(each, (*path, position))
                ]
                if inner:
                    yield Block(ranges, tuple(inner))

    def _of_update(self, leaf: Leaf) -> Iterator[Accumulate]:
        tensor = leaf.target.tensor
        if tensor not in self.asked.useful or tensor not in self.asked.varied:
            return
        target = Read(self.tangents[tensor], leaf.target.subscripts)
        for each in self.contributions.of(leaf):
            moving = Read(self.tangents[each.read.tensor], each.read.subscripts)
            yield each.update(target, each.partial.led_by(moving))
