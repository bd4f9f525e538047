"""The shape of a product's tiles, by what the processor has in registers."""

from __future__ import annotations

from dataclasses import dataclass

from loopgrad.backends.llvm.products.library import SUFFIX as SUFFIX

REAL_BYTES = {"float": 4, "double": 8}

ROWS = 6  # of a full tile
ROWS_LYING = 8  # of one that reads vectors where they lie
KERNEL_ROWS = range(1, ROWS + 1)
DEPTH = 256  # values of k at a time, where rows of A are packed
DEEP_BYTES = 4096  # of a row of A at a time, where it is read as it lies: pages are turned to once
SCRATCH_BYTES = 98304  # of rows of A, packed at a time


@dataclass(frozen=True, slots=True)
class Tiling:
    """A tile is `ROWS` rows of up to `vectors` vectors of `lanes` numbers of type `real`.

    With one vector for a row of B and one for an element of A they fill the registers.
    """

    real: str
    lanes: int
    vectors: int

    @property
    def width(self) -> int:
        """The columns of a full panel."""
        return self.lanes * self.vectors

    @property
    def vectors_lying(self) -> int:
        """The vectors of a tile of `ROWS_LYING` rows: it is higher and narrower, as vectors that lie across
        two lines of memory take twice as long to load."""
        return 3 if self.vectors == 4 else 1

    @property
    def fills_registers(self) -> bool:
        """Do a full tile and what one value of k needs leave no register for the next?"""
        return self.vectors < 4

    @property
    def deepest(self) -> int:
        """The most values of k at a time, where rows of A are read as they lie."""
        return DEEP_BYTES // REAL_BYTES[self.real]

    @property
    def rows_packed(self) -> int:
        """How many rows of A are packed at a time: a multiple of `ROWS`."""
        return SCRATCH_BYTES // REAL_BYTES[self.real] // DEPTH // ROWS * ROWS

    @property
    def group(self) -> int:
        """Lanes of 16 bytes, which shuffles move about among themselves."""
        return 16 // REAL_BYTES[self.real]

    @property
    def vector(self) -> str:
        return f"<{self.lanes} x {self.real}>"

    @property
    def vector_suffix(self) -> str:
        return f"v{self.lanes}{SUFFIX[self.real]}"


def tiling(real: str, vector_bytes: int, registers: int) -> Tiling:
    """The tiles for vectors of so many bytes, of which there are so many."""
    return Tiling(real, vector_bytes // REAL_BYTES[real], 4 if registers >= 32 else 2)


def packed_size(depth: int, columns: int, lanes: int) -> int:
    """The elements that B[depth, columns] takes when packed: columns are filled up to whole vectors."""
    return depth * (-(-columns // lanes) * lanes)
