"""Says of each statement of a backward where it comes from, in comments above it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal

from loopgrad.analysis.infer import infer
from loopgrad.grad.backward import Origin, with_origins
from loopgrad.grad.products import expression_of
from loopgrad.ir.nodes import (
    Accumulate,
    Apply,
    Block,
    Call,
    Comments,
    Program,
    Range,
    Reduction,
    Statement,
)
from loopgrad.ir.printer import show_expression, show_statement
from loopgrad.ir.walk import ZERO, computed_tensors
from loopgrad.ir.walk import reads as expression_reads


def explained(
    program: Program,
    wrt: str | Sequence[str] | None = None,
    batch: str | Literal[False] | None = None,
    *,
    recompute: bool = False,
) -> Program:
    """The backward program with a comment above each statement: of what it is the derivative.

    >>> import loopgrad as lg
    >>> from loopgrad.grad.origins import explained
    >>> from loopgrad.ir.printer import show
    >>> square = lg.program("square(x[N]) -> y[N]:\\n    for n:  y[n] = x[n]**2")
    >>> print(show(explained(square), comments=True))
    square.backward(x[N], y.grad[N]) -> x.grad[N]:
        # from `for n:  y[n] = x[n]**2`
        # its x[n]: d y[n] / d x[n] = 2 * x[n]
        for n:  x.grad[n] += 2 * y.grad[n] * x[n]
    """
    backward, origins = with_origins(program, wrt, batch, recompute=recompute)
    teller = _Teller(origins, set(computed_tensors(infer(program).program)))
    return replace(backward, statements=tuple(map(teller.statement, backward.statements)))


class _Teller:
    def __init__(self, origins: Sequence[Origin], forward: set[str]):
        self.origins = list(origins)
        self.forward = forward

    def statement(self, statement: Statement) -> Statement:
        match statement:
            case Block(_, body):
                return replace(statement, body=tuple(map(self.statement, body)))
            case Accumulate():
                return replace(statement, comments=Comments(tuple(self._words(statement))))
            case Call():
                raise AssertionError("calls were unfolded")

    def _words(self, statement: Accumulate) -> Iterator[str]:
        first = self.origins[0].update if self.origins else None
        if first is not None and (first.target.tensor, first.reduction) == (
            statement.target.tensor,
            statement.reduction,
        ):
            yield from _of(self.origins.pop(0))
        elif statement.target.tensor in self.forward:
            yield " the forward's"
        elif statement.reduction is Reduction.SET and any(expression_reads(statement.value)):
            yield " the seed, to which the program's own reads add"
        elif statement.reduction is Reduction.SET:
            yield " nothing depends on it"
        else:
            yield " needed below"


def _of(origin: Origin) -> Iterator[str]:
    statement, each = origin.statement, origin.contribution
    bare = replace(statement, ranges=tuple(map(_bare, statement.ranges)))
    yield f" from `{show_statement(bare)}`"
    count = sum(read == each.read for read in expression_reads(statement.value))
    read, target = show_expression(each.read), show_expression(statement.target)
    partial = expression_of(each.partial, each.integer)
    if each.partial.negative:
        partial = Apply("neg", (partial,))
    which = f"one of its {count} {read}" if count > 1 else f"its {read}"
    yield f" {which}: d {target} / d {read} = {show_expression(partial)}"


def _bare(r: Range) -> Range:
    return Range(r.index, descending=r.descending) if r.lower in (None, ZERO) else r
