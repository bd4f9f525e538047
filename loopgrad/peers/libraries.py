"""Other libraries as contenders: PyTorch, as it is and compiled, JAX under `jit`, and numba.

Each is imported when it is asked for; `NoContender` says what to install where it is missing.
"""

from __future__ import annotations

import importlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.backends.binding import element_dtype
from loopgrad.ir.nodes import Program
from loopgrad.peers.arrays import Arrays
from loopgrad.peers.literal import Literal
from loopgrad.peers.namespaces import Jax, Namespace, Torch
from loopgrad.peers.problem import Array, Contender, NoContender, Outcome, Problem

# A function of the inputs' tensors, in header order, that returns one tensor or a tuple of them.
Function = Callable[..., Any]

PACKAGES = {"torch": "torch", "jax": "jax", "numba": "numba"}


def need(name: str) -> Any:
    """The library. Raises NoContender, with the command that installs it, where it is missing."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == name
        why = "is not installed" if missing else f"cannot be loaded: {error}"
        raise NoContender(f"{name} {why}: pip install {PACKAGES[name]}") from None


def translated(problem: Problem, library: str) -> Function:
    """The program as a function of the library's arrays, as `arrays.py` says it.

    Raises NoContender where it has no such form, or the library is missing.
    """
    module = need(library)
    arrays = Arrays(problem.facts, validate(problem.program))
    scope: dict[str, Any] = {}
    exec(arrays.source(), scope)  # our own text: names are legal identifiers, nothing is quoted
    values = {**problem.extents, **problem.constants}
    last = [values[name] for kind, name in arrays.arguments if kind != "tensor"]
    if library == "torch":
        space: Namespace = Torch(module, getattr(module, problem.real.name))
        return lambda *tensors: scope["function"](space, *tensors, *last)
    _set_width(module, problem)
    space = Jax(module, problem.real)
    return lambda *tensors: scope["function"](space, *tensors, *last)


# ----------------------------------------------------------------------------------------- PyTorch


def torch(
    problem: Problem,
    function: Function,
    name: str = "torch",
    compiled: bool = False,
    by_steps: Callable[[Callable[[Function], Function]], Function] | None = None,
) -> Contender:
    """PyTorch: as it is, or by `torch.compile`; of a loop over time its step (`by_steps`)."""
    torch = need("torch")
    start = time.perf_counter()
    if compiled:
        torch._dynamo.reset()
        function = by_steps(torch.compile) if by_steps else torch.compile(function)
    tensors = {n: torch.from_numpy(np.ascontiguousarray(a)) for n, a in problem.inputs.items()}
    for n in problem.wrt:
        tensors[n].requires_grad_(bool(problem.seeds))
    arguments = [tensors[i.name] for i in problem.program.inputs]
    wrt = [tensors[n] for n in problem.wrt]
    seeded = [k for k, n in enumerate(problem.results) if n in problem.seeds]
    seeds = [torch.from_numpy(problem.seeds[problem.results[k]]) for k in seeded]

    def forward() -> Any:
        with torch.no_grad():
            return function(*arguments)

    def pull(results: Sequence[Any], **options: Any) -> Any:
        return torch.autograd.grad(
            [results[k] for k in seeded], wrt, seeds, allow_unused=True, **options
        )

    def both() -> tuple[Any, Any]:
        results = _tuple(function(*arguments))
        return results, pull(results)

    if not problem.seeds:
        forward()
        first = time.perf_counter() - start
        found = lambda: Outcome(_named(problem.results, _tuple(forward()), _from_torch), {})
        return Contender(name, {"forward": forward}, found, first)
    both()
    first = time.perf_counter() - start
    held = _tuple(function(*arguments))

    def outcome() -> Outcome:
        results, gradients = both()
        filled = [
            torch.zeros_like(w) if g is None else g for g, w in zip(gradients, wrt, strict=True)
        ]
        return Outcome(
            _named(problem.results, results, _from_torch), _named(problem.wrt, filled, _from_torch)
        )

    calls = {"forward": forward, "both": both}
    if not compiled:  # that gives up what it holds as it goes back: there is no second time
        calls["backward"] = lambda: pull(held, retain_graph=True)
    return Contender(name, calls, outcome, first)


def _from_torch(tensor: Any) -> Array:
    return np.asarray(tensor.detach().numpy())


# --------------------------------------------------------------------------------------------- JAX


def jax(problem: Problem, function: Function, name: str = "jax.jit") -> Contender:
    """JAX: the forward, the backward and both, each under `jit`."""
    jax = need("jax")
    _set_width(jax, problem)
    start = time.perf_counter()
    arguments = [jax.numpy.asarray(problem.inputs[i.name]) for i in problem.program.inputs]
    places = [k for k, i in enumerate(problem.program.inputs) if i.differentiable]
    seeded = [k for k, n in enumerate(problem.results) if n in problem.seeds]
    seeds = [jax.numpy.asarray(problem.seeds[problem.results[k]]) for k in seeded]
    compiled = jax.jit(function)

    def forward() -> Any:
        return jax.block_until_ready(compiled(*arguments))

    if not problem.seeds:
        forward()
        first = time.perf_counter() - start
        found = lambda: Outcome(_named(problem.results, _tuple(forward()), np.asarray), {})
        return Contender(name, {"forward": forward}, found, first)

    def pull(*arguments: Any) -> Any:
        def moving(*moved: Any) -> tuple[Any, Any]:
            whole = list(arguments)
            for place, value in zip(places, moved, strict=True):
                whole[place] = value
            results = _tuple(function(*whole))
            return [results[k] for k in seeded], results

        _, back, results = jax.vjp(moving, *(arguments[k] for k in places), has_aux=True)
        return results, back

    def together(arguments: Any, seeds: Any) -> Any:
        results, back = pull(*arguments)
        return results, back(seeds)

    compiled_together = jax.jit(together)

    def both() -> Any:
        return jax.block_until_ready(compiled_together(arguments, seeds))

    both()
    first = time.perf_counter() - start
    _, back = jax.jit(pull)(*arguments)
    after = jax.jit(lambda back, seeds: back(seeds))

    def outcome() -> Outcome:
        results, gradients = both()
        return Outcome(
            _named(problem.results, results, np.asarray),
            _named(problem.wrt, gradients, np.asarray),
        )

    calls = {
        "forward": forward,
        "both": both,
        "backward": lambda: jax.block_until_ready(after(back, seeds)),
    }
    return Contender(name, calls, outcome, first)


def _set_width(jax: Any, problem: Problem) -> None:
    jax.config.update("jax_enable_x64", problem.real == np.float64)


# ------------------------------------------------------------------------------------------- numba


def numba(problem: Problem, name: str = "numba") -> Contender:
    """The literal loops of the program and of its backward, by `@njit`; on one thread, as they stand."""
    need("numba")
    start = time.perf_counter()
    constants = dict(problem.constants)
    forward, computed = _literal(problem.program, problem, constants, {})
    results = {n: computed[n] for n in problem.results}
    if not problem.seeds:
        forward()
        first = time.perf_counter() - start
        return Contender(name, {"forward": forward}, lambda: Outcome(results, {}), first)
    seeds = {f"{n}.grad": a for n, a in problem.seeds.items()}
    program = problem.backward()
    backward, derived = _literal(program, problem, constants, {**computed, **seeds})

    def both() -> None:
        forward()
        backward()

    both()
    first = time.perf_counter() - start

    def outcome() -> Outcome:
        both()
        zeros = {n: np.zeros(problem.shapes[n], problem.real) for n in problem.wrt}
        return Outcome(results, {n: derived.get(f"{n}.grad", zeros[n]) for n in problem.wrt})

    return Contender(name, {"forward": forward, "both": both, "backward": backward}, outcome, first)


def _literal(
    program: Program, problem: Problem, constants: Mapping[str, Any], known: Mapping[str, Array]
) -> tuple[Callable[[], None], dict[str, Array]]:
    """A call of the program's literal loops, and the arrays of all its tensors."""
    facts = infer(program)
    literal = Literal(facts)
    scope: dict[str, Any] = {"np": np, "math": math, "real": problem.real.type}
    exec(literal.source(), scope)  # our own text: names are legal identifiers, nothing is quoted
    arrays = {n: a for n, a in {**known, **problem.inputs}.items() if n in facts.tensors}
    inputs = {i.name: arrays[i.name] for i in program.inputs}
    sizes = {s.name: problem.extents[s.name] for s in program.sizes}
    part = Problem(program, inputs, {**sizes, **constants}, {})
    for tensor in facts.tensors.values():
        if tensor.role != "input":
            dtype = element_dtype(tensor.element, problem.real)
            arrays[tensor.name] = np.empty(part.shapes[tensor.name], dtype)
    values = {**part.extents, **part.constants}
    arguments = [arrays[n] if kind == "tensor" else values[n] for kind, n in literal.arguments]
    function = need("numba").njit(scope["function"])
    return (lambda: function(*arguments)), arrays


def _named(
    names: Sequence[str], values: Sequence[Any], convert: Callable[[Any], Any]
) -> dict[str, Array]:
    return {name: np.asarray(convert(value)) for name, value in zip(names, values, strict=True)}


def _tuple(results: Any) -> tuple[Any, ...]:
    return tuple(results) if isinstance(results, tuple | list) else (results,)
