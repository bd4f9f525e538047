"""Instructions that are left out, and the blocks that come before a block on all ways."""

from __future__ import annotations

import llvmlite.binding as llvm
import numpy as np
import pytest

import loopgrad as lg
from loopgrad.backends.llvm.compiling.engine import new_module
from loopgrad.backends.llvm.writing.layout import Variant
from loopgrad.backends.llvm.writing.numbering import folded
from loopgrad.backends.llvm.writing.repeat import where
from loopgrad.backends.llvm.writing.text import Body


@pytest.mark.parametrize(
    ("instruction", "value"),
    [
        ("add i64 %a, 0", "%a"),
        ("add i64 0, %a", "%a"),
        ("sub nsw i64 %a, 0", "%a"),
        ("sub i64 0, %a", None),
        ("mul i64 1, %a", "%a"),
        ("mul i64 %a, 1", "%a"),
        ("mul i64 %a, 0", None),
        ("mul i64 -3, 7", "-21"),
        ("sub i64 -3, 7", "-10"),
        ("mul i64 4611686018427387904, 2", None),
        ("add i32 %a, 0", None),
        ("icmp slt i64 -1, 0", "true"),
        ("icmp sge i64 -1, 0", "false"),
        ("icmp ult i64 -1, 0", None),
        ("icmp slt i64 %a, 0", None),
        ("select i1 true, i64 %a, i64 %b", "%a"),
        ("select i1 false, ptr %a, ptr %b", "%b"),
        ("select i1 %c, i64 %a, i64 %b", None),
        ("bitcast ptr %a to ptr", "%a"),
        ("bitcast i8* %a to i64*", None),
        ("getelementptr inbounds float, ptr %a, i64 0", "%a"),
        ("getelementptr [2 x ptr], ptr %a, i64 0, i64 %b", None),
        ("getelementptr float, ptr %a, i64 %b", None),
    ],
)
def test_folding(instruction: str, value: str | None) -> None:
    assert folded(instruction) == value


def body() -> Body:
    return Body(new_module("double"), "f", "void @f(i64 %a, i1 %c)")


def product(at: Body) -> str:
    return at.value("mul i64 %a, %a")


def test_what_is_computed_in_a_branch_is_not_there_behind_it() -> None:
    at = body()
    at.branch("%c", "then", "end")
    at.start("then")
    first = product(at)
    assert product(at) == first
    at.jump("end")
    at.start("end")
    assert product(at) != first


def test_what_is_computed_before_a_branch_is_there_in_it_and_behind_it() -> None:
    at = body()
    first = product(at)
    at.branch("%c", "then", "else")
    for label in ("then", "else"):
        at.start(label)
        assert product(at) == first
        at.jump("end")
    at.start("end")
    assert product(at) == first


def test_what_a_loop_computes_is_there_behind_it() -> None:
    """It is tested at its end: it has run."""
    at = body()
    at.jump("loop")
    at.start("loop")
    first = product(at)
    at.branch("%c", "loop", "leave")
    at.start("leave")
    assert product(at) == first


def test_a_block_that_is_left_early() -> None:
    at = body()
    at.at_end("gave_up", ["ret void"])
    at.branch("%c", "gave_up", "ok")
    at.start("ok")
    first = product(at)
    at.branch("%c", "gave_up", "fine")
    at.start("fine")
    assert product(at) == first


def test_a_block_that_nobody_is_known_to_enter_has_nothing() -> None:
    at = body()
    first = product(at)
    at.do("ret void")
    at.start("other")
    assert product(at) != first


def test_a_comparison_holds_where_it_is_given_and_is_computed_before() -> None:
    at = body()
    compared = at.value("icmp slt i64 %a, 8")
    seen = []
    where(at, compared, lambda: seen.append(at.value("icmp slt i64 %a, 8")))
    where(at, at.value("icmp slt i64 8, %a"), lambda: seen.append(at.value("icmp slt i64 %a, 8")))
    assert seen == ["true", compared]
    assert at.value("icmp slt i64 %a, 8") == compared


def test_what_holds_needs_no_branch() -> None:
    at = body()
    inside = at.block
    where(at, "true", lambda: None)
    assert at.block == inside


def test_loads_are_not_taken_for_each_other() -> None:
    at = body()
    assert at.load("i64", "%p") != at.load("i64", "%p")


@pytest.mark.parametrize("name", ["softmax", "batchnorm", "attention", "ugrnn", "max_pool2d"])
def test_every_value_is_computed_before_it_is_used(name: str) -> None:
    """LLVM's verifier says so."""
    program = lg.lib[name]
    for one in (program, program.backward()):
        runner = lg.compile(one).runner
        for variant in (
            Variant("float", False, False),
            Variant("double", False, False, large=False),
            Variant("double", True, False, literal=True),
        ):
            llvm.parse_assembly(runner.emitted(variant)[0]).verify()  # type: ignore[attr-defined]


def test_a_large_call_after_a_small_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs code of its own, which stores past the caches; both are right."""
    from loopgrad.backends.llvm.writing import layout

    monkeypatch.setattr(layout, "LARGE", 8 * 1000)
    program = lg.program("double(x[N]) -> y[N]:\n    y[n] = 2 * x[n]")
    kernel = lg.compile(program)
    for size in (10, 499, 500, 501, 3000, 10):
        x = np.random.default_rng(size).normal(size=size)
        np.testing.assert_array_equal(kernel(x), 2 * x)
    variants = kernel.runner._compiled  # type: ignore[attr-defined]
    assert sorted(v.large for v in variants) == [False, True]
    texts = [kernel.runner.emitted(v)[0] for v in variants]  # type: ignore[attr-defined]
    assert sorted("!nontemporal" in text for text in texts) == [False, True]
