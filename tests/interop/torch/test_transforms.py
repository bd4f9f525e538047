"""`torch.func` and forward mode, nested in every way, against PyTorch's own functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import loopgrad as lg
from tests.effort import FULL
from tests.interop.torch.cases import GROUP_NORM, seeded

torch = pytest.importorskip("torch")
forward_ad = pytest.importorskip("torch.autograd.forward_ad")
grad, vjp, jvp, vmap = torch.func.grad, torch.func.vjp, torch.func.jvp, torch.func.vmap
jacrev, jacfwd, hessian = torch.func.jacrev, torch.func.jacfwd, torch.func.hessian
functional_call, linearize = torch.func.functional_call, torch.func.linearize

SOFTMAX = lg.torch.function(lg.lib.softmax)
AFFINE = lg.torch.function(lg.lib.affine)


def native(s: Any) -> Any:
    return s.softmax(-1)


def loss(function: Callable[..., Any]) -> Callable[..., Any]:
    """Of a row; cubes, so that second and third derivatives are something."""
    return lambda row: (function(row[None]) ** 3 * torch.arange(1.0, 1 + row.shape[-1])).sum()


# Each takes a function of a matrix and gives one of a matrix.
TRANSFORMS: dict[str, Callable[[Callable[..., Any]], Callable[[Any], Any]]] = {
    "jacrev": jacrev,
    "jacfwd": jacfwd,
    "jacrev of jacrev": lambda f: jacrev(jacrev(f)),
    "jacrev of jacfwd": lambda f: jacrev(jacfwd(f)),
    "jacfwd of jacrev": lambda f: jacfwd(jacrev(f)),
    "jacfwd of jacfwd": lambda f: jacfwd(jacfwd(f)),
    "vmap": lambda f: vmap(lambda row: f(row[None])),
    "vmap over columns": lambda f: vmap(lambda row: f(row[None]), in_dims=1, out_dims=1),
    "vmap of vmap": lambda f: (
        lambda s: vmap(vmap(f, in_dims=1), in_dims=2)(
            s[:, :, None, None] * torch.arange(6.0).reshape(2, 3)
        )
    ),
    "a gradient for each example": lambda f: vmap(grad(loss(f))),
    "a hessian for each example": lambda f: vmap(hessian(loss(f))),
    "grad of vmap": lambda f: grad(lambda s: vmap(loss(f))(s).sum()),
    "hessian of vmap": lambda f: hessian(lambda s: vmap(loss(f))(s).sum()),
    "grad of grad": lambda f: grad(lambda s: (grad(lambda s: (f(s) ** 3).sum())(s) ** 2).sum()),
    "third": lambda f: lambda s: jacfwd(jacrev(grad(loss(f))))(s[0]),
    "vjp": lambda f: lambda s: vjp(f, s)[1](s.cos())[0],
    "jvp": lambda f: lambda s: jvp(f, (s,), (s.cos(),)),
    "jvp of vjp": lambda f: lambda s: jvp(lambda s: vjp(f, s)[1](s.sin())[0], (s,), (s.cos(),)),
    "linearize": lambda f: lambda s: linearize(f, s)[1](s.cos()),
}


SLOW = {
    "third",
    "hessian of vmap",
    "jacfwd of jacfwd",
    "jacrev of jacfwd",
    "grad of grad",
}  # to derive


@pytest.mark.parametrize("name", [name for name in TRANSFORMS if FULL or name not in SLOW])
def test_transforms(name: str) -> None:
    s = seeded(3, 4)
    got, wanted = TRANSFORMS[name](SOFTMAX)(s), TRANSFORMS[name](native)(s)
    torch.testing.assert_close(got, wanted)


def test_the_operator_is_transformed_too() -> None:
    s = seeded(2, 3)
    torch.testing.assert_close(hessian(loss(SOFTMAX.operator))(s[0]), hessian(loss(native))(s[0]))


def test_a_map_over_some_arguments() -> None:
    x, W, c = seeded(2, 4), seeded(5, 3, 4), seeded(3)
    linear = torch.nn.functional.linear
    for dims in [(None, 0, None), (None, 0, 0), (0, 0, None)]:
        given = [
            t if d is None or t.ndim == n else t.expand(5, *t.shape).clone()
            for t, d, n in zip((x, W, c), dims, (3, 3, 2), strict=True)
        ]
        got = vmap(AFFINE, in_dims=dims)(*given)
        torch.testing.assert_close(got, vmap(linear, in_dims=dims)(*given))


def test_a_map_over_labels_and_an_integer_result() -> None:
    count = lg.torch.function(
        "f(int k[N], x[N]) -> n, y[N]:\n    for i:  n += k[i]\n    y[i] = x[i] * k[i]"
    )
    k, x = torch.arange(6).reshape(2, 3), seeded(3)
    n, y = vmap(count, in_dims=(0, None))(k, x)
    torch.testing.assert_close(n, k.sum(-1))
    torch.testing.assert_close(y, k * x)


def test_a_result_that_does_not_depend_on_what_is_mapped() -> None:
    two = lg.torch.function(
        "f(x[N], y[M]) -> a[N], b[M]:\n    a[n] = x[n] ** 2\n    b[m] = y[m] ** 3"
    )
    x, y = seeded(2, 3), seeded(4)
    a, b = vmap(two, in_dims=(0, None), out_dims=(0, None))(x, y)
    torch.testing.assert_close((a, b), (x**2, y**3))


def test_a_map_with_sizes_and_constants() -> None:
    norm = lg.torch.function(GROUP_NORM)
    x, γ, β = seeded(3, 2, 6, 5), seeded(6), seeded(6)
    got = vmap(lambda x: norm(x, γ, β, G=3, eps=0.1))(x)
    wanted = vmap(lambda x: torch.nn.functional.group_norm(x, 3, γ, β, 0.1))(x)
    torch.testing.assert_close(got, wanted)


def test_gradients_of_stacked_models() -> None:
    """An ensemble, as PyTorch's tutorials make one."""
    models = [lg.torch.Module(lg.lib.affine, I=4, J=3, dtype=torch.float64) for _ in range(3)]
    stacked, _ = torch.func.stack_module_state(models)
    x = seeded(5, 4)

    def of(parameters: Any) -> Any:
        return functional_call(models[0], parameters, (x,)).square().sum()

    got = vmap(grad(of))(stacked)
    for n, model in enumerate(models):
        model(x).square().sum().backward()
        torch.testing.assert_close(got["W"][n], model.W.grad)


