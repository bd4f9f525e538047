"""One program, one schedule: whatever the hash seed."""

from __future__ import annotations

import os
import subprocess
import sys

SHOWN = """
import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.schedule.default import optimized
for name in ("causal_attention", "ugrnn", "batchnorm", "conv1d", "softmax_cross_entropy"):
    program = lg.lib[name].backward(recompute=True)
    print(optimized(infer(program), validate(program)).phases)
"""


def test_hash_seeds_do_not_count() -> None:
    texts = {
        subprocess.run(
            [sys.executable, "-c", SHOWN],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(texts) == 1
    assert "Product" in texts.pop()
