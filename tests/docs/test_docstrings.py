"""The examples in docstrings run."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import loopgrad

MODULES = [
    m.name
    for m in pkgutil.walk_packages(loopgrad.__path__, "loopgrad.")
    if "__main__" not in m.name
]


@pytest.mark.parametrize("name", ["loopgrad", *MODULES])
def test_examples(name: str) -> None:
    if name.startswith("loopgrad.examples"):
        pytest.importorskip("sklearn")
    module = importlib.import_module(name)
    assert doctest.testmod(module, optionflags=doctest.ELLIPSIS).failed == 0


def test_there_are_examples_of_every_public_function() -> None:
    for name in ("program", "compile", "vjp", "jvp", "value_and_grad"):
        assert ">>>" in str(getattr(loopgrad, name).__doc__)
