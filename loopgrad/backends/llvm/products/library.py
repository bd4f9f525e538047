"""The compiled products of this process.

LLVM takes some 50 ms for each part. A program that is called before that is there runs code for a while: it
has few kinds of tiles, is generated in a third of the time, and computes the same, more slowly. The other
code is made behind the call, and programs that are linked to the first have a door to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from loopgrad.backends.llvm.compiling import engine
from loopgrad.backends.llvm.compiling.doors import Doors, lead_to, with_doors
from loopgrad.backends.llvm.compiling.machine import this_machine
from loopgrad.backends.llvm.compiling.passes import FINAL, SOON
from loopgrad.backends.thread_count import get_num_threads

if TYPE_CHECKING:
    from loopgrad.backends.llvm.products.tiling import Tiling

SUFFIX = {"float": "f32", "double": "f64"}
# Part -> what its functions are called after `loopgrad_`. Each is a module, compiled when first one of them
# is called.
PARTS: Mapping[str, tuple[str, ...]] = {
    "product": ("pack", "product"),
    "scattered": ("pack_at", "product_at"),
    "exchanged": ("product_turned", "put_turned", "product_boxes"),
    "bordered": ("boxes",),
}


def tiling_here(real: str) -> Tiling:
    """The tiles that suit this machine."""
    from loopgrad.backends.llvm.products.tiling import tiling  # not needed where code is kept

    machine = this_machine()
    return tiling(real, machine.vector_bytes, machine.vector_registers)


def provide(real: str, part: str) -> None:
    """Makes the functions of a part for "float" or "double" known to LLVM."""
    found = _Part(real, part)
    if found.kept() is None:
        if get_num_threads() == 1:
            found.whole()
        else:
            _provide_soon(found)


def _provide_soon(part: _Part) -> None:
    """Code for a while; the other is made as soon as calls do without a processor."""
    from loopgrad.backends.llvm.compiling.later import LATER  # not needed where code is kept

    soon = part.soon()

    def make() -> None:
        part.begin_whole()  # so that others have LLVM to themselves
        lead_to(part.doors, soon, part.whole())

    LATER.make(make)


def begin(real: str, part: str) -> None:
    """Begins to compile what `provide` will ask for, in a thread of its own."""
    found = _Part(real, part)
    if found.kept() is None:
        found.begin_soon()


def whole(real: str, part: str) -> Mapping[str, int]:
    """The addresses of a part's functions, compiled for good."""
    return _Part(real, part).whole()


def doors_of(real: str, part: str) -> Doors:
    """Of a part's functions."""
    suffix = SUFFIX[real]
    names = tuple(f"loopgrad_{name}_{suffix}" for name in PARTS[part])
    return Doors(names, f"loopgrad_cells_{part}_{suffix}")


@dataclass(frozen=True)
class _Part:
    real: str
    part: str

    @cached_property
    def doors(self) -> Doors:
        return doors_of(self.real, self.part)

    def kept(self) -> Mapping[str, int] | None:
        """The addresses of the functions, where their code is in memory or on the disk."""
        return engine.kept_library(self.doors.names, FINAL, self._made_of(False))

    def whole(self) -> Mapping[str, int]:
        return engine.library(self._text(False), self.doors.names, FINAL, self._made_of(False))

    def begin_whole(self) -> None:
        engine.begin_library(self._text(False), (), FINAL, self._made_of(False))

    def soon(self) -> Mapping[str, int]:
        """The same of code for a while, and of the table of its doors."""
        return engine.library(self._text(True), self.doors.defined, SOON, self._made_of(True))

    def begin_soon(self) -> None:
        engine.begin_library(self._text(True), (), SOON, self._made_of(True))

    def _text(self, few: bool) -> Callable[[], str]:
        module = engine.new_module(self.real)

        def text() -> str:
            from loopgrad.backends.llvm.products.modules import EMITTED

            found = EMITTED[self.part](module, tiling_here(self.real), few)
            return with_doors(found, self.doors, module.opaque_pointers) if few else found

        return text

    def _made_of(self, few: bool) -> str:
        module = engine.new_module(self.real)
        return repr(("products", self.part, few, module, this_machine().vector_registers))
