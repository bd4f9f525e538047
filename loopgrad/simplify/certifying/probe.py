"""Which roundings do a program's results bear, where its factors vanish?

`w - w * y` is off by a rounding of w, however near 1 y is; `w * (1 - y)` by one of what is left. That ratio
has no bound, and shows at any size if the sum alone is inexact; in float32 the error of y hides it from
both. So each kind of operation is made inexact by itself: sums, products, functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from loopgrad.analysis.facts import Facts
from loopgrad.ir.nodes import Expression, Number
from loopgrad.ir.walk import accumulates, reads, statement_reads, subexpressions
from loopgrad.simplify.certifying.sampling import World, draw_constants
from loopgrad.simplify.certifying.trials import AFTER, BEFORE, FORWARD, Pairing
from loopgrad.simplify.numbers.evaluate import Known, Setting, Tensor, TooLarge, computed, shape_of
from loopgrad.simplify.numbers.floats import Floats, array, numbers
from loopgrad.simplify.numbers.integer_arithmetic import Undefined
from loopgrad.simplify.numbers.noise import INEXACT, NOISE, Noisy
from loopgrad.simplify.numbers.spaces import worlds

Floating: TypeAlias = NDArray[np.float64]
Kind: TypeAlias = Callable[[np.random.Generator, tuple[int, ...]], Floating]

ROUNDING = 2.0**-24  # of float32
SEED, AGAIN = 20240229, 4
SIZES = (2, 3, 4)
# Of each kind: at first all of one sign and size, then each of its own; others of both signs, then positive.
DRAWS = 2
RUNS = 3  # worlds of the same inputs: an error may be small by chance
NUMBERS = 4  # of the factors, near which inputs are drawn
FEW = 128.0  # roundings of the largest element of a result, which any program may have
MORE = 8.0  # times what another program's results move by is not much more


def _about(size: float, signs: bool = False) -> Kind:
    def draw(rng: np.random.Generator, shape: tuple[int, ...]) -> Floating:
        values = size * (1 + 0.05 * rng.normal(size=shape))
        return values * rng.choice((-1, 1), shape) if signs else values

    return draw


def _near(value: float) -> Kind:
    def draw(rng: np.random.Generator, shape: tuple[int, ...]) -> Floating:
        return value * (1 - 10 ** rng.uniform(-8, -6, shape))

    return draw


# What differences such as `1 - tanh(x)` and `1 - exp(x)` vanish at, some of them nearly and others to the
# last digit; and ordinary numbers.
KINDS: tuple[Kind, ...] = (
    lambda rng, shape: rng.normal(size=shape),
    lambda rng, shape: 1e-5 * rng.normal(size=shape),
    *map(_about, (0.3, 1, 3, 6, 10, 15, -6)),
    *(_about(size, signs=True) for size in (3, 10)),
)


@dataclass(frozen=True, eq=False)
class Moves:
    """How far the results of a program move, in units of `NOISE`, and how large they are: [inexact, result,
    inputs] and [result, inputs]."""

    moved: Floating
    largest: Floating

    def times(self, other: Moves, literal: Moves | None = None) -> float:
        """How many times farther than the other's, at worst. Few roundings of a result are none; and where
        float32 leaves the other program no digit of it, there is none to lose.

        literal: the moves of the program that both stand for, which says how large results are.
        """
        largest = (literal or other).largest
        with np.errstate(all="ignore"):
            known = (other.moved == 0) | (other.moved * ROUNDING < largest)
            known &= np.isfinite(other.moved) & np.isfinite(largest)
            own = np.where(np.isnan(self.moved), np.inf, self.moved)
            ratios = own / np.maximum(other.moved, FEW * largest)
            ratios = np.where(known & (own > 0), ratios, 0)
        return float(np.max(ratios, initial=0))


class Probe:
    """Moves of programs that are equal, on inputs at which these factors are small."""

    def __init__(self, factors: Iterable[Expression], inputs: Iterable[str]):
        self.factors = tuple(factors)
        literals = {
            n.value for f in self.factors for n in subexpressions(f) if isinstance(n, Number)
        }
        numbers = sorted(v for v in literals if 0 < v < np.inf)
        # Of `1 - x` the input itself has to be near 1; those that y is made of in `1 - y` have not.
        self.direct = {r.tensor for f in self.factors for r in reads(f)}.intersection(inputs)
        signed = [sign * float(v) for v in numbers[:NUMBERS] for sign in (1, -1)]
        self.near = tuple(map(_near, signed if self.direct else ()))
        self.kinds = (*KINDS, *self.near)
        self.worlds = len(self.kinds) * DRAWS * RUNS
        self.known: dict[object, Moves] = {}

    def moves(self, pairing: Pairing) -> tuple[Moves, Moves] | None:
        """Of the first program and of the second; None where no inputs are found that they run on."""
        return self._of(pairing, self._sources(pairing, self.factors))

    def losing(self, pairing: Pairing) -> frozenset[Expression]:
        """The factors for which the second program's results move much more than the first one's."""
        groups: dict[frozenset[str], list[Expression]] = {}
        for factor in self.factors:
            groups.setdefault(self._sources(pairing, [factor]), []).append(factor)
        found = set[Expression]()
        for sources, factors in groups.items():
            moves = self._of(pairing, sources)
            if moves is None or moves[1].times(moves[0]) > MORE:
                found.update(factors)
        return frozenset(found)

    @staticmethod
    def _sources(pairing: Pairing, factors: Iterable[Expression]) -> frozenset[str]:
        return sources_of(pairing.facts, {r.tensor for f in factors for r in reads(f)})

    def _of(self, pairing: Pairing, chosen: frozenset[str]) -> tuple[Moves, Moves] | None:
        """chosen: the tensors that are drawn of each kind; others are ordinary."""
        for again in range(AGAIN):
            rng = np.random.default_rng([SEED, again])
            constants = draw_constants(pairing.facts, rng, given=True)
            extents = pairing.sizes.draw(rng, constants, among=SIZES)
            if extents is None:
                continue
            try:
                inputs = self._inputs(pairing, chosen, extents, constants, rng)
                settings = [Setting(extents[n], constants, inputs) for n in (BEFORE, AFTER)]
                key = (again, chosen, tuple(sorted(extents[BEFORE].items())))
                if key not in self.known:
                    self.known[key] = self._moves(pairing, BEFORE, settings[BEFORE])
                return self.known[key], self._moves(pairing, AFTER, settings[AFTER])
            except (Undefined, TooLarge, KeyError):
                continue
        return None

    def _moves(self, pairing: Pairing, number: int, setting: Setting) -> Moves:
        def run(lines: Floats) -> list[Floating]:
            found = computed(program, own, lines, worlds(self.worlds))
            return [array(found[name]) for name in pairing.results]

        def largest(values: Floating) -> Floating:
            of_inputs = np.abs(values).reshape(self.worlds // RUNS, -1)
            found: Floating = np.max(of_inputs, axis=-1, initial=0)
            return found

        program = pairing.programs[number]
        given = {i.name: setting.inputs[i.name] for i in program.facts.program.inputs}
        own = Setting(setting.extents, setting.constants, given)
        with np.errstate(all="ignore"):
            exact = run(Floats())
            moved = [
                [
                    largest(a - b) / NOISE
                    for a, b in zip(run(Noisy(inexact, number)), exact, strict=True)
                ]
                for inexact in INEXACT
            ]
        return Moves(np.array(moved), np.array([largest(e) for e in exact]))

    # ------------------------------------------------------------------------------------ inputs

    def _inputs(
        self,
        pairing: Pairing,
        chosen: frozenset[str],
        extents: Sequence[Mapping[str, int]],
        constants: Known,
        rng: np.random.Generator,
    ) -> dict[str, Tensor]:
        """Those that are chosen of each kind; others ordinary, and positive in half of the worlds."""
        inputs: dict[str, Tensor] = {}
        near = chosen & self.direct
        order = (FORWARD, BEFORE, AFTER) if pairing.forward is not None else (BEFORE, AFTER)
        for number in order:
            facts = pairing.facts[number]
            for i in facts.program.inputs:
                if i.name in inputs:
                    continue
                if not i.differentiable:
                    kinds = [World("signed")] * self.worlds
                    inputs[i.name] = pairing.inputs.in_worlds(
                        i.name, number, extents, constants, Floats(), rng, kinds, 0, inputs
                    )
                    continue
                shape = shape_of(facts.tensors[i.name].extents, {**extents[number], **constants})
                drawn = [
                    _drawn(rng, shape, kind, draw)
                    if i.name in (near if kind in self.near else chosen)
                    else _ordinary(rng, shape, draw)
                    for kind in self.kinds
                    for draw in range(DRAWS)
                ]
                inputs[i.name] = numbers(np.repeat(drawn, RUNS, axis=0))
            if number == FORWARD:
                given = {i.name: inputs[i.name] for i in facts.program.inputs}
                setting = Setting(extents[number], constants, given)
                with np.errstate(all="ignore"):
                    space = worlds(self.worlds)
                    inputs.update(computed(pairing.programs[number], setting, Floats(), space))
        return inputs


def _drawn(rng: np.random.Generator, shape: tuple[int, ...], kind: Kind, draw: int) -> Floating:
    own = rng.uniform(0.3, 1.0) * rng.choice((-1, 1)) if draw and kind in KINDS else 1.0
    return own * kind(rng, shape)


def _ordinary(rng: np.random.Generator, shape: tuple[int, ...], draw: int) -> Floating:
    return rng.uniform(0.3, 1.0, shape) if draw else rng.normal(size=shape)


def sources_of(programs: Iterable[Facts], tensors: set[str]) -> frozenset[str]:
    """The tensors, and all that they are made of."""
    direct: dict[str, set[str]] = {}
    for facts in programs:
        for _, statement in accumulates(facts.program.statements):
            read = {r.tensor for r in statement_reads(statement)}
            direct.setdefault(statement.target.tensor, set()).update(read)
    found, todo = set(tensors), list(tensors)
    while todo:
        new = direct.get(todo.pop(), set()) - found
        found |= new
        todo += new
    return frozenset(found)
