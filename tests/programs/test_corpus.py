"""Programs that people write, run whole: both backends, first and second derivatives, other notations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import loopgrad as lg
from tests.derivatives import check_backward, check_recompute, differentiable_inputs
from tests.effort import FULL, sample

HERE = Path(__file__).parent
CORPUS = lg.load(HERE / "corpus.loops")


def _inputs(name: str, rng: np.random.Generator) -> tuple[dict[str, Any], dict[str, Any]]:
    """Random inputs, by name, and the constants of a call that are not the defaults."""
    n = lambda *shape: rng.normal(size=shape)
    spd = lambda k: (lambda m: m @ m.T + k * np.eye(k))(n(k, k))
    table: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "conv1d": (
            {"x": n(2, 3, 9), "w": n(4, 3, 2)},
            {"stride": 2, "dilation": 3, "pad": 1},
        ),
        "conv1d_valid": ({"x": n(2, 3, 9), "w": n(4, 3, 2)}, {"stride": 3}),
        "conv2d": ({"x": n(2, 2, 5, 4), "w": n(3, 2, 3, 3), "bias": n(3)}, {}),
        "conv2d_same": ({"x": n(1, 4, 5, 2), "w": n(3, 2, 2, 3)}, {}),
        "depthwise": ({"x": n(2, 3, 6), "w": n(3, 2)}, {}),
        "grouped": ({"x": n(2, 2, 3, 5), "w": n(2, 4, 3, 2)}, {}),
        "transposed": ({"x": n(2, 3, 4), "w": n(3, 2, 5)}, {"stride": 3}),
        # Apart by 0.1 at least: a difference across a tie of the maximum would be no derivative.
        "maxpool": ({"x": rng.permutation(120).reshape(2, 3, 5, 4) / 10}, {}),
        "avgpool": ({"x": n(2, 3, 7)}, {"K": 2}),
        "layernorm": ({"x": n(3, 5), "g": n(5), "c": n(5)}, {}),
        "rmsnorm": ({"x": n(3, 5), "g": n(5)}, {}),
        "groupnorm": ({"x": n(2, 3, 2, 4), "a": n(3, 2), "c": n(3, 2)}, {}),
        "attention": ({"q": n(2, 2, 3, 4), "k": n(2, 2, 5, 4), "v": n(2, 2, 5, 3)}, {}),
        "causal": ({"q": n(5, 3), "k": n(5, 3), "v": n(5, 2)}, {}),
        "window": ({"q": n(5, 3), "k": n(5, 3), "v": n(5, 3)}, {"width": 3}),
        "rotary": ({"x": n(4, 6)}, {}),
        "embedding": ({"E": n(4, 3), "w": rng.integers(0, 4, (2, 5))}, {}),
        "embedding_bag": (
            {"E": n(4, 3), "w": rng.integers(0, 4, (2, 5)), "length": np.array([5, 2])},
            {},
        ),
        "crf": ({"e": n(4, 3), "A": n(3, 3), "y": rng.integers(0, 3, 4)}, {}),
        "ctc": ({"lp": n(6, 4) - 2, "z": np.array([1, 1, 3])}, {}),
        "softdtw": ({"x": n(4, 2), "y": n(3, 2)}, {"γ": 0.7}),
        "cholesky": ({"A": spd(4)}, {}),
        "triangular_solve": ({"L": np.tril(n(4, 4)) + 3 * np.eye(4), "b": n(4)}, {}),
        "selective_scan": (
            {
                "x": n(2, 4, 3),
                "δ": n(2, 4, 3),
                "A": -np.abs(n(3, 2)),
                "b": n(2, 4, 2),
                "c": n(2, 4, 2),
            },
            {},
        ),
        "bilinear": ({"img": n(4, 5), "p": rng.uniform(0.1, 2.9, (6, 2))}, {}),
        "graph_attention": (
            {
                "x": n(5, 3),
                "W": n(2, 3),
                "a": n(2),
                "c": n(2),
                "src": rng.integers(0, 5, 9),
                "dst": rng.integers(0, 5, 9),
            },
            {},
        ),
        "bundle": (
            {
                "cam": n(3, 6) + np.array([0, 0, 0, 0, 0, 6.0]),
                "pts": n(4, 3),
                "obs": n(7, 2),
                "ci": rng.integers(0, 3, 7),
                "pi'": rng.integers(0, 4, 7),
            },
            {},
        ),
        "tree_sum": ({"x": n(6, 2), "par": np.array([0, 0, 1, 1, 0, 4])}, {}),
        "cumprod": ({"x": n(5)}, {}),
        "lstm": ({"x": n(3, 2, 3), "W": n(4, 5, 3), "U": n(4, 5, 5), "c": n(4, 5)}, {}),
        "crossentropy": ({"s": n(3, 5), "y": rng.integers(0, 5, 3)}, {}),
        "sinkhorn": ({"C": np.abs(n(3, 4))}, {"L": 3}),
        "mixture": ({"x": n(6, 2), "logit": n(3), "μ": n(3, 2)}, {}),
        "hmm_viterbi": ({"e": n(5, 3), "A": n(3, 3)}, {}),
        "message_passing": (
            {"x": n(5, 3), "src": rng.integers(0, 5, 9), "dst": rng.integers(0, 5, 9)},
            {},
        ),
    }
    return table[name]


NAMES = list(CORPUS)


@pytest.fixture(params=NAMES)
def case(request: pytest.FixtureRequest) -> tuple[lg.Program, dict[str, Any], dict[str, Any]]:
    rng = np.random.default_rng(sum(map(ord, request.param)))
    inputs, constants = _inputs(request.param, rng)
    return CORPUS[request.param], inputs, constants


def as_tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


@pytest.mark.filterwarnings("ignore::loopgrad.ProgramWarning")
def test_text_reads_back(case: Any) -> None:
    program, _, _ = case
    assert lg.program(str(program)) == program
    unfolded = program.unfold()
    assert lg.program(str(unfolded)) == unfolded


def test_llvm_is_the_interpreter(case: Any) -> None:
    program, inputs, constants = case
    wanted = as_tuple(lg.compile(program, backend="interpret")(**inputs, **constants))
    for optimize in (True, False):
        got = as_tuple(lg.compile(program, optimize=optimize)(**inputs, **constants))
        for w, g in zip(wanted, got, strict=True):
            np.testing.assert_allclose(g, w, rtol=1e-11, atol=1e-12)


def test_single_precision(case: Any) -> None:
    program, inputs, constants = case
    single = {
        k: np.asarray(v, np.float32) if np.asarray(v).dtype.kind == "f" else v
        for k, v in inputs.items()
    }
    wanted = as_tuple(program(**inputs, **constants))
    got = as_tuple(program(**single, **constants))
    for w, g in zip(wanted, got, strict=True):
        assert g.dtype == (np.float32 if w.dtype.kind == "f" else w.dtype)
        np.testing.assert_allclose(g, w, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("case", sample(NAMES, 2), indirect=True)
def test_backward(case: Any) -> None:
    program, inputs, constants = case
    check_backward(program, inputs, constants, seed=3)


# To compile a second derivative takes seconds: with LOOPGRAD_EFFORT=9, all. That of a CRF takes most, and
# test_references.py has one.
@pytest.mark.parametrize("case", [n for n in sample(NAMES, 9) if FULL or n != "crf"], indirect=True)
def test_second_derivative(case: Any) -> None:
    program, inputs, constants = case
    check_recompute(program, inputs, constants, seed=4)


@pytest.mark.filterwarnings("ignore::loopgrad.ProgramWarning")
def test_backward_reads_back(case: Any) -> None:
    program, _, _ = case
    for derived in (program.backward(), program.backward(recompute=True), program.forward_mode()):
        assert lg.program(str(derived)) == derived


def test_backward_needs_no_watching(case: Any) -> None:
    """Completeness is proved, not left to run time, unless it hangs on data."""
    from loopgrad.analysis.validity import validate

    program, _, _ = case
    if program.name == "tree_sum":  # its parents are data
        assert validate(program).tracked == {"G"}
        return
    for p in (program, program.backward(), program.backward(recompute=True)):
        assert not validate(p).tracked, p


def test_python_is_the_interpreter(case: Any) -> None:
    program, inputs, constants = case
    namespace: dict[str, Any] = {}
    exec(program.to("python"), namespace)
    function = next(
        v for k, v in namespace.items() if callable(v) and k.startswith(program.name[:3])
    )
    wanted = as_tuple(lg.compile(program, backend="interpret")(**inputs, **constants))
    with np.errstate(all="ignore"):
        got = as_tuple(function(*inputs.values(), **constants))
    for w, g in zip(wanted, got, strict=True):
        np.testing.assert_allclose(g, w, rtol=1e-12, atol=1e-13)


def test_latex(case: Any) -> None:
    program, _, _ = case
    assert program.to("latex").count("{") == program.to("latex").count("}")
    assert differentiable_inputs(program)
