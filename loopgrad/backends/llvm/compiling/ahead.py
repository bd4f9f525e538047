"""A program's code, of which some is generated while the text of the rest is written.

phase --wrote--> part --thread--> code
rest --made--> parts --this thread, and others--> code
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from contextlib import suppress

from loopgrad.backends.llvm.compiling import objects, symbols
from loopgrad.backends.llvm.compiling.generating import APART, Aside, aside, asides
from loopgrad.backends.llvm.compiling.parts import Parts, defines, runs_once, stands_alone
from loopgrad.backends.llvm.compiling.passes import AS_WRITTEN, EXPLICIT, Passes
from loopgrad.backends.llvm.writing.text import Module
from loopgrad.backends.thread_count import get_num_threads

Part = Callable[[], bytes]


class Crew:
    """Parts of a module, of which each thread takes the next that nobody has taken."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._parts: list[Part] = []
        self._made: dict[int, bytes] = {}
        self._next = 0
        self._helpers: list[Aside[None]] = []

    @property
    def is_idle(self) -> bool:
        """Does no other thread help?"""
        return not any(helper.is_alive() for helper in self._helpers)

    def add(self, *parts: Part, threads: int) -> None:
        """More of them; at most so many threads may begin with them now."""
        with self._lock:
            self._parts += parts
        self._helpers += [aside(self._help) for _ in parts[:threads]]

    def codes(self) -> tuple[bytes, ...]:
        """The code of all, in their order; this thread helps."""
        self._help()
        for helper in self._helpers:
            helper.result()
        # Where a thread failed, this one is told why.
        return tuple(
            self._made[i] if i in self._made else part() for i, part in enumerate(self._parts)
        )

    def _help(self) -> None:
        while True:
            with self._lock:
                number = self._next
                if number == len(self._parts):
                    return
                self._next += 1
            with suppress(Exception):
                self._made[number] = self._parts[number]()


class Ahead:
    """The code of one program's module.

    passes: of the whole. own: what its phases want of their own, where that is not the same.
    """

    def __init__(self, passes: Passes, own: bool = False):
        self._passes, self._own = EXPLICIT if own else passes, own
        self._wanted: dict[str, Passes] = {}  # functions that are optimised otherwise than most
        self._crew, self._parts = Crew(), Parts()
        self._module: Module | None = None  # of which some is written
        self._declared: list[str] = []
        self._all: list[Part] = []  # the last of them, where others have begun with all
        self._threads = get_num_threads()
        self._may = APART and self._threads > 1 and self._passes.only is not None
        if not self._may:
            self._passes = passes

    def declares(self, declaration: str) -> None:
        """The text has this declaration."""
        self._declared += symbols.declared(declaration)

    def ended(self) -> None:
        """The text is whole: what it calls is begun with, while its own code is generated."""
        if self._threads > 1:
            symbols.begin(self._declared)

    def wrote(self, module: Module, functions: Collection[str], passes: Passes) -> None:
        """A phase is written, with these functions, which want these passes."""
        if not self._may:
            return
        self._module = module
        if self._own and passes != self._passes:
            own = (name for name in functions if stands_alone(module.functions[name]))
            self._wanted |= dict.fromkeys(own, passes)
        part = self._parts.begun(module.pieces(), self._wanted)
        if part is not None:
            self._crew.add(self._ready(part).code, threads=min(self._free(), 1))

    def goes_on(self, text: str) -> None:
        """The text is whole, and its code is not asked for yet: other threads generate it."""
        if self._threads > 1 and APART:
            self._all = [self._ready(part).code for part in self._rest(text)]
            self._crew.add(*self._all, threads=self._free())

    def made(self, text: str) -> objects.Object:
        """The code of the whole text."""
        if self._all:
            codes = self._crew.codes()
            begun = len(codes) - len(self._all)
            return objects.Object((*codes[begun:], *codes[:begun]), symbols.declared(text))
        if not self._may:
            return objects.made(text, self._passes)
        first, *others = self._rest(text)
        parts = [self._ready(other).code for other in others]
        self._crew.add(*parts, threads=self._threads - 1)
        own = self._ready(first).code()
        return objects.Object((own, *self._crew.codes()), symbols.declared(text))

    def _rest(self, text: str) -> tuple[str, ...]:
        """The parts that are left when the text is whole; the first has what others ask for."""
        if not self._may:
            return (text,)
        pieces = [text] if self._module is None else self._module.pieces()
        return self._parts.rest(pieces, self._threads, self._wanted)

    def _free(self) -> int:
        """How many threads may begin now, beside this one and those at work; one, where none is."""
        return max(self._threads - 1 - asides(), int(self._crew.is_idle))

    def _ready(self, part: str) -> objects.Ready:
        wanted = [passes for name, passes in self._wanted.items() if defines(part, name)]
        if wanted:
            return objects.ready(part, max(wanted, key=lambda passes: passes.level))
        return objects.ready(part, AS_WRITTEN if runs_once(part) else self._passes)
