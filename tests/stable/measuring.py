"""Errors in float32, against decimals of 50 digits, on six kinds of inputs."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import localcontext
from typing import Any

import numpy as np

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.ir.nodes import Program
from loopgrad.simplify.decimals import CONTEXT
from loopgrad.simplify.evaluate import Setting, evaluate
from loopgrad.simplify.lines import Lines
from tests.stable.corpus import Case

Arrays = Mapping[str, np.ndarray]

SIZES = {"B": 3, "J": 5, "N": 8, "T": 4, "U": 6, "E": 2, "K": 3}
VARIED = {"s", "r", "x"}
from loopgrad.stable.gate import KINDS, as_decimals, as_floats, error_of  # noqa: E402


def inputs_of(program: Program, kind: str, seed: int, sizes: Mapping[str, int] = SIZES) -> Arrays:
    """Inputs of a kind (a key of `KINDS`), in float32."""
    rng = np.random.default_rng(seed)
    found: dict[str, np.ndarray] = {}
    for i in program.inputs:
        shape = tuple(sizes[e.name] for e in i.extents)  # type: ignore[union-attr]
        if i.kind == "int":
            found[i.name] = rng.integers(0, sizes["J"], shape)
        elif i.kind == "bool":
            found[i.name] = rng.random(shape) < 0.6
            found[i.name][..., 0] = True
        elif i.name == "P":
            drawn = rng.exponential(size=shape).astype(np.float32)
            found[i.name] = drawn / drawn.sum(-1, keepdims=True)
        elif i.name in VARIED:
            found[i.name] = np.asarray(KINDS[kind](rng, shape)).astype(np.float32)
        else:
            found[i.name] = rng.uniform(0.1, 1, size=shape).astype(np.float32)
    return found


def exact(program: Program, inputs: Arrays, results: Any = None) -> Arrays:
    """The results in 50 digits, rounded to float64."""
    facts = infer(program)
    extents: dict[str, int] = {}
    for i in facts.program.inputs:
        for extent, size in zip(i.extents, np.shape(inputs[i.name]), strict=True):
            if hasattr(extent, "name"):
                extents[extent.name] = size
    constants = {c.name: c.value for c in facts.program.constants}
    given = {
        i.name: inputs[i.name].astype(np.int64)
        if i.kind in ("int", "bool")
        else as_decimals(np.asarray(inputs[i.name]))
        for i in facts.program.inputs
    }
    with localcontext(CONTEXT), np.errstate(all="ignore"):
        found = evaluate(facts, Setting(extents, constants, given), Lines(None))
        return {r.name: as_floats(found[r.name]) for r in program.results}


def largest(found: Arrays, expected: Arrays) -> float:
    return max((error_of(np.asarray(found[n]), expected[n]) for n in expected), default=0.0)


def named(program: Program, values: Any) -> Arrays:
    values = values if isinstance(values, tuple) else (values,)
    return dict(zip([r.name for r in program.results], values, strict=True))


def forward_errors(case: Case, kind: str, seed: int) -> tuple[float, float]:
    """Of the literal loops and of what `compile` runs."""
    program = case.program
    inputs = inputs_of(program, kind, seed)
    expected = exact(case.reference, inputs)
    with np.errstate(all="ignore"):
        literal = named(program, lg.compile(program, optimize=False)(**inputs))
        stable = named(program, program(**inputs))
    return largest(literal, expected), largest(stable, expected)


def seeds_of(program: Program, expected: Arrays, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed + 1)
    return {
        r.name: np.asarray(rng.normal(size=expected[r.name].shape)).astype(np.float32)
        for r in program.results
    }


def gradient_errors(case: Case, kind: str, seed: int) -> tuple[float, float, float]:
    """Of the literal backward, of `vjp`, and of the compiled backward that recomputes."""
    program, reference = case.program, case.reference
    inputs = inputs_of(program, kind, seed)
    seeds = seeds_of(program, exact(reference, inputs), seed)
    given = {**inputs, **{f"{n}.grad": g for n, g in seeds.items()}}
    back = program.backward(case.wrt, recompute=True)
    expected = exact(reference.backward(case.wrt, recompute=True), given)
    needed = {i.name: given[i.name] for i in back.inputs}
    with np.errstate(all="ignore"):
        literal = named(back, lg.compile(back, optimize=False)(**needed))
        recomputed = named(back, back(**needed))
        _, pullback = lg.vjp(program, **inputs)
        gradients = pullback(*(seeds[r.name] for r in program.results))
    by_input = dict(zip([i.name for i in program.inputs], gradients, strict=True))
    found = {f"{n}.grad": g for n, g in by_input.items() if f"{n}.grad" in expected}
    return largest(literal, expected), largest(found, expected), largest(recomputed, expected)


def tangent_errors(case: Case, kind: str, seed: int) -> tuple[float, float]:
    """Of the literal forward mode, and of `jvp`."""
    program, reference = case.program, case.reference
    inputs = inputs_of(program, kind, seed)
    rng = np.random.default_rng(seed + 2)
    moved = tuple(
        i.name
        for i in program.inputs
        if i.differentiable and (case.wrt is None or i.name in case.wrt)
    )
    dots = {n: np.asarray(rng.normal(size=inputs[n].shape)).astype(np.float32) for n in moved}
    given = {**inputs, **{f"{n}.dot": d for n, d in dots.items()}}
    forward = program.forward_mode(moved)
    expected = exact(reference.forward_mode(moved), given)
    needed = {i.name: given[i.name] for i in forward.inputs}
    with np.errstate(all="ignore"):
        literal = named(forward, lg.compile(forward, optimize=False)(**needed))
        primals = [inputs[i.name] for i in program.inputs]
        tangents = [dots.get(i.name) for i in program.inputs]
        _, found = lg.jvp(program, primals, tangents)
    found = {f"{n}.dot": f for n, f in named(program, found).items() if f"{n}.dot" in expected}
    return largest(literal, expected), largest(found, expected)
