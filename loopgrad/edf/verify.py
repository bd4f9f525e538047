"""`Model.verify`: the gradients of every component, and of the whole, against numerical derivatives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from loopgrad.edf.differences import Judge, Verdict
from loopgrad.edf.graph import Array, Input, Model, Parameter, Step, Value
from loopgrad.edf.programs import Claimed

if TYPE_CHECKING:
    from loopgrad.checking.findings import Judgement

USES = 3  # of a component with the same shapes, that are judged


@dataclass(frozen=True)
class Comparison:
    """The gradient in one input of a component, at one of its uses, as it was judged."""

    component: str
    use: int  # the how-manieth step of the model, from 1
    input: str
    verdict: Verdict

    def __str__(self) -> str:
        v = self.verdict
        match v.status:
            case "right":
                return f"right, to {v.difference:.0e}" if v.difference else "right"
            case "not judged":
                return "not judged: there are values that are not finite"
        where = f"[{','.join(map(str, v.entry))}]" if v.entry else ""
        along = " along a direction" if v.entry is None else ""
        return f"WRONG: {self.input}.grad{where}{along} is {v.claimed:.9g}, numerically {v.numerical:.9g}"


@dataclass(frozen=True)
class Report:
    """What `verify` found. It is true where nothing is wrong; printed, it is a table."""

    comparisons: tuple[Comparison, ...]
    judgements: tuple[tuple[str, Judgement], ...] = ()  # of loops that were written by hand

    def __bool__(self) -> bool:
        return not self.wrong and all(judgement for _, judgement in self.judgements)

    @property
    def wrong(self) -> tuple[Comparison, ...]:
        """Those that are wrong; those of components come before that of the whole."""
        return tuple(c for c in self.comparisons if c.verdict.status == "wrong")

    def __str__(self) -> str:
        names = [f"{c.use}. {c.component}" for c in self.comparisons]
        gradients = [f"{c.input}.grad" for c in self.comparisons]
        wide, narrow = (max(map(len, column), default=0) for column in (names, gradients))
        lines = [
            f"{name:{wide}}  {gradient:{narrow}}  {c}"
            for name, gradient, c in zip(names, gradients, self.comparisons, strict=True)
        ]
        for name, judgement in self.judgements:
            lines += [f"\nlg.check, of the backward of {name}:\n{judgement}"]
        return "\n".join(lines)

    __repr__ = __str__


def verify(model: Model, seed: int = 0) -> Report:
    """The report of a model whose inputs have values; see `loopgrad.edf.Model.verify`."""
    model.forward()
    model.backward()
    rng = np.random.default_rng(seed)
    found: list[Comparison] = []
    judgements: dict[str, Judgement] = {}
    uses: Counter[Hashable] = Counter()
    with np.errstate(all="ignore"):
        for number, step in enumerate(model.steps, 1):
            shapes = tuple((x.value.shape, x.value.dtype) for x in step.inputs)
            kind = (step.component, shapes, repr(step.constants))
            uses[kind] += 1
            if uses[kind] <= USES:
                found += of_step(step, number, rng)
            if isinstance(step.component, Claimed) and step.component.name not in judgements:
                judgements[step.component.name] = step.component.check()
        found += of_whole(model, rng)
    return Report(tuple(found), tuple(judgements.items()))


def of_step(step: Step, number: int, rng: np.random.Generator) -> Iterator[Comparison]:
    """A comparison for each input that ought to have a gradient, in double precision.

    The results get random gradients; what is differentiated is their sum with these as weights.
    """
    component, constants = step.component, step.constants
    inputs = [_double(x.value) for x in step.inputs]
    results, pullback = component.vjp(inputs, constants)
    seeds = [rng.normal(size=y.shape) if y.dtype.kind == "f" else None for y in results]

    def total(place: int, x: Array, measure: Any = np.positive) -> float:
        found, _ = component.vjp([*inputs[:place], x, *inputs[place + 1 :]], constants)
        pairs = zip(found, seeds, strict=True)
        return float(sum(np.sum(measure(y * seed)) for y, seed in pairs if seed is not None))

    for place, claim in enumerate(pullback(seeds)):
        value = inputs[place]
        if claim is None and (value.dtype.kind != "f" or _is_data(step.inputs[place])):
            continue  # none is claimed, and none is needed
        gradient = np.zeros_like(value) if claim is None else claim
        value = value.astype(np.float64)
        size = total(place, value, np.abs)
        verdict = Judge(partial(total, place), value, gradient, size, rng).verdict()
        yield Comparison(component.name, number, component.inputs[place], verdict)


def of_whole(model: Model, rng: np.random.Generator) -> Iterator[Comparison]:
    """The gradient of each parameter along a random direction, all values in double precision."""
    given = [(x, x.value) for x in model.inputs]
    try:
        for x, value in given:
            x.value = _double(value)
        model.forward()
        model.backward()
        gradients = [p.grad for p in model.parameters]
        for number, (p, gradient) in enumerate(zip(model.parameters, gradients, strict=True), 1):
            at = p.value

            def mean(value: Array, p: Parameter = p) -> float:
                p.value = value
                return float(np.mean(model.forward())) if model.loss.value.size else 0.0

            size = float(np.mean(np.abs(model.loss.value))) if model.loss.value.size else 0.0
            verdict = Judge(mean, at, gradient, size, rng).overall()
            p.value = at
            yield Comparison(
                "the whole", len(model.steps), p.name or f"parameter {number}", verdict
            )
    finally:
        for x, value in given:
            x.value = value
        model.forward()
        model.backward()


def _double(value: Array) -> Array:
    return value.astype(np.float64) if value.dtype.kind == "f" else value


def _is_data(x: Value) -> bool:
    return isinstance(x, Input) and not isinstance(x, Parameter)
