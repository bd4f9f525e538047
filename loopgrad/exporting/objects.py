"""Programs -> an object file with C's calling convention, made by LLVM: no compiler is needed.

    int softmax(int64_t B, int64_t J, const double *s, double *p)    as the header of printers/c.py says

It holds what calls from Python run: code that is scheduled for this processor, and literal code, which
says what is wrong where the first gives up. It needs the C library alone, and runs on the thread that
calls it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numpy as np

import loopgrad.backends.llvm as backend
from loopgrad.analysis.facts import Facts
from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.backends.kernel import Task
from loopgrad.backends.llvm.compiling import engine, objects
from loopgrad.backends.llvm.compiling.machine import this_machine
from loopgrad.backends.llvm.compiling.passes import FINAL, LITERAL, Passes
from loopgrad.backends.llvm.fused.phase import EntryFrame
from loopgrad.backends.llvm.products.library import tiling_here
from loopgrad.backends.llvm.products.modules import emit as products
from loopgrad.backends.llvm.products.tiling import SUFFIX
from loopgrad.backends.llvm.threading import threads
from loopgrad.backends.llvm.writing.c_functions import C_PREFIX
from loopgrad.backends.llvm.writing.layout import (
    ARRAY_HEAD,
    CONSTANT_BITS,
    ENTRY,
    EXTENT_BITS,
    RECORD_HEAD,
    Layout,
    Variant,
)
from loopgrad.backends.llvm.writing.scratch import ALIGNMENT, SIZE, TOO_LARGE
from loopgrad.backends.llvm.writing.text import I64, Body, Module
from loopgrad.printers.c_functions import Exported, Function
from loopgrad.printers.c_helpers import code

KINDS = {"int64_t": I64, "uint8_t": "i8"}
RAISED = {
    IndexError: "LOOPGRAD_OUT_OF_RANGE",
    ZeroDivisionError: "LOOPGRAD_DIVISION_BY_ZERO",
}
SAID = {
    "is no integer": "LOOPGRAD_NO_INTEGER",
    "too large for int64": "LOOPGRAD_OVERFLOW",
}


def object_file(functions: Sequence[Exported], real: str = "double") -> bytes:
    """The object's contents. Its code is for this processor.

    real: "double" or "float".
    """
    with engine.lock:
        machine = _machine()
        modules = list(_modules(functions, real, machine))
        whole = modules[0]
        for other in modules[1:]:
            whole.link_in(other)
        names = {each.name for each in functions}
        for value in (*whole.functions, *whole.global_variables):
            if not value.is_declaration and value.name not in names:
                value.linkage = "internal"
        made: bytes = machine.emit_object(whole)
    return made


def _machine() -> Any:
    """LLVM's target machine for code that may lie anywhere in memory."""
    known = this_machine()
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=known.cpu, features=known.features, opt=2, reloc="pic", codemodel="default"
    )


def _modules(functions: Sequence[Exported], real: str, machine: Any) -> Iterator[Any]:
    called, context = "", objects.new_context()
    for each in functions:
        wrapper = _Wrapper(each, real)
        for text, passes in wrapper.texts():
            called += text
            yield _optimized(text, passes, machine, context)
    if "@loopgrad_pool" in called:
        yield _optimized(_one_thread(), LITERAL, machine, context)
    if f"_{SUFFIX[real]}(" in called and "@loopgrad_product" in called:
        text = products(engine.new_module(real), tiling_here(real))
        yield _optimized(text, FINAL, machine, context)


def _optimized(text: str, passes: Passes, machine: Any, context: Any) -> Any:
    text = re.sub(rf"@{C_PREFIX}(\w+)", r"@\1", text)
    return objects.optimized(text, passes, machine, context)


def _one_thread() -> str:
    """What stands for the pool of threads."""
    text = Path(threads.__file__).with_name("one_thread.ll").read_text(encoding="utf-8")
    kind = "void (void (i8*, i64, i64)*, i8*, i64)*"
    if engine.new_module("double").opaque_pointers:
        text, kind = threads.without_types(text), "ptr"
    return f"{text}\n@loopgrad_pool = global {kind} @loopgrad_parallel\n"


