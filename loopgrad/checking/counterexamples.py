"""A call on which a claim is wrong, of the smallest sizes and the plainest numbers that show it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from loopgrad.analysis.facts import Facts
from loopgrad.checking.findings import Counterexample
from loopgrad.checking.headers import Task
from loopgrad.checking.trials import Trial, Trials, constants_of, differing, run
from loopgrad.ir.nodes import Program
from loopgrad.simplify.certifying.sampling import Kind
from loopgrad.simplify.numbers.evaluate import TooLarge, Undefined
from loopgrad.simplify.numbers.floats import Floats, array

SIZES_TRIED = 24
# What elements are taken from: of both signs, between 0 and 1, above 1, with zeros.
VALUES: tuple[tuple[Kind, Sequence[float]], ...] = (
    ("signed", (1.0, -2.0, 3.0, 2.0, -1.0, 4.0, -3.0, 5.0)),
    ("signed", (0.5, -0.25, 1.5, -1.0, 0.75, 2.0, -0.5, 1.25)),
    ("unit", (0.25, 0.5, 0.75, 0.125, 0.375, 0.625)),
    ("large", (2.0, 1.5, 3.0, 1.25, 2.5, 4.0)),
    ("zeros", (0.0, 1.0, 2.0, -1.0)),
)


class Examples:
    """The trials of the smallest sizes and plainest numbers, drawn as far as they are asked for."""

    def __init__(self, forward: Program, right: Program):
        self._source = _drawn(Trials(forward, right))
        self._known: list[Trial] = []

    def __iter__(self) -> Iterator[Trial]:
        yield from self._known
        for trial in self._source:
            self._known.append(trial)
            yield trial

    def smallest(self, task: Task, facts: Facts, ties: bool = False) -> Counterexample | None:
        """The first trial on which the claim is wrong; None where floats show none.

        ties: whether trials count in which the forward puts equal numbers in order.
        """
        for trial in self:
            if not trial.tied or ties:
                found = on(task, facts, trial)
                if found is not None:
                    return found
        return None


def _drawn(trials: Trials) -> Iterator[Trial]:
    """Then again, with a large diagonal in square matrices, for what needs their inverses or roots."""
    sizes = [extents for _, extents in zip(range(SIZES_TRIED + 1), trials.smallest(), strict=False)]
    for dominant in (False, True):
        for count, extents in enumerate(sizes):
            for kind, values in VALUES[:1] if dominant else VALUES:
                trial = trials.draw(kind, count, extents=extents, values=values, dominant=dominant)
                if trial is not None:
                    yield trial


def on(task: Task, facts: Facts, trial: Trial) -> Counterexample | None:
    """The first element of a result that is wrong in the trial."""
    try:
        made = run(facts, trial, Floats())
    except TooLarge:
        return None
    except (Undefined, KeyError) as error:
        name = task.judged[0]
        right = array(trial.tensors[name])
        at = next((tuple(map(int, i)) for i in np.argwhere(np.isfinite(right))), None)
        return None if at is None else _example(task, trial, name, at, f"an error: {error}")
    for name in task.judged:
        right, claimed = array(trial.tensors[name]), array(made[name])
        if right.shape != claimed.shape:
            continue
        wrong = np.argwhere(differing(right, claimed))
        if len(wrong):
            at = tuple(map(int, wrong[0]))
            return _example(task, trial, name, at, claimed[at].item())
    return None


def _example(
    task: Task, trial: Trial, result: str, at: tuple[int, ...], claimed: float | str
) -> Counterexample:
    names = [i.name for i in task.program.inputs]
    names += [i.name for i in task.forward.inputs if i.name not in names]
    if task.is_backward:
        seeds = [i.name for i in task.right.inputs if i.name not in names]
        names += [n for n in seeds if n.partition(".grad")[1]]
    return Counterexample(
        dict(trial.extents),
        {
            name: value if isinstance(value, int) else float(value)
            for name, value in constants_of(task.facts, trial).items()
        },
        {name: array(trial.tensors[name]) for name in names if name in trial.tensors},
        result,
        at,
        claimed,
        array(trial.tensors[result])[at].item(),
    )
