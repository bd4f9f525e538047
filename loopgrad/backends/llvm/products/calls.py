"""Calls of the code that all products share (the folder's `__init__.py` says what each function does)."""

from __future__ import annotations

from loopgrad.backends.llvm.products.groups import Along
from loopgrad.backends.llvm.products.operands import LEFT, TARGET, Lying, Packed
from loopgrad.backends.llvm.products.tiling import SUFFIX
from loopgrad.backends.llvm.writing.text import Body


class Calls:
    """Writes them where the body stands."""

    def __init__(self, body: Body):
        self.body, self.module = body, body.module
        self.real = self.module.real
        self.pointer = self.module.pointer(self.real)

    def pack(
        self, k: str, n: str, right: str, bk: str, bn: str, packed: str, first: str, depth: str
    ) -> None:
        p, name = self.pointer, f"loopgrad_pack_{SUFFIX[self.real]}"
        self.module.declare(f"declare void @{name}(i64, i64, {p}, i64, i64, {p}, i64, i64)")
        self.body.do(
            f"call void @{name}(i64 {k}, i64 {n}, {p} {right}, i64 {bk}, i64 {bn}, {p} {packed}, "
            f"i64 {first}, i64 {depth})"
        )

    def pack_at(self, k: str, n: str, right: str, at_k: str, at_n: str, packed: str) -> None:
        p, name = self.pointer, f"loopgrad_pack_at_{SUFFIX[self.real]}"
        t = self.module.pointer("i64")
        self.module.declare(f"declare void @{name}(i64, i64, {p}, {t}, {t}, {p})")
        self.body.do(
            f"call void @{name}(i64 {k}, i64 {n}, {p} {right}, {t} {at_k}, {t} {at_n}, {p} {packed})"
        )

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
        p, real, name = self.pointer, self.real, f"loopgrad_product_{SUFFIX[self.real]}"
        kinds = (
            f"i64, i64, i64, {p}, i64, i64, {p}, i64, i64, i64, i64, {p}, i64, {real}, i1 zeroext"
        )
        self.module.declare(f"declare void @{name}({kinds})")
        self.body.do(
            f"call void @{name}(i64 {m.count}, i64 {n}, i64 {k.count}, {p} {left}, "
            f"i64 {m.strides[LEFT]}, i64 {k.strides[LEFT]}, {p} {packed.memory}, "
            f"i64 {first}, i64 {packed.depth}, i64 {packed.columns}, i64 {packed.apart}, {p} {target}, "
            f"i64 {m.strides[TARGET]}, {real} {scale}, i1 zeroext {adds})"
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
        p, real, name = self.pointer, self.real, f"loopgrad_dots_{SUFFIX[self.real]}"
        matrices = ", ".join(f"{p} {at}, i64 {step}" for at, step in (left, right, target))
        kinds = f"i64, i64, i64, {p}, i64, {p}, i64, {p}, i64, {real}, i1 zeroext"
        self.module.declare(f"declare void @{name}({kinds})")
        m, n, k = counts
        self.body.do(
            f"call void @{name}(i64 {m}, i64 {n}, i64 {k}, {matrices}, {real} {scale}, i1 zeroext {adds})"
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
        p, t, real = self.pointer, self.module.pointer("i64"), self.real
        name = f"loopgrad_product_at_{SUFFIX[real]}"
        kinds = (
            f"i64, i64, i64, {p}, i64, i64, {p}, {t}, {t}, {t}, i64, {p}, i64, {real}, i1 zeroext"
        )
        self.module.declare(f"declare void @{name}({kinds})")
        self.body.do(
            f"call void @{name}(i64 {m.count}, i64 {n}, i64 {k.count}, {p} {left}, "
            f"i64 {m.strides[LEFT]}, i64 {k.strides[LEFT]}, {p} {right.memory}, {t} {right.at_k}, "
            f"{t} {right.starts}, {t} {right.targets}, i64 {right.run}, {p} {target}, "
            f"i64 {m.strides[TARGET]}, {real} {scale}, i1 zeroext {adds})"
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
        p, t = self.pointer, self.module.pointer("i64")
        name = f"loopgrad_product_turned_{SUFFIX[self.real]}"
        kinds = f"i64, i64, i64, {p}, i64, i64, {p}, {t}, {t}, {t}, {t}, {p}, i64, i1 zeroext"
        self.module.declare(f"declare void @{name}({kinds})")
        (m, n, k), (packed, first, depth), (memory, at_k, at_n) = counts, left, right
        turned, stride = sums
        self.body.do(
            f"call void @{name}(i64 {m}, i64 {n}, i64 {k}, {p} {packed}, i64 {first}, i64 {depth}, "
            f"{p} {memory}, {t} {at_k}, {t} null, {t} {at_n}, {t} null, {p} {turned}, i64 {stride}, "
            f"i1 zeroext {adds})"
        )

    def put_turned(
        self, m: Along, n: str, sums: tuple[str, str], target: str, scale: str, adds: str
    ) -> None:
        p = self.pointer
        name = f"loopgrad_put_turned_{SUFFIX[self.real]}"
        kinds = f"i64, i64, {p}, i64, {p}, i64, {self.real}, i1 zeroext"
        self.module.declare(f"declare void @{name}({kinds})")
        turned, stride = sums
        self.body.do(
            f"call void @{name}(i64 {m.count}, i64 {n}, {p} {turned}, i64 {stride}, {p} {target}, "
            f"i64 {m.strides[TARGET]}, {self.real} {scale}, i1 zeroext {adds})"
        )