def test_forward_mode_without_torch_func() -> None:
    s, d = seeded(3, 4), seeded(3, 4, seed=1)
    with forward_ad.dual_level():
        p = SOFTMAX(forward_ad.make_dual(s, d))
        primal, tangent = forward_ad.unpack_dual(p)
    torch.testing.assert_close((primal, tangent), jvp(native, (s,), (d,)))


def test_batched_gradients_of_a_graph() -> None:
    s, seeds = seeded(3, 4).requires_grad_(), seeded(5, 3, 4, seed=1)
    (got,) = torch.autograd.grad(SOFTMAX(s), s, seeds, is_grads_batched=True)
    (wanted,) = torch.autograd.grad(native(s), s, seeds, is_grads_batched=True)
    torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("strategy", ["forward-mode", "reverse-mode"])
def test_the_older_functional_interface(strategy: str) -> None:
    s = seeded(2, 3)
    options = {"vectorize": True, "strategy": strategy}
    got = torch.autograd.functional.jacobian(SOFTMAX, s, **options)
    torch.testing.assert_close(got, torch.autograd.functional.jacobian(native, s))


@pytest.mark.parametrize("times", [1, 2])  # the first backward of a kind has code made for others
def test_tangents_of_gradients_of_what_has_none(times: int) -> None:
    """The seed alone has one: no graph of the backward is asked for."""
    s, seed, tangent = seeded(3, 7).requires_grad_(), seeded(3, 7, seed=1), seeded(3, 7, seed=2)
    for _ in range(times):
        got, wanted = SOFTMAX(s), native(s)
        with forward_ad.dual_level():
            dual = forward_ad.make_dual(seed, tangent)
            (one,) = torch.autograd.grad(got, s, dual)
            (other,) = torch.autograd.grad(wanted, s, dual)
            torch.testing.assert_close(
                forward_ad.unpack_dual(one).tangent, forward_ad.unpack_dual(other).tangent
            )