class _Wrapper:
    """One exported function: its code, twice, and what calls it as C does."""

    def __init__(self, exported: Exported, real: str):
        self.exported, self.real = exported, real
        self.function = Function(exported, real)
        task = Task(_facts(exported), validate(exported.program), optimize=True)
        runner = backend.LLVMRunner(task)
        self.fast = runner.emitted(Variant(real, False, False))
        self.literal = runner.emitted(Variant(real, False, False, literal=True))
        self.layout: Layout = self.literal[2]
        self.module: Module = engine.new_module(real)

    def texts(self) -> Iterator[tuple[str, Passes]]:
        for way, (text, passes, _) in (("fast", self.fast), ("literal", self.literal)):
            for name in (ENTRY, SIZE):
                text = re.sub(rf"@{name}\b", f"@{self._inner(name, way)}", text)
            yield text, passes
        yield self._text(), LITERAL

    def _inner(self, name: str, way: str) -> str:
        return f"{self.exported.name}.{way}.{name}"

    def _text(self) -> str:
        arguments = self.function.arguments
        parts = [f"{self._kind(a.type)} %a{i}" for i, a in enumerate(arguments)]
        name = self.exported.name
        body = self.body = Body(self.module, name, f"i32 @{name}({', '.join(parts)}) nounwind")
        self.values = {
            (a.of, a.type.endswith("*") or a.is_tensor): f"%a{i}" for i, a in enumerate(arguments)
        }
        self.integers = body.alloca(I64, max(1, len(self.layout.integers)))
        self._numbers()
        reals = self._reals()
        arrays = self._arrays()
        record = body.alloca(I64, self.layout.record_length)
        failed = self._run("fast", arrays, reals, record)
        self._leave_where(body.value(f"icmp eq i32 {failed}, 0"), "LOOPGRAD_OK")
        failed = self._run("literal", arrays, reals, record)
        self._leave_where(body.value(f"icmp eq i32 {failed}, 0"), "LOOPGRAD_OK")
        self._say_what_is_wrong(record)
        body.finish()
        return self.module.text()

    def _kind(self, declared: str) -> str:
        kind = declared.removeprefix("const ").removesuffix("*").strip()
        found = KINDS.get(kind, kind)
        return self.module.pointer(found) if declared.endswith("*") else found

    def _leave_where(self, condition: str, error: str) -> None:
        go_on, leave = self.body.fresh("go"), self.body.fresh("leave")
        self.body.branch(condition, leave, go_on)
        self.body.at_end(leave, [f"ret i32 {code(error)}"])
        self.body.start(go_on)

    # -------------------------------------------------------------------------- extents and constants

    def _numbers(self) -> None:
        """Stores the integers that the code takes, in their order; leaves where they do not fit."""
        facts = self.layout.task.facts
        frame = EntryFrame(self.layout, self.body, self._slot)
        for (kind, *_), slot in self.layout.slots.items():
            if kind in ("extent", "constant"):
                name = next(n for (k, n), s in self.layout.slots.items() if s == slot and k == kind)
                if (name, False) in self.values:
                    value = self.values[name, False]
                    self._refuse_what_is_large(value, kind == "extent")
                    self._store(slot, value)
        for name, formula in facts.defined.items():
            value = frame.value(formula)
            self._require_extent(value)
            self._store(self.layout.slots["extent", name], value)
        for name in sorted(self.layout.task.safety.positive):
            value = self._slot(self.layout.slots["constant", name])
            self._leave_where(self.body.value(f"icmp slt i64 {value}, 1"), "LOOPGRAD_CONSTANT")
        for equality in facts.equalities:
            left, right = frame.value(equality.left), frame.value(equality.right)
            differ = self.body.value(f"icmp ne i64 {left}, {right}")
            self._leave_where(differ, "LOOPGRAD_EXTENT")
        strict = {e for t in facts.tensors.values() if t.role == "result" for e in t.extents}
        for (kind, what), slot in self.layout.slots.items():
            if kind == "formula":
                value = frame.value(what)
                if what in strict:
                    self._require_extent(value)
                negative = self.body.value(f"icmp slt i64 {value}, 0")
                self._store(slot, self.body.select(negative, I64, "0", value))

    def _slot(self, slot: int) -> str:
        return self.body.load(I64, self.body.element(I64, self.integers, slot))

    def _store(self, slot: int, value: str) -> None:
        self.body.store(I64, value, self.body.element(I64, self.integers, slot))

    def _refuse_what_is_large(self, value: str, extent: bool) -> None:
        if extent:
            self._leave_where(self.body.value(f"icmp slt i64 {value}, 0"), "LOOPGRAD_EXTENT")
            large = self.body.value(f"icmp sge i64 {value}, {1 << EXTENT_BITS}")
        else:
            shifted = self.body.value(f"add i64 {value}, {(1 << CONSTANT_BITS) - 1}")
            large = self.body.value(f"icmp ugt i64 {shifted}, {(1 << CONSTANT_BITS + 1) - 2}")
        self._leave_where(large, "LOOPGRAD_TOO_LARGE")

    def _require_extent(self, value: str) -> None:
        bad = self.body.value(f"icmp uge i64 {value}, {1 << EXTENT_BITS}")
        self._leave_where(bad, "LOOPGRAD_EXTENT")

    def _reals(self) -> str:
        body, names = self.body, self.layout.real_constants
        reals = body.alloca("double", max(1, len(names)))
        for i, name in enumerate(names):
            value = self.values[name, False]
            if self.real == "float":
                value = body.value(f"fpext float {value} to double")
            body.store("double", value, body.element("double", reals, i))
        return reals

    # ------------------------------------------------------------------------------ arrays, the call

    def _arrays(self) -> str:
        """Array objects, of which only the address of their elements is ever read."""
        body, byte = self.body, self.module.pointer("i8")
        passed = self.layout.passed
        data, arrays = body.alloca(byte, len(passed)), body.alloca(byte, len(passed))
        declared = {a.of: a.type for a in self.function.arguments if a.is_tensor}
        for i, tensor in enumerate(passed):
            value, kind = self.values[tensor, True], self._kind(declared[tensor])
            if not declared[tensor].endswith("*"):  # a number
                where = body.alloca(kind)
                body.store(kind, value, where)
                value, kind = where, self.module.pointer(kind)
            raw = body.value(f"bitcast {kind} {value} to {byte}")
            place = body.element(byte, data, i)
            body.store(byte, raw, place)
            first = body.value(f"bitcast {self.module.pointer(byte)} {place} to {byte}")
            body.store(byte, body.element("i8", first, -ARRAY_HEAD), body.element(byte, arrays, i))
        return arrays

    def _run(self, way: str, arrays: str, reals: str, record: str) -> str:
        """Calls the code, with scratch of its own."""
        body, pointer, byte = self.body, self.module.pointer, self.module.pointer("i8")
        size, entry = self._inner(SIZE, way), self._inner(ENTRY, way)
        self.module.declare(f"declare i64 @{size}({pointer(I64)}, i64)")
        self.module.declare(f"declare {byte} @malloc(i64)")
        self.module.declare(f"declare void @free({byte})")
        kinds = f"{pointer(byte)}, {pointer(I64)}, {pointer('double')}, {pointer(I64)}, {byte}, i64"
        self.module.declare(f"declare i32 @{entry}({kinds})")
        wanted = body.value(f"call i64 @{size}({pointer(I64)} {self.integers}, i64 1)")
        self._leave_where(body.value(f"icmp uge i64 {wanted}, {TOO_LARGE}"), "LOOPGRAD_MEMORY")
        more = body.value(f"add i64 {wanted}, {ALIGNMENT}")
        memory = body.value(f"call {byte} @malloc(i64 {more})")
        self._leave_where(body.value(f"icmp eq {byte} {memory}, null"), "LOOPGRAD_MEMORY")
        number = body.value(f"ptrtoint {byte} {memory} to i64")
        up = body.value(f"add i64 {number}, {ALIGNMENT - 1}")
        aligned = body.value(f"and i64 {up}, {-ALIGNMENT}")
        scratch = body.value(f"inttoptr i64 {aligned} to {byte}")
        for i in range(RECORD_HEAD):
            body.store(I64, "0", body.element(I64, record, i))
        failed = body.value(
            f"call i32 @{entry}({pointer(byte)} {arrays}, {pointer(I64)} {self.integers}, "
            f"{pointer('double')} {reals}, {pointer(I64)} {record}, {byte} {scratch}, i64 1)"
        )
        body.do(f"call void @free({byte} {memory})")
        return failed

    def _say_what_is_wrong(self, record: str) -> None:
        body, sites = self.body, self.layout.sites
        codes = [_code_of(site) for site in sites] or [code("LOOPGRAD_INCOMPLETE")]
        listed = ", ".join(f"i32 {c}" for c in codes)
        table = f"@{self.exported.name}.codes"
        kind = f"[{len(codes)} x i32]"
        self.module.declare(f"{table} = internal constant {kind} [{listed}]")
        site = body.load(I64, body.element(I64, record, 0))
        place = body.value(f"sub i64 {site}, 1")
        first = body.value(
            f"bitcast {self.module.pointer(kind)} {table} to {self.module.pointer('i32')}"
        )
        found = body.load("i32", body.element("i32", first, place))
        body.do(f"ret i32 {found}")


def _facts(exported: Exported) -> Facts:
    facts = infer(exported.program)
    tensors = {
        name: replace(t, role="temporary") if name in exported.kept else t
        for name, t in facts.tensors.items()
    }
    return replace(facts, tensors=tensors)


def _code_of(site: Any) -> int:
    """The code of the error that is raised there."""
    error = site(np.zeros(8, np.int64))
    for kind, name in RAISED.items():
        if isinstance(error, kind):
            return code(name)
    words = str(error)
    return code(next((n for said, n in SAID.items() if said in words), "LOOPGRAD_INCOMPLETE"))
