"""The products of float32, for modules that declare them (`symbols.PROVIDERS`)."""

from loopgrad.backends.llvm.products.library import functions


def provide() -> None:
    functions("float")
