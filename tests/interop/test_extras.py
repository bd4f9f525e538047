"""What is said where a framework is not installed, and that nothing loads one unasked."""

from __future__ import annotations

import subprocess
import sys

WITHOUT = "import sys; sys.modules['torch'] = None; import loopgrad as lg; "


def run(script: str) -> str:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    return done.stdout + done.stderr


def test_how_to_install_pytorch() -> None:
    said = run(WITHOUT + "lg.torch")
    assert "ImportError: lg.torch needs PyTorch, which is not installed" in said
    assert "pip install 'loopgrad[torch]'" in said


def test_the_rest_works_without_it() -> None:
    script = "print(lg.vjp(lg.lib.softmax, [[0.0, 0.0]])[0]); print('torch' in dir(lg))"
    assert run(WITHOUT + script).split("\n")[:2] == ["[[0.5 0.5]]", "False"]


def test_pytorch_is_not_loaded_unasked() -> None:
    script = "import sys, loopgrad as lg; lg.lib.softmax([[0.0]]); print('torch' in sys.modules)"
    assert run(script).strip() == "False"
