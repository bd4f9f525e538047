"""Operators: what runs and what it means are the same function, for all that is derived of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.interop.operators import Operator, batched, plain, reversal, tangent
from tests.derivatives import as_tuple

SOFTMAX = plain(lg.lib.softmax)


def run(operator: Operator, given: dict[str, Any]) -> dict[str, Any]:
    program = operator.kernel.program
    names = [n.name for n in (*program.inputs, *program.sizes)]
    found = operator.kernel(**{n: given[n] for n in names if n in given})
    return dict(zip(operator.delivers, as_tuple(found), strict=True))


def test_a_forward_keeps_what_the_backward_reads() -> None:
    found = reversal(SOFTMAX, ["s"])
    assert found.forward.results == ("p",) and len(found.forward.keeps) > 0
    assert {i.name for i in found.backward.computes.inputs} & set(found.forward.keeps)
    assert found.seeds == ("p.grad",) and found.gradients == (0,)


def test_or_computes_it_again() -> None:
    found = reversal(SOFTMAX, ["s"], keep=False)
    assert found.forward is SOFTMAX and found.backward.is_plain


def test_the_backward_takes_what_it_means_and_residuals_have_no_gradient() -> None:
    backward = reversal(SOFTMAX, ["s"]).backward
    assert [i.name for i in backward.inputs][:2] == ["s", "p.grad"]
    assert backward.differentiable == ("s", "p.grad")


@pytest.mark.parametrize("name", ["softmax", "rms_norm", "affine", "embedding", "gru_cell"])
def test_computes_and_means_agree(name: str) -> None:
    """Also under a batch axis, and for the backward of a backward."""
    program = lg.lib[name]
    rng = np.random.default_rng(3)
    extents = {"B": 2, "J": 3, "J'": 3, "I": 4, "T": 2, "V": 5, "K": 3, "N": 2, "N'": 2}

    def drawn(operator: Operator) -> dict[str, Any]:
        shapes = {
            i.name: [extents[e.name] for e in i.extents]  # type: ignore[union-attr]
            for i in operator.means.inputs
        }
        ints = {i.name for i in operator.means.inputs if i.kind == "int"}
        return {
            n: rng.integers(0, 2, s) if n in ints else rng.normal(size=s) for n, s in shapes.items()
        }

    wrt = [i.name for i in program.inputs if i.differentiable]
    found = reversal(plain(program), wrt)
    for axis in (False, True):
        forward, backward = found.forward, found.backward
        if axis:
            moved = [i.name for i in forward.inputs]
            given_names = [i.name for i in backward.inputs]
            forward = batched(forward, moved).operator
            backward = batched(backward, given_names).operator
        given = drawn(backward)
        given |= {"V": extents["V"]}
        given |= run(forward, given)
        got = run(backward, given)
        wanted = as_tuple(backward.means(**{i.name: given[i.name] for i in backward.means.inputs}))
        for g, w in zip(got.values(), wanted, strict=True):
            np.testing.assert_allclose(g, w, rtol=1e-9, atol=1e-12)
    again = reversal(found.backward, found.backward.differentiable)
    assert len([g for g in again.gradients if g is not None]) == len(found.backward.differentiable)


def test_a_tangent() -> None:
    found = tangent(SOFTMAX, ["s"])
    assert found.inputs == ("s.dot",) and found.results == (0,)


def test_an_integer_has_neither_seed_nor_tangent() -> None:
    operator = plain(
        lg.program("f(x[N], int k[N]) -> n, y[N]:\n    for i:  n += k[i]\n    y[i] = x[i] ** 2")
    )
    assert reversal(operator, ["x"]).seeds == (None, "y.grad")
    assert tangent(operator, ["x"]).results == (None, 0)


def test_only_what_depends_on_it_has_the_batch_axis() -> None:
    operator = plain(lg.program("f(x[N], y[M]) -> a[N], b[M]:\n    a[n] = x[n]\n    b[m] = y[m]"))
    assert batched(operator, ["y"]).moved == (False, True)


def test_equal_programs_have_one_key_and_others_another() -> None:
    again = plain(lg.program(str(lg.lib.softmax)))
    assert again.key == SOFTMAX.key
    others = [plain(lg.lib.softmax, None), reversal(SOFTMAX, ["s"]).forward, plain(lg.lib.affine)]
    assert len({SOFTMAX.key, *(other.key for other in others)}) == 4


def test_an_average_over_mapped_parameters_is_refused() -> None:
    operator = plain(lg.lib.affine, None)
    assert batched(operator, ["x"]).moved == (True,)
    with pytest.raises(ValueError, match=r"average=False gives sums"):
        batched(operator, ["x", "W"])
