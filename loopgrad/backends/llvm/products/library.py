"""The compiled products of this process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from loopgrad.backends.llvm.compiling import engine
from loopgrad.backends.llvm.compiling.machine import this_machine
from loopgrad.backends.llvm.compiling.passes import FINAL, Passes

if TYPE_CHECKING:
    from loopgrad.backends.llvm.products.tiling import Tiling

SUFFIX = {"float": "f32", "double": "f64"}
# Part -> what its functions are called after `loopgrad_`. Each is a module, compiled when first one of them
# is called.
PARTS: Mapping[str, tuple[str, ...]] = {
    "product": ("pack", "product"),
    "scattered": ("pack_at", "product_at", "runs"),
    "exchanged": ("product_turned", "put_turned"),
}


def tiling_here(real: str) -> Tiling:
    """The tiles that suit this machine."""
    from loopgrad.backends.llvm.products.tiling import tiling  # not needed where code is kept

    machine = this_machine()
    return tiling(real, machine.vector_bytes, machine.vector_registers)


def provide(real: str, part: str) -> Mapping[str, int]:
    """Compiles a part for "float" or "double" and makes it known to LLVM; its functions' addresses."""
    names = [f"loopgrad_{name}_{SUFFIX[real]}" for name in PARTS[part]]
    return engine.library(*_written(real, part, names))


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
