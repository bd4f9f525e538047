"""What every program of the repository costs, literal and simplified, forward and backward.

    python benchmarks/bench_costs.py [SIZE]

For each: operations, transcendental calls and bytes as formulas in the extents (simplify/searching/cost.py),
the simplified ones below the literal ones; the ratio of the two at SIZE for every extent (by default 64), of
all three and of the weighted sum that `simplify` compares by; and the milliseconds that it took.
A program that stays as it is has one line.
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import loopgrad as lg
from loopgrad.simplify.searching.cost import Cost, cost, show_formula

ROOT = Path(__file__).parents[1]
SOURCES = {
    "lib": None,
    "problems": ROOT / "loopgrad" / "problems" / "problems.loops",
    "examples": ROOT / "loopgrad" / "examples" / "digits.loops",
    "corpus": ROOT / "tests" / "programs" / "corpus.loops",
    "references": ROOT / "tests" / "programs" / "references.loops",
}
COLUMNS = ("operations", "transcendental", "bytes")


@dataclass(frozen=True)
class Row:
    """A program before and after, and how long that took."""

    name: str
    literal: Cost
    simplified: Cost
    seconds: float

    @property
    def changed(self) -> bool:
        return str(self.literal) != str(self.simplified)

    def ratio(self, column: str, size: int) -> float | None:
        """Literal over simplified; None where nothing is left."""
        before, after = (
            at(getattr(found, column), size) for found in (self.literal, self.simplified)
        )
        if not after:
            return 1.0 if not before else None
        return before / after


def at(formula: Mapping[tuple[str, ...], float], size: int) -> float:
    """The formula's value where every name is `size`; an extent that is a number keeps it."""
    total = 0.0
    for extents, count in formula.items():
        for extent in extents:
            count *= float(extent) if extent.isdigit() else size
        total += count
    return total


def programs() -> Iterator[tuple[str, lg.Program]]:
    """Every program, and its backward where it has one."""
    for source, path in SOURCES.items():
        module = lg.lib if path is None else lg.load(path)
        for name in module:
            program = module[name]
            yield f"{source}.{name}", program
            try:
                yield f"{source}.{name}.backward", program.backward()
            except (ValueError, lg.ProgramError):
                continue  # nothing to differentiate by


def measure(name: str, program: lg.Program) -> Row:
    start = time.process_time()
    simplified = program.simplify()
    return Row(name, cost(program), cost(simplified), time.process_time() - start)


def show(row: Row, size: int) -> None:
    print(f"{row.name}  ({row.seconds * 1e3:.0f} ms)")
    for label, found in (("literal", row.literal), ("simplified", row.simplified)):
        if label == "literal" or row.changed:
            shown = [f"{c} {show_formula(getattr(found, c))}" for c in COLUMNS]
            print(f"    {label:11} " + "; ".join(shown))
    if row.changed:
        ratios = {c: row.ratio(c, size) for c in (*COLUMNS, "weighted")}
        shown = [f"{c} " + (f"{r:.2f}" if r is not None else "all") for c, r in ratios.items()]
        print(f"    at {size:<8} " + ", ".join(shown))


def main() -> None:
    warnings.simplefilter("ignore")  # of unused inputs
    os.environ["LOOPGRAD_CACHE"] = "0"  # no simplified program is on the disk already
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 64
    rows = []
    for name, program in programs():
        rows.append(measure(name, program))
        show(rows[-1], size)
    better = [row for row in rows if row.changed]
    gains = sorted(r for row in better if (r := row.ratio("weighted", size)) is not None)
    dearer = [row.name for row in better if (row.ratio("weighted", size) or 1) < 1]
    print(f"\n{len(rows)} programs, {len(better)} of them changed.")
    print(f"Dearer, weighted, at {size}: {', '.join(dearer) or 'none'}")
    if gains:
        middle, most = gains[len(gains) // 2], gains[-1]
        print(f"Weighted, literal / simplified: median {middle:.2f}, at most {most:.2f}.")
    for column in COLUMNS:
        more = [row.name for row in better if (row.ratio(column, size) or 1) < 1]
        print(f"More {column}, for less of the others, in {len(more)}: {', '.join(more)}")
    seconds = sorted(row.seconds for row in rows)
    print(
        f"Time of simplify: median {seconds[len(rows) // 2] * 1e3:.0f} ms, at most {seconds[-1]:.2f} s."
    )


if __name__ == "__main__":
    main()
