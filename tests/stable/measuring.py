"""Errors in float32, against decimals of 50 digits, on six kinds of inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import Any

import numpy as np

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.ir.nodes import Program
from loopgrad.simplify.numbers.decimals import CONTEXT
from loopgrad.simplify.numbers.evaluate import Prepared, Setting, Tensor, computed, integer
from loopgrad.simplify.numbers.lines import Lines, Numbers, as_decimals
from loopgrad.simplify.numbers.spaces import worlds
from loopgrad.stable.cases import KINDS, as_floats
from loopgrad.stable.gate import error_of
from loopgrad.stable.singles import Singles
from loopgrad.stable.stabilize import stabilized
from tests.stable.corpus import Case

Arrays = Mapping[str, np.ndarray]

SIZES = {"B": 3, "J": 5, "N": 8, "T": 4, "U": 6, "E": 2, "K": 3, "C": 6, "G": 2, "S": 3}
VARIED = {"s", "r", "x"}
DRAWS = 16  # of each kind
# What is taken for no error: of values, what float64 makes of numbers near 1; of derivatives, half a unit in
# the last place of the seeds, which are near 1 and may cancel (a softmax that is sure has no gradient).
NOTHING = {"value": 1e-15, "gradient": 6e-8, "tangent": 6e-8}
PARTS = ("value", "gradient", "tangent")


@dataclass(frozen=True)
class Errors:
    """Over the draws of a kind, of the loops as they are written and of what runs: the largest, and the
    root mean square."""

    literal: float
    stable: float
    literal_mean: float
    stable_mean: float
    each: tuple[float, ...]  # of what runs, in each draw


def variants(case: Case, part: str) -> tuple[Program, Program]:
    """What is measured, and what says what is right: the program, its backward, its forward mode."""
    program, reference = case.program, case.reference
    if part == "gradient":
        pair = (p.backward(case.wrt, recompute=True) for p in (program, reference))
    elif part == "tangent":
        pair = (p.forward_mode(case.wrt) for p in (program, reference))
    else:
        return program, reference
    first, second = pair
    return first, second


def errors(case: Case, part: str) -> dict[str, Errors]:
    """Of each kind."""
    program, reference = variants(case, part)
    drawn = [inputs_of((program, reference), kind, seed) for kind in KINDS for seed in range(DRAWS)]
    inputs = {name: np.stack([one[name] for one in drawn]) for name in drawn[0]}
    stable = stabilized(program) or program
    with localcontext(CONTEXT), np.errstate(all="ignore"):
        exact = run(reference, inputs, Lines(None))
        literal = run(program, inputs, Singles())
        found = run(stable, inputs, Singles())
    result: dict[str, Errors] = {}
    for number, kind in enumerate(KINDS):
        places = range(number * DRAWS, (number + 1) * DRAWS)
        each = [
            [max(error_of(got[n][w], exact[n][w], NOTHING[part]) for n in exact) for w in places]
            for got in (literal, found)
        ]
        means = [float(np.sqrt(np.mean(np.square(one)))) for one in each]
        result[kind] = Errors(max(each[0]), max(each[1]), *means, tuple(each[1]))
    return result


UNIT = 2.0**-24  # by which an input is rounded to float32
STEP = Decimal("1e-12")


def conditioning(case: Case, part: str, kind: str, seed: int) -> float:
    """By how much the results move, relative to the largest of each, where every input moves by a unit in
    its last place: no arithmetic on float32 inputs can promise less."""
    programs = variants(case, part)
    drawn = inputs_of(programs, kind, seed)
    floating = [name for name, values in drawn.items() if values.dtype == np.float32]
    count = 1 + sum(drawn[name].size for name in floating)
    inputs: dict[str, np.ndarray] = {}
    world = 1
    for name, values in drawn.items():
        inputs[name] = np.repeat(values[None], count, axis=0)
        if name in floating:
            exact = as_decimals(inputs[name]).reals
            assert exact is not None
            for element in range(values.size):
                exact.reshape(count, -1)[world, element] *= 1 + STEP
                world += 1
            inputs[name] = exact
    with localcontext(CONTEXT), np.errstate(all="ignore"):
        found = run(programs[1], inputs, Lines(None), rounded=False)
        largest = 0.0
        for values in found.values():
            flat = values.reshape(count, -1)
            moved = np.abs(flat[1:] - flat[0]).sum(axis=0) / STEP
            scale = max(np.abs(flat[0]), default=0)
            largest = max(largest, float(max(moved) / scale) if scale else 0.0)
    return largest * UNIT


def run(
    program: Program, inputs: Arrays, lines: Lines, rounded: bool = True
) -> dict[str, np.ndarray]:
    """The results in all worlds, which are axis 0, as float64, or as they are."""
    facts = infer(program)
    extents = {name: SIZES[name] for name in facts.extents if name in SIZES}
    constants = {c.name: c.value for c in facts.program.constants}
    given: dict[str, Tensor] = {}
    for i in facts.program.inputs:
        values = inputs[i.name]
        if not i.differentiable:
            given[i.name] = values.astype(np.int64)
        elif isinstance(lines, Singles) or values.dtype == object:
            given[i.name] = Numbers(None, values)
        else:
            given[i.name] = as_decimals(values)
    count = len(next(iter(inputs.values())))
    found = computed(Prepared(facts), Setting(extents, constants, given), lines, worlds(count))
    if rounded:
        return {r.name: as_floats(found[r.name]) for r in program.results}
    return {r.name: t.reals for r in program.results if isinstance(t := found[r.name], Numbers)}


def inputs_of(programs: tuple[Program, ...], kind: str, seed: int) -> dict[str, np.ndarray]:
    """Inputs of a kind, in float32. Those of one name are the same in all programs."""
    rng = np.random.default_rng(seed)
    found: dict[str, np.ndarray] = {}
    for i in sorted({i.name: i for p in programs for i in p.inputs}.values(), key=lambda i: i.name):
        shape = tuple(integer(e, SIZES) for e in i.extents)
        if i.kind == "int":
            found[i.name] = rng.integers(0, SIZES["J"], shape)
        elif i.kind == "bool":
            found[i.name] = rng.random(shape) < 0.6
            found[i.name][..., 0] = True
        elif i.name == "P":
            drawn = rng.exponential(size=shape).astype(np.float32)
            found[i.name] = drawn / drawn.sum(-1, keepdims=True)
        elif i.name in VARIED:
            found[i.name] = np.asarray(KINDS[kind](rng, shape)).astype(np.float32)
        elif i.name.endswith((".grad", ".dot")):
            found[i.name] = np.asarray(rng.normal(size=shape)).astype(np.float32)
        else:
            found[i.name] = np.asarray(rng.uniform(0.1, 1, size=shape)).astype(np.float32)
    return found


# ---------------------------------------------------------------------------------- compiled


def compiled_errors(case: Case, kind: str, seed: int) -> dict[str, float]:
    """Of a call, of the gradients of `vjp` and of the tangents of `jvp`."""
    program = case.program
    derived = [variants(case, part)[1] for part in PARTS]
    drawn = inputs_of((program, *derived), kind, seed)
    worlds_of_one = {name: values[None] for name, values in drawn.items()}
    with localcontext(CONTEXT), np.errstate(all="ignore"):
        value, gradient, tangent = (run(p, worlds_of_one, Lines(None)) for p in derived)
    inputs = {i.name: drawn[i.name] for i in program.inputs}
    results = [r.name for r in program.results]
    wanted = [i.name for i in program.inputs if f"{i.name}.grad" in gradient]
    sizes = {size.name: SIZES[size.name] for size in program.sizes}
    _, pullback = lg.vjp(program, **inputs, **sizes)
    gradients = pullback(*(drawn[f"{name}.grad"] for name in results))
    primals = [inputs[i.name] for i in program.inputs]
    dots = [drawn[f"{i.name}.dot"] if i.name in wanted else None for i in program.inputs]
    by_input = dict(zip([i.name for i in program.inputs], gradients, strict=True))
    return {
        "value": largest(named(results, program(**inputs, **sizes)), value, "value"),
        "gradient": largest({f"{n}.grad": by_input[n] for n in wanted}, gradient, "gradient"),
        "tangent": largest(
            named([f"{r}.dot" for r in results], lg.jvp(program, primals, dots, **sizes)[1]),
            tangent,
            "tangent",
        ),
    }


def named(names: list[str], values: Any) -> Arrays:
    return dict(zip(names, values if isinstance(values, tuple) else (values,), strict=True))


def largest(found: Arrays, expected: Arrays, part: str) -> float:
    return max(error_of(np.asarray(found[n]), expected[n][0], NOTHING[part]) for n in expected)
