"""The primitive of JAX that runs an operator: its shapes, its maps, and what XLA makes of it.

An equation's operands are the inputs `operator.inputs`, and behind them, where `linear` says so, what
its adjoint alone reads. Its results are `operator.delivers`. How it is differentiated stands in
differentiating.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax
import numpy as np
from jax.extend.core import Primitive
from jax.extend.mlir import ir
from jax.extend.mlir.dialects import stablehlo
from jax.interpreters import batching, mlir
from jax.sharding import NamedSharding, PartitionSpec

from loopgrad.backends.binding import Arguments
from loopgrad.backends.shapes import Shape
from loopgrad.interop.jax import handler, sites
from loopgrad.interop.jax.sites import Numbers
from loopgrad.interop.operators import Operator, Reversal, batched


@dataclass(frozen=True)
class Linear:
    """What is known of an operator that is linear in some of its inputs, `dots`.

    adjoint: the reversal whose backward transposes it, None where that is still to be derived. The dots
        are the tangents of the inputs `moving` of what it reverses, the results those of its results
        `moved`. held: what its backward reads of the forward's results, as operands of the equation.
    """

    dots: tuple[str, ...]
    adjoint: Reversal | None = None
    moving: tuple[str, ...] = ()
    moved: tuple[str, ...] = ()
    held: tuple[str, ...] = ()


@dataclass(frozen=True)
class Parameters:
    """What an equation has beside its operands: `real` is the floating type of them all."""

    operator: Operator
    numbers: Numbers
    real: str
    linear: Linear | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Of the operands, without what the adjoint alone reads."""
        return tuple(i.name for i in self.operator.inputs)

    def bound(self, operands: Sequence[Any]) -> Arguments:
        """What a call comes to, of operands that have shapes."""
        shapes = {name: x.shape for name, x in zip(self.names, operands, strict=False)}
        return sites.bound(self.operator, self.own, _computes(self.operator, shapes), self.real)

    @property
    def own(self) -> Numbers:
        """The numbers that the code takes."""
        computes = self.operator.computes
        names = {s.name for s in computes.sizes} | {c.name for c in computes.constants}
        return tuple((name, value) for name, value in self.numbers if name in names)


def _computes(operator: Operator, values: Mapping[str, Any]) -> list[Any]:
    """What the code takes of the operator's inputs."""
    return [values[i.name] for i in operator.computes.inputs]


primitive = Primitive("loopgrad")
primitive.multiple_results = True


def bind(
    operands: Sequence[Any],
    operator: Operator,
    numbers: Numbers,
    real: str,
    linear: Linear | None = None,
) -> list[Any]:
    """The results of an operator, then what it keeps."""
    parameters = {"operator": operator, "numbers": numbers, "real": real, "linear": linear}
    return list(primitive.bind(*_varying_alike([*map(_whole, operands)]), **parameters))


# ------------------------------------------------------------------------------------------- shapes


def _abstract(*avals: Any, **parameters: Any) -> list[Any]:
    known = Parameters(**parameters)
    shapes = known.bound(avals).shapes
    floating, integer = np.dtype(known.real), jax.dtypes.canonicalize_dtype(np.int64)
    return [
        _result(shapes[name], floating if name in known.operator.floating else integer, avals)
        for name in known.operator.delivers
    ]


def _result(shape: Shape, dtype: Any, operands: Sequence[Any]) -> Any:
    """The abstract value of a result: on each device where the operands are, and whole there."""
    if not operands:
        return jax.core.ShapedArray(shape, dtype)
    mesh = operands[0].sharding.mesh
    whole = NamedSharding(mesh, PartitionSpec(*(None for _ in shape)))
    return operands[0].update(shape=shape, dtype=dtype, weak_type=False, sharding=whole)


def _whole(x: Any) -> Any:
    """A value that is whole on each device: gathered, where its type says that it is spread over some.

    Types do under axes of a mesh that are `Explicit`; elsewhere XLA gathers by itself.
    """
    sharding = jax.typeof(x).sharding
    if all(axes is None for axes in sharding.spec):
        return x
    whole = NamedSharding(sharding.mesh, PartitionSpec(*(None for _ in sharding.spec)))
    return jax.sharding.reshard(x, whole)


def _varying_alike(operands: Sequence[Any]) -> Sequence[Any]:
    """The operands as values of each device of `shard_map`, where one is: what JAX does for `x + y`.

    So the gradient of one that all devices have in common is summed over them.
    """
    axes = [_axes_of(x) for x in operands]
    union = dict.fromkeys(axis for each in axes for axis in each)
    missing = [tuple(axis for axis in union if axis not in own) for own in axes]
    return [_varying(x, more) if more else x for x, more in zip(operands, missing, strict=True)]


