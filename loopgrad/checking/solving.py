"""The right values of a claim's own temporaries, solved for: those with which the rest of the claim is right.

What hangs on a temporary of a backward is most often linear in it, so that a few runs say which values
would make the results right. Several may: only what the results show of a value counts, its image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from loopgrad.analysis.facts import Facts
from loopgrad.analysis.infer import infer
from loopgrad.checking.headers import Task
from loopgrad.checking.pieces import Vector
from loopgrad.checking.trials import Trial, differing, run
from loopgrad.diagnostics import ProgramError
from loopgrad.frontend.unfold import unfold
from loopgrad.ir.nodes import Block, Input, Program, Statement
from loopgrad.ir.operations import ElementType
from loopgrad.ir.walk import accumulates, statement_reads
from loopgrad.simplify.numbers.evaluate import Tensor, TooLarge, Undefined
from loopgrad.simplify.numbers.floats import Floats, array, numbers

LARGEST = 130  # elements of a temporary
STEPS = 4  # of Newton's method; where all is linear, one is enough
STEP = 1e-5  # of a difference, where it is not
SINGULAR = 1e-9  # of the largest singular value


@dataclass(frozen=True)
class Solution:
    """A value of the temporary in a trial, the matrix that takes a value to what results show of it, and
    what the claim makes of it."""

    value: NDArray[np.float64]
    image: NDArray[np.float64]
    tensors: Mapping[str, Tensor]


class Solver:
    """Looks for the values of one temporary."""

    def __init__(self, task: Task, name: str, lines: Floats):
        self.task, self.name, self.lines = task, name, lines
        self.hanging = frozenset(_hanging_on(task.program, name))
        self.names = [n for n in task.judged if n in self.hanging]
        self.facts = _given(task, name) if self.names else None

    def solution(self, trial: Trial) -> Solution | None:
        """A right value in the trial; None where none makes all right that hangs on it."""
        if self.facts is None:
            return None
        try:
            claimed = array(run(self.task.facts, trial, self.lines)[self.name])
            return self._solved(trial, np.array(claimed, np.float64))
        except (Undefined, TooLarge, KeyError, ProgramError, np.linalg.LinAlgError):
            return None

    def _solved(self, trial: Trial, start: NDArray[np.float64]) -> Solution | None:
        right = self._joined(trial.tensors)
        numbered = np.isfinite(right).all() and np.isfinite(start).all()
        if not numbered or not 0 < start.size <= LARGEST:
            return None
        made = self._made(trial, start)
        value, step = start, 1.0
        for _ in range(STEPS):
            slopes = np.stack(
                [
                    (self._made(trial, _moved(value, k, step)) - made) / step
                    for k in range(value.size)
                ],
                axis=1,
            )
            change, *_ = np.linalg.lstsq(slopes, right - made, rcond=SINGULAR)
            value = value + change.reshape(value.shape)
            made = self._made(trial, value)
            if not np.isfinite(made).all():
                return None
            if not differing(right, made).any():
                return Solution(value, slopes, self._run(trial, value))
            step = STEP
        return None

    def _made(self, trial: Trial, value: NDArray[np.float64]) -> Vector:
        return self._joined(self._run(trial, value))

    def _run(self, trial: Trial, value: NDArray[np.float64]) -> dict[str, Tensor]:
        assert self.facts is not None
        tensors = {**trial.tensors, self.name: numbers(value)}
        return run(self.facts, replace(trial, tensors=tensors), self.lines)

    def _joined(self, tensors: object) -> Vector:
        assert isinstance(tensors, dict)
        return np.concatenate([array(tensors[n]).ravel().astype(np.float64) for n in self.names])


def _moved(value: NDArray[np.float64], at: int, step: float) -> NDArray[np.float64]:
    moved = value.copy()
    moved.reshape(-1)[at] += step
    return moved


def _hanging_on(program: Program, name: str) -> set[str]:
    """The tensors that are computed from it, itself among them."""
    reads = [
        (s.target.tensor, {r.tensor for r in statement_reads(s)})
        for _, s in accumulates(unfold(program).statements)
    ]
    found = {name}
    while True:
        more = {target for target, read in reads if read & found} - found
        if not more:
            return found
        found |= more


def _given(task: Task, name: str) -> Facts | None:
    """The claim with the temporary for an input."""
    tensor = task.facts.tensors[name]
    if tensor.element is not ElementType.FLOAT:
        return None
    program = unfold(task.program)

    def without(body: Sequence[Statement]) -> tuple[Statement, ...]:
        kept: list[Statement] = []
        for s in body:
            if isinstance(s, Block):
                inner = without(s.body)
                kept += [replace(s, body=inner)] if inner else []
            elif {i.target.tensor for _, i in accumulates((s,))} != {name}:
                kept.append(s)
        return tuple(kept)

    given = replace(
        program,
        arguments=(*program.arguments, Input(name, tensor.extents)),
        statements=without(program.statements),
        locals=tuple(x for x in program.locals if x.name != name),
    )
    try:
        return infer(given)
    except ProgramError:
        return None
