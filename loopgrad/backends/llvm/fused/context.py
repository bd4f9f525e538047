"""The block of slots of 8 bytes through which a function is told what the threads are to do."""

from __future__ import annotations

from dataclasses import dataclass

from loopgrad.backends.llvm.writing.text import I64, Body


@dataclass(frozen=True, slots=True)
class Context:
    """The slots of a context, in a function's text."""

    body: Body
    base: str

    def at(self, slot: int, kind: str = I64) -> str:
        address = self.body.element(I64, self.base, slot)
        if kind == I64:
            return address
        pointer = self.body.module.pointer
        return self.body.value(f"bitcast {pointer(I64)} {address} to {pointer(kind)}")

    def load(self, kind: str, slot: int) -> str:
        return self.body.load(kind, self.at(slot, kind))

    def store(self, kind: str, value: str, slot: int) -> None:
        self.body.store(kind, value, self.at(slot, kind))
