"""Results are the same whatever the hash seed, and whatever ran before in the process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAMES = (
    "softmax stable_softmax log_softmax softmax_cross_entropy batchnorm layer_norm gelu swish attention "
    "causal_attention ugrnn_cell gru_cell lstm_cell ugrnn mlp conv1d swiglu"
)
SCRIPT = """
import sys
import loopgrad as lg
from tests.simplify.test_blocks import forward_of

programs = {n: getattr(lg.lib, n) for n in sys.argv[1].split()}
programs |= {n: forward_of(n) for n in ("a GRU", "a selective scan")}
names = list(programs)
order = names[::-1] if sys.argv[2] == "backwards" else names
texts = {}
for name in order:
    program = programs[name]
    fast = program.backward().simplify()
    texts[name] = f"{fast}\\n{fast.derivation}\\n{program.simplify()}"
print("\\n".join(texts[name] for name in names))
"""


def simplified(seed: int, order: str) -> str:
    environment = {**os.environ, "PYTHONHASHSEED": str(seed), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, NAMES, order]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return run.stdout


def test_the_same_for_every_hash_seed_and_order() -> None:
    first = simplified(0, "forwards")
    assert first.count("softmax.backward(") >= 2
    assert simplified(1, "backwards") == first
    assert simplified(2, "forwards") == first
