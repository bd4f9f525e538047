"""LLVM's textual form, written block after block.

The text is made by hand because it has to suit llvmlite 0.43 (LLVM 14, pointers have types) up to
the newest (opaque pointers); `Module.pointer` is the one place where they differ.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from loopgrad.backends.llvm.writing.numbering import FOLDED, PURE, PURE_CALL, Numbering, folded

I64 = "i64"

# What LLVM may be told about a loop, and how.
SINGLE = "!0"  # an iteration is long: several at once would make much code for no gain
RARE = "!1"  # seldom runs: it is not worth a copy
AS_WRITTEN = "!1"  # several at once already, where that is of use
FREE = ""  # nothing: LLVM may make vectors of it, or unroll it
# LLVM is to make no vectors of it. Where a loop divides by what is the same in all iterations, and by no
# number, LLVM 22 does so for a whole vector if its first lane gets there, and for none of it otherwise:
# lanes in which a condition holds get anything then.
DIVIDES = "!6"
PAST_CACHES = "!5"  # of a store
# Of a function that runs once a call, without loops: to improve it would take longer than it ever runs.
ONCE = "nounwind noinline optnone"
_PROPERTIES = """
!0 = distinct !{!0, !2}
!1 = distinct !{!1, !2, !3, !4}
!2 = !{!"llvm.loop.interleave.count", i32 1}
!3 = !{!"llvm.loop.vectorize.width", i32 1}
!4 = !{!"llvm.loop.unroll.disable"}
!5 = !{i32 1}
!6 = distinct !{!6, !2, !3}
"""
_DIVISIONS = {"udi", "sdi", "ure", "sre"}  # how those of integers begin


@dataclass
class Module:
    """The functions and declarations of one compilation. `real` is "double" or "float"."""

    real: str
    llvm_version: int
    opaque_pointers: bool
    has_fma: bool
    attributes: str = "nounwind"  # of every function
    vector_bytes: int = 16  # that a register holds
    looks_up: bool = False  # in tables of eight numbers: `Lanes.looked_up`
    declarations: dict[str, None] = field(default_factory=dict)
    functions: dict[str, str] = field(default_factory=dict)
    shared: dict[str, str] = field(default_factory=dict)  # text without a name -> function's name
    # Told of each declaration.
    declaring: Callable[[str], None] = field(default=lambda _: None, compare=False, repr=False)

    def pointer(self, element: str) -> str:
        return "ptr" if self.opaque_pointers else f"{element}*"

    def declare(self, declaration: str) -> None:
        if declaration not in self.declarations:
            self.declarations[declaration] = None
            self.declaring(declaration)

    def text(self) -> str:
        return "\n".join(self.pieces())

    def pieces(self) -> list[str]:
        """The text: each declaration and each function, and what is of all of them."""
        tail = f"attributes #0 = {{ {self.attributes} }}"
        return [*self.declarations, "", *self.functions.values(), tail, _PROPERTIES]

    def number(self, value: float) -> str:
        """A floating literal of the module's type."""
        return literal(self.real, value)


def literal(kind: str, value: float) -> str:
    """A number as LLVM's text has it, of kind "double" or "float"."""
    if kind == "float":
        value = to_float32(value)
    return "0x" + struct.pack(">d", value).hex().upper()


def vector(kind: str, lanes: int) -> str:
    """The type of `lanes` values of one kind; one value is not made a vector.

    >>> vector("float", 16), vector("float", 1)
    ('<16 x float>', 'float')
    """
    return kind if lanes == 1 else f"<{lanes} x {kind}>"


def suffix(kind: str) -> str:
    """What the names of intrinsics on a type end in.

    >>> suffix("double"), suffix("<16 x float>")
    ('f64', 'v16f32')
    """
    if kind.startswith("<"):
        lanes, _, element = kind[1:-1].partition(" x ")
        return f"v{lanes}{suffix(element)}"
    return {"double": "f64", "float": "f32"}.get(kind, kind)


def as_float(value: int | float) -> float:
    """A number of any size."""
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def to_float32(value: float) -> float:
    try:
        return float(struct.unpack("f", struct.pack("f", value))[0])
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


