"""Is a stabilised program equal to what was written, and never worse?

Equal: the certificate has to agree (docs/decisions/0005). Not worse: float32 runs of both, on six kinds of
inputs, are compared with the new form in float64, or in decimals of 50 digits where that may be too few.
(The written one cancels there, however many digits one has: `1 - sigmoid(1e4)`.) Accepted is what is better
somewhere, and nowhere worse than twice the written loops (or than 1e-6 of the largest value).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopgrad.analysis.facts import Facts
from loopgrad.analysis.infer import infer
from loopgrad.diagnostics import ProgramError
from loopgrad.ir.nodes import Program
from loopgrad.ir.walk import computed_tensors
from loopgrad.simplify.certifying.certificate import Certifier
from loopgrad.simplify.certifying.edges import empty_axes
from loopgrad.simplify.certifying.sampling import World
from loopgrad.simplify.certifying.trials import Draw
from loopgrad.simplify.numbers.evaluate import TooLarge, Undefined
from loopgrad.simplify.numbers.floats import Floats
from loopgrad.simplify.numbers.lines import Lines
from loopgrad.stable.candidates import remainders
from loopgrad.stable.cases import (
    ALL_WORLDS,
    EVEN_SIZES,
    MEASURED,
    MEASURED_WORLDS,
    MODERATE_WORLDS,
    Case,
    as_floats,
    draw,
    varied,
)
from loopgrad.stable.differing import Parts, length, parts
from loopgrad.stable.singles import Singles

Array = NDArray[Any]

ACCURATE = 1e-6  # of the largest value: as good as float32 gets
WORSE = 2.0  # how many times the literal error is still no loss
BETTER = 4.0  # how many times smaller an error has to be somewhere
ALIKE = (
    ACCURATE / 2
)  # less apart than errors of which one is more than ACCURATE and BETTER times the other
MORE = 10.0  # how many times more is to be gained than is lost
# An error of float32 by which float64 is known to be exact enough: it has 2**29 times less of it.
HELD = 1e-2
OTHER_SIZES = (2, 5, 6)
EVEN = [
    Draw(7000 + 2 * k, (World("signed"),), "reals", among=among)
    for k, among in enumerate((EVEN_SIZES, (2, 3, 6), (4, 2), (1, 2)))
]
SEED, OTHER_SEED = 20240229, 20240244
MOST_SINGLY = 8  # inputs that are looked at one by one
DRAWS = 11  # more of them, where one finds a form worse
SMALL = 0.7  # of a program's statements: parts with no more of them are proved for all
SAME = 1e-12  # of the largest value: decimals in which nothing cancels
AGAIN = 3  # draws of inputs, where the program does not run on the first
TELLING = 9  # and where it does, but some result of it is no number


class Gate:
    """What is to stand for a literal program has to pass it. Works in the decimals' context."""

    def __init__(self, literal: Facts):
        self.literal = literal
        self.certifiers: dict[Program, Certifier] = {}
        self.results = tuple(r.name for r in literal.program.results)
        self.rng = np.random.default_rng(SEED)
        # With what each is of, which so keeps its identity.
        self.runs: dict[tuple[object, ...], tuple[Case, Facts, Mapping[str, Array]]] = {}
        self.bearing: dict[int, tuple[Facts, bool]] = {}

    @cached_property
    def case(self) -> Case | None:
        """Inputs that the program runs on; None where none were found, and nothing passes then.

        Of a few, the first on which each result is a number somewhere: a sum over paths is -inf where there
        is no path, and shows nothing.
        """
        found: Case | None = None
        for attempt in range(TELLING):
            if found is None and attempt == AGAIN:
                break
            case = draw(self.literal, self.rng)
            try:
                if case is not None:
                    results = case.run(self.literal, Singles, ALL_WORLDS)
                    found = found or case
                    if all(np.isfinite(as_floats(results[name])[0]).any() for name in self.results):
                        return case
            except (Undefined, TooLarge):
                continue
        return found

    def gains(self, new: Program, old: Program | None = None) -> bool:
        """Whether it is better than the old one (the literal, if there is none), and no worse than either."""
        if self.case is None:
            return False
        before = self.literal if old is None else infer(old)
        try:
            if old is not None and max(self._own_errors(before), default=0) <= ACCURATE:
                return False
            return self._is_better(self.case, infer(new), before)
        except (Undefined, TooLarge, ValueError):
            return False

    def is_equal(self, new: Program) -> bool:
        """Does the certificate say so, with empty axes too, and where all groups have as many elements?

        It is asked of the parts in which the two differ, where most is in none; and of the whole, where it
        refuses one: that may rest on what is computed elsewhere.
        """
        apart = self._parts(new)
        if apart is not None and all(self._certifies(*each) for each in apart):
            return True
        return self._certifies(self.literal.program, new)

    def _parts(self, new: Program) -> Parts | None:
        both = [self.literal, infer(new)]
        found = parts(both)
        if found is None or not self._are_small(found):
            return None
        moved = self._moved(both[1])
        if moved:
            found = parts(both, moved)
        return found if found is not None and self._are_small(found) else None

    def _are_small(self, apart: Parts) -> bool:
        inside = sum(length(literal) for literal, *_ in apart)
        return inside <= SMALL * length(self.literal.program)

    def _moved(self, new: Facts) -> frozenset[str]:
        """The tensors of both programs that are not the same in both: one that is stored without a factor."""
        if self.case is None:
            return frozenset()
        try:
            one, other = (self.case.run(f, Floats, MODERATE_WORLDS) for f in (self.literal, new))
        except (Undefined, TooLarge):
            return frozenset()
        return frozenset(
            name
            for name in computed_tensors(new.program)
            if name in one and not _is_near(as_floats(one[name]), as_floats(other[name]))
        )

    def _certifies(self, old: Program, new: Program) -> bool:
        certifier = self.certifiers.setdefault(old, Certifier(old))
        try:
            if not certifier.compare(new):
                return False
            draws = [
                *empty_axes(certifier.extents, 2),
                *(EVEN if remainders(infer(old)) else ()),
            ]
            return certifier.counterexample(new, draws) is None
        except (ProgramError, Undefined, TooLarge, ValueError):
            return False

    def _is_better(self, case: Case, new: Facts, old: Facts) -> bool:
        if self._are_alike(case, new, old):
            telling = self._telling(case, new, old)
            if telling is None:
                return False
            case = telling
        programs = [new, old, self.literal]
        measured = self.errors(case, new, programs)
        if not _improves(measured):
            return False
        return not _worsens(measured) or not self._worsens_mostly(new, programs, measured)

    def _telling(self, case: Case, new: Facts, old: Facts) -> Case | None:
        """A case that tells the two apart, where something else may hide what they differ in: of a loss of
        several terms one is infinite on the inputs on which another is."""
        results = self._run(case, old, Singles).values()
        if all(np.isfinite(values).all() for values in results):
            return None
        return next((one for one in self.singly if not self._are_alike(one, new, old)), None)

    @cached_property
    def singly(self) -> list[Case]:
        """Cases in which one input alone is large, has an offset, or is tiny."""
        rng = np.random.default_rng(OTHER_SEED)
        given = [i.name for i in self.literal.program.inputs if i.name in varied(self.literal)]
        if len(given) == 1:
            return []
        found = (draw(self.literal, rng, only=name) for name in given[:MOST_SINGLY])
        return [case for case in found if case is not None]

    def _are_alike(self, case: Case, new: Facts, old: Facts) -> bool:
        """Are float32 runs so near each other that neither's error is much smaller, whatever is right?"""
        one, other = (self._run(case, facts, Singles) for facts in (new, old))
        return all(
            error_of(found, right) < ALIKE
            for name in self.results
            for found, right in zip(one[name], other[name], strict=True)
        )

    def _worsens_mostly(
        self, new: Facts, programs: Sequence[Facts], first: list[list[float]]
    ) -> bool:
        """Does it by the medians of the errors over several draws? They are infinite where more draws have
        none in the first program than in another. One draw may be kind to one form: where a result nearly
        cancels, its last digits are left to chance.

        Draws end where the others cannot change that it does.
        """
        exact = self.literal if self._agrees(new) else new
        known = [first]  # draw, program, result and kind
        for case in self.others:
            known.append(self.errors(case, exact, programs))
            left = 1 + len(self.others) - len(known)
            if left and _worsens(_kindest(known, left)):
                return True
        errors = np.array(known)
        median = np.median(errors, axis=0)
        lost = np.isinf(errors).sum(axis=0)
        median[0][(lost[0] > lost[1:]).any(axis=0)] = np.inf
        return _worsens(median.tolist())

    def _agrees(self, new: Facts) -> bool:
        """Have the two the same values in decimals, so that those of the literal one, which all forms are
        compared with, can be those of the new one?"""
        assert self.case is not None
        one, other = (self._run(self.case, facts, Lines) for facts in (new, self.literal))
        for name in self.results:
            for found, right in zip(one[name], other[name], strict=True):
                if not error_of(found, right) <= SAME:
                    return False
        return True

    @cached_property
    def others(self) -> list[Case]:
        """Further draws, the same for all forms."""
        rng = np.random.default_rng(OTHER_SEED)
        found = (draw(self.literal, rng) for _ in range(DRAWS))
        return [case for case in found if case is not None]

    def cases(self) -> Iterator[Case]:
        """The case, and others of other sizes."""
        if self.case is not None:
            yield self.case
        for _ in range(AGAIN):
            case = draw(self.literal, self.rng, OTHER_SIZES)
            if case is not None:
                yield case

    def bears_offsets(self, program: Program | None) -> bool:
        """Is the program (the literal one, if there is none) as good as float32 gets where inputs have
        something large in common?"""
        facts = self.literal if program is None else infer(program)
        if id(facts) not in self.bearing:
            self.bearing[id(facts)] = facts, self._bears_offsets(facts)
        return self.bearing[id(facts)][1]

    def _bears_offsets(self, facts: Facts) -> bool:
        if self.case is None:
            return True
        try:
            errors = self._own_errors(facts)
        except (Undefined, TooLarge):
            return True
        each = zip(list(MEASURED) * len(self.results), errors, strict=True)
        return all(error <= ACCURATE / 3 for kind, error in each if "offset" in kind)

    def _own_errors(self, facts: Facts) -> list[float]:
        """The program's errors against itself in decimals."""
        assert self.case is not None
        return self.errors(self.case, facts, [facts])[0]

    def errors(self, case: Case, exact: Facts, programs: Sequence[Facts]) -> list[list[float]]:
        """Of each program: one error for each result and kind of inputs, against what `exact` is."""
        found = [self._run(case, program, Singles) for program in programs]
        expected = self._exactly(case, exact, found)
        return [
            [
                error_of(one, right)
                for name in self.results
                for one, right in zip(run[name], expected[name], strict=True)
            ]
            for run in found
        ]

    def _exactly(
        self, case: Case, facts: Facts, measured: Sequence[Mapping[str, Array]]
    ) -> Mapping[str, Array]:
        """The program's results, which some in float32 are measured against. In float64 where these hold in
        float32 what they do in float64, and in decimals else."""
        single, double = (self._run(case, facts, arithmetic) for arithmetic in (Singles, Floats))
        doubtful = [
            world
            for world in range(len(MEASURED))
            if not all(_holds(single[n][world], double[n][world]) for n in self.results)
            and not self._say_the_same(measured, world)
        ]
        if not doubtful:
            return double
        decimals = self._run(case, facts, Lines, tuple(MEASURED_WORLDS[w] for w in doubtful))
        found = {name: values.copy() for name, values in double.items()}
        for name, values in found.items():
            values[doubtful] = decimals[name]
        return found

    def _say_the_same(self, runs: Sequence[Mapping[str, Array]], world: int) -> bool:
        """Are several runs so alike that nothing hangs on what is right?"""
        first, *others = runs
        return bool(others) and all(
            np.array_equal(first[name][world], other[name][world], equal_nan=True)
            for other in others
            for name in self.results
        )

    def _run(
        self,
        case: Case,
        facts: Facts,
        arithmetic: type[Lines],
        chosen: tuple[int, ...] = MEASURED_WORLDS,
    ) -> Mapping[str, Array]:
        """The program's results in measured worlds; the same run is asked for more than once."""
        key = (id(case), id(facts), arithmetic, chosen)
        if key not in self.runs:
            found = case.run(facts, arithmetic, chosen)
            results = {name: as_floats(found[name]) for name in self.results}
            self.runs[key] = case, facts, results
        return self.runs[key][2]


