"""Several of PyTorch's features at once: what each does alone is tested beside this."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from typing import Any

import pytest

import loopgrad as lg
from tests.effort import FULL
from tests.interop.torch.cases import seeded

torch = pytest.importorskip("torch")
checkpoint = pytest.importorskip("torch.utils.checkpoint").checkpoint

SOFTMAX = lg.torch.function(lg.lib.softmax)
COMPILE = {"fullgraph": True, "backend": "aot_eager"}


SLOW = pytest.mark.skipif(not FULL, reason="LOOPGRAD_FULL=1 runs it")


def native(s: Any) -> Any:
    return s.softmax(-1)


def cubed(function: Any) -> Any:
    return lambda row: (function(row[None]) ** 3).sum()


@SLOW
def test_hessians_mapped_and_hessians_of_maps() -> None:
    hessian, vmap, x = torch.func.hessian, torch.func.vmap, seeded(2, 3)
    found = [
        (vmap(hessian(cubed(f)))(x), hessian(lambda x, f=f: vmap(cubed(f))(x).sum())(x))
        for f in (SOFTMAX, native)
    ]
    torch.testing.assert_close(*found)


@SLOW
def test_a_second_derivative_within_a_compiled_function() -> None:
    grad = torch.func.grad
    torch._dynamo.reset()

    def twice(f: Any) -> Any:
        return grad(lambda x: (grad(lambda z: (f(z) ** 3).sum())(x) ** 2).sum())

    compiled = torch.compile(lambda x: twice(SOFTMAX)(x), **COMPILE)
    torch.testing.assert_close(compiled(seeded(3, 4)), twice(native)(seeded(3, 4)))


def test_a_compiled_network_under_autocast() -> None:
    torch._dynamo.reset()
    layers = torch.nn.Linear(4, 4), lg.torch.Module(lg.lib.affine, I=4, J=3), torch.nn.Linear(3, 2)
    network = torch.nn.Sequential(*layers)
    compiled = torch.compile(network, **COMPILE)
    x = seeded(2, 4, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got, wanted = compiled(x), network(x)
    torch.testing.assert_close(got, wanted, rtol=2e-2, atol=2e-2)
    got.float().sum().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_a_compiled_function_of_transposed_tensors_of_any_size() -> None:
    torch._dynamo.reset()
    compiled = torch.compile(lambda x: SOFTMAX(x.t()) * 2, dynamic=True, **COMPILE)
    for n in (3, 5, 1):
        x = seeded(4, n).requires_grad_()
        y = compiled(x)
        torch.testing.assert_close(y, native(x.t()) * 2)
        assert y.is_contiguous()
        (got,) = torch.autograd.grad(y, x, seeded(n, 4, seed=1))
        (wanted,) = torch.autograd.grad(native(x.t()) * 2, x, seeded(n, 4, seed=1))
        torch.testing.assert_close(got, wanted)


LAYOUTS = {
    "transposed": lambda: seeded(4, 3).t(),
    "expanded": lambda: seeded(1, 4).expand(3, 4),
    "every second": lambda: seeded(3, 8)[:, ::2],
    "from the middle": lambda: seeded(2, 3, 4)[1],
    "negative": lambda: torch.complex(seeded(3, 4), seeded(3, 4, seed=1)).conj().imag,
}


@pytest.mark.parametrize("of_seed", LAYOUTS)
@pytest.mark.parametrize("of_input", LAYOUTS)
def test_layouts_of_inputs_and_seeds(of_input: str, of_seed: str) -> None:
    x, seed = LAYOUTS[of_input]().detach().requires_grad_(), LAYOUTS[of_seed]()
    got, wanted = (torch.autograd.grad(f(x), x, seed)[0] for f in (SOFTMAX, native))
    torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("size", [(3, 4), (0, 4), (300, 900)])
def test_zeros_without_memory(size: tuple[int, int]) -> None:
    """PyTorch's gradient of `torch.sgn` is a tensor whose address is 0."""
    x = seeded(*size).requires_grad_()

    def no_slope() -> Any:
        return torch.autograd.grad(torch.sgn(SOFTMAX(x)).sum(), x)[0]

    assert not no_slope().any()  # as the first
    torch.autograd.grad(SOFTMAX(x), x, seeded(*size))
    assert not no_slope().any()  # and where there is code for seeds of this shape
    torch.testing.assert_close(SOFTMAX(no_slope()), native(torch.zeros_like(x)))
    zeros = torch.autograd.grad(torch.sgn(x).sum(), x)[0]
    assert size[0] == 0 or zeros._is_zerotensor()
    for _ in range(2):
        torch.testing.assert_close(SOFTMAX(zeros), native(torch.zeros_like(x)))
        torch.testing.assert_close(SOFTMAX(zeros.float()), native(torch.zeros_like(x.float())))
        SOFTMAX(x.detach())


