"""What is said where a framework is not installed, and that nothing loads one unasked."""

from __future__ import annotations

import subprocess
import sys

import pytest

WITHOUT = "import sys; sys.modules['torch'] = sys.modules['jax'] = None; import loopgrad as lg; "


def run(script: str) -> str:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    return done.stdout + done.stderr


@pytest.mark.parametrize(("extra", "library"), [("torch", "PyTorch"), ("jax", "JAX")])
def test_how_to_install_it(extra: str, library: str) -> None:
    said = run(WITHOUT + f"lg.{extra}")
    assert f"ImportError: lg.{extra} needs {library}, which is not installed" in said
    assert f"pip install 'loopgrad[{extra}]'" in said


def test_the_rest_works_without_it() -> None:
    script = "print(lg.vjp(lg.lib.softmax, [[0.0, 0.0]])[0]); print({'torch', 'jax'} & {*dir(lg)})"
    assert run(WITHOUT + script).split("\n")[:2] == ["[[0.5 0.5]]", "set()"]


def test_nothing_is_loaded_unasked() -> None:
    script = "import sys, loopgrad as lg; lg.lib.softmax([[0.0]]); print({'torch', 'jax'} & {*sys.modules})"
    assert run(script).strip() == "set()"
