"""What `lg.torch` refuses, and in what words."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest

import loopgrad as lg
from tests.interop.torch.cases import GROUP_NORM

torch = pytest.importorskip("torch")

SOFTMAX = lg.torch.function(lg.lib.softmax)
NORM = lg.torch.function(GROUP_NORM)
EMBEDDING = lg.torch.function(lg.lib.embedding)
SCALE = lg.torch.function(
    "scale(x[N], a, int k, eps = 0.5, times = 2) -> y[N]:\n    y[n] = a * k * x[n] ** times + eps"
)
MASKED = lg.torch.function("masked(x[N], bool m) -> y[N]:\n    y[n] = x[n] if m else 0.0")
x, s, γ = torch.ones(3), torch.ones(2, 3), torch.ones(4)


def quantised() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch means to do without them
        return torch.quantize_per_tensor(s, 0.1, 0, torch.qint8)


CASES: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "an axis less": (lambda: SOFTMAX(x), ValueError, "argument `s[B,J]` needs 2 axes"),
    "too many": (lambda: SOFTMAX(s, s), TypeError, "takes 1 tensor (`s[B,J]`), got 2"),
    "none": (lambda: SOFTMAX(), TypeError, "needs `s[B,J]`, which it did not get"),
    "a list": (lambda: SOFTMAX([[1.0]]), TypeError, "has to be a tensor, got list"),
    "an array": (lambda: SOFTMAX(s.numpy()), TypeError, "has to be a tensor, got ndarray"),
    "twice": (lambda: SOFTMAX(s, s=s), TypeError, "got `s` twice, by place and by name"),
    "no such name": (
        lambda: NORM(torch.ones(1, 4, 2), γ, γ, G=2, esp=1),
        TypeError,
        "did you mean `eps`?",
    ),
    "no size": (lambda: NORM(torch.ones(1, 4, 2), γ, γ), TypeError, "needs `size G`"),
    "a size that is none": (
        lambda: NORM(torch.ones(1, 4, 2), γ, γ, G=2.5),
        TypeError,
        "`G` has to be an integer, got 2.5",
    ),
    "a negative size": (
        lambda: NORM(torch.ones(1, 4, 2), γ, γ, G=-1),
        ValueError,
        "size `G` cannot be negative",
    ),
    "extents that differ": (
        lambda: NORM(torch.ones(1, 5, 2), γ, γ, G=2),
        ValueError,
        "extent `C` is 5",
    ),
    "half": (
        lambda: SOFTMAX(s.half()),
        TypeError,
        "argument `s[B,J]` is float16; float32 and float64",
    ),
    "bfloat16": (lambda: SOFTMAX(s.bfloat16()), TypeError, "give it as `.float()`"),
    "complex": (
        lambda: SOFTMAX(s + 1j),
        TypeError,
        "argument `s[B,J]` is complex64; float32 and float64 can be computed with: give its real",
    ),
    "8 bits": (
        lambda: SOFTMAX(s.to(torch.float8_e4m3fn)),
        TypeError,
        "argument `s[B,J]` is float8_e4m3fn; float32 and float64 can be computed with: give it as `.float()`",
    ),
    "quantised": (
        lambda: SOFTMAX(quantised()),
        TypeError,
        "argument `s[B,J]` is qint8; give it as `.dequantize()`",
    ),
    "nested": (
        lambda: SOFTMAX(torch.nested.nested_tensor([s, s])),
        TypeError,
        "argument `s[B,J]` is a nested tensor; give it as `.to_padded_tensor(0.0)`",
    ),
    "nested and jagged": (
        lambda: SOFTMAX(torch.nested.nested_tensor([s, s], layout=torch.jagged)),
        TypeError,
        "argument `s[B,J]` is a nested tensor",
    ),
    "sparse": (lambda: SOFTMAX(s.to_sparse()), TypeError, "give it as `.to_dense()`"),
    "out of range": (
        lambda: EMBEDDING(torch.tensor([[4]]), torch.ones(4, 2)),
        IndexError,
        "needs element 4",
    ),
    "labels that are floats": (
        lambda: EMBEDDING(s, torch.ones(4, 2)),
        TypeError,
        "`int` tensor and needs integers, got float32: give it as `.long()` if its values are whole",
    ),
    "labels of a type that NumPy has not": (
        lambda: EMBEDDING(s.to(torch.float8_e5m2), torch.ones(4, 2)),
        TypeError,
        "argument `w[B,T]` is an `int` tensor and needs integers, got float8_e5m2",
    ),
    "labels that are complex": (
        lambda: EMBEDDING(s + 1j, torch.ones(4, 2)),
        TypeError,
        "argument `w[B,T]` is an `int` tensor and needs integers, got complex64",
    ),
    "uint64": (
        lambda: EMBEDDING(torch.ones(1, 1, dtype=torch.uint64), torch.ones(4, 2)),
        TypeError,
        "may not fit int64",
    ),
    "a mask of integers": (lambda: MASKED(x, torch.tensor(1)), TypeError, "is a `bool` tensor"),
    "a number for a mask": (
        lambda: MASKED(x, 1),
        TypeError,
        "is a `bool` and needs True or False, got 1",
    ),
    "a float for an integer": (
        lambda: SCALE(x, 1.0, 1.5),
        TypeError,
        "`k` is an `int` and needs an integer, got 1.5",
    ),
    "a tensor for a constant": (
        lambda: SCALE(x, 1.0, 1, eps=x[0]),
        TypeError,
        "make it an input of the program",
    ),
    "a text for a constant": (
        lambda: SCALE(x, 1.0, 1, eps="a"),
        TypeError,
        "constant `eps` has to be a number",
    ),
    "a float for an integer constant": (
        lambda: SCALE(x, 1.0, 1, times=1.0),
        TypeError,
        "`times` has to be an integer",
    ),
    "no program": (lambda: lg.torch.function(3), TypeError, "a loopgrad program or its text"),
    "average": (
        lambda: lg.torch.function(lg.lib.softmax, average=1),
        TypeError,
        "`average` is True or False",
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("gradient", [False, True])
def test_refused(case: str, gradient: bool) -> None:
    call, kind, words = CASES[case]
    with torch.set_grad_enabled(gradient), pytest.raises(kind) as error:
        call()
    assert words in str(error.value)


def test_a_device_that_has_no_loops() -> None:
    class Elsewhere(torch.Tensor):
        """A tensor on another device, as far as one can see."""

        @property
        def device(self) -> Any:
            return torch.device("cuda", 0)

    with pytest.raises(
        TypeError, match=r"argument `s\[B,J\]` is on cuda:0, .* give it as `.cpu\(\)`"
    ):
        SOFTMAX(s.as_subclass(Elsewhere))


def test_a_tensor_without_contents_gives_shapes() -> None:
    p = SOFTMAX(torch.empty(4, 5, device="meta"))
    assert p.device.type == "meta" and p.shape == (4, 5)
    with pytest.raises(RuntimeError, match="extent `C` is 5, but also 4"):
        NORM(torch.empty(1, 5, 2, device="meta"), γ.to("meta"), γ.to("meta"), G=2)


def test_an_average_under_a_map_over_parameters() -> None:
    affine = lg.torch.function(lg.lib.affine, average=True)
    x, W, c = torch.ones(2, 4), torch.ones(5, 3, 4), torch.ones(3)
    with pytest.raises(ValueError, match="averaged over B, and this has no meaning under a map"):
        torch.vmap(lambda W: affine(x, W, c))(W)


def test_what_has_no_gradient_raises_when_one_is_wanted() -> None:
    scaled = lg.torch.function(
        "f(param x[N], y[B]) batch B -> z:\n    z += x[n] * y[b]", average=True
    )
    assert scaled(x, x).shape == ()
    with pytest.raises(lg.ProgramError, match="does not have that extent"):
        scaled(x.clone().requires_grad_(), x)