@pytest.mark.parametrize("own", [False, True], ids=["for all", "a tensor's own"])
def test_hooks_that_give_back_another_type(own: bool) -> None:
    """What one call's hook gives back says nothing of others; what is given back is read as it is."""
    square = lg.torch.function(f"f(x[N]) -> y[N]:\n    y[n] = x[n] ** {3 if own else 2}")

    def slope(unpack: Any) -> Any:
        x = torch.arange(1.0, 8.0, requires_grad=True)
        hooks = torch.autograd.graph.saved_tensors_hooks(_same, unpack)
        with nullcontext() if own else hooks:
            y = square(x)
        if own and unpack is not _same:
            for saved in y.grad_fn._raw_saved_tensors:
                saved.register_hooks(torch.clone, unpack)
        return torch.autograd.grad(y.sum(), x)[0]

    wanted = 3 * torch.arange(1.0, 8.0) ** 2 if own else 2 * torch.arange(1.0, 8.0)
    for unpack in (torch.Tensor.double, _same, torch.Tensor.double, _same):
        torch.testing.assert_close(slope(unpack), wanted)
    with pytest.raises(ValueError, match="extent `N` is"):
        slope(lambda t: t[:1].clone())


def _same(tensor: Any) -> Any:
    return tensor


def test_the_backward_has_the_threads_that_there_are() -> None:
    """Bits depend on their number alone, and not on that of the first backward of its kind."""
    norm, x, seed, gain = (
        lg.torch.function(lg.lib.layer_norm),
        *(seeded(200, 97, dtype=torch.float32, seed=n) for n in (0, 1)),
        seeded(97, dtype=torch.float32),
    )

    def slope(forward: int, backward: int) -> Any:
        of = gain.clone().requires_grad_()
        torch.set_num_threads(forward)
        y = norm(x, of, gain)
        torch.set_num_threads(backward)
        return torch.autograd.grad(y, of, seed)[0]

    before = torch.get_num_threads()
    try:
        first = slope(2, 1)
        two, one = slope(2, 2), slope(1, 1)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(first, one) and not torch.equal(two, one)


def test_modules_called_with_other_parameters_and_many() -> None:
    layer, x = lg.torch.Module(lg.lib.affine, I=4, J=3), seeded(2, 4, dtype=torch.float32)
    known = {n: seeded(5, *p.shape, dtype=torch.float32) for n, p in layer.named_parameters()}

    def call(parameters: Any) -> Any:
        return torch.func.functional_call(layer, parameters, (x,))

    got = torch.func.vmap(call)(known)
    torch.testing.assert_close(got, x @ known["W"].mT + known["c"][:, None])
    slopes = torch.func.grad(lambda p: call(p).square().sum())({n: p[0] for n, p in known.items()})
    y = x @ known["W"][0].T + known["c"][0]
    torch.testing.assert_close(slopes["W"], 2 * y.T @ x)


