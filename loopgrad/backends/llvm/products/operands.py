"""What a product works on: where its matrices are, and what is packed of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from loopgrad.backends.llvm.products.borders import Window
from loopgrad.backends.llvm.products.groups import Along, Group

LEFT, RIGHT, TARGET = "left", "right", "target"


@dataclass(frozen=True, slots=True)
class Operands:
    """The matrices of a product at the first values of its indices, and the indices."""

    places: Mapping[str, str]
    m: tuple[Along, ...]
    n: tuple[Along, ...]
    k: tuple[Along, ...]
    scale: str


@dataclass(frozen=True, slots=True)
class Sides:
    """A product whose rows m, sums k and columns n count as one where strides allow.

    n_within, k_within: what those of n and k are that the right side has; `total`: all of k; `windows`:
    where the right side is zero.
    """

    m: Group
    k: Group
    n: Group
    n_within: tuple[Along, ...]
    k_within: tuple[Along, ...]
    total: str
    windows: tuple[Window, ...] = ()


@dataclass(frozen=True, slots=True)
class Lying:
    """A right side where it lies, the table of its rows, and those of where vectors of columns begin in it
    and in the target; runs of columns are so long."""

    memory: str
    at_k: str
    starts: str
    targets: str
    run: str


@dataclass(frozen=True, slots=True)
class Packed:
    """`depth` values of k times `columns`, packed; or rows that lie so far `apart`. Of a `Pack` also: how
    many elements each matrix takes, and from where on its indices run; and those of n, where
    several may count as one, with the strides of all targets, under the names of these."""

    memory: str
    depth: str
    columns: str
    size: str = ""
    starts: Mapping[str, str] = field(default_factory=dict)
    merged: Group | None = None
    apart: str = "0"
