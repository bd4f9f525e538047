"""Text to code: functions shared by modules, and what each kind of code is compiled with."""

from __future__ import annotations

import ctypes
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import llvmlite.binding as llvm
import pytest

from loopgrad.backends.llvm.compiling import engine, objects, symbols
from loopgrad.backends.llvm.compiling.generating import Turns, generating, object_code
from loopgrad.backends.llvm.compiling.machine import this_machine
from loopgrad.backends.llvm.compiling.passes import (
    EXPLICIT,
    FINAL,
    LITERAL,
    SINGLY,
    TAKES_OPTIONS,
    Passes,
)

KINDS = (EXPLICIT, FINAL, LITERAL, SINGLY)
THRICE = "define i64 @loopgrad_test_thrice(i64 %n) { %m = mul i64 %n, 3\n ret i64 %m }"
CALLER = """declare i64 @loopgrad_test_thrice(i64)
define i64 @more(i64 %n) { %m = call i64 @loopgrad_test_thrice(i64 %n)
 %r = add i64 %m, 1
 ret i64 %r }"""
ENTRY = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)


def pointing(text: str, real: str) -> str:
    """The text with pointers as this LLVM has them, to numbers of a type."""
    return re.sub(r"\bptr\b", engine.new_module(real).pointer(real), text)


def test_a_module_calls_a_library_that_is_provided_when_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = []

    def provide() -> None:
        made.append(engine.library(THRICE, ["loopgrad_test_thrice"]))

    monkeypatch.setitem(symbols.PROVIDERS, "loopgrad_test_", "loopgrad_test_provider")
    monkeypatch.setattr(
        symbols.importlib, "import_module", lambda name: SimpleNamespace(provide=provide)
    )
    for _ in range(2):
        loaded = engine.load(CALLER)
        assert ENTRY(loaded.address("more"))(13) == 40
    assert len(made) == 1
    assert engine.library(THRICE, ["loopgrad_test_thrice"]) == made[0]  # compiled once


@pytest.mark.skipif(llvm.llvm_version_info[0] < 17, reason="one context")
def test_a_module_leaves_nothing_in_the_context_of_others() -> None:
    modules = [objects.optimized("define double @f() { ret double 2.0 }", p) for p in KINDS]
    assert len({id(module._context) for module in modules}) == len(modules)


def test_optimising_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """A pass builder that is used twice tells of each pass that it skips."""
    text = "define i32 @f() noinline optnone { ret i32 1 }"
    for passes in (*KINDS, *KINDS):
        objects.optimized(text, passes)
    assert capfd.readouterr() == ("", "")


def test_a_name_that_nobody_provides_is_refused() -> None:
    with pytest.raises(LookupError, match="`nobody_has_this`"):
        engine.load("declare void @nobody_has_this()\ndefine void @f() { ret void }")


def test_what_a_module_declares() -> None:
    text = """declare double @llvm.fma.f64(double, double, double)
declare double @loopgrad_c_exp(double) nounwind
declare noalias ptr @second.one(ptr)
define void @own() { ret void }"""
    assert symbols.declared(text) == ("loopgrad_c_exp", "second.one")


LOOP = """define double @sum(ptr %x, i64 %n) {
entry:
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %i1, %loop ]
  %s = phi double [ 0.0, %entry ], [ %s1, %loop ]
  %p = getelementptr inbounds double, ptr %x, i64 %i
  %v = load double, ptr %p
  %s1 = fadd reassoc double %s, %v
  %i1 = add i64 %i, 1
  %more = icmp slt i64 %i1, %n
  br i1 %more, label %loop, label %end
end:
  ret double %s1
}"""


@pytest.mark.parametrize(("passes", "vectors"), [(LITERAL, True), (EXPLICIT, False)])
def test_only_literal_code_is_vectorised_by_llvm(passes: Passes, vectors: bool) -> None:
    text = pointing(LOOP, "double")
    assert ("vector.body" in str(engine.optimized(text, passes))) is vectors


