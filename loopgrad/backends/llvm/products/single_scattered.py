"""The packing of float32 that lie anywhere, for modules that declare it (`symbols.PROVIDERS`)."""

from loopgrad.backends.llvm.products import library


def provide() -> None:
    library.provide("float", "scattered")