def test_a_checkpoint_differentiated_twice() -> None:
    found = []
    for f in (lambda x: checkpoint(SOFTMAX, x, use_reentrant=False), native):
        x = seeded(3, 4).requires_grad_()
        (first,) = torch.autograd.grad((f(x) ** 2).sum(), x, create_graph=True)
        found.append(torch.autograd.grad(first.square().sum(), x)[0])
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("strict", [False, True])
def test_a_module_exported_with_a_dimension_left_open(strict: bool) -> None:
    layer, rows = lg.torch.Module(lg.lib.affine, I=4, J=3), torch.export.Dim("rows")
    given = (seeded(3, 4, dtype=torch.float32),)
    shapes = (({0: rows},),)  # in a tuple more, as a module takes any number of tensors
    exported = torch.export.export(layer, given, dynamic_shapes=shapes, strict=strict).module()
    x = seeded(9, 4, dtype=torch.float32)
    torch.testing.assert_close(exported(x), layer(x))


def test_labels_of_any_width_mapped_and_compiled() -> None:
    torch._dynamo.reset()
    embedding, E = lg.torch.function(lg.lib.embedding), seeded(5, 2).requires_grad_()
    compiled = torch.compile(lambda w, E: embedding(w, E), dynamic=True, **COMPILE)
    for dtype in (torch.uint8, torch.int32, torch.int64):
        w = torch.tensor([[0, 3, 3]], dtype=dtype)
        wanted = E[w.long()]
        torch.testing.assert_close(compiled(w, E), wanted)
        torch.testing.assert_close(torch.func.vmap(embedding, (0, None))(w[None], E)[0], wanted)


def test_backward_in_another_thread_and_only_once() -> None:
    x = seeded(3, 4).requires_grad_()
    y = SOFTMAX(x).square().sum()
    thread = threading.Thread(target=y.backward)
    thread.start()
    thread.join()
    torch.testing.assert_close(x.grad, torch.autograd.grad(native(x).square().sum(), x)[0])
    with pytest.raises(RuntimeError, match="second time"):
        y.backward()


@pytest.mark.parametrize("integers", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_integers_beside_floats_are_what_pytorch_makes_of_them(integers: torch.dtype) -> None:
    """float32 and int64 are float32 to PyTorch, and float64 to NumPy."""
    multiply = lg.torch.function("multiply(x[N], y[N]) -> z[N]:\n    z[n] = x[n] * y[n]")
    scale = lg.torch.function("scale(x[N], a) -> z[N]:\n    z[n] = x[n] * a")
    for count in (1, 5, 1000):
        x = torch.randn(count, requires_grad=True)
        y = torch.randint(0, 100, (count,)).to(integers)
        for found, expected in (
            (multiply(x, y), x * y),
            (multiply.operator(x, y), x * y),
            (scale(y, 2.5), y * 2.5),
            (scale(y, torch.tensor(2.5)), y * 2.5),
        ):
            assert found.dtype is torch.float32
            torch.testing.assert_close(found, expected)
        seed = torch.randn(count)
        (gradient,) = torch.autograd.grad(multiply(x, y), x, seed)
        torch.testing.assert_close(gradient, seed * y)


def test_windows_longer_than_what_they_go_over() -> None:
    """The temporary's extent, X-K+1, is negative; the tensor that backward gets has none of its elements."""
    f = lg.torch.function(
        "f(x[X], w[K]) -> L:\n"
        "    for i < X-K+1, k < K:  u[i] += x[i+k] * w[k]\n"
        "    for i < X-K+1:  L += u[i]**2\n"
    )
    w = torch.randn(5, dtype=torch.float64)
    for count in (2, 4, 5, 7):
        x = torch.randn(count, dtype=torch.float64, requires_grad=True)
        (first,) = torch.autograd.grad(f(x, w), x, create_graph=True)
        mapped = torch.func.vmap(torch.func.grad(lambda x: f(x, w)))(x.detach()[None])
        windows = x.unfold(0, 5, 1) @ w if count >= 5 else x[:0]
        (expected,) = torch.autograd.grad((windows**2).sum(), x)
        torch.testing.assert_close(first, expected)
        torch.testing.assert_close(mapped[0], expected)
