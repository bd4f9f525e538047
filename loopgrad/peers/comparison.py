"""A program beside others: who computes the same, and how long each takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from loopgrad.peers import libraries
from loopgrad.peers.ours import ours
from loopgrad.peers.problem import Contender, NoContender, Outcome, Problem
from loopgrad.peers.timing import interleaved

PHASES = ("forward", "backward", "both")
FARTHEST = {np.dtype(np.float32): 1e-3, np.dtype(np.float64): 1e-8}  # of what computes the same


@dataclass
class Line:
    """A contender: seconds by phase, those of its first call, and how far it is from us."""

    name: str
    first: float
    error: float | None
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """What a table of it shows; a note for everybody who is not in it."""

    title: str
    lines: tuple[Line, ...]
    notes: tuple[str, ...]


def compare(
    problem: Problem, against: Sequence[str], rounds: int = 11, seconds: float = 10.0
) -> Comparison:
    """Times the program beside the libraries named, of "torch", "jax" and "numba".

    rounds, seconds: how often everybody has a turn, in each phase, and how long at most.

    >>> import loopgrad as lg
    >>> from loopgrad.peers.comparison import compare
    >>> from loopgrad.peers.problem import draw
    >>> found = compare(draw(lg.lib.softmax, {"B": 4, "J": 10}), [], rounds=2)
    >>> [line.name for line in found.lines], sorted(found.lines[0].seconds)
    (['loopgrad'], ['backward', 'both', 'forward'])
    """
    own = ours(problem)
    right = own.outcome()
    found, notes = [own], []
    lines = [Line(own.name, own.first, None)]
    for library in against:
        try:
            contender = _contender(problem, library)
            away = difference(contender.outcome(), right)
        except NoContender as reason:
            notes.append(f"{library}: {reason}")
            continue
        except Exception as error:  # whatever a library raises of a form that it cannot do
            message = (str(error).splitlines() or [""])[0][:150]
            notes.append(f"{library} fails: {type(error).__name__}: {message}")
            continue
        if not away <= FARTHEST[problem.real]:
            notes.append(f"{library} computes something else: it is {away:.1e} away from us")
            continue
        found.append(contender)
        lines.append(Line(contender.name, contender.first, away))
    for phase in PHASES:
        calls = {c.name: c.calls[phase] for c in found if phase in c.calls}
        for line in lines:
            if line.name in calls:
                line.seconds[phase] = 0.0
        for name, taken in interleaved(calls, rounds, seconds).items():
            next(line for line in lines if line.name == name).seconds[phase] = taken.median
    return Comparison(_title(problem), tuple(lines), tuple(notes))


def _contender(problem: Problem, library: str) -> Contender:
    makers: dict[str, Callable[[], Contender]] = {
        "torch": lambda: libraries.torch(problem, libraries.translated(problem, "torch")),
        "jax": lambda: libraries.jax(problem, libraries.translated(problem, "jax")),
        "numba": lambda: libraries.numba(problem),
    }
    return makers[library]()


def _title(problem: Problem) -> str:
    sizes = ", ".join(f"{name} = {value}" for name, value in problem.extents.items())
    return f"{problem.program.name}: {sizes}; {problem.real.name}, forward and backward"


def difference(found: Outcome, right: Outcome) -> float:
    """The largest difference of results and gradients, over the largest value of each."""
    worst = 0.0
    for some, others in ((found.results, right.results), (found.gradients, right.gradients)):
        for name, array in some.items():
            wanted = np.asarray(others[name], np.float64)
            if array.shape != wanted.shape:
                return math.inf
            if array.size:
                scale = float(np.abs(wanted).max()) or 1.0
                error = float(np.abs(array - wanted).max()) / scale
                worst = max(worst, math.inf if math.isnan(error) else error)
    return worst
