"""The products of float64, for modules that declare them (`symbols.PROVIDERS`)."""

from loopgrad.backends.llvm.products.library import functions


def provide() -> None:
    functions("double")
