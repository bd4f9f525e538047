"""Derivatives judged by numbers: central differences, and the adjointness of the two modes.

Seeds and directions are random, never ones: the gradient of a sum of a softmax is zero, and a dead
backward would pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

import loopgrad as lg

Arrays = Mapping[str, Any]


def as_tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def differentiable_inputs(program: lg.Program) -> list[str]:
    return [i.name for i in program.inputs if i.kind in ("input", "param")]


class NotSmooth(Exception):
    """Differences of two steps disagree: there is a kink or a jump between the points."""


def directional(
    run: Callable[[dict[str, Any]], tuple[Any, ...]], inputs: Arrays, direction: Arrays
) -> list[np.ndarray]:
    """Central differences of fourth order along a direction, in double precision.

    Raises NotSmooth where a smaller step gives something else. That looks at the program's values
    alone, never at the derivatives that are to be judged.
    """
    coarse, fine = (_differences(run, inputs, direction, step) for step in (1e-3, 2e-4))
    for a, b in zip(coarse, fine, strict=True):
        scale = 1 + np.max(np.abs(b), initial=0)
        if not np.allclose(a, b, rtol=0, atol=1e-4 * scale, equal_nan=True):
            raise NotSmooth
    return coarse


def _differences(
    run: Callable[[dict[str, Any]], tuple[Any, ...]],
    inputs: Arrays,
    direction: Arrays,
    step: float,
) -> list[np.ndarray]:
    def at(t: float) -> tuple[Any, ...]:
        moved = {
            k: np.asarray(v) + t * direction[k] if k in direction else v for k, v in inputs.items()
        }
        return run(moved)

    near, far = (at(step), at(-step)), (at(2 * step), at(-2 * step))
    return [
        (8 * (np.asarray(a) - b) - (np.asarray(c) - d)) / (12 * step)
        for a, b, c, d in zip(*near, *far, strict=True)
    ]


def random_like(
    inputs: Arrays, names: list[str], rng: np.random.Generator
) -> dict[str, np.ndarray]:
    return {n: np.asarray(rng.normal(size=np.shape(inputs[n]))) for n in names}


def check_backward(
    program: lg.Program,
    inputs: Arrays,
    constants: Arrays,
    seed: int,
    rtol: float = 1e-6,
    atol: float = 1e-7,
) -> None:
    """Backward and forward mode against differences and against each other."""
    rng = np.random.default_rng(seed)
    names = differentiable_inputs(program)
    results, pullback = lg.vjp(program, **inputs, **constants, batch=False)
    results = as_tuple(results)
    floating = [np.asarray(r).dtype.kind == "f" for r in results]
    weights = [
        np.asarray(rng.normal(size=np.shape(r))) if f else None
        for r, f in zip(results, floating, strict=True)
    ]
    gradients = dict(zip([i.name for i in program.inputs], pullback(*weights), strict=True))
    direction = random_like(inputs, names, rng)

    def weighted(values: Any) -> float:
        return float(
            sum(
                np.sum(np.asarray(v) * w)
                for v, w in zip(values, weights, strict=True)
                if w is not None
            )
        )

    ours = sum(float(np.sum(gradients[n] * direction[n])) for n in names)
    run = lambda moved: as_tuple(program(**moved, **constants))
    differences = weighted(directional(run, inputs, direction))
    np.testing.assert_allclose(
        ours, differences, rtol=rtol, atol=atol, err_msg=str(program.backward())
    )

    primals = tuple(inputs[i.name] for i in program.inputs)
    tangents = tuple(direction.get(i.name) for i in program.inputs)
    _, moved = lg.jvp(program, primals, tangents, **constants)
    np.testing.assert_allclose(
        weighted(as_tuple(moved)), ours, rtol=1e-9, atol=1e-10, err_msg=str(program.forward_mode())
    )


def check_recompute(
    program: lg.Program,
    inputs: Arrays,
    constants: Arrays,
    seed: int,
    rtol: float = 1e-5,
    atol: float = 1e-6,
) -> None:
    """The backward that recomputes the forward: equal to `vjp`, and itself differentiated."""
    rng = np.random.default_rng(seed)
    backward = program.backward(batch=False, recompute=True)
    results, pullback = lg.vjp(program, **inputs, **constants, batch=False)
    floating = [
        r
        for r, v in zip(program.results, as_tuple(results), strict=True)
        if np.asarray(v).dtype.kind == "f"
    ]
    weights = [
        np.asarray(rng.normal(size=np.shape(v)))
        for v in as_tuple(results)
        if np.asarray(v).dtype.kind == "f"
    ]
    seeds = dict(
        zip([i.name for i in backward.inputs if i.name not in inputs], weights, strict=True)
    )
    assert len(seeds) == len(floating)
    everything = {i.name: {**inputs, **seeds}[i.name] for i in backward.inputs}
    direct = as_tuple(backward(**everything, **constants))
    all_weights = iter(weights)
    given = [
        next(all_weights) if np.asarray(v).dtype.kind == "f" else None for v in as_tuple(results)
    ]
    through = [g for g in pullback(*given) if g is not None]
    for a, b in zip(direct, through, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10, err_msg=str(backward))
    check_backward(backward, everything, constants, seed + 1, rtol, atol)
