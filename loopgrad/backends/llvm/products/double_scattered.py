"""The packing of float64 that lie anywhere, for modules that declare it (`symbols.PROVIDERS`)."""

from loopgrad.backends.llvm.products import emit_scattered, library


def provide() -> None:
    library.provide("double", emit_scattered)
