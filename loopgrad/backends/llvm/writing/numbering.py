"""Instructions that need not be written: their value is a constant, an operand, or already there.

A function's text is written block after block, so that every way into a block but those back to the
beginning of a loop is known when the block begins. That tells which blocks come before it on all ways:
what was computed in those is there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable

# Operations whose value hangs on their operands alone, by what they begin with: no others begin so.
PURE = frozenset(
    operation[:3]
    for operation in (
        "add,sub,mul,udiv,sdiv,urem,srem,and,or ,xor,shl,lshr,ashr,icmp,fcmp,select,zext,sext,trunc,"
        "bitcast,ptrtoint,getelementptr,insertelement,extractelement,shufflevector,extractvalue,"
        "fadd,fsub,fmul,fdiv,fneg,sitofp,uitofp,fptrunc,fpext"
    ).split(",")
)
PURE_CALL = "call {i64, i1} @llvm.umul.with.overflow"

# On numbers that are written out, or with an operand that changes nothing.
_ARITHMETIC = re.compile(r"(add|sub|mul)(?: nsw)? i64 ([^, ]+), ([^, ]+)")
_COMPARISON = re.compile(r"icmp (\w+) i64 (-?\d+), (-?\d+)")
_CHOICE = re.compile(r"select i1 (true|false), \S+ ([^, ]+), \S+ ([^, ]+)")
_SAME_TYPE = re.compile(r"bitcast (\S+) (\S+) to \1")
_NO_STEP = re.compile(r"getelementptr (?:inbounds )?\S+, \S+ ([^, ]+), i64 0")
_ORDERS: dict[str, Callable[[int, int], bool]] = {
    "slt": int.__lt__,
    "sle": int.__le__,
    "sgt": int.__gt__,
    "sge": int.__ge__,
    "eq": int.__eq__,
    "ne": int.__ne__,
}
_BITS = 63  # of a sum or a product that surely fits


def folded(instruction: str) -> str | None:
    """What an instruction gives, where that needs no instruction.

    >>> folded("mul i64 4, 8"), folded("add nsw i64 %x, 0"), folded("add i64 %x, %y")
    ('32', '%x', None)
    """
    known = FOLDED.get(instruction[:3])
    if known is None:
        return None
    may_be, pattern, value = known
    if not may_be(instruction):
        return None
    found = pattern.fullmatch(instruction)
    return None if found is None else value(*found.groups())


def _compared(order: str, a: str, b: str) -> str | None:
    return str(_ORDERS[order](int(a), int(b))).lower() if order in _ORDERS else None


def _chosen(condition: str, then: str, otherwise: str) -> str:
    return then if condition == "true" else otherwise


def _computed(operation: str, a: str, b: str) -> str | None:
    if b == "0" and operation != "mul":
        return a
    if (operation, a) == ("add", "0") or (operation, a) == ("mul", "1"):
        return b
    if (operation, b) == ("mul", "1"):
        return a
    if a.startswith("%") or b.startswith("%"):
        return None
    x, y = int(a), int(b)
    value = x + y if operation == "add" else x - y if operation == "sub" else x * y
    return str(value) if value.bit_length() < _BITS else None


def _has_number(instruction: str) -> bool:
    return instruction.count("%") < 2


def _has_numbers(instruction: str) -> bool:
    return "%" not in instruction


# What an operation begins with -> a quick look whether its instruction may be folded; what it looks like
# then, and the value of what that finds.
FOLDED: dict[str, tuple[Callable[[str], bool], re.Pattern[str], Callable[..., str | None]]] = {
    "add": (_has_number, _ARITHMETIC, _computed),
    "sub": (_has_number, _ARITHMETIC, _computed),
    "mul": (_has_number, _ARITHMETIC, _computed),
    "icm": (_has_numbers, _COMPARISON, _compared),
    "sel": (lambda i: i[10] != "%", _CHOICE, _chosen),
    "bit": (lambda _: True, _SAME_TYPE, lambda _, value: value),
    "get": (lambda i: i.endswith(" i64 0"), _NO_STEP, lambda pointer: pointer),
}


# A comparison, and what was known of it before it was known to hold.
Held = tuple[str, tuple[str, str]]


class Numbering:
    """The values of one function, by the instructions that give them, and its blocks."""

    def __init__(self, block: str):
        self._above: dict[str, str | None] = {
            block: None
        }  # the nearest block before it on all ways
        self._depth = {block: 0}
        self._ways: dict[str, str | None] = {}  # to a block not begun yet: what all come by
        self._path = [block]  # the block and those above it
        self._open = {block}
        self._found: dict[
            Hashable, tuple[str, str]
        ] = {}  # instruction, or what else -> value, block
        self._comparisons: dict[str, str] = {}  # value -> the comparison of integers that gives it

    def known(self, what: Hashable) -> str | None:
        """The value, where a block above has it."""
        found = self._found.get(what)
        return found[0] if found is not None and found[1] in self._open else None

    def note(self, what: Hashable, value: str) -> None:
        """From here on it is known."""
        self._found[what] = value, self._path[-1]

    def remember(self, instruction: str, value: str) -> None:
        """The same of one whose value hangs on its operands alone."""
        self._found[instruction] = value, self._path[-1]
        if instruction.startswith("icmp "):
            self._comparisons[value] = instruction

    def hold(self, condition: str) -> Held | None:
        """From here on, in this block and below it, the i1 holds. What `release` has to be given."""
        comparison = self._comparisons.get(condition)
        if comparison is None:
            return None
        before = self._found[comparison]
        self._found[comparison] = "true", self._path[-1]
        return comparison, before

    def release(self, held: Held | None) -> None:
        if held is not None:
            self._found[held[0]] = held[1]

    def way(self, block: str) -> None:
        """The current block may be followed by that one."""
        current = self._path[-1]
        if block in self._above:
            assert block in self._open, f"`{block}` is entered behind its beginning"
        elif block in self._ways:
            self._ways[block] = self._common(self._ways[block], current)
        else:
            self._ways[block] = current

    def start(self, block: str) -> None:
        """A block begins; all ways to it are known, but for those from what it is above."""
        above = self._ways.pop(block, None)
        self._above[block] = above
        self._depth[block] = 0 if above is None else self._depth[above] + 1
        path = self._path
        while path and path[-1] != above:
            self._open.discard(path.pop())
        if not path and above is not None:
            path.extend(self._all_above(above))
            self._open.update(path)
        path.append(block)
        self._open.add(block)

    def _all_above(self, block: str) -> list[str]:
        """The block and those above it, the highest first."""
        found, each = [], block or None
        while each is not None:
            found.append(each)
            each = self._above[each]
        return found[::-1]

    def _common(self, one: str | None, other: str | None) -> str | None:
        while one != other and one is not None and other is not None:
            if self._depth[one] >= self._depth[other]:
                one = self._above[one]
            else:
                other = self._above[other]
        return one if one == other else None
