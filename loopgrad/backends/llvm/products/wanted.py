"""What a scheduled program will call of the shared products, before its text is written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from loopgrad.backends.llvm.products import library
from loopgrad.backends.llvm.products.workspace import is_scattered
from loopgrad.schedule import Phase
from loopgrad.schedule.tree import Fused, Product, steps


def begin(real: str, phases: Iterable[Phase]) -> None:
    """Begins with its code, the longest parts first. real: "float" or "double"."""
    for part in dict.fromkeys(_parts(phases)):
        library.begin(real, part)


def _parts(phases: Iterable[Phase]) -> Iterator[str]:
    products = [p for phase in phases if isinstance(phase, Fused) for p in steps(phase.body)]
    scattered = [
        p for p in products if isinstance(p, Product) and p.packed is None and is_scattered(p)
    ]
    if scattered:
        yield "scattered"
        yield "exchanged"
    if any(p.borders for p in scattered):
        yield "bordered"
