"""Ourselves as a contender, in the ways that a program can be differentiated."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from loopgrad.functions import vjp
from loopgrad.grad.joining import joined
from loopgrad.ir.nodes import Program
from loopgrad.peers.problem import Array, Contender, NoContender, Outcome, Problem
from loopgrad.pipeline import compile

WAYS = ("vjp", "kernels", "joint")


@dataclass(frozen=True)
class _Kernel:
    """A compiled program with its arguments, and the arrays that it may be told to write."""

    program: Program
    keywords: Mapping[str, Any]
    inputs: Mapping[str, Array]
    reuse: bool

    def make(self) -> tuple[Callable[[], tuple[Array, ...]], tuple[Array, ...]]:
        """A call of it, and what the first one returned."""
        kernel = compile(self.program)
        arrays = [self.inputs[i.name] for i in self.program.inputs]
        keywords = dict(self.keywords)
        first = _tuple(kernel(*arrays, **keywords))
        if self.reuse:
            keywords["out"] = first
        return (lambda: _tuple(kernel(*arrays, **keywords))), first


def ours(problem: Problem, way: str = "kernels", reuse: bool = True) -> Contender:
    """loopgrad. What "forward and backward" means for us is decided here, and nowhere else.

    way: "vjp" is `lg.vjp` and its pullback, which return new arrays. "kernels" compiles the forward
        (with the tensors that the backward reads) and the simplified backward, "joint" one program
        of both; they write into the same arrays at each call where `reuse` is set.
    """
    start = time.perf_counter()
    program = _anew(problem.program)
    forward, _ = _Kernel(program, problem.keywords, problem.inputs, reuse).make()
    calls: dict[str, Callable[[], Any]] = {"forward": forward}
    outcome = lambda: Outcome(dict(zip(problem.results, forward(), strict=True)), {})
    if problem.seeds:
        make = {"vjp": _vjp, "kernels": _pair, "joint": _joint}[way]
        more, outcome = make(program, problem, reuse)
        calls |= more
    return Contender("loopgrad", calls, outcome, time.perf_counter() - start)


def _anew(program: Program) -> Program:
    """The program without what was kept with it, so that a first call does all that it has to."""
    return replace(program)


Calls = Mapping[str, Callable[[], Any]]


def _vjp(program: Program, problem: Problem, reuse: bool) -> tuple[Calls, Callable[[], Outcome]]:
    arrays = [problem.inputs[i.name] for i in program.inputs]
    seeds = [problem.seeds.get(name) for name in problem.results]
    keywords = dict(problem.keywords)

    def both() -> tuple[Any, tuple[Array | None, ...]]:
        results, pullback = vjp(program, *arrays, batch=False, **keywords)
        return results, pullback(*seeds)

    _, pullback = vjp(program, *arrays, batch=False, **keywords)

    def outcome() -> Outcome:
        results, gradients = both()
        named = zip((i.name for i in program.inputs), gradients, strict=True)
        return Outcome(
            dict(zip(problem.results, _tuple(results), strict=True)),
            {name: g for name, g in named if g is not None},
        )

    return {"both": both, "backward": lambda: pullback(*seeds)}, outcome


def _pair(program: Program, problem: Problem, reuse: bool) -> tuple[Calls, Callable[[], Outcome]]:
    backward = program.backward(batch=False).simplify()
    seeds = _seeds(backward, problem)
    read = [i.name for i in backward.inputs]
    residuals = [n for n in read if n not in problem.inputs and n not in seeds]
    results = [*problem.results, *(n for n in residuals if n not in problem.results)]
    forward = _Kernel(program.returning(*results), problem.keywords, problem.inputs, reuse)
    run_forward, computed = forward.make()
    values = {**problem.inputs, **dict(zip(results, computed, strict=True)), **seeds}
    kernel = compile(backward)
    keywords = _keywords(backward, problem)
    gradients = _tuple(kernel(*(values[n] for n in read), **keywords))
    if reuse:
        keywords["out"] = gradients

    def run_backward() -> tuple[Array, ...]:
        return _tuple(kernel(*(values[n] for n in read), **keywords))

    def both() -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        found = run_forward()
        now = values if reuse else values | dict(zip(results, found, strict=True))
        return found, _tuple(kernel(*(now[n] for n in read), **keywords))

    def outcome() -> Outcome:
        found, gradients = both()
        names = [r.name for r in backward.results]
        return Outcome(
            dict(zip(problem.results, found, strict=False)), _gradients(problem, names, gradients)
        )

    return {"both": both, "backward": run_backward}, outcome


def _joint(program: Program, problem: Problem, reuse: bool) -> tuple[Calls, Callable[[], Outcome]]:
    whole = joined(program, program.backward(batch=False).simplify())
    names = [r.name for r in whole.results]
    inputs = {**problem.inputs, **_seeds(whole, problem)}
    both, _ = _Kernel(whole, _keywords(whole, problem), inputs, reuse).make()

    def outcome() -> Outcome:
        found = dict(zip(names, both(), strict=True))
        results = {n: found[n] for n in problem.results}
        gradients = [n for n in names if n not in results]
        return Outcome(results, _gradients(problem, gradients, [found[n] for n in gradients]))

    return {"both": both}, outcome


def _seeds(backward: Program, problem: Problem) -> dict[str, Array]:
    """By the names that the backward has for them: `p.grad`."""
    names = {i.name for i in backward.inputs}
    return {f"{n}.grad": a for n, a in problem.seeds.items() if f"{n}.grad" in names}


def _keywords(program: Program, problem: Problem) -> dict[str, Any]:
    sizes = {s.name: problem.extents[s.name] for s in program.sizes}
    return sizes | {c.name: problem.constants[c.name] for c in program.constants}


def _gradients(problem: Problem, names: Sequence[str], arrays: Sequence[Array]) -> dict[str, Array]:
    found = {name.removesuffix(".grad"): array for name, array in zip(names, arrays, strict=True)}
    if not set(found) <= set(problem.wrt):
        raise NoContender(f"gradients are named {', '.join(names)}")
    missing = [name for name in problem.wrt if name not in found]
    return found | {n: np.zeros(problem.shapes[n], problem.real) for n in missing}


def _tuple(results: Any) -> tuple[Any, ...]:
    return results if isinstance(results, tuple) else (results,)
