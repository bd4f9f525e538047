"""Results are the same whatever the hash seed, and whatever ran before in the process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.effort import FULL

ROOT = Path(__file__).parents[2]
NAMES = "softmax stable_softmax layer_norm causal_attention ugrnn"
if FULL:
    NAMES += " softmax_cross_entropy batchnorm gelu lstm_cell mlp conv1d"
SCRIPT = """
import sys
import loopgrad as lg
from tests.simplify.test_blocks import forward_of

programs = {n: getattr(lg.lib, n) for n in sys.argv[1].split()}
programs |= {n: forward_of(n) for n in ("a selective scan",)}
names = list(programs)
order = names[::-1] if sys.argv[2] == "backwards" else names
texts = {}
for name in order:
    program = programs[name]
    fast = program.backward().simplify()
    texts[name] = f"{fast}\\n{fast.derivation}\\n{program.simplify()}"
print("\\n".join(texts[name] for name in names))
"""


def started(seed: int, order: str) -> subprocess.Popen[str]:
    # Without what the other run has left on the disk.
    own = {"PYTHONHASHSEED": str(seed), "PYTHONPATH": str(ROOT), "LOOPGRAD_CACHE": "0"}
    environment = {**os.environ, **own}
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, NAMES, order]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def test_the_same_for_every_hash_seed_and_order() -> None:
    runs = [started(0, "forwards"), started(1, "backwards")]
    first, second = (run.communicate()[0] for run in runs)
    assert not any(run.returncode for run in runs)
    assert first.count("softmax.backward(") >= 2
    assert second == first
