"""The shared products that a program will call are known before its text is written."""

from __future__ import annotations

import pytest

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.backends.llvm.compiling import symbols
from loopgrad.backends.llvm.products import library, wanted
from loopgrad.ir.nodes import Program
from loopgrad.schedule.default import optimized

PROGRAMS = ["conv2d", "conv1d", "depthwise_conv2d", "attention", "softmax"]


def called(program: Program) -> set[str]:
    """The parts whose functions the text declares."""
    text, _ = lg.compile(program).runner.written("float")
    names = symbols.declared(text)
    return {part for part in library.PARTS if set(names) & set(library.names_of("float", part))}


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_is_begun_is_what_is_called(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[tuple[str, str]] = []
    monkeypatch.setattr(library, "begin", lambda *given: begun.append(given))
    for program in (lg.lib[name], lg.lib[name].backward()):
        begun.clear()
        wanted.begin("float", optimized(infer(program), validate(program)).phases)
        parts = [part for _, part in begun]
        # The text itself tells of those that all products call, early enough.
        assert set(parts) == called(program) - {"product"}
        assert len(parts) == len(set(parts)) and all(real == "float" for real, _ in begun)
