"""The modules of the shared products, as text. Loaded where their code is not there yet."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from loopgrad.backends.llvm.products.boxes import emit_boxes, emit_product_boxes
from loopgrad.backends.llvm.products.direct import emit_product_at
from loopgrad.backends.llvm.products.exchanged import emit_turned
from loopgrad.backends.llvm.products.kernel import emit_part
from loopgrad.backends.llvm.products.narrow import emit_narrow
from loopgrad.backends.llvm.products.packing import emit_pack, emit_pack_at, emit_pack_rows
from loopgrad.backends.llvm.products.product import emit_product
from loopgrad.backends.llvm.products.tiles import (
    Shape,
    emit_address,
    emit_other_tiles,
    emit_tiles,
    first_shapes,
    shapes,
)
from loopgrad.backends.llvm.products.tiling import Tiling
from loopgrad.backends.llvm.writing.text import Module


def emit(module: Module, tile: Tiling) -> str:
    """The text of a module with all of them for one element type."""
    emit_scattered(module, tile)
    emit_exchanged(module, tile)
    emit_bordered(module, tile)
    _emit_product_and_pack(module, tile, shapes(tile))
    return module.text()


def emit_product_and_pack(module: Module, tile: Tiling) -> str:
    """With `pack` and `product`, which all contractions call, and the tiles that most of them need."""
    _emit_product_and_pack(module, tile, first_shapes(tile))
    emit_address(module, tile)
    return module.text()


def emit_edges(module: Module, tile: Tiling) -> str:
    """The other tiles, for what is left over at the edges."""
    emit_other_tiles(module, tile)
    return module.text()


def _emit_product_and_pack(module: Module, tile: Tiling, there: Collection[Shape]) -> None:
    emit_tiles(module, tile, there)
    emit_part(module, tile)
    emit_narrow(module, tile)
    emit_pack_rows(module, tile)
    emit_pack(module, tile)
    emit_product(module, tile)


def emit_scattered(module: Module, tile: Tiling) -> str:
    """What convolutions and the like call: to generate `pack_at` takes as long as many kernels."""
    emit_pack_at(module, tile)
    emit_product_at(module, tile)
    return module.text()


def emit_exchanged(module: Module, tile: Tiling) -> str:
    """What convolutions of many places call."""
    emit_turned(module, tile)
    emit_product_boxes(module, tile)
    return module.text()


def emit_bordered(module: Module, tile: Tiling) -> str:
    """What those call that leave out zeros."""
    emit_boxes(module, tile)
    return module.text()


# What is compiled at a time, by name.
EMITTED: Mapping[str, Callable[[Module, Tiling], str]] = {
    "product": emit_product_and_pack,
    "edges": emit_edges,
    "scattered": emit_scattered,
    "exchanged": emit_exchanged,
    "bordered": emit_bordered,
}
