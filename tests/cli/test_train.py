"""`loopgrad train`: the main job, on real images, and a character model; and being interrupted."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from loopgrad.examples import checkpoints
from loopgrad.examples.training import Stop
from tests.cli.conftest import Run

FULL = os.environ.get("LOOPGRAD_FULL") == "1"
TEXT = ("train", "text", "--file", "t.txt", "--hidden", "6", "--batch", "3", "--length", "20")


@pytest.fixture
def text(tmp_path: Path) -> Path:
    words = "the cat sat on a mat and saw that it was good".split()
    chosen = random.Random(3).choices(words, k=400)
    (tmp_path / "t.txt").write_text(" ".join(chosen), encoding="utf-8")
    return tmp_path


def without(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    found = importlib.util.find_spec

    def find(name: str, *rest: str) -> object:
        return None if name == package else found(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", find)


def test_without_scikit_learn_it_says_how_to_get_it(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, "sklearn")
    said = run("train", "digits")
    assert said.status == 2
    assert said.err == (
        "error: the images come with scikit-learn, which is missing: "
        'pip install "loopgrad[examples]"\n'
    )


def test_mistakes(run: Run) -> None:
    assert run("train", "digit").status == 2
    assert run("train", "digits", "--epochs", "0").status == 2
    assert run("train", "digits", "--dtype", "float16").status == 2


def test_digits(run: Run) -> None:
    pytest.importorskip("sklearn")
    said = run("train", "digits", "--show")
    assert said.status == 0
    for layer in ("affine", "batchnorm", "scale_shift", "relu_layer", "softmax_cross_entropy_with"):
        assert f"{layer}.backward(" in said.out
    assert "for b, j:     c.grad[j]" in said.out
    (accuracy,) = re.findall(r"accuracy\D*[\d.]+%\D*([\d.]+)%", said.out)
    assert float(accuracy) >= 97
    for word in ("training", "test", "loss", "seconds"):
        assert word in said.out


def test_digits_with_convolutions_a_floor_and_curves(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    options = ("--model", "conv", "--epochs", "1", "--smoothing", "0.1", "--plot", "c.png")
    said = run("train", "digits", *options)
    assert said.status == 0
    # H(P) of 0.1 spread over ten classes, the rest on one
    floor = -0.91 * np.log(0.91) - 9 * 0.01 * np.log(0.01)
    numbers = re.findall(r"floor H\(P\)\D*([\d.]+)\D*([\d.]+)", said.out)
    assert numbers == [(f"{floor:.4f}", f"{floor:.4f}")]
    assert "learning curves: c.png" in said.out
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")


# -------------------------------------------------------------------------------------------- text


def test_text(run: Run, text: Path) -> None:
    said = run(*TEXT, "--epochs", "40", "--rate", "0.02", "--sample", "50", "--show")
    assert said.status == 0
    for word in (
        "character_model.backward(",
        "characters held out",
        "loss H(P,Q)",
        "floor H(P)",
        "gap KL(P,Q)",
        "bits per character",
        "below the unigram entropy of the text",
        "below the bigram entropy of the text",
        "A sample (temperature 0.7):",
    ):
        assert word in said.out
    assert "not below the unigram" not in said.out
    assert len(said.out.split("A sample (temperature 0.7):\n\n")[1]) == 51


def test_text_from_standard_input_and_without_a_sample(run: Run, text: Path) -> None:
    words = ["-" if word == "t.txt" else word for word in TEXT]
    said = run(*words, "--epochs", "1", "--sample", "0", stdin=(text / "t.txt").read_bytes())
    assert said.status == 0
    assert "sample" not in said.out


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "t.txt is empty"),
        (b"too short", "t.txt is too short: 8 characters to train on, where one batch of 3 rows"),
        (b"\x89PNG\r\n\x1a\n", "t.txt is no UTF-8 text: byte 0x89 at offset 0"),
        (b"a\0b" * 100, "t.txt is no text: it holds a zero byte at offset 1"),
    ],
)
def test_files_that_are_no_text(run: Run, text: Path, data: bytes, message: str) -> None:
    (text / "t.txt").write_bytes(data)
    said = run(*TEXT, "--checkpoint", "c")
    assert said.status == 2
    assert said.err.startswith(f"error: {message}")
    assert not (text / "c").exists()


def test_mistakes_with_files_lose_nothing(run: Run, text: Path) -> None:
    def refused(*words: str, message: str) -> None:
        said = run(*words)
        assert said.status == 2
        assert message in said.err

    again = (*TEXT, "--epochs", "1", "--sample", "0")
    assert run(*again, "--checkpoint", "c").status == 0
    before = (text / "c").read_bytes()
    refused(*again, "--checkpoint", "c", message="c exists: --resume goes on from it")
    refused(*again, "--resume", message="name it, --checkpoint FILE")
    refused(*again, "--resume", "--checkpoint", "d", message="there is no checkpoint d")
    refused(*again, "--checkpoint", "no/c", message="there is no folder no for c")
    resume = ("--resume", "--checkpoint", "c")
    refused(
        *(*TEXT, "--epochs", "2", "--sample", "0"),
        *resume,
        message="c was made with --epochs 1, not 2: leave that out to go on",
    )
    refused("train", "digits", *resume, message="c is a checkpoint of `text`, not of `digits`")
    refused("train", "text", *resume, message="c was trained on other data than this")
    assert (text / "c").read_bytes() == before
    said = run("train", "text", "--file", "t.txt", "--sample", "0", *resume)
    assert said.status == 0, said.err
    (text / "c").write_bytes(before[:-200])
    refused(*again, *resume, message="c is no checkpoint, or a damaged one")
    refused("train", "text", "--file", "none", message="none cannot be read: No such file")
    refused("train", "text", "--temperature", "-1", message="temperature")
    refused(
        *TEXT, "--plot", "c.jpg", message="--plot writes a PNG file: c.jpg does not end in .png"
    )


def test_packages_that_are_missing(run: Run, text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package, option, message in (
        ("torch", ("--compare", "torch"), "--compare torch trains in PyTorch, which is missing"),
        ("matplotlib", ("--plot", "c.png"), "--plot draws with matplotlib, which is missing"),
    ):
        without(monkeypatch, package)
        said = run(*TEXT, *option)
        assert said.status == 2
        extra = {"torch": "torch", "matplotlib": "plot"}[package]
        assert said.err == f'error: {message}: pip install "loopgrad[{extra}]"\n'


def test_beside_pytorch(run: Run, text: Path) -> None:
    pytest.importorskip("torch")
    said = run(*TEXT, "--epochs", "1", "--compare", "torch")
    assert said.status == 0
    for words in ("loss in PyTorch", "largest difference over 23 steps: ", " times"):
        assert words in said.out
    for more in (("--checkpoint", "c"), ("--resume",), ("--distributed",)):
        said = run(*TEXT, "--compare", "torch", *more)
        assert said.status == 2
        assert "it keeps no checkpoint, in one process" in said.err


def test_distributed_needs_torchrun(run: Run, text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    if importlib.util.find_spec("torch"):
        said = run(*TEXT, "--distributed")
        assert said.status == 2
        assert "start them with\n  torchrun --nproc-per-node 2 -m loopgrad train" in said.err
    without(monkeypatch, "torch")
    said = run(*TEXT, "--distributed")
    assert said.status == 2
    assert said.err == (
        "error: --distributed runs under PyTorch's torchrun, which is missing: "
        'pip install "loopgrad[torch]"\n'
    )


# ----------------------------------------------------------------------------------- interruptions


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(text: Path) -> Iterator[Start]:
    """Commands as processes of their own, none of which outlives the test."""
    processes: list[subprocess.Popen[str]] = []

    def command(*words: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "loopgrad", *words],
            cwd=text,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "LOOPGRAD_NUM_THREADS": "1"},
        )
        processes.append(process)
        return process

    yield command
    for process in processes:
        process.kill()
        process.communicate()


LONG = (*TEXT, "--epochs", "20", "--sample", "0", "--dtype", "float32")


def test_killed_at_any_moment_it_goes_on_bit_for_bit(text: Path, start: Start) -> None:
    begun = time.monotonic()
    assert start(*LONG, "--checkpoint", "whole").wait() == 0
    seconds = time.monotonic() - begun
    moments, kills, least = random.Random(4), 0, 0
    words = (*LONG, "--save-every", "1", "--checkpoint", "cut")
    while True:
        exists = (text / "cut").exists()
        process = start(*words, *(["--resume"] if exists else []))
        try:
            # Half of a run is imports: aim behind them.
            process.wait(
                seconds * moments.uniform(0.5, 1.2) if kills < (20 if FULL else 3) else None
            )
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
        else:
            assert process.returncode == 0, process.stderr and process.stderr.read()
            break
        if (text / "cut").exists():
            done = checkpoints.load(text / "cut", "text").step
            assert done >= least  # nothing that was kept is lost
            least = done
    whole, cut = (checkpoints.load(text / name, "text") for name in ("whole", "cut"))
    assert whole.arrays.keys() == cut.arrays.keys()
    for name, array in whole.arrays.items():
        assert array.tobytes() == cut.arrays[name].tobytes(), name


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stop_is_clean_and_says_how_to_go_on(
    text: Path, start: Start, sent: signal.Signals, status: int
) -> None:
    process = start(*TEXT, "--epochs", "10000", "--sample", "0", "--checkpoint", "my c")
    while not (text / "my c").exists():  # there from the start
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(sent)
    _, err = process.communicate(timeout=60)
    assert process.returncode == status, err
    (step,) = re.findall(r"stopped after step ([\d,]+) of 230,000; to go on:", err)
    assert err.endswith("  loopgrad train text --file t.txt --checkpoint 'my c' --resume\n")
    assert "Traceback" not in err
    assert checkpoints.load(text / "my c", "text").step == int(step.replace(",", ""))


def test_a_stop_where_no_checkpoint_was_asked_for_leaves_one(
    run: Run, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(self: Stop) -> contextlib.nullcontext[Stop]:
        self.signal = signal.SIGINT
        return contextlib.nullcontext(self)

    monkeypatch.setattr(Stop, "listening", stopped)
    for name in ("text.checkpoint", "text.checkpoint-2"):
        said = run(*TEXT)
        assert said.status == 130
        assert said.err.endswith(
            "stopped after step 1 of 184; to go on:\n"
            f"  loopgrad train text --file t.txt --checkpoint {name} --resume\n"
        )
        assert checkpoints.load(text / name, "text").step == 1
