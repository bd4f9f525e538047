"""How JAX differentiates an operator, in both modes and to any order: two rules.

    jvp         a forward, which also gives what the adjoint reads, and the tangent operator
    transpose   the adjoint of an operator, in inputs in which it is linear

A tangent operator is linear in the tangents. It carries along what the adjoint reads, which its own code
does not; so the gradient of a program runs two kernels, of which the second has nothing to compute
again. Whatever else is linear is transposed by a backward that is derived when it is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from jax.interpreters import ad

from loopgrad.functions.reverse import is_much
from loopgrad.grad.assembly import tensors_read
from loopgrad.interop.jax import sites
from loopgrad.interop.jax.primitive import Linear, Parameters, bind, primitive
from loopgrad.interop.operators import Operator, Reversal, may_outgrow, reversal, tangent

# ------------------------------------------------------------------------------------------ forwards


def _jvp(
    primals: Sequence[Any], tangents: Sequence[Any], **parameters: Any
) -> tuple[list[Any], list[Any]]:
    known = Parameters(**parameters)
    operator, linear = known.operator, known.linear
    given = dict(zip(known.names, tangents, strict=False))
    moving = tuple(n for n in operator.differentiable if not isinstance(given[n], ad.Zero))
    if not moving or not operator.floating.intersection(operator.results):
        results = bind(primals, **parameters)
        return results, [_no_tangent(x) for x in results]
    if linear is not None and set(moving) <= set(linear.dots):
        dots = {name: ad.instantiate_zeros(given[name]) for name in linear.dots}
        values = {**dict(zip(known.names, primals, strict=False)), **dots}
        rest = primals[len(known.names) :]
        return bind(primals, **parameters), bind([*values.values(), *rest], **parameters)
    return _derived(known, primals, {name: given[name] for name in moving})


def _derived(
    known: Parameters, primals: Sequence[Any], moving: Mapping[str, Any]
) -> tuple[list[Any], list[Any]]:
    operator, bound = known.operator, known.bound(primals)
    along = tangent(operator, tuple(moving))
    back = _reversal(known, tuple(moving), primals)
    if back.forward is operator:
        results = bind(primals, operator, known.numbers, known.real, known.linear)
    else:
        results = bind(primals, back.forward, known.numbers, known.real)
    delivered = dict(zip(back.forward.delivers, results, strict=True))
    read = {i.name for i in back.backward.inputs}
    values = dict(zip(known.names, primals, strict=False))
    held = {name: x for name, x in delivered.items() if name in read and name not in values}
    dots = {
        dot: moving[name]
        for name, dot in zip(known.names, along.inputs, strict=True)
        if dot is not None
    }
    results = [delivered[name] for name in operator.delivers]
    places = {n: p for n, p in zip(operator.results, along.results, strict=True) if p is not None}
    by_place = tuple(sorted(places, key=lambda name: places[name]))
    found = bind(
        [*({**values, **dots}[i.name] for i in along.operator.inputs), *held.values()],
        along.operator,
        sites.for_numbers(along.operator, bound, known.numbers),
        known.real,
        Linear(tuple(dots), back, tuple(moving), by_place, tuple(held)),
    )
    moved = [
        found[places[name]] if name in places else _no_tangent(x)
        for name, x in zip(operator.delivers, results, strict=True)
    ]
    return results, moved


def _reversal(known: Parameters, moving: tuple[str, ...], primals: Sequence[Any]) -> Reversal:
    """One whose forward keeps no more than is worth it. That of what is linear is itself: it has to stay
    what is transposed."""
    operator = known.operator
    if known.linear is not None:
        return reversal(operator, moving, keep=False)
    found = reversal(operator, moving)
    if found.forward.keeps and may_outgrow(found):
        shapes = Parameters(found.forward, known.numbers, known.real).bound(primals).shapes
        kept = max(math.prod(shapes[name]) for name in found.forward.keeps)
        rest = sum(math.prod(shapes[name]) for name in (*known.names, *operator.results))
        if is_much(kept, rest):
            return reversal(operator, moving, keep=False)
    return found


def _no_tangent(x: Any) -> Any:
    return ad.Zero(jax.typeof(x).to_tangent_aval())


# ----------------------------------------------------------------------------------------- backwards


def _transpose(cotangents: Sequence[Any], *operands: Any, **parameters: Any) -> list[Any]:
    known = Parameters(**parameters)
    operator, linear, names = known.operator, known.linear, known.names
    unknown = {n: x for n, x in zip(names, operands, strict=False) if ad.is_undefined_primal(x)}
    values = {n: x for n, x in zip(names, operands, strict=False) if n not in unknown}
    seeds = dict(zip(operator.delivers, cotangents, strict=True))
    if linear is not None and linear.adjoint is not None and set(unknown) <= set(linear.dots):
        back = linear.adjoint
        values.update(zip(linear.held, operands[len(names) :], strict=True))
        seeds = {of: seeds[n] for of, n in zip(linear.moved, operator.results, strict=True)}
        sources = dict(zip(linear.dots, linear.moving, strict=True))
    else:
        back = reversal(operator, tuple(unknown), keep=False)
        _refuse_what_is_not_linear(operator, back, tuple(unknown))
        sources = {name: name for name in unknown}
        # Read by nothing; but the header names them.
        values.update((n, jax.numpy.zeros(x.aval.shape, x.aval.dtype)) for n, x in unknown.items())
    named = {
        seed: ad.instantiate_zeros(seeds[result])
        for result, seed in zip(back.forward.results, back.seeds, strict=True)
        if seed is not None
    }
    bound = known.bound([x.aval if ad.is_undefined_primal(x) else x for x in operands])
    found = bind(
        [{**values, **named}[i.name] for i in back.backward.inputs],
        back.backward,
        sites.for_numbers(back.backward, bound, known.numbers),
        known.real,
        Linear(tuple(named)),
    )
    places = dict(zip((i.name for i in back.forward.inputs), back.gradients, strict=True))
    gradients: dict[str, Any] = {}
    for name, x in unknown.items():
        place = places[sources[name]]
        gradients[name] = ad.Zero(x.aval) if place is None else found[place]
    return [*(gradients.get(name) for name in names), *(None for _ in operands[len(names) :])]


def _refuse_what_is_not_linear(operator: Operator, back: Reversal, wanted: Sequence[str]) -> None:
    read = tensors_read(back.backward.computes.unfold().statements)
    for name in wanted:
        if name in read:
            raise TypeError(f"{operator.name} is not linear in `{name}`, and has no transpose")


ad.primitive_jvps[primitive] = _jvp
ad.primitive_transposes[primitive] = _transpose