class Body:
    """A function under construction: instructions go to the end of the current block."""

    def __init__(self, module: Module, name: str, head: str = ""):
        """`head` is what stands between `define` and the brace; it may be set later."""
        self.module = module
        self.name = name
        self.block = "entry"
        self.long_calls = 0  # so far, of functions of ours that are inlined
        self.loops = AS_WRITTEN  # what LLVM is told about those that `repeat.py` writes
        self.head = head
        self._early: list[str] = []
        self._lines: list[str] = []
        self._late: list[str] = []
        self._count = 0
        self._numbering = Numbering(self.block)
        self._starts: dict[str, int] = {}  # label -> the line where its block begins
        self._divided = -1  # the last line that divides an integer by what is no number

    def fresh(self, prefix: str = "v") -> str:
        self._count += 1
        return f"{prefix}{self._count}"

    def do(self, instruction: str) -> None:
        self._lines.append("  " + instruction)

    def value(self, instruction: str) -> str:
        """Emits `%v = instruction`, where its value is not there without; returns `%v`."""
        begin = instruction[:3]
        pure = begin in PURE or instruction.startswith(PURE_CALL)
        if pure:
            known = folded(instruction) if begin in FOLDED else None
            known = known or self._numbering.known(instruction)
            if known is not None:
                return known
        self._count += 1
        name = f"%v{self._count}"
        if begin in _DIVISIONS and "%" in instruction.rpartition(",")[2]:
            self._divided = len(self._lines)
        self._lines.append(f"  {name} = {instruction}")
        if pure:
            self._numbering.remember(instruction, name)
        return name

    def once(self, what: Hashable, write: Callable[[], str]) -> str:
        """The value that `write` gives, written where it is not there yet."""
        known = self._numbering.known(what)
        if known is None:
            known = write()
            self._numbering.note(what, known)
        return known

    @contextmanager
    def given(self, condition: str) -> Iterator[None]:
        """In it, in the current block and those below it, the i1 holds."""
        before = self._numbering.hold(condition)
        yield
        self._numbering.release(before)

    def holds(self, condition: str) -> None:
        """From here on, in the current block and those below it, the i1 holds."""
        self._numbering.hold(condition)

    def start(self, label: str) -> None:
        """Begins the block `label`."""
        self._starts[label] = len(self._lines)
        self._lines.append(f"{label}:")
        self.block = label
        self._numbering.start(label)

    def jump(self, label: str) -> None:
        self._numbering.way(label)
        self.do(f"br label %{label}")

    def branch(self, condition: str, then: str, otherwise: str, loop: str = "") -> None:
        """`loop`: of a branch back, what LLVM is told about its loop."""
        self._numbering.way(then)
        self._numbering.way(otherwise)
        if loop in (FREE, SINGLE) and self._divided > self._starts.get(then, self._divided):
            loop = DIVIDES
        mark = f", !llvm.loop {loop}" if loop else ""
        self.do(f"br i1 {condition}, label %{then}, label %{otherwise}{mark}")

    def phi(self, kind: str, *incoming: tuple[str, str]) -> str:
        """`incoming` are pairs of a value and the block that it comes from."""
        return self.value(f"phi {kind} " + ", ".join(f"[ {v}, %{b} ]" for v, b in incoming))

    def phi_later(self, kind: str) -> tuple[str, Callable[..., None]]:
        """A phi whose incoming pairs are given afterwards, by a call of the function returned."""
        name, place = "%" + self.fresh(), len(self._lines)
        self._lines.append("")

        def complete(*incoming: tuple[str, str]) -> None:
            pairs = ", ".join(f"[ {v}, %{b} ]" for v, b in incoming)
            self._lines[place] = f"  {name} = phi {kind} {pairs}"

        return name, complete

    def variable(self, kind: str, value: str) -> str:
        """The address of a variable on the stack that holds `value` when the function begins."""
        name = "%" + self.fresh()
        self._early.append(f"  {name} = alloca {kind}")
        self._early.append(f"  store {kind} {value}, {self.module.pointer(kind)} {name}")
        return name

    def alloca(self, kind: str, count: int = 1) -> str:
        """The address of a variable on the stack, or of several, which hold nothing yet."""
        name = "%" + self.fresh()
        several = f", i64 {count}" if count > 1 else ""
        self._early.append(f"  {name} = alloca {kind}{several}")
        return name

    def at_begin(self, instruction: str) -> str:
        """A value that is there when the function begins, and so on each of its ways."""
        name = "%" + self.fresh()
        self._early.append(f"  {name} = {instruction}")
        return name

    def at_end(self, label: str, instructions: Sequence[str]) -> None:
        """A block that is put behind all others, out of the way of the usual path."""
        self._late += [f"{label}:", *("  " + i for i in instructions)]

    def finish(self) -> None:
        self.module.functions[self.name] = self.text()

    def text(self) -> str:
        head = [f"define {self.head} #0 {{", "entry:"]
        return "\n".join([*head, *self._early, *self._lines, *self._late, "}", ""])

    # ------------------------------------------------------------------------------ instructions

    def load(self, kind: str, pointer: str) -> str:
        return self.value(f"load {kind}, {self.module.pointer(kind)} {pointer}")

    def store(self, kind: str, value: str, pointer: str) -> None:
        self.do(f"store {kind} {value}, {self.module.pointer(kind)} {pointer}")

    def element(self, kind: str, pointer: str, offset: str | int) -> str:
        """The address of element `offset` behind `pointer`."""
        at = self.module.pointer(kind)
        return self.value(f"getelementptr inbounds {kind}, {at} {pointer}, i64 {offset}")

    def prefetch(self, kind: str, pointer: str, locality: int) -> None:
        """Asks for the line of memory with the element, which need not exist: 3 for all caches, 2 for
        all but the first."""
        byte, opaque = self.module.pointer("i8"), self.module.opaque_pointers
        name = f"@llvm.prefetch.{'p0' if opaque else 'p0i8'}"
        self.module.declare(f"declare void {name}({byte}, i32, i32, i32)")
        if not opaque:
            pointer = self.value(f"bitcast {kind}* {pointer} to i8*")
        self.do(f"call void {name}({byte} {pointer}, i32 0, i32 {locality}, i32 1)")

    def intrinsic(self, name: str, kind: str, *operands: str) -> str:
        """A call of `llvm.NAME` on operands of one type, which is also the result's."""
        full = f"@llvm.{name}.{suffix(kind)}"
        self.module.declare(f"declare {kind} {full}({', '.join([kind] * len(operands))})")
        return self.value(f"call {kind} {full}({', '.join(f'{kind} {o}' for o in operands)})")

    def select(self, condition: str, kind: str, then: str, otherwise: str) -> str:
        return self.value(f"select i1 {condition}, {kind} {then}, {kind} {otherwise}")
