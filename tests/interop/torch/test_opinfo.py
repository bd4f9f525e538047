"""PyTorch's own samples for its functions, given to our programs: values, gradients, second gradients.

In float32 and float64, also with tensors that do not lie in order.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from tests.effort import FULL, by_name
from tests.interop.torch import translated_layers, translated_losses, translations
from tests.interop.torch.translations import NotOurs

torch = pytest.importorskip("torch")
pytest.importorskip("expecttest")  # which PyTorch's samples need
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    op_db = pytest.importorskip("torch.testing._internal.common_methods_invocations").op_db

ROWS = translations.ROWS | translated_layers.ROWS | translated_losses.ROWS
OPERATORS = {op.name: op for op in op_db if not op.variant_test_name and op.name in ROWS}
MOST = 60 if FULL else 6  # samples of a function
# PyTorch has no second derivative of these, or not of the form that it takes on a CPU.
FIRST_ONLY = {
    *("nn.functional.hardsigmoid", "nn.functional.scaled_dot_product_attention"),
    *("nn.functional.grid_sample", "nn.functional.multi_margin_loss", "cdist"),
}
TOLERANCE = {torch.float64: (1e-7, 1e-9), torch.float32: (2e-3, 1e-4)}


def samples(name: str, dtype: Any) -> Iterator[Any]:
    """Samples that our programs can compute, every second one with other strides."""
    torch.manual_seed(0)
    for n, sample in enumerate(OPERATORS[name].sample_inputs("cpu", dtype, requires_grad=True)):
        yield sample.noncontiguous() if n % 2 else sample


def leaves(sample: Any) -> list[Any]:
    found: list[Any] = []
    for each in (sample.input, *sample.args, *sample.kwargs.values()):
        many = each if isinstance(each, list | tuple) else [each]
        found += [t for t in many if isinstance(t, torch.Tensor) and t.requires_grad]
    return found


def close(got: Any, wanted: Any, dtype: Any) -> None:
    rtol, atol = TOLERANCE[dtype]
    torch.testing.assert_close(got, wanted, rtol=rtol, atol=atol)


def check(name: str, dtype: Any, second: bool) -> int:
    """How many samples were ours."""
    count = 0
    for sample in samples(name, dtype):
        given = (sample.input, *sample.args)
        try:
            got = ROWS[name](*given, **sample.kwargs)
        except NotOurs:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what PyTorch has to say of its own
            wanted = OPERATORS[name].op(*given, **sample.kwargs)
        close(got, wanted, dtype)
        tensors = leaves(sample)
        seed = torch.randn_like(wanted)
        firsts = [
            torch.autograd.grad(y, tensors, seed, create_graph=second, allow_unused=True)
            for y in (got, wanted)
        ]
        for t, g, w in zip(tensors, *firsts, strict=True):
            close(*(torch.zeros_like(t) if x is None else x for x in (g, w)), dtype)
        if second:
            compare_second(firsts, tensors, dtype)
        count += 1
        if count == MOST:
            break
    return count


def compare_second(firsts: Any, tensors: Any, dtype: Any) -> None:
    """Derivatives of the gradients along random directions."""
    torch.manual_seed(1)
    along = [torch.randn_like(t) for t in tensors]
    found = []
    for gradients in firsts:
        value = sum((g * a).sum() for g, a in zip(gradients, along, strict=True) if g is not None)
        if not isinstance(value, torch.Tensor) or not value.requires_grad:
            found.append([torch.zeros_like(t) for t in tensors])
            continue
        seconds = torch.autograd.grad(value, tensors, allow_unused=True)
        found.append(
            [torch.zeros_like(t) if s is None else s for s, t in zip(seconds, tensors, strict=True)]
        )
    close(found[0], found[1], dtype)


def test_every_row_has_samples() -> None:
    assert set(OPERATORS) == set(ROWS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", by_name(list(ROWS), 8))
def test_values_and_gradients(name: str, dtype: Any) -> None:
    assert check(name, dtype, second=False) > 0


@pytest.mark.parametrize("name", by_name([name for name in ROWS if name not in FIRST_ONLY], 21))
def test_second_gradients(name: str) -> None:
    assert check(name, torch.float64, second=True) > 0
