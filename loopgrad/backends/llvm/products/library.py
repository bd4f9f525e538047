"""The compiled products of this process.

LLVM takes some 50 ms for each part. A program that is called before that is there runs code for a while: it
has few kinds of tiles, is generated in a third of the time, and computes the same, more slowly. The other
code is made behind the call, and programs that are linked to the first have a door to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING

from loopgrad.backends.llvm.compiling import engine
from loopgrad.backends.llvm.compiling.machine import this_machine
from loopgrad.backends.llvm.compiling.passes import FINAL, SOON
from loopgrad.backends.thread_count import get_num_threads

if TYPE_CHECKING:
    from loopgrad.backends.llvm.compiling.doors import Doors
    from loopgrad.backends.llvm.products.tiling import Tiling

SUFFIX = {"float": "f32", "double": "f64"}
# Part -> what its functions are called after `loopgrad_`. Each is a module, compiled when first one of them
# is called.
PARTS: Mapping[str, tuple[str, ...]] = {
    "product": ("pack", "product", "dots"),
    "scattered": ("pack_at", "product_at"),
    "exchanged": ("product_turned", "put_turned", "product_boxes"),
    "bordered": ("boxes",),
}


def tiling_here(real: str) -> Tiling:
    """The tiles that suit this machine."""
    from loopgrad.backends.llvm.products.tiling import tiling  # not needed where code is kept

    machine = this_machine()
    return tiling(real, machine.vector_bytes, machine.vector_registers)


def provide(*parts: str) -> None:
    """Makes the functions of parts, as "float product" or "double scattered", known to LLVM."""
    wanted = [(real, part) for real, part in map(str.split, parts)]
    missing = engine.kept_libraries([_whole(*each) for each in wanted])
    for real, part in (wanted[i] for i in missing):
        if get_num_threads() == 1:
            whole(real, part)
        else:
            _provide_soon(real, part)


def _provide_soon(real: str, part: str) -> None:
    """Code for a while; the other is made as soon as calls do without a processor."""
    from loopgrad.backends.llvm.compiling.doors import lead_to  # not needed where code is kept
    from loopgrad.backends.llvm.compiling.later import LATER

    doors, there = doors_of(real, part), soon(real, part)

    def make() -> None:
        engine.begin_library(
            _text(real, part, False), _whole(real, part)
        )  # so that others have LLVM
        lead_to(doors, there, whole(real, part))

    LATER.make(make)


@cache  # it is begun with, or there, for as long as the process lives
def begin(real: str, part: str) -> None:
    """Begins to compile what `provide` will ask for, in a thread of its own."""
    if not engine.is_kept(_whole(real, part)):
        engine.begin_library(_text(real, part, True), _soon(real, part))


def whole(real: str, part: str) -> Mapping[str, int]:
    """The addresses of a part's functions, compiled for good."""
    return engine.library(_text(real, part, False), *_whole(real, part))


def soon(real: str, part: str) -> Mapping[str, int]:
    """The same, compiled for a while; and of the function that tells of their doors."""
    return engine.library(_text(real, part, True), *_soon(real, part))


def names_of(real: str, part: str) -> tuple[str, ...]:
    """What a part's functions are called."""
    return tuple(f"loopgrad_{name}_{SUFFIX[real]}" for name in PARTS[part])


def doors_of(real: str, part: str) -> Doors:
    """Of a part's functions."""
    from loopgrad.backends.llvm.compiling.doors import Doors

    return Doors(names_of(real, part), f"loopgrad_cells_{part}_{SUFFIX[real]}")


def _whole(real: str, part: str) -> engine.Asked:
    return names_of(real, part), FINAL, _made_of(real, part, False)


def _soon(real: str, part: str) -> engine.Asked:
    return doors_of(real, part).defined, SOON, _made_of(real, part, True)


def _made_of(real: str, part: str, few: bool) -> str:
    module = engine.new_module(real)
    return repr(("products", part, few, module, this_machine().vector_registers))


def _text(real: str, part: str, few: bool) -> Callable[[], str]:
    def text() -> str:
        from loopgrad.backends.llvm.compiling.doors import with_doors
        from loopgrad.backends.llvm.products.modules import EMITTED

        module = engine.new_module(real)
        found = EMITTED[part](module, tiling_here(real), few)
        return with_doors(found, doors_of(real, part), module.opaque_pointers) if few else found

    return text
