"""The character model: its batches, its gradient, its optimiser, what it draws, and going on."""

from __future__ import annotations

import dataclasses
import math
import os
from pathlib import Path

import numpy as np
import pytest

from loopgrad.examples import checkpoints, corpora, optimisers, text
from loopgrad.examples.corpora import Corpus, CorpusError
from loopgrad.examples.text import Batches, Settings, TextJob, drawn, held_out_scores
from loopgrad.examples.training import Stop, Training

RNG = np.random.default_rng(8)
WORDS = np.array("the cat sat on a mat and saw that it was good".split())
CORPUS = Corpus("words", " ".join(RNG.choice(WORDS, 260)) + "\n")
SMALL = Settings(epochs=2, hidden=6, batch=3, length=20, dtype="float64", rate=0.01)


def finished(job: TextJob, path: Path | None = None, every: int = 3) -> Training:
    training = Training(job, path, every)
    training.run(lambda done, loss: None, Stop())
    return training


# --------------------------------------------------------------------------------------- the model


def numpy_model(w: dict[str, np.ndarray], x: np.ndarray, h: np.ndarray) -> tuple[np.ndarray, ...]:
    """Scores and states by the cell's equations."""
    scores, states = [], []
    for now in x:
        R = np.tanh(h @ w["WR"].T + w["ER"][now] - w["BR"])
        G = 1 / (1 + np.exp(-(h @ w["WG"].T + w["EG"][now] - w["BG"])))
        h = G * h + (1 - G) * R
        states.append(h)
        scores.append(h @ w["U"].T + w["c"])
    return np.array(scores), np.array(states)


def numpy_loss(w: dict[str, np.ndarray], x: np.ndarray, y: np.ndarray, h: np.ndarray) -> float:
    s, _ = numpy_model(w, x, h)
    log_z = np.log(np.exp(s).sum(-1))
    return float(np.mean(log_z - np.take_along_axis(s, y[..., None], -1)[..., 0]))


def test_its_loss_states_and_gradient() -> None:
    job = TextJob(CORPUS, SMALL)
    w = {name: value + 0.1 * RNG.normal(size=value.shape) for name, value in job.weights().items()}
    x, y, _ = job.batches.at(1, job.rows)
    h0 = RNG.normal(size=job.h.shape)
    (loss, h), gradients = job.loss(x, y, h0, *w.values())
    assert loss.mean() == pytest.approx(numpy_loss(w, x, y, h0))
    assert np.allclose(h, numpy_model(w, x, h0)[1])
    for name, gradient in zip(w, gradients, strict=True):
        direction = RNG.normal(size=w[name].shape)
        moved = [numpy_loss({**w, name: w[name] + e * direction}, x, y, h0) for e in (1e-5, -1e-5)]
        along = (moved[0] - moved[1]) / 2e-5
        assert np.sum(gradient * direction) == pytest.approx(along, rel=1e-6, abs=1e-9), name


