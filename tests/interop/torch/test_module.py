"""`lg.torch.Module`: parameters, their initial values, what it shows, what it refuses."""

from __future__ import annotations

import copy
import io
import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.interop.roles import Use, use_of
from tests.interop.torch.cases import seeded

torch = pytest.importorskip("torch")


def test_it_owns_the_parameters() -> None:
    layer = lg.torch.Module(lg.lib.affine, I=4, J=3, dtype=torch.float64)
    assert {n: tuple(p.shape) for n, p in layer.named_parameters()} == {"W": (3, 4), "c": (3,)}
    x = seeded(5, 4)
    torch.testing.assert_close(layer(x), torch.nn.functional.linear(x, layer.W, layer.c))
    torch.testing.assert_close(layer(x=x), layer(x))


def test_it_shows_its_loops() -> None:
    assert repr(lg.torch.Module(lg.lib.layer_norm, J=3, eps=1e-6)) == (
        "Module(\n"
        "  layer_norm(x[B,J], param γ[J], param β[J], eps = 1e-5) batch B -> y[B,J]:\n"
        "      for b, j:  μ[b]   += x[b,j] / J\n"
        "      for b, j:  v[b]   += (x[b,j] - μ[b])**2 / J\n"
        "      for b, j:  y[b,j] += γ[j] * (x[b,j] - μ[b]) * rsqrt(v[b] + eps) + β[j]\n"
        "  J=3, eps=1e-06\n"
        ")"
    )


def test_constants_of_the_module_and_of_a_call() -> None:
    layer = lg.torch.Module(lg.lib.layer_norm, J=3, eps=0.5, dtype=torch.float64)
    x = seeded(2, 3)
    for eps in (0.5, 2.0):
        wanted = torch.nn.functional.layer_norm(x, (3,), eps=eps)
        torch.testing.assert_close(layer(x, eps=eps), wanted)
    torch.testing.assert_close(layer(x), layer(x, eps=0.5))


def test_gradients_are_averaged_where_asked() -> None:
    x, seed = seeded(5, 4), seeded(5, 3, seed=1)
    found = []
    for average in (False, True):
        layer = lg.torch.Module(lg.lib.affine, I=4, J=3, dtype=torch.float64, average=average)
        layer(x).backward(seed)
        found.append(layer.W.grad)
    torch.testing.assert_close(found[0], seed.T @ x)
    torch.testing.assert_close(found[1], seed.T @ x / 5)


def test_extents_that_are_formulas_and_primes() -> None:
    text = "f(x[N], param R[N+1,2], param Q[J,J']) -> y[N], q[J]:\n    y[n] = x[n] * R[n+1,0]\n    q[j] = sum[j'](Q[j,j'])"
    layer = lg.torch.Module(text, N=4, J=3)
    assert layer.R.shape == (5, 2) and layer.Q.shape == (3, 3)
    assert lg.torch.Module(text, **{"N": 4, "J": 3, "J'": 2}).Q.shape == (3, 2)


def test_names_that_pytorch_has_or_cannot_have() -> None:
    layer = lg.torch.Module(
        "f(x[N], param forward[N], param a.b[N], param a'[N]) -> y[N]:\n    y[n] = x[n] * forward[n] * a.b[n] * a'[n]",
        N=3,
        forward=2.0,
    )
    assert sorted(layer.state_dict()) == ["a_b", "a_prime", "forward_"]
    assert layer(torch.ones(3)).tolist() == [2, 2, 2]


USES = {
    ("affine", "W"): Use("contracted", (1,)),
    ("affine", "c"): Use("term"),
    ("conv2d", "k"): Use("contracted", (1, 2, 3)),
    ("bilinear", "A"): Use("contracted", (1, 2)),
    ("embedding", "E"): Use("gathered"),
    ("layer_norm", "γ"): Use("factor"),
    ("layer_norm", "β"): Use("term"),
    ("ugrnn", "WhR"): Use("contracted", (1,)),
    ("ugrnn", "BR"): Use("term"),
    ("lstm_cell", "WxI"): Use("contracted", (1,)),
    ("mlp", "W2"): Use("contracted", (1,)),
    ("swiglu", "V"): Use("contracted", (1,)),
    ("scale_shift", "γ"): Use("factor"),
    ("conv_transpose1d", "k"): Use("contracted", (0,)),
    ("depthwise_conv2d", "k"): Use("contracted", (1, 2)),
}