INLINED = """define internal i64 @own_twice(i64 %n) alwaysinline { %m = add i64 %n, %n
 ret i64 %m }
define i64 @f(i64 %n) { %m = call i64 @own_twice(i64 %n)
 %r = add i64 %m, 0
 ret i64 %r }"""


def test_explicit_code_is_inlined_and_tidied_by_a_few_passes() -> None:
    text = str(engine.optimized(INLINED, EXPLICIT))
    assert "own_twice" not in text
    assert ", 0" not in text


def test_where_llvmlite_has_not_these_passes_all_of_the_level_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make = getattr(llvm, "create_new_module_pass_manager", None)
    if make is None:
        pytest.skip("all of a level run anyway")
    owner = type(make())
    monkeypatch.setattr(owner, "add_sroa_pass", None)
    assert "own_twice" not in str(engine.optimized(INLINED, EXPLICIT))


# Two rows with a stride between them: strength reduction counts a pointer on, where else a product is taken.
STRIDED = """define void @f(ptr %x, i64 %n, i64 %s) {
entry:
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %i1, %loop ]
  %o = mul i64 %i, %s
  %p = getelementptr float, ptr %x, i64 %o
  store float 0.0, ptr %p
  %i1 = add i64 %i, 1
  %more = icmp slt i64 %i1, %n
  br i1 %more, label %loop, label %end
end:
  ret void
}"""


@pytest.mark.skipif(not TAKES_OPTIONS, reason="LLVM takes an option once")
@pytest.mark.skipif("x86" not in llvm.get_default_triple(), reason="looks for x86's instructions")
def test_what_is_set_for_explicit_code_is_set_for_it_alone() -> None:
    text = pointing(STRIDED, "float")

    def multiplies(passes: Passes) -> bool:
        return "imul" in engine.assembly(text, passes)

    with pytest.raises(KeyError), generating(EXPLICIT):
        raise KeyError
    reduced = replace(FINAL, thorough=True)
    found = [multiplies(p) for p in (reduced, EXPLICIT, reduced, FINAL, reduced)]
    assert found == [False, True, False, True, False]


def test_code_of_several_modules_is_generated_at_a_time() -> None:
    """The same as one after the other."""
    texts = [pointing(STRIDED, "float")] * 4 + [THRICE] * 2
    kinds = [replace(FINAL, thorough=number % 3 > 0) for number in range(len(texts))]

    def code(text: str, passes: Passes) -> bytes:
        machine = this_machine().create(passes.level)
        return object_code(machine, objects.optimized(text, passes, machine), passes)

    alone = [code(text, passes) for text, passes in zip(texts, kinds, strict=True)]
    assert len(set(alone)) == (3 if TAKES_OPTIONS else 2)
    with ThreadPoolExecutor(len(texts)) as pool:
        for _ in range(5):
            assert list(pool.map(code, texts, kinds)) == alone


def test_turns() -> None:
    """Threads that want the same are in together, others wait; a fork waits for all."""
    turns, together = Turns(), threading.Barrier(2, timeout=30)
    inside, seen = set[bool](), list[set[bool]]()

    def work(addresses: bool) -> None:
        with turns.taken(addresses):
            together.wait()  # for the other one of its kind
            inside.add(addresses)
            seen.append(set(inside))
            together.wait()
            inside.discard(addresses)

    threads = [threading.Thread(target=work, args=(kind,)) for kind in (True, True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with turns, turns, turns.taken(False):  # by one thread, again and again
        late = threading.Thread(target=lambda: turns.taken(False).__enter__())
        late.start()
        late.join(0.05)
        assert late.is_alive()
    late.join()
    assert seen == [{True}, {True}]


def test_final_code_stays_as_it_is_written() -> None:
    assert "%r = add i64 %m, 0" in str(engine.optimized(INLINED, FINAL))


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is not known")
@pytest.mark.parametrize("passes", [LITERAL, EXPLICIT])
def test_optimising_leaves_no_memory_behind(passes: Passes) -> None:
    def pages() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1])

    for _ in range(10):
        engine.optimized(THRICE, passes)
    before = pages()
    for _ in range(60):
        engine.optimized(THRICE, passes)
    assert pages() - before < 250  # of 4 kB; what llvmlite forgets to free is twice that