def _is_near(one: Array, other: Array) -> bool:
    return one.shape == other.shape and np.allclose(one, other, 1e-6, 1e-9, equal_nan=True)


def _holds(single: Array, double: Array) -> bool:
    return bool(np.isfinite(double).all()) and error_of(single, double) <= HELD


def _kindest(known: list[list[list[float]]], left: int) -> list[list[float]]:
    """The medians, where all draws that are left are as good as can be for the first program, and as bad for
    the others."""
    rest = np.zeros((left, *np.shape(known[0])))
    rest[:, 1:] = np.inf
    found: list[list[float]] = np.median([*known, *rest], axis=0).tolist()
    return found


def _improves(measured: list[list[float]]) -> bool:
    """Is the first program's error somewhere much smaller than the second's?"""
    found, other = measured[:2]
    return any(o > max(ACCURATE, BETTER * f) for f, o in zip(found, other, strict=True))


def _worsens(measured: list[list[float]]) -> bool:
    """Is the first program's error anywhere larger than it may be: than twice the literal one's, or
    than the second's, unless more is gained elsewhere?"""
    found, old, literal = measured
    if _ratio(found, literal) > WORSE:
        return True
    return _ratio(found, old) > max(WORSE, _ratio(old, found) / MORE)


def _ratio(one: Sequence[float], other: Sequence[float]) -> float:
    """The most by which an error is larger than another, of those larger than float32 allows."""
    pairs = zip(one, other, strict=True)
    return max(
        (a / max(ACCURATE / WORSE, b) for a, b in pairs if a > ACCURATE and a > b), default=0
    )


def error_of(found: Array, exact: Array, nothing: float = 1e-37) -> float:
    """The largest difference, relative to the largest value; what float32 cannot hold is infinite.

    nothing: what is taken for no difference at all.
    """
    with np.errstate(all="ignore"):
        expected = exact.astype(np.float32).astype(np.float64)
        finite = np.isfinite(expected)
        found = found.astype(np.float64)
        if not np.array_equal(found[np.isinf(expected)], expected[np.isinf(expected)]):
            return float("inf")
        if np.isfinite(found[np.isnan(expected)]).any():  # a number where there should be none
            return float("inf")
        scale = float(np.max(np.abs(exact[finite]), initial=0.0))
        differences = np.abs(found[finite] - exact[finite])
        if np.isnan(differences).any():
            return float("inf")
        largest = float(np.max(differences, initial=0.0))
        if largest <= nothing:
            return 0.0
        return largest / scale if scale else float("inf")
