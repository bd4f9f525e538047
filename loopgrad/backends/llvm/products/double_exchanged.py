"""The products of float64 with their sides exchanged, for modules that declare them (`symbols.PROVIDERS`)."""

from loopgrad.backends.llvm.products import library


def provide() -> None:
    library.provide("double", "exchanged")
