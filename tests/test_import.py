"""`import loopgrad` is light, and everything promised is there when asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

import loopgrad as lg

HEAVY = ["numpy", "llvmlite", "click", "rich", "sklearn", "loopgrad.backends.kernel"]


def test_the_import_loads_nothing_heavy() -> None:
    script = f"import sys, loopgrad; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_calling_a_program_in_the_interpreter_does_not_load_llvm() -> None:
    script = """
import sys, loopgrad as lg
lg.compile("f(x) -> y:\\n    y = 2 * x", backend="interpret")(1.0)
print("llvmlite" in sys.modules)"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("name", [n for n in dir(lg) if n != "__version__"])
def test_every_public_name_is_there(name: str) -> None:
    assert name in dir(lg)
    assert getattr(lg, name) is not None


def test_other_names_are_absent() -> None:
    assert not hasattr(lg, "numpy")
    with pytest.raises(AttributeError, match="'loopgrad' has no attribute 'sofmax'"):
        lg.sofmax  # noqa: B018


def test_program_takes_texts_and_functions_only() -> None:
    with pytest.raises(TypeError, match="text or a Python function"):
        lg.program(3)  # type: ignore[arg-type]
