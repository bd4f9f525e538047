"""The products of float32, for modules that declare them (`symbols.PROVIDERS`)."""

from loopgrad.backends.llvm.products import emit_product_and_pack, library


def provide() -> None:
    library.provide("float", emit_product_and_pack)
