"""Where right sides are zero, and what `boxes.py` and its callers tell each other of it."""

from __future__ import annotations

from dataclasses import dataclass

INDICES = 8  # of n, or of k, at most
SPLIT = 16  # from so many boxes on, the others are not cut
BOXES = SPLIT + INDICES  # at most
FEWEST = 24  # columns that are worth being cut
SPARE = 8  # entries behind the columns of a box, for rows of its last tile that are none

# What is told of an index: its first value and the one behind its last, how far it moves an address, and how
# far in the order of all columns or values of k; of a window: the index of k (or -1), and that
# `first + by_n * i + by_k * j` has to be at least 0 and below `length`.
FIELDS = ("begin", "end", "stride", "weight", "partner", "first", "by_n", "by_k", "length")
INDEX = len(FIELDS)
# What is told of all of them, before: how many indices n and k have; of the first of k, how many values are
# taken at a time; the row of the target that nobody reads.
N, K, AT_A_TIME, NOBODY = range(4)
HEAD = 4
# What a box is: columns; where its columns and its values of k begin in the tables; how many of these one
# value of the first index of k has, and all.
COLUMNS, AT_COLUMNS, AT_DEPTH, UNIT, DEPTH = range(5)
BOX = 5
ROOM = 1 + BOX * BOXES  # for all of them


@dataclass(frozen=True, slots=True)
class Window:
    """The right side is zero where `first + by_n * i + by_k * j` is below 0, or not below `length`: i and j
    count up the values of the n-th index of n, and of the k-th of k."""

    n: int
    k: int
    first: str
    by_n: str
    by_k: str
    length: str
