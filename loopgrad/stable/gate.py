"""Is a stabilised program equal to what was written, and never worse? Both are run, and measured.

Equal: both are run in decimals of 50 digits, on inputs that are moderate enough for the written loops
to keep 20 of them. Not worse: float32 runs of both, on six kinds of inputs, are compared with the new
form in decimals (the written one cancels there, however many digits one has: `1 - sigmoid(1e4)`).
Accepted is what is better somewhere, and nowhere worse than twice the written loops (or than 1e-6
of the largest value).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, localcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopgrad.analysis.facts import Facts
from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.backends import interpreter
from loopgrad.backends.kernel import Kernel, Task
from loopgrad.ir.nodes import Apply, Program, Read
from loopgrad.ir.walk import all_statements, statement_expressions, subexpressions
from loopgrad.simplify.decimals import CONTEXT
from loopgrad.simplify.evaluate import Setting, Tensor, TooLarge, Undefined, evaluate
from loopgrad.simplify.fields import Fields
from loopgrad.simplify.lines import Lines, Numbers
from loopgrad.simplify.sampling import Inputs, Sizes, draw_constants

Array = NDArray[Any]

ACCURATE = 1e-6  # of the largest value: as good as float32 gets
WORSE = 2.0  # how many times the literal error is still no loss
BETTER = 4.0  # how many times smaller an error has to be somewhere
EQUAL = Decimal("1e-20")
LARGE = 1e4

Kind = Callable[[np.random.Generator, tuple[int, ...]], Array]


def _mixed(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    values = rng.normal(size=shape)
    return np.where(rng.random(shape) < 0.4, LARGE * np.sign(values), values)


KINDS: dict[str, Kind] = {
    "ordinary": lambda rng, shape: rng.normal(size=shape),
    "large": lambda rng, shape: LARGE * rng.normal(size=shape),
    "offset": lambda rng, shape: LARGE + rng.normal(size=shape),
    "large, offset": lambda rng, shape: LARGE * (rng.normal(size=shape) - 1),
    "tiny": lambda rng, shape: 1e-3 * rng.normal(size=shape),
    "mixed": _mixed,
}


MODERATE: tuple[Kind, ...] = (
    lambda rng, shape: rng.normal(size=shape),
    lambda rng, shape: 8 * rng.normal(size=shape),
)


class Measure:
    """Runs the literal program, in decimals and in float32, and what is to stand for it."""

    def __init__(self, literal: Facts):
        self.literal = literal
        self.rng = np.random.default_rng(20240229)
        self.seldom = _positive(literal)
        self.results = tuple(r.name for r in literal.program.results)
        self.among = [literal]
        primal = literal.program.primal
        if primal is not None:
            forward = infer(primal)
            if any(self._is_computed(forward, i.name) for i in literal.program.inputs):
                self.among.append(forward)
        self.kernels: dict[int, Kernel] = {}
        self.constants = draw_constants(self.among, self.rng, given=True)
        self.extents = self._sizes()
        self.inputs = Inputs(self.among)

    @staticmethod
    def _is_computed(forward: Facts, name: str) -> bool:
        return name in forward.tensors and forward.tensors[name].role != "input"

    # ------------------------------------------------------------------------------ verdict

    def accepts(self, stable: Program) -> bool:
        """Whether the program may run instead of the literal one, and is worth it."""
        other = infer(stable)
        with localcontext(CONTEXT), np.errstate(all="ignore"):
            return self._is_equal(other) and self._is_better(other)

    def _is_equal(self, other: Facts) -> bool:
        """Do both give the same numbers, on inputs on which 50 digits are enough for either?"""
        compared = False
        for kind in MODERATE:
            for _ in range(3):
                setting = self.setting(kind)
                if setting is None:
                    continue
                try:
                    exact = self._decimals(self.literal, setting)
                except (Undefined, TooLarge):
                    continue
                try:
                    found = self._decimals(other, setting)
                except (Undefined, TooLarge):
                    return False
                if not _equal(exact, found, self.results):
                    return False
                compared = True
                break
        return compared

    def _is_better(self, other: Facts) -> bool:
        better = False
        for kind in KINDS:
            setting = self.setting(kind)
            if setting is None:
                continue
            try:
                exact = self._decimals(other, setting)
            except (Undefined, TooLarge):
                continue
            new = self.errors(other, setting, exact)
            if better and all(e <= ACCURATE for e in new.values()):
                continue
            old = self.errors(self.literal, setting, exact)
            for name, error in new.items():
                if error > max(ACCURATE, WORSE * old[name]):
                    return False
                better = better or old[name] > max(ACCURATE, BETTER * error)
        return better

    def _decimals(self, facts: Facts, setting: Setting) -> Mapping[str, Tensor]:
        given = {i.name: setting.inputs[i.name] for i in facts.program.inputs}
        own = Setting(setting.extents, setting.constants, given)
        return evaluate(facts, own, Lines(Fields(1, 0)))

    def errors(
        self, facts: Facts, setting: Setting, exact: Mapping[str, Tensor]
    ) -> dict[str, float]:
        """For each result the largest error in float32, relative to its largest value."""
        found = self._single(facts, setting)
        return {name: error_of(found[name], as_floats(exact[name])) for name in self.results}

    def _single(self, facts: Facts, setting: Setting) -> dict[str, Array]:
        kernel = self.kernels.get(id(facts))
        if kernel is None:
            task = Task(facts, validate(facts.program), False)
            kernel = self.kernels[id(facts)] = Kernel(task, interpreter.prepare(task))
        values: dict[str, Any] = {}
        for i in facts.program.inputs:
            tensor = setting.inputs[i.name]
            if isinstance(tensor, Numbers):
                values[i.name] = as_floats(tensor).astype(np.float32)
            else:
                values[i.name] = tensor.astype(bool) if i.kind == "bool" else tensor
        values.update((s.name, setting.extents[s.name]) for s in facts.program.sizes)
        for c in facts.program.constants:
            value = setting.constants[c.name]
            values[c.name] = value if isinstance(value, int) else float(value)
        call = kernel.execute((), values)
        return {name: call.arrays[name] for name in self.results}

    # ------------------------------------------------------------------------------ inputs

    def setting(self, kind: str | Kind) -> Setting | None:
        """Inputs of the kind; None where none are found that the program takes."""
        if self.extents is None:
            return None
        inputs: dict[str, Tensor] = {}
        for number in reversed(range(len(self.among))):
            for i in self.among[number].program.inputs:
                if i.name not in inputs:
                    inputs[i.name] = self._input(i.name, number, kind)
            if number == 1:
                forward = self.among[1]
                own = {i.name: inputs[i.name] for i in forward.program.inputs}
                setting = Setting(self.extents[1], self.constants, own)
                try:
                    inputs.update(evaluate(forward, setting, Lines(Fields(1, 0))))
                except (Undefined, TooLarge):
                    return None
        return Setting(self.extents[0], self.constants, inputs)

    def _input(self, name: str, number: int, kind: str | Kind) -> Tensor:
        assert self.extents is not None
        lines = Lines(Fields(1, 0))
        drawn = self.inputs.draw(
            name, number, self.extents, self.constants, lines, self.rng, "signed", 0
        )
        if not isinstance(drawn, Numbers):
            return drawn
        return as_decimals(self._drawn(name, kind, drawn.reals.shape))

    def _sizes(self) -> list[dict[str, int]] | None:
        """Extents for each of `among`. A check of two programs trusts the header of the second alone;
        here that is the literal one."""
        among = self.among[::-1]
        shared: dict[str, list[int]] = {}
        if len(among) == 2:
            for i in self.literal.program.inputs:
                if i.name in among[0].tensors:
                    shared[i.name] = [0, 1]
        found = Sizes(among, shared).draw(self.rng, self.constants)
        return None if found is None else found[::-1]

    def _drawn(self, name: str, kind: str | Kind, shape: tuple[int, ...]) -> Array:
        if name.endswith((".grad", ".dot")):
            return self.rng.normal(size=shape).astype(np.float32)
        if name in self.seldom:
            return self.rng.uniform(0.05, 1, size=shape).astype(np.float32)
        draw = KINDS[kind] if isinstance(kind, str) else kind
        return np.asarray(draw(self.rng, shape)).astype(np.float32)


def _positive(facts: Facts) -> set[str]:
    """Inputs that are divided by, or of which a root or a logarithm is taken, as they are."""
    found: set[str] = set()
    for statement in all_statements(facts.program.statements):
        for expression in statement_expressions(statement):
            for node in subexpressions(expression):
                match node:
                    case Apply("log" | "sqrt" | "rsqrt", (operand,)) | Apply("/", (_, operand)):
                        found.update(r.tensor for r in _factors(operand))
    return found


def _factors(expression: Any) -> list[Read]:
    match expression:
        case Read():
            return [expression]
        case Apply("*" | "/" | "**", (left, right)):
            return [*_factors(left), *_factors(right)]
    return []


# ---------------------------------------------------------------------------------- numbers


def as_decimals(values: Array) -> Numbers:
    reals = np.empty(values.shape, object)
    reals.reshape(-1)[:] = [Decimal(float(v)) for v in values.flat]
    return Numbers(np.zeros((0, *values.shape), np.int64), reals)


def as_floats(tensor: Tensor) -> Array:
    if isinstance(tensor, Numbers):
        return tensor.reals.astype(np.float64)
    return tensor.astype(np.float64)


def error_of(found: Array, exact: Array) -> float:
    """The largest difference, relative to the largest value; what float32 cannot hold is infinite."""
    with np.errstate(all="ignore"):
        expected = exact.astype(np.float32).astype(np.float64)
        finite = np.isfinite(expected)
        found = found.astype(np.float64)
        if not np.array_equal(found[np.isinf(expected)], expected[np.isinf(expected)]):
            return float("inf")
        scale = float(np.max(np.abs(exact[finite]), initial=0.0))
        differences = np.abs(found[finite] - exact[finite])
        if np.isnan(differences).any():
            return float("inf")
        largest = float(np.max(differences, initial=0.0))
        if largest <= 1e-37:  # nothing that float32 could tell from 0
            return 0.0
        return largest / scale if scale else float("inf")


def _equal(
    exact: Mapping[str, Tensor], other: Mapping[str, Tensor], results: Sequence[str]
) -> bool:
    """Do the results agree to 20 digits, wherever the literal one is a number?"""
    for name in results:
        a, b = exact[name], other[name]
        if not isinstance(a, Numbers) or not isinstance(b, Numbers):
            if not np.array_equal(as_floats(a), as_floats(b)):
                return False
            continue
        before: list[Decimal] = list(a.reals.flat)  # type: ignore[arg-type]
        after: list[Decimal] = list(b.reals.flat)  # type: ignore[arg-type]
        scale = max((abs(x) for x in before if x.is_finite()), default=Decimal(0))
        for x, y in zip(before, after, strict=True):
            if x.is_finite() and not (y.is_finite() and abs(x - y) <= EQUAL * scale):
                return False
    return True
