"""The compiled products of this process."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from loopgrad.backends.llvm.compiling import engine
from loopgrad.backends.llvm.compiling.machine import this_machine
from loopgrad.backends.llvm.compiling.passes import FINAL, Passes
from loopgrad.backends.thread_count import get_num_threads

if TYPE_CHECKING:
    from loopgrad.backends.llvm.products.tiling import Tiling

SUFFIX = {"float": "f32", "double": "f64"}
# Part -> what its functions are called after `loopgrad_`. Each is a module, compiled when first one of them
# is called.
PARTS: Mapping[str, tuple[str, ...]] = {
    "product": ("pack", "product", "tiles"),
    "scattered": ("pack_at", "product_at"),
    "exchanged": ("product_turned", "put_turned", "product_boxes"),
    "bordered": ("boxes",),
}
_complete: set[str] = set()  # types whose products have all tiles, or will have


def tiling_here(real: str) -> Tiling:
    """The tiles that suit this machine."""
    from loopgrad.backends.llvm.products.tiling import tiling  # not needed where code is kept

    machine = this_machine()
    return tiling(real, machine.vector_bytes, machine.vector_registers)


def provide(real: str, part: str) -> Mapping[str, int]:
    """Compiles a part for "float" or "double" and makes it known to LLVM; its functions' addresses."""
    names = [f"loopgrad_{name}_{SUFFIX[real]}" for name in PARTS[part]]
    found = engine.library(*_written(real, part, names))
    if part == "product" and real not in _complete:
        _complete.add(real)
        _complete_tiles(real, found[names[-1]])
    return found


def _complete_tiles(real: str, tiles: int) -> None:
    """Adds the tiles that the product has not from the start, as soon as their code is there. `tiles`: the
    function that tells where its table is."""
    name = f"loopgrad_edges_{SUFFIX[real]}"
    written = _written(real, "edges", [name])

    def add(found: Mapping[str, int]) -> None:
        table = ctypes.CFUNCTYPE(ctypes.c_void_p)(tiles)()
        ctypes.CFUNCTYPE(None, ctypes.c_void_p)(found[name])(table)

    def make() -> None:
        engine.begin_library(*written)  # so that others have LLVM to themselves
        add(engine.library(*written))

    kept = engine.kept_library(*written[1:])
    if kept is not None:
        add(kept)
    elif get_num_threads() == 1:
        add(engine.library(*written))
    else:
        from loopgrad.backends.llvm.compiling.later import LATER  # not needed where code is kept

        LATER.make(make)


def begin(real: str, part: str) -> None:
    """Begins to compile it, in a thread of its own."""
    engine.begin_library(*_written(real, part, ()))


def _written(
    real: str, part: str, names: Sequence[str]
) -> tuple[Callable[[], str], Sequence[str], Passes, str]:
    """What the engine is told of it."""
    module = engine.new_module(real)

    def text() -> str:
        from loopgrad.backends.llvm.products.modules import EMITTED

        return EMITTED[part](module, tiling_here(real))

    made_of = "products", part, module, this_machine().vector_registers
    return text, names, FINAL, repr(made_of)
