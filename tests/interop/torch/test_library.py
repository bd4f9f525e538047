"""PyTorch's own judges over the library: gradcheck, gradgradcheck, opcheck."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import loopgrad as lg
from tests.derivatives import as_tuple
from tests.effort import sample
from tests.interop.torch.cases import NAMES, call_of, operator_call, tensors_of
from tests.lib.test_library import ROWS

torch = pytest.importorskip("torch")

CHECKS = (
    "test_schema",
    "test_autograd_registration",
    "test_faketensor",
    "test_aot_dispatch_dynamic",
)


def same(got: Any, wanted: Any) -> None:
    many = wanted if isinstance(wanted, tuple) else (wanted,)
    assert isinstance(got, tuple) == isinstance(wanted, tuple)
    for g, w in zip(got if isinstance(got, tuple) else (got,), many, strict=True):
        np.testing.assert_array_equal(g.detach().numpy(), w)


@pytest.mark.parametrize("row", sample(NAMES, 12))
def test_values_are_those_of_a_call_with_arrays(row: str) -> None:
    program, case = lg.lib[row.partition(":")[0]], ROWS[row]
    tensors = tensors_of(row, seed=10)
    with torch.no_grad():
        got = call_of(row)(*tensors)
    same(got, program(*[t.detach().numpy() for t in tensors], **case.constants))


@pytest.mark.parametrize("row", sample(NAMES, 8))
def test_gradcheck(row: str) -> None:
    call, tensors = call_of(row), tensors_of(row, seed=11)
    assert torch.autograd.gradcheck(call, tensors, fast_mode=True, check_forward_ad=True)


@pytest.mark.parametrize("row", sample(NAMES, 20))
def test_gradgradcheck(row: str) -> None:
    call, tensors = call_of(row), tensors_of(row, seed=12)
    assert torch.autograd.gradgradcheck(call, tensors, fast_mode=True)


@pytest.mark.parametrize("row", sample(NAMES, 25))
def test_opcheck(row: str) -> None:
    operator, arguments = operator_call(row, tensors_of(row, seed=13))
    found = torch.library.opcheck(operator, arguments, test_utils=CHECKS)
    assert set(found.values()) == {"SUCCESS"}


@pytest.mark.parametrize("row", sample(NAMES, 60))
def test_opcheck_of_the_backward(row: str) -> None:
    """The backward is an operator like any other; it is found by what a graph calls."""
    operator, arguments = operator_call(row, tensors_of(row, seed=14))
    seen: list[tuple[Any, Any]] = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if function.namespace == "loopgrad":
                seen.append((function, args))
            return function(*args, **(kwargs or {}))

    results = operator(*arguments)
    with Watch():
        floating = [r for r in as_tuple(results) if r.requires_grad]
        torch.autograd.backward(floating, [torch.randn_like(r) for r in floating])
    backward, given = seen[-1]
    given = [
        g.detach().requires_grad_() if isinstance(g, torch.Tensor) and g.is_floating_point() else g
        for g in given
    ]
    found = torch.library.opcheck(backward, tuple(given), test_utils=CHECKS)
    assert set(found.values()) == {"SUCCESS"}
