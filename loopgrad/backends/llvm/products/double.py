"""The products of float64, for modules that declare them (`symbols.PROVIDERS`)."""

from loopgrad.backends.llvm.products import emit_product_and_pack, library


def provide() -> None:
    library.provide("double", emit_product_and_pack)