def _varying(x: Any, axes: tuple[Any, ...]) -> Any:
    if hasattr(jax.lax, "pcast"):
        return jax.lax.pcast(x, axes, to="varying")
    return jax.lax.pvary(x, axes)  # before JAX 0.9


def _axes_of(x: Any) -> Sequence[Any]:
    """The axes of a mesh along which the value differs from device to device, as JAX tracks them."""
    aval = jax.typeof(x)
    manual = getattr(aval, "mat", None)  # since JAX 0.10; before that, the aval has it itself
    return tuple(sorted(getattr(aval, "vma", ()) if manual is None else manual.varying))


# ------------------------------------------------------------------------------------------- batches


def _batch(
    operands: Sequence[Any], axes: Sequence[Any], **parameters: Any
) -> tuple[list[Any], list[int | None]]:
    known = Parameters(**parameters)
    moved = [
        x if axis is None else jax.numpy.moveaxis(x, axis, 0)
        for _, x, axis in zip(known.names, operands, axes, strict=False)
    ]
    mapped = [name for name, axis in zip(known.names, axes, strict=False) if axis is not None]
    # What the adjoint reads is not that of the new operator, whose own is derived when it is asked for.
    linear = None if known.linear is None else Linear(known.linear.dots)
    if not mapped:
        found = bind(moved, known.operator, known.numbers, known.real, linear)
        return found, [None] * len(found)
    made = batched(known.operator, mapped)
    found = bind(moved, made.operator, known.numbers, known.real, linear)
    return found, [0 if has else None for has in made.moved]


# --------------------------------------------------------------------------------------------- XLA


def _lower(ctx: Any, *operands: Any, **parameters: Any) -> Sequence[Any]:
    known = Parameters(**parameters)
    operator = known.operator
    avals = _computes(operator, dict(zip(known.names, ctx.avals_in, strict=False)))
    values = _computes(operator, dict(zip(known.names, operands, strict=False)))
    narrow = jax.dtypes.canonicalize_dtype(np.int64) != np.int64
    shapes = [aval.shape for aval in avals]
    site = handler.enter(sites.make(operator, known.own, shapes, known.real, narrow))
    given = [_aval(a.shape, d) for a, d in zip(avals, site.given, strict=True)]
    made = [_aval(shape, dtype) for _, shape, dtype in site.results]
    if site.scratch:
        made.append(_aval((site.scratch,), np.dtype(np.uint8)))
    found = jax.ffi.ffi_lowering(handler.TARGET)(
        ctx.replace(avals_in=given, avals_out=made),
        *map(_converted, values, avals, given),
        **{handler.TEXT: site.text, handler.NUMBER: np.int64(site.number)},
    )
    return [
        _converted(value, has, wanted)
        for value, has, wanted in zip(found, made, ctx.avals_out, strict=False)
    ]


def _aval(shape: Shape, dtype: Any) -> Any:
    return jax.core.ShapedArray(shape, dtype)


def _converted(value: Any, has: Any, wanted: Any) -> Any:
    """JAX has integers of 32 bits, mostly; the code has 64."""
    if has.dtype == wanted.dtype:
        return value
    kind = ir.RankedTensorType.get(wanted.shape, mlir.dtype_to_ir_type(wanted.dtype))
    return stablehlo.convert(kind, value)


@lru_cache(maxsize=4096)
def _jitted(**parameters: Any) -> Any:
    def run(*operands: Any) -> Any:
        return primitive.bind(*operands, **parameters)

    run.__name__ = run.__qualname__ = parameters["operator"].name
    # As JAX has it for its own: what `jax_debug_nans` finds is said, and not looked for in pieces.
    run._apply_primitive = True  # type: ignore[attr-defined]
    return jax.jit(run)


def _run(*operands: Any, **parameters: Any) -> Any:
    """A call outside of all transformations. It is compiled under `jax.disable_jit` too, as is JAX's own."""
    if jax.config.jax_disable_jit:
        with jax.disable_jit(False):
            return _jitted(**parameters)(*operands)
    return _jitted(**parameters)(*operands)


primitive.def_impl(_run)
primitive.def_abstract_eval(_abstract)
batching.primitive_batchers[primitive] = _batch
mlir.register_lowering(primitive, _lower, platform="cpu")
