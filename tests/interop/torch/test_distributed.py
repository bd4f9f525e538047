"""Modules of programs under `torchrun`: data parallel, and sharded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torch.distributed.fsdp")

SCRIPT = Path(__file__).with_name("distributed_script.py")


@pytest.mark.skipif(
    not torch.distributed.is_gloo_available(), reason="PyTorch is built without gloo"
)
def test_gradients_of_two_processes_are_those_of_one() -> None:
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
    ]
    done = subprocess.run(
        [*command, str(SCRIPT)],
        capture_output=True,
        text=True,
        timeout=240,
        cwd=Path(__file__).parents[3],
    )
    assert "the gradients are the same" in done.stdout, done.stdout + done.stderr
