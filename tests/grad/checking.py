"""Derivatives against central differences, on the reference interpreter."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from loopgrad.analysis.infer import infer
from loopgrad.frontend.parser import parse
from loopgrad.ir.nodes import Extent, Local, Program, Result
from loopgrad.ir.printer import show
from loopgrad.pipeline import compile

STEP = 1e-6


def read(text):
    """The last program of a text."""
    return parse(text)[-1]


def run(program, values, **constants):
    """The results by name."""
    inputs = {i.name: values[i.name] for i in program.inputs}
    out = compile(program, backend="interpret")(**inputs, **constants)
    out = out if isinstance(out, tuple) else (out,)
    return dict(zip((r.name for r in program.results), out, strict=True))


def floating(program):
    facts = infer(program)
    return [r.name for r in program.results if facts.tensors[r.name].element.value == "float"]


def residuals(program, values, names, **constants):
    """Tensors that the forward computes, by name."""
    if not names:
        return {}
    facts = infer(program)
    results = tuple(Result(n, facts.tensors[n].extents) for n in names)
    known = {t.name for t in (*facts.program.locals, *results)}
    more = tuple(Local(r.name, r.extents) for r in program.results if r.name not in known)
    changed = replace(facts.program, results=results, locals=(*facts.program.locals, *more))
    return run(changed, values, **constants)


def seeds_for(program, values, rng, **constants):
    out = run(program, values, **constants)
    return {n: rng.standard_normal(np.shape(out[n])) for n in floating(program)}


def gradient(program, values, seeds, recompute=False, wrt=None, batch=False, **constants):
    """`{"x": gradient}` of sum(seed * result), by the backward program."""
    backward = program.backward(wrt, batch, recompute=recompute)
    assert read(show(backward)) == backward, "the backward has to read back from its text"
    wanted = [i.name for i in program.inputs if i.differentiable]
    if wrt is not None:
        wanted = [n for n in wanted if n in ([wrt] if isinstance(wrt, str) else wrt)]
    given = dict(values)
    count = len(seeds)
    for (name, seed), entry in zip(seeds.items(), backward.inputs[-count:], strict=True):
        assert entry.name.startswith(f"{name}.grad")
        given[entry.name] = seed
    forward = {i.name for i in program.inputs}
    missing = [i.name for i in backward.inputs[:-count] if i.name not in forward]
    given |= residuals(program, values, missing, **constants)
    out = run(backward, given, **_known(backward, extents_of(program, values) | constants))
    return dict(zip(wanted, out.values(), strict=True))


def extents_of(program, values):
    """The extents that the shapes of the inputs fix: a backward may need them as `size`s."""
    return {
        extent.name: length
        for i in program.inputs
        for extent, length in zip(i.extents, np.shape(values[i.name]), strict=True)
        if isinstance(extent, Extent)
    }


def _known(program: Program, constants):
    names = {a.name for a in (*program.sizes, *program.constants)}
    return {k: v for k, v in constants.items() if k in names}


def tangent(program, values, directions, **constants):
    """`{"y": tangent}` along the directions of all differentiable inputs, in forward mode."""
    forward = program.forward_mode()
    assert read(show(forward)) == forward, "the tangent program has to read back from its text"
    given = dict(values)
    own = [i.name for i in forward.inputs if i.name not in values]
    given |= dict(zip(own, directions.values(), strict=True))
    return dict(zip(floating(program), run(forward, given, **constants).values(), strict=True))


def check(text, values, order=2, tolerance=1e-6, **constants):
    """Both modes against central differences along a random direction, `order` derivatives deep.

    Extents that no input fixes, and constants, go by keyword.
    """
    program = read(text) if isinstance(text, str) else text
    rng = np.random.default_rng(len(values) + sum(np.size(v) for v in values.values()))
    seeds = seeds_for(program, values, rng, **constants)
    names = [i.name for i in program.inputs if i.differentiable]
    directions = {n: rng.standard_normal(np.shape(values[n])) for n in names}

    def moved(step):
        shifted = {n: np.asarray(values[n]) + step * d for n, d in directions.items()}
        return run(program, values | shifted, **constants)

    up, down = moved(STEP), moved(-STEP)
    dots = tangent(program, values, directions, **constants)
    scale = 1.0
    for name in seeds:
        wanted = (up[name] - down[name]) / (2 * STEP)
        scale = max(scale, float(np.max(np.abs(wanted), initial=0)))
        np.testing.assert_allclose(dots[name], wanted, atol=tolerance * scale, err_msg=name)

    along = sum(float(np.sum(seeds[n] * dots[n])) for n in seeds)
    for recompute in (False, True):
        found = gradient(program, values, seeds, recompute, **constants)
        product = sum(float(np.sum(found[n] * directions[n])) for n in names)
        np.testing.assert_allclose(product, along, rtol=1e-10, atol=1e-10 * scale)
    if order > 1:
        again = program.backward(batch=False, recompute=True)
        given = values | dict(
            zip([i.name for i in again.inputs[-len(seeds) :]], seeds.values(), strict=True)
        )
        check(again, given, order - 1, tolerance * 20, **_known(again, constants))
    return program
