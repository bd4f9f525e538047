"""JAX's transformations of a program, each against the same one of JAX's own operations."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

jax = pytest.importorskip("jax")

import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import loopgrad as lg

RNG = np.random.default_rng(7)
# Reductions, products, a parameter; and cheap to differentiate many times.
OURS = lg.jax.function("""ours(x[B,J], param γ[J], param β[J]) batch B -> y[B,J]:
    for b, j:  m[b]   += x[b,j]**2 / J
    for b, j:  y[b,j] += γ[j] * x[b,j] * m[b] + β[j]""")


def theirs(x: Any, γ: Any, β: Any) -> Any:
    return γ * x * (x**2).mean(1, keepdims=True) + β


def normal(*shape: int) -> Any:
    return RNG.normal(size=shape)


X, G, B, W = normal(4, 5), normal(5), normal(5), normal(4, 5)
XS, GS = normal(3, 4, 5), normal(3, 5)


def loss(f: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *a: (f(*a) * W).sum() + (f(*a) ** 2).sum()


def cubes(f: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *a: (f(*a) ** 3).sum()


def recurrent(f: Callable[..., Any]) -> Callable[..., Any]:
    def run(x: Any, γ: Any, β: Any) -> Any:
        step = lambda h, t: (f(h + t, γ, β), h.sum())
        return (jax.lax.scan(step, x, XS)[0] * W).sum()

    return run


def along(f: Callable[..., Any]) -> Callable[..., Any]:
    """Gradients of a mapped tangent."""
    moved = lambda x, γ, β, t: jax.jvp(lambda z: f(z, γ, β), (x,), (t,))[1]
    return lambda *a: (jax.vmap(lambda t: moved(*a, t))(XS) ** 2).sum()


def transposed(f: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, γ, β: jax.linear_transpose(
        jax.linearize(lambda z: f(z, γ, β), x)[1], jax.ShapeDtypeStruct(x.shape, x.dtype)
    )(W)


def twice_transposed(f: Callable[..., Any]) -> Callable[..., Any]:
    def run(x: Any, γ: Any, β: Any) -> Any:
        like = jax.ShapeDtypeStruct(x.shape, x.dtype)
        push = jax.linearize(lambda z: f(z, γ, β), x)[1]
        pull = lambda c: jax.linear_transpose(push, like)(c)[0]
        return jax.linear_transpose(pull, like)(W)

    return run


ALL = (0, 1, 2)
MAPPED = (XS, GS, B)
CASES: dict[str, tuple[Callable[[Callable[..., Any]], Callable[..., Any]], tuple[Any, ...]]] = {
    "call": (lambda f: f, (X, G, B)),
    "grad": (lambda f: jax.grad(loss(f), ALL), (X, G, B)),
    "jvp": (lambda f: lambda *a: jax.jvp(f, a, (W, B, G)), (X, G, B)),
    "jacfwd": (lambda f: jax.jacfwd(f, ALL), (X, G, B)),
    "jacrev": (lambda f: jax.jacrev(f, ALL), (X, G, B)),
    "hessian": (lambda f: jax.hessian(loss(f), (0, 1)), (X, G, B)),
    "reverse over reverse": (lambda f: jax.jacrev(jax.grad(loss(f), ALL), ALL), (X, G, B)),
    "reverse over forward": (lambda f: jax.jacrev(jax.jacfwd(loss(f), (0, 1)), (0, 1)), (X, G, B)),
    "third order": (lambda f: jax.jacfwd(jax.jacrev(jax.grad(loss(f), 1), 1), 1), (X, G, B)),
    "vmap": (lambda f: jax.vmap(f, (0, None, None)), (*MAPPED[:1], G, B)),
    "vmap of two": (lambda f: jax.vmap(f, (0, 0, None)), MAPPED),
    "vmap of another axis": (
        lambda f: jax.vmap(f, (1, None, None), out_axes=2),
        (normal(4, 3, 5), G, B),
    ),
    "vmap of vmap": (
        lambda f: jax.vmap(jax.vmap(f, (0, None, None)), (None, 0, None)),
        (XS, GS, B),
    ),
    "vmap of grad": (lambda f: jax.vmap(jax.grad(loss(f), ALL), (0, 0, None)), MAPPED),
    "grad of vmap": (lambda f: jax.grad(cubes(jax.vmap(f, (0, 0, None))), ALL), MAPPED),
    "hessian of vmap": (lambda f: jax.hessian(cubes(jax.vmap(f, (0, 0, None))), 1), MAPPED),
    "grad of vmap of jvp": (lambda f: jax.grad(along(f), ALL), (X, G, B)),
    "linear_transpose": (transposed, (X, G, B)),
    "its transpose": (twice_transposed, (X, G, B)),
    "checkpoint": (lambda f: jax.grad(jax.checkpoint(loss(f)), ALL), (X, G, B)),
    "scan": (lambda f: jax.grad(recurrent(f), ALL), (X, G, B)),
    "hessian of scan": (lambda f: jax.hessian(recurrent(f), 1), (X, G, B)),
    "vmap of scan": (lambda f: jax.vmap(jax.grad(recurrent(f), ALL), (0, None, None)), (XS, G, B)),
    "fori_loop": (
        lambda f: lambda x, γ, β: jax.lax.fori_loop(0, 3, lambda i, h: f(h, γ, β), x),
        (X, G, B),
    ),
    "cond": (
        lambda f: jax.grad(lambda *a: jax.lax.cond(a[0].sum() > 99, cubes(f), loss(f), *a)),
        (X, G, B),
    ),
}


def same(f: Callable[..., Any], g: Callable[..., Any], values: Any, atol: float = 1e-11) -> None:
    got, wanted = f(*values), g(*values)
    assert jax.tree.structure(got) == jax.tree.structure(wanted)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=atol)


@pytest.mark.parametrize("case", CASES)
def test_as_of_jaxs_own(case: str) -> None:
    transformation, values = CASES[case]
    values = tuple(map(jnp.asarray, values))
    same(jax.jit(transformation(OURS)), jax.jit(transformation(theirs)), values)


# ------------------------------------------------------------------------------------- many devices


def devices() -> int:
    found: int = jax.local_device_count()
    if found < 2:
        pytest.skip("another test had started JAX, with one device")
    return found


@pytest.mark.filterwarnings("ignore:.*pmap.*")
@pytest.mark.parametrize("gradients", [False, True])
def test_pmap(gradients: bool) -> None:
    devices()
    summed = lambda f: lambda *a: jax.lax.psum(jax.grad(loss(f), (1, 2))(*a), "i")
    of = lambda f: jax.pmap(summed(f) if gradients else f, "i", in_axes=(0, None, None))
    same(of(OURS), of(theirs), (normal(2, 4, 5), G, B))


SHARDED: dict[str, Callable[[Callable[..., Any], Any], Callable[..., Any]]] = {
    "values": lambda f, over: over(f, out_specs=P("i")),
    "unchecked": lambda f, over: over(f, out_specs=P("i"), check_vma=False),
    # The gradient of what all devices have in common is summed over them, by JAX's rules.
    "grad inside": lambda f, over: over(jax.grad(cubes(f), (1, 2)), out_specs=P()),
    "grad outside": lambda f, over: jax.grad(cubes(over(f, out_specs=P("i"))), ALL),
    "hessian outside": lambda f, over: jax.hessian(cubes(over(f, out_specs=P("i"))), (0, 1)),
}


@pytest.mark.parametrize("case", SHARDED)
def test_shard_map(case: str) -> None:
    mesh = jax.make_mesh((devices(),), ("i",), axis_types=(AxisType.Auto,))
    over = partial(jax.shard_map, mesh=mesh, in_specs=(P("i"), P(), P()))
    of = lambda f: jax.jit(SHARDED[case](f, over))
    same(of(OURS), of(theirs), tuple(map(jnp.asarray, (X, G, B))))


def test_arrays_that_are_spread_over_devices() -> None:
    mesh = jax.make_mesh((devices(),), ("i",), axis_types=(AxisType.Auto,))
    x = jax.device_put(X, NamedSharding(mesh, P("i")))
    of = lambda f: jax.jit(jax.grad(loss(f), ALL))
    same(of(OURS), of(theirs), (x, G, B))


EXPLICIT: dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]] = {
    "values": lambda f: f,
    "jitted": jax.jit,
    "grad": lambda f: jax.jit(jax.grad(loss(f), ALL)),
    "hessian": lambda f: jax.jit(jax.hessian(loss(f), 1)),
    "vmap": lambda f: jax.vmap(lambda row, γ, β: f(row[None], γ, β)[0], (0, None, None)),
    "shard_map": lambda f: jax.jit(jax.shard_map(f, in_specs=(P("i"), P(), P()), out_specs=P("i"))),
}


@pytest.mark.parametrize("case", EXPLICIT)
def test_arrays_whose_types_say_how_they_are_spread(case: str) -> None:
    """A program takes the whole; its gradients are spread as what they are gradients of."""
    mesh = jax.make_mesh((devices(),), ("i",), axis_types=(AxisType.Explicit,))
    with jax.set_mesh(mesh):
        given = (jax.device_put(X, P("i")), jnp.asarray(G), jnp.asarray(B))
        got = EXPLICIT[case](OURS)(*given)
        same(lambda: got, lambda: EXPLICIT[case](theirs)(*given), ())
        if case == "grad":
            assert jax.typeof(got[0]).sharding == jax.typeof(given[0]).sharding


# ---------------------------------------------------------------------------- JAX's aids for mistakes


def test_without_jit() -> None:
    with jax.disable_jit():
        same(jax.grad(loss(OURS), ALL), jax.grad(loss(theirs), ALL), (X, G, B))


@pytest.mark.parametrize("jit", [False, True])
def test_where_a_nan_comes_from(jit: bool) -> None:
    logs = lg.jax.function("logs(x[N]) -> y[N]:\n    y[n] = log(x[n])")
    with jax.debug_nans(True), pytest.raises(FloatingPointError, match="in logs"):
        (jax.jit(logs) if jit else logs)(jnp.array([1.0, -1.0]))
