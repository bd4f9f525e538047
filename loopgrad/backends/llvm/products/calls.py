"""Calls of the code that all products share (the folder's `__init__.py` says what each function does)."""

from __future__ import annotations

from collections.abc import Iterator

from loopgrad.backends.llvm.products.groups import Along
from loopgrad.backends.llvm.products.operands import LEFT, TARGET, Lying, Packed
from loopgrad.backends.llvm.products.tiling import SUFFIX
from loopgrad.backends.llvm.writing.text import I64, Body


class Calls:
    """Writes them where the body stands."""

    def __init__(self, body: Body):
        self.body, self.module = body, body.module
        self.real = self.module.real
        self.pointer, self.table = self.module.pointer(self.real), self.module.pointer(I64)

    def _call(self, function: str, *given: tuple[str, str]) -> None:
        """given: of each argument the type, and the value."""
        name = f"loopgrad_{function}_{SUFFIX[self.real]}"
        self.module.declare(f"declare void @{name}({', '.join(kind for kind, _ in given)})")
        self.body.do(f"call void @{name}({', '.join(f'{kind} {text}' for kind, text in given)})")

    def _added(self, scale: str, adds: str) -> Iterator[tuple[str, str]]:
        """By what sums are multiplied, and whether they are added to what is there."""
        yield self.real, scale
        yield "i1 zeroext", adds

    def pack(
        self, k: str, n: str, right: str, bk: str, bn: str, packed: str, first: str, depth: str
    ) -> None:
        p = self.pointer
        source, to = [(p, right), (I64, bk), (I64, bn)], [(p, packed), (I64, first), (I64, depth)]
        self._call("pack", (I64, k), (I64, n), *source, *to)

    def pack_at(self, k: str, n: str, right: str, at_k: str, at_n: str, packed: str) -> None:
        p, t = self.pointer, self.table
        self._call("pack_at", (I64, k), (I64, n), (p, right), (t, at_k), (t, at_n), (p, packed))

    def product(
        self,
        m: Along,
        n: str,
        k: Along,
        left: str,
        packed: Packed,
        first: str,
        target: str,
        scale: str,
        adds: str,
    ) -> None:
        p = self.pointer
        right = (packed.memory, first, packed.depth, packed.columns, packed.apart)
        self._call(
            "product",
            *((I64, count) for count in (m.count, n, k.count)),
            *((p, left), (I64, m.strides[LEFT]), (I64, k.strides[LEFT])),
            *zip((p, I64, I64, I64, I64), right, strict=True),
            *((p, target), (I64, m.strides[TARGET])),
            *self._added(scale, adds),
        )

    def dots(
        self,
        counts: tuple[str, str, str],
        left: tuple[str, str],
        right: tuple[str, str],
        target: tuple[str, str],
        scale: str,
        adds: str,
    ) -> None:
        """counts: of m, n and k. Of each matrix where it is, and how far its rows lie apart."""
        matrices = (left, right, target)
        self._call(
            "dots",
            *((I64, count) for count in counts),
            *(each for at, step in matrices for each in ((self.pointer, at), (I64, step))),
            *self._added(scale, adds),
        )

    def product_at(
        self,
        m: Along,
        n: str,
        k: Along,
        left: str,
        right: Lying,
        target: str,
        scale: str,
        adds: str,
    ) -> None:
        p, t = self.pointer, self.table
        self._call(
            "product_at",
            *((I64, count) for count in (m.count, n, k.count)),
            *((p, left), (I64, m.strides[LEFT]), (I64, k.strides[LEFT])),
            *((p, right.memory), (t, right.at_k), (t, right.starts), (t, right.targets)),
            *((I64, right.run), (p, target), (I64, m.strides[TARGET])),
            *self._added(scale, adds),
        )

    def product_turned(
        self,
        counts: tuple[str, str, str],
        left: tuple[str, str, str],
        right: tuple[str, str, str],
        sums: tuple[str, str],
        adds: str,
    ) -> None:
        """counts: of m, n and k. left: what is packed, the first value of k that is meant, and how many there
        are; right: where it is, and the tables of its rows and columns; sums: where, and how far a column of
        them is from the next."""
        p, t = self.pointer, self.table
        memory, at_k, at_n = right
        self._call(
            "product_turned",
            *((I64, count) for count in counts),
            *zip((p, I64, I64), left, strict=True),
            *((p, memory), (t, at_k), (t, "null"), (t, at_n), (t, "null")),
            *zip((p, I64), sums, strict=True),
            ("i1 zeroext", adds),
        )

    def put_turned(
        self, m: Along, n: str, sums: tuple[str, str], target: str, scale: str, adds: str
    ) -> None:
        self._call(
            "put_turned",
            *((I64, count) for count in (m.count, n)),
            *zip((self.pointer, I64), sums, strict=True),
            *((self.pointer, target), (I64, m.strides[TARGET])),
            *self._added(scale, adds),
        )
