"""Scores of 1e4 in float32, as everything is compiled by default: finite, and right, values and gradients.

The literal loops in float64, of the same numbers, are what is right. A score of 1e4 is rounded in float32 by 1e-3, and so is
a probability, whoever computes it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import loopgrad as lg
from tests.derivatives import as_tuple
from tests.effort import by_name
from tests.lib.test_library import ROWS

HUGE = 1e4
ROUNDED = 4 * HUGE * float(np.finfo(np.float32).eps)  # of the largest number of a result, or of 1

# Row -> the inputs that are scores, and constants.
SCORES: dict[str, tuple[list[str], dict[str, float]]] = {
    "attention": (["q"], {}),
    "causal_attention": (["q"], {}),
    "sliding_window_attention": (["q"], {}),
    "padded_attention": (["q"], {}),
    "grouped_query_attention": (["k"], {}),
    "multi_head_attention": (["x"], {}),
    "alibi_attention": (["q"], {}),
    "rotary_attention": (["k"], {}),
    "additive_attention": (["w"], {}),
    "crf_log_partition": (["e", "A"], {}),
    "crf_loss": (["e"], {}),
    "crf_loss_packed": (["e", "start"], {}),
    "ctc_loss: the blank is the last class": (["lp"], {}),
    "soft_dtw": ([], {"γ": 1e-3}),
    "soft_edit_distance": ([], {"γ": 1e-3}),
    "sinkhorn": ([], {"ε": 1e-2}),
    "gaussian_mixture": (["logit", "μ"], {}),
    "gaussian_mixture_full": (["logit", "x"], {}),
    "cosine_info_nce": (["x"], {"temperature": 1e-3}),
    "segment_softmax": (["s"], {}),
    "gat_layer": (["a"], {}),
    "minlstm": (["x"], {}),
    "mingru": (["x"], {}),
    "selective_scan": (["δ"], {}),
    "gru": (["x"], {}),
    "lstm": (["x"], {}),
}


@pytest.mark.parametrize("row", by_name(list(SCORES), 2))
def test_huge_scores(row: str) -> None:
    program, case = lg.lib[row.partition(":")[0]], ROWS[row]
    large, options = SCORES[row]
    constants = {**case.constants, **options}
    rng = np.random.default_rng(11)
    single = {n: _narrow(v) for n, v in case.inputs(program, 10).items()}
    for name in large:
        single[name] = single[name] * np.float32(HUGE)
    double = {n: v.astype(np.float64) if v.dtype.kind == "f" else v for n, v in single.items()}

    wanted = as_tuple(lg.compile(program, backend="interpret")(**double, **constants))
    seeds = [rng.normal(size=np.shape(r)) for r in wanted]
    results, pullback = lg.vjp(program, **single, **constants)
    for found, right in zip(as_tuple(results), wanted, strict=True):
        assert found.dtype == np.float32
        _agree(found, right)

    exact = _gradients(program, double, seeds, constants)
    for name, found in zip([i.name for i in program.inputs], pullback(*seeds), strict=True):
        if found is not None:
            _agree(found, exact[name], name)


def _narrow(value: Any) -> Any:
    value = np.asarray(value)
    return value.astype(np.float32) if value.dtype.kind == "f" else value


def _gradients(program: lg.Program, inputs: Any, seeds: Any, constants: Any) -> dict[str, Any]:
    """By the interpreter, in float64, of the literal backward."""
    backward = program.backward(recompute=True)
    own = {i.name for i in program.inputs}
    named = dict(zip([i.name for i in backward.inputs if i.name not in own], seeds, strict=True))
    given = {i.name: {**inputs, **named}[i.name] for i in backward.inputs}
    kept = {c.name for c in (*backward.constants, *backward.sizes)}
    found = lg.compile(backward, backend="interpret")(
        **given, **{n: c for n, c in constants.items() if n in kept}
    )
    names = [r.name.removesuffix(".grad") for r in backward.results]
    return dict(zip(names, as_tuple(found), strict=True))


def _agree(found: Any, right: Any, name: str = "") -> None:
    assert np.isfinite(found).all(), name
    assert np.isfinite(right).all(), name
    scale = np.max(np.abs(right), initial=1.0)
    np.testing.assert_allclose(found / scale, right / scale, atol=ROUNDED, rtol=0, err_msg=name)