class TestInitialValues:
    @pytest.mark.parametrize("of", USES)
    def test_what_a_program_does_with_a_parameter(self, of: tuple[str, str]) -> None:
        program, parameter = of
        assert use_of(infer(lg.lib[program]), parameter) == USES[of]

    def test_the_default_is_that_of_pytorch(self) -> None:
        torch.manual_seed(0)
        layer = lg.torch.Module(lg.lib.conv2d, O=50, C=3, DX=5, DY=4)
        bound = 1 / math.sqrt(3 * 5 * 4)
        assert 0.95 * bound < layer.k.abs().max() <= bound
        assert layer.k.mean().abs() < bound / 10
        assert layer.c.abs().max() == 0
        norm = lg.torch.Module(lg.lib.layer_norm, J=4)
        assert norm.γ.tolist() == [1] * 4 and norm.β.tolist() == [0] * 4
        table = lg.torch.Module(lg.lib.embedding, V=100, K=30)
        assert abs(table.E.std() - 1) < 0.1

    def test_by_name_number_tensor_and_function(self) -> None:
        eye = torch.eye(3)
        layer = lg.torch.Module(lg.lib.affine, I=3, J=3, W=eye, c=0.5)
        assert torch.equal(layer.W, eye) and layer.c.tolist() == [0.5] * 3
        layer = lg.torch.Module(lg.lib.affine, I=3, J=3, W="orthogonal", c=lambda c: c.fill_(7))
        torch.testing.assert_close(layer.W @ layer.W.T, eye)
        assert layer.c.tolist() == [7] * 3

    def test_again(self) -> None:
        layer = lg.torch.Module(lg.lib.affine, I=3, J=2, c=1)
        before = layer.W.detach().clone()
        with torch.no_grad():
            layer.c.zero_()
        layer.reset_parameters()
        assert not torch.equal(layer.W, before) and layer.c.tolist() == [1, 1]


def test_state_and_copies() -> None:
    layer = lg.torch.Module(lg.lib.affine, I=4, J=3)
    x = torch.randn(2, 4)
    other = lg.torch.Module(lg.lib.affine, I=4, J=3)
    other.load_state_dict(layer.state_dict())
    for again in (other, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(again(x), layer(x)) and again.W is not layer.W
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    assert torch.load(file).keys() == {"W", "c"}


def test_it_moves_between_types() -> None:
    layer = lg.torch.Module(lg.lib.affine, I=4, J=3).double()
    assert layer(seeded(2, 4)).dtype == torch.float64


def test_training_lowers_the_loss() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        lg.torch.Module(lg.lib.affine, I=2, J=16),
        lg.torch.Module(lg.lib.tanh_layer),
        lg.torch.Module(lg.lib.layer_norm, J=16),
        lg.torch.Module(lg.lib.affine, I=16, J=2),
    )
    loss = lg.torch.function(lg.lib.softmax_cross_entropy)
    x = torch.randn(64, 2)
    label = (x[:, 0] * x[:, 1] > 0).long()
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    values = []
    for _ in range(60):
        optimizer.zero_grad()
        value = loss(model(x), label).mean()
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < 0.3 * values[0]


AFFINE = lg.lib.affine
REFUSED: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "a missing extent": (
        lambda: lg.torch.Module(AFFINE, I=3),
        TypeError,
        "affine: its parameters need J (axis 0 of parameter `W[J,I]`): Module(affine, J=..., I=...)",
    ),
    "an unknown name": (
        lambda: lg.torch.Module(AFFINE, I=3, J=2, K=3),
        TypeError,
        "`K` is no extent of a parameter, no parameter and no constant; it takes `J`, `I`, `W` and `c`",
    ),
    "a name that is nearly right": (
        lambda: lg.torch.Module(lg.lib.layer_norm, J=2, esp=1),
        TypeError,
        "did you mean `eps`?",
    ),
    "an unknown initialiser": (
        lambda: lg.torch.Module(AFFINE, I=3, J=2, W="xavier_unifrom"),
        ValueError,
        "affine: parameter `W`: no initialiser 'xavier_unifrom'; did you mean 'xavier_uniform'?",
    ),
    "no initialiser": (
        lambda: lg.torch.Module(AFFINE, I=3, J=2, W=[1]),
        TypeError,
        "an initialiser is a name, a number, a tensor, or a function",
    ),
    "an initial value of another shape": (
        lambda: lg.torch.Module(AFFINE, I=3, J=2, c=torch.ones(3)),
        ValueError,
        "affine: parameter `c` has shape (2,), and its initial value (3,)",
    ),
    "a negative extent": (
        lambda: lg.torch.Module(AFFINE, I=3, J=-2),
        ValueError,
        "extent `J` cannot be negative, got -2",
    ),
    "an extent that is none": (
        lambda: lg.torch.Module(AFFINE, I=3, J=2.0),
        TypeError,
        "extent `J` has to be an integer, got 2.0",
    ),
    "too many": (
        lambda: lg.torch.Module(AFFINE, I=3, J=2)(torch.ones(2, 3), torch.ones(2, 3)),
        TypeError,
        "takes 1 tensor (`x`) beside its parameters, got 2",
    ),
    "a parameter": (
        lambda: lg.torch.Module(AFFINE, I=3, J=2)(torch.ones(2, 3), W=torch.ones(2, 3)),
        TypeError,
        "affine: got `W` twice",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    call, kind, words = REFUSED[case]
    with pytest.raises(kind) as error:
        call()
    assert words in str(error.value)
