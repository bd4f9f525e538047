"""The modules of the shared products, as text. Loaded where their code is not there yet."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from loopgrad.backends.llvm.products.tiling import Tiling
from loopgrad.backends.llvm.writing.text import Module

# What a part is written with is imported where it is: most programs need one of them.


def emit(module: Module, tile: Tiling) -> str:
    """The text of a module with all of them for one element type."""
    for part in EMITTED.values():
        part(module, tile, False)
    return module.text()


def emit_product_and_pack(module: Module, tile: Tiling, few: bool) -> str:
    """With `pack` and `product`, which all contractions call."""
    from loopgrad.backends.llvm.products.dots import emit_dots
    from loopgrad.backends.llvm.products.kernel import emit_part
    from loopgrad.backends.llvm.products.narrow import emit_narrow
    from loopgrad.backends.llvm.products.packing import emit_pack, emit_pack_rows
    from loopgrad.backends.llvm.products.product import emit_product
    from loopgrad.backends.llvm.products.tiles import emit_tiles, first_shapes, main_shapes, shapes

    if few:
        emit_tiles(module, tile, first_shapes(tile))
    else:
        emit_tiles(module, tile, shapes(tile), main_shapes(tile))
    emit_part(module, tile)
    emit_dots(module, tile)
    emit_narrow(module, tile)
    emit_pack_rows(module, tile, few)
    emit_pack(module, tile, few)
    emit_product(module, tile)
    return module.text()


def emit_scattered(module: Module, tile: Tiling, few: bool) -> str:
    """What convolutions and the like call: to generate `pack_at` takes as long as many kernels."""
    from loopgrad.backends.llvm.products.direct import HEIGHTS, emit_product_at
    from loopgrad.backends.llvm.products.packing import emit_pack_at

    emit_pack_at(module, tile, few)
    emit_product_at(module, tile, HEIGHTS[:1] if few else HEIGHTS)
    return module.text()


def emit_exchanged(module: Module, tile: Tiling, few: bool) -> str:
    """What convolutions of many places call."""
    from loopgrad.backends.llvm.products.boxes import emit_product_boxes
    from loopgrad.backends.llvm.products.exchanged import emit_turned

    emit_turned(module, tile, few)
    emit_product_boxes(module, tile)
    return module.text()


def emit_bordered(module: Module, tile: Tiling, few: bool) -> str:
    """What those call that leave out zeros."""
    from loopgrad.backends.llvm.products.boxes import emit_boxes

    emit_boxes(module, tile)
    return module.text()


# What is compiled at a time, by name. `few`: with few kinds of tiles, and few ways to copy, which do the
# work of the others too, and compute the same.
EMITTED: Mapping[str, Callable[[Module, Tiling, bool], str]] = {
    "product": emit_product_and_pack,
    "scattered": emit_scattered,
    "exchanged": emit_exchanged,
    "bordered": emit_bordered,
}
