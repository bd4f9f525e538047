"""The products of float64, for modules that declare them (`symbols.PROVIDERS`)."""

from loopgrad.backends.llvm.products import library


def provide() -> None:
    library.provide("double", "product")
