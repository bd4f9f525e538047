"""`torch.compile`, `torch.export`, checkpointing, autocast, saved-tensor hooks, other processes."""

from __future__ import annotations

import io
import multiprocessing
from typing import Any

import pytest

import loopgrad as lg
from tests.interop.torch.cases import gradients, seeded

torch = pytest.importorskip("torch")

SOFTMAX = lg.torch.function(lg.lib.softmax)
# Traced and differentiated as for inductor, without its C++ compiler.
COMPILE = {"fullgraph": True, "backend": "aot_eager"}


def model(s: Any) -> Any:
    return SOFTMAX(s * 2).sin()


def native(s: Any) -> Any:
    return (s * 2).softmax(-1).sin()


@pytest.mark.parametrize("dynamic", [False, True])
def test_compiled_without_a_break(dynamic: bool) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(model, dynamic=dynamic, **COMPILE)
    for shape in [(3, 4), (5, 4), (2, 7)]:
        s, seed = seeded(*shape), seeded(*shape, seed=1)
        got, wanted = gradients(compiled, [s], seed), gradients(native, [s], seed)
        torch.testing.assert_close(got, wanted)


def test_sizes_constants_integers_and_several_results() -> None:
    torch._dynamo.reset()
    both = lg.torch.function(
        "f(x[B,J], int w[B], size V, a = 2.0) -> y[V,J], n:\n"
        "    for b, j:  y[w[b],j] += a * x[b,j] ** 2\n    for b:  n += w[b]"
    )
    compiled = torch.compile(lambda x, w: both(x, w, V=6, a=0.5), dynamic=True, **COMPILE)
    for B, J in [(3, 4), (4, 2)]:
        x, w = seeded(B, J).requires_grad_(), torch.arange(B)
        y, n = compiled(x, w)
        torch.testing.assert_close(y[:B], 0.5 * x**2)
        assert y.shape == (6, J) and n.item() == sum(range(B))
        (got,) = torch.autograd.grad(y, x, seeded(6, J, seed=1))
        torch.testing.assert_close(got, x * seeded(6, J, seed=1)[:B])


def test_a_formula_of_symbols() -> None:
    torch._dynamo.reset()
    conv = lg.torch.function(lg.lib.conv1d)
    compiled = torch.compile(lambda *t: conv(*t, stride=2), dynamic=True, **COMPILE)
    for X in (9, 12):
        x, k, c = seeded(2, 3, X), seeded(4, 3, 3), seeded(4)
        torch.testing.assert_close(compiled(x, k, c), torch.nn.functional.conv1d(x, k, c, stride=2))


def test_a_module() -> None:
    torch._dynamo.reset()
    layer = lg.torch.Module(lg.lib.affine, I=4, J=3)
    x = torch.randn(2, 4)
    compiled = torch.compile(layer, **COMPILE)
    torch.testing.assert_close(compiled(x), layer(x))
    compiled(x).sum().backward()
    assert layer.c.grad.tolist() == [2, 2, 2]


def test_transforms_inside_of_a_compiled_function() -> None:
    torch._dynamo.reset()
    s = seeded(3, 4)

    def of(function: Any) -> Any:
        return torch.func.vmap(torch.func.grad(lambda row: (function(row[None]) ** 3).sum()))

    compiled = torch.compile(lambda s: of(SOFTMAX)(s), **COMPILE)
    torch.testing.assert_close(compiled(s), of(lambda s: s.softmax(-1))(s))


def test_exported_with_a_dimension_left_open() -> None:
    class Layer(torch.nn.Module):
        def forward(self, s: Any) -> Any:
            return model(s)

    rows = torch.export.Dim("rows")
    exported = torch.export.export(Layer(), (seeded(3, 4),), dynamic_shapes=({0: rows},))
    called = [str(node.target) for node in exported.graph.nodes if node.op == "call_function"]
    assert any(target.startswith("loopgrad.softmax_") for target in called)
    file = io.BytesIO()
    torch.export.save(exported, file)
    file.seek(0)
    again = torch.export.load(file)
    s = seeded(8, 4)
    torch.testing.assert_close(again.module()(s), native(s))


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed(reentrant: bool) -> None:
    def through(s: Any) -> Any:
        return torch.utils.checkpoint.checkpoint(model, s, use_reentrant=reentrant)

    s, seed = seeded(3, 4), seeded(3, 4, seed=1)
    torch.testing.assert_close(gradients(through, [s], seed), gradients(native, [s], seed))


def test_hooks_see_what_is_saved() -> None:
    packed: list[int] = []

    def pack(tensor: Any) -> Any:
        packed.append(tensor.numel())
        return tensor.clone()

    s = seeded(3, 4).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        p = SOFTMAX(s)
    assert packed == [12]  # and what nobody else sees is the node's own
    (got,) = torch.autograd.grad(p, s, seeded(3, 4, seed=1))
    (wanted,) = torch.autograd.grad(s.softmax(-1), s, seeded(3, 4, seed=1))
    torch.testing.assert_close(got, wanted)


def test_autocast_computes_in_float32() -> None:
    s = seeded(3, 4, dtype=torch.bfloat16).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        p = SOFTMAX(s)
        assert p.dtype == torch.float32
        assert SOFTMAX(s.double()).dtype == torch.float64
    p.backward(torch.ones(3, 4))
    assert s.grad.dtype == torch.bfloat16
    torch.testing.assert_close(p, s.float().softmax(-1))


def test_function_modes_see_the_operator() -> None:
    from torch.utils._python_dispatch import TorchDispatchMode

    seen: list[str] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            seen.append(str(function))
            return function(*args, **(kwargs or {}))

    with Watch():
        SOFTMAX(seeded(2, 3))
    assert any(name.startswith("loopgrad.softmax_") for name in seen)


def test_symbolic_traces() -> None:
    """`torch.fx` gives what stands for a tensor, and gets the operator."""

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = lg.torch.Module(lg.lib.affine, I=4, J=3)

        def forward(self, x: Any) -> Any:
            return SOFTMAX(s=self.layer(x))

    network, x = Network(), torch.randn(2, 4)
    traced = torch.fx.symbolic_trace(network)
    assert "torch.ops.loopgrad.affine" in traced.code
    torch.testing.assert_close(traced(x), network(x))


def test_a_trace_of_the_older_kind_does_not_take_a_result_for_a_constant() -> None:
    traced = torch.jit.trace(model, (seeded(3, 4),))
    s = seeded(3, 4, seed=1)
    torch.testing.assert_close(traced(s), native(s))


def test_fake_tensors() -> None:
    from torch._subclasses import FakeTensorMode

    with FakeTensorMode():
        s = torch.empty(3, 4, requires_grad=True)
        p = SOFTMAX(s)
        p.sum().backward()
    assert p.shape == s.grad.shape == (3, 4)


class Rows(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 6

    def __getitem__(self, n: int) -> Any:
        return SOFTMAX(torch.arange(4.0)[None] * n)[0]


@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")  # of JAX, where its tests ran before
@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="there is no fork here"
)
def test_workers_of_a_data_loader() -> None:
    SOFTMAX(torch.ones(1, 4))
    loader = torch.utils.data.DataLoader(
        Rows(), batch_size=3, num_workers=2, multiprocessing_context="fork"
    )
    got = torch.cat(list(loader))
    torch.testing.assert_close(got, (torch.arange(4.0) * torch.arange(6.0)[:, None]).softmax(-1))