def test_batches_go_through_the_text_row_by_row() -> None:
    batches = Batches(CORPUS, 3, 20)
    codes = CORPUS.codes[: CORPUS.held_out]
    columns = (len(codes) - 1) // 3
    assert batches.in_epoch == -(-columns // 20)
    parts = [batches.at(step, slice(0, 3)) for step in range(batches.in_epoch)]
    x, y = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    assert [part[2] for part in parts] == [True] + [False] * (len(parts) - 1)
    assert len(parts[-1][0]) == columns - 20 * (len(parts) - 1) != 20
    for row in range(3):
        assert np.array_equal(x[:, row], codes[row * columns : (row + 1) * columns])
        assert np.array_equal(y[:, row], codes[row * columns + 1 : (row + 1) * columns + 1])
    again = batches.at(batches.in_epoch, slice(1, 3))
    assert again[2]
    assert np.array_equal(again[0], parts[0][0][:, 1:])


def test_the_state_is_carried_and_begins_anew() -> None:
    job = TextJob(CORPUS, SMALL)
    w = {name: value.copy() for name, value in job.weights().items()}
    job.step(0)
    x, _, _ = job.batches.at(0, job.rows)
    _, states = numpy_model(w, x, np.zeros((3, 6)))
    assert np.allclose(job.h, states[-1])
    held = job.h.copy()
    x, _, _ = job.batches.at(1, job.rows)
    w = {name: value.copy() for name, value in job.weights().items()}
    job.step(1)
    assert np.allclose(job.h, numpy_model(w, x, held)[1][-1])
    x, _, _ = job.batches.at(0, job.rows)
    w = {name: value.copy() for name, value in job.weights().items()}
    job.step(job.in_epoch)
    assert np.allclose(job.h, numpy_model(w, x, np.zeros((3, 6)))[1][-1])


def test_a_text_shorter_than_a_batch_is_refused() -> None:
    few = Corpus("few", "abcd" * 15)
    message = (
        "few is too short: 54 characters to train on, where one batch of 3 rows of 20 takes 61"
    )
    with pytest.raises(CorpusError, match=message):
        TextJob(few, SMALL)
    assert TextJob(few, dataclasses.replace(SMALL, length=17)).in_epoch == 1


@pytest.mark.parametrize("length", [61, 68, 300, 1200])
def test_held_out_characters_are_each_predicted_once_from_those_before(length: int) -> None:
    corpus = Corpus("some", CORPUS.text[:length])
    job = TextJob(corpus, dataclasses.replace(SMALL, length=10, batch=2))
    begin = corpus.held_out
    found = list(held_out_scores(corpus, job.weights()))
    places = np.concatenate([p for p, _ in found])
    assert sorted(places) == list(range(begin + 1, len(corpus.text)))
    if len(places) < 2 * text.CHUNK:  # one stream
        order = np.concatenate([s for _, s in found])[np.argsort(places)]
        s, _ = numpy_model(job.weights(), corpus.codes[begin:-1, None], np.zeros((1, 6)))
        assert np.allclose(order, s[:, 0])


# ----------------------------------------------------------------------------------- the optimisers


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_adam_is_that_of_the_paper(dtype: str) -> None:
    w = RNG.normal(size=7)
    adam = optimisers.Adam(w.astype(dtype), clip=1.5)
    m, v = np.zeros(7), np.zeros(7)
    for t in range(1, 8):
        g = RNG.normal(size=7) * 10.0 ** RNG.integers(-3, 2)
        adam.update(g.astype(dtype), 0.01, t)
        g *= min(1, 1.5 / np.linalg.norm(g))
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        w = w - 0.01 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        assert np.allclose(
            adam.w,
            w,
            rtol=0,
            atol=0.01 * t * 32 * np.finfo(dtype).eps + np.finfo(dtype).eps * t * 4,
        )
        assert adam.w.dtype == dtype


def test_a_gradient_of_zero_moves_nothing() -> None:
    adam = optimisers.Adam(np.ones(3), clip=1.0)
    adam.update(np.zeros(3), 0.1, 1)
    assert np.array_equal(adam.w, np.ones(3))


def test_momentum() -> None:
    w, u = RNG.normal(size=4), np.zeros(4)
    momentum = optimisers.Momentum(w)
    for t in range(1, 4):
        g = RNG.normal(size=4)
        momentum.update(g, 0.1 / t, t)
        u = 0.9 * u + g
        w = w - 0.1 / t * u
    assert np.allclose(momentum.w, w)


# ---------------------------------------------------------------------------------------- drawing


def test_drawing_follows_the_probabilities() -> None:
    s = np.log(np.array([0.5, 0.2, 0.3]))
    assert [drawn(s, 1.0, u) for u in (0.0, 0.49, 0.51, 0.69, 0.71, 0.999)] == [0, 0, 1, 1, 2, 2]
    assert [drawn(s, 0.5, u) for u in (0.64, 0.67, 0.78)] == [0, 1, 2]  # squares: 25, 4, 9 of 38
    assert drawn(s, 0, 0.99) == 0
    assert drawn(np.array([-1e5, 1e5, 0.0]), 1e-3, 0.5) == 1
    assert drawn(np.array([0.0, -np.inf]), 1.0, 1.0) in (0, 1)


def test_a_sample_hangs_on_the_seed() -> None:
    job = TextJob(CORPUS, SMALL)
    one, same, other = (text.sample(CORPUS, job.weights(), 40, 1.0, s) for s in (1, 1, 2))
    assert one == same != other
    assert len(one) == 40
    assert set(one) <= set(CORPUS.alphabet)
    assert text.sample(CORPUS, job.weights(), 0, 1.0, 1) == ""


# --------------------------------------------------------------------------------------- going on


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_going_on_from_any_step_gives_the_same_bits(tmp_path: Path, dtype: str) -> None:
    settings = dataclasses.replace(SMALL, dtype=dtype)
    whole = finished(TextJob(CORPUS, settings), tmp_path / "whole")
    expected = checkpoints.load(tmp_path / "whole", "text").arrays
    for stops in (1, whole.job.steps // 2, whole.job.steps - 1):
        path = tmp_path / f"{stops}"
        first, stop = Training(TextJob(CORPUS, settings), path, 10**6), Stop()

        def after(done: int, loss: float, stop: Stop = stop, stops: int = stops) -> None:
            stop.signal = 2 if done == stops else 0

        assert first.run(after, stop) == 2
        second = Training(TextJob(CORPUS, settings), path, 10**6)
        second.resume(checkpoints.load(path, "text"))
        assert second.done == stops
        assert second.run(lambda done, loss: None, Stop()) == 0
        found = checkpoints.load(path, "text").arrays
        assert found.keys() == expected.keys()
        for name in expected:
            assert found[name].tobytes() == expected[name].tobytes(), name


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a"
    finished(TextJob(CORPUS, SMALL), path)
    found = checkpoints.load(path, "text")
    other = TextJob(Corpus("more", CORPUS.text + "!"), SMALL)
    with pytest.raises(checkpoints.CheckpointError, match="was trained on other data"):
        Training(other, path, 1).resume(found)
    wider = TextJob(CORPUS, dataclasses.replace(SMALL, hidden=7))
    with pytest.raises(checkpoints.CheckpointError, match="hidden = 6, this training has 7"):
        Training(wider, path, 1).resume(found)
    cut = dataclasses.replace(found, arrays={**found.arrays, "w": found.arrays["w"][1:]})
    with pytest.raises(checkpoints.CheckpointError, match="has w of shape"):
        Training(TextJob(CORPUS, SMALL), path, 1).resume(cut)


def test_it_learns() -> None:
    job = TextJob(CORPUS, dataclasses.replace(SMALL, epochs=30, hidden=16))
    training = finished(job)
    found = text.judged(job)
    assert found.loss.loss < found.orders[1].parts.floor < found.orders[0].parts.floor
    assert job.held_out[-1] == pytest.approx(found.loss.loss)
    assert math.isclose(training.losses[-1], found.loss.loss, abs_tol=0.5)


@pytest.mark.skipif(os.environ.get("LOOPGRAD_FULL") != "1", reason="LOOPGRAD_FULL=1 runs it")
def test_pythons_text_is_beaten_in_three_epochs() -> None:
    """Which takes some ten seconds of one processor."""
    job = TextJob(corpora.bundled(), Settings(epochs=3))
    finished(job)
    found = text.judged(job)
    assert found.loss.loss < found.orders[1].parts.floor - 0.3
    assert found.loss.loss < found.orders[1].counted
