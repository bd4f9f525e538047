"""The examples in docstrings run."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil

import pytest

import loopgrad

MODULES = [
    m.name
    for m in pkgutil.walk_packages(loopgrad.__path__, "loopgrad.")
    if "__main__" not in m.name
]
# What the examples of a part of the package need beside loopgrad.
NEEDS = {
    "loopgrad.examples": "sklearn",
    "loopgrad.examples.torch": "torch",
    "loopgrad.interop.jax": "jax",
    "loopgrad.interop.torch": "torch",
}


@pytest.mark.parametrize("name", ["loopgrad", *MODULES])
def test_examples(name: str) -> None:
    for part, needed in NEEDS.items():
        if name.startswith(part):
            pytest.importorskip(needed)
    module = importlib.import_module(name)
    # To find where each docstring stands, all files that are known are looked at, one after the other.
    if ">>>" not in inspect.getsource(module):
        return
    assert doctest.testmod(module, optionflags=doctest.ELLIPSIS).failed == 0


def test_there_are_examples_of_every_public_function() -> None:
    for name in ("program", "compile", "vjp", "jvp", "value_and_grad"):
        assert ">>>" in str(getattr(loopgrad, name).__doc__)
