"""A module's text as two, whose code is generated at the same time and is the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.backends.llvm.compiling import engine, parts
from loopgrad.backends.llvm.compiling.generating import APART
from loopgrad.peers.problem import draw

LONG = "".join(f"  %v{n} = add i64 %v{n - 1}, {n}\n" for n in range(1, parts.LEAST))
PHASE = "define internal i64 @{name}(i64 %v0) noinline {{\n" + LONG + "{more}  ret i64 %v9\n}}\n"
HELPER = "define internal i64 @helper(i64 %n) alwaysinline {\n  ret i64 %n\n}\n"
CALL = "  %h = call i64 @helper(i64 %v1)\n"
ENTRY = """define i64 @entry(i64 %n) {
  %f = load ptr, ptr @table
  %a = call i64 %f(i64 %n)
  %b = call i64 @second(i64 %a)
  ret i64 %b
}
"""
TABLE = "@table = internal constant [1 x ptr] [ptr @first]\n"
TEXT = "\n".join(
    [
        "declare i64 @elsewhere(i64)",
        TABLE,
        HELPER,
        PHASE.format(name="first", more=CALL),
        PHASE.format(name="second", more=CALL),
        ENTRY,
    ]
)


def test_phases_go_to_one_module_each_and_what_is_shared_to_both() -> None:
    first, second = parts.parts(TEXT)
    assert [text.count("@helper(i64 %n)") for text in (first, second)] == [1, 1]
    assert first.count("declare i64 @elsewhere") == second.count("declare i64 @elsewhere") == 1
    assert "define i64 @entry" in first and "@entry" not in second
    moved = "first" if "define i64 @first" in second else "second"
    assert f"declare i64 @{moved}(i64 %v0) noinline \n" in first
    assert f"define i64 @{moved}(" in second and f"define internal i64 @{moved}(" not in first
    kept = "second" if moved == "first" else "first"
    assert f"define internal i64 @{kept}(" in first and f"@{kept}(" not in second
    assert "@table" in first and "@table" not in second


@pytest.mark.parametrize(
    "text",
    [
        HELPER + ENTRY.replace("@second", "@helper"),
        TEXT.replace(PHASE.format(name="second", more=CALL), HELPER.replace("helper", "second")),
        TEXT + "@counter = internal global i64 0\n",
    ],
    ids=["short", "one phase", "a variable"],
)
def test_what_stays_one(text: str) -> None:
    assert parts.parts(text) == (text,)


@pytest.mark.skipif(not APART, reason="one context for all modules")
@pytest.mark.parametrize("name", ["batchnorm", "ugrnn"])
def test_the_same_is_computed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit; from the disk too."""
    monkeypatch.setenv("LOOPGRAD_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("LOOPGRAD_CACHE", raising=False)
    text = str(getattr(lg.lib, name))
    codes: list[int] = []
    read = engine.in_memory
    monkeypatch.setattr(
        engine, "in_memory", lambda found: (codes.append(len(found.codes)), read(found))[1]
    )

    def run() -> list[np.ndarray]:
        engine.forget()
        program = lg.program(text)
        problem = draw(program, dict.fromkeys(infer(program).extents, 5), dtype="float32")
        arrays = problem.inputs.values()
        results, pullback = lg.vjp(program, *arrays, **problem.keywords)
        seeds = [problem.seeds.get(n) for n in problem.results]
        found = results if isinstance(results, tuple) else (results,)
        return [a for a in (*found, *pullback(*seeds)) if a is not None]

    before = lg.get_num_threads()
    try:
        lg.set_num_threads(2)
        apart, kept = run(), run()
        assert 2 in codes
        with monkeypatch.context() as patch:
            patch.setattr(parts, "LEAST", 10**9)
            patch.setenv("LOOPGRAD_CACHE", "0")
            whole = run()
    finally:
        lg.set_num_threads(before)
    for found in (kept, whole):
        for one, other in zip(apart, found, strict=True):
            np.testing.assert_array_equal(one, other)
