"""Errors in float32 of the loops as they are written, and of what runs instead: a table.

    python benchmarks/bench_stability.py [--part gradient] [--only softmax,KL]

For each program the largest error, relative to the largest value, over the draws of a kind of inputs. "no" is
inf or nan where there should be a number.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.stable.corpus import CASES
from tests.stable.measuring import KINDS, PARTS, errors


def shown(error: float) -> str:
    return "no" if error == float("inf") else f"{error:.0e}" if error else "0"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=PARTS, default="value")
    parser.add_argument("--only", default="", help="names, or parts of them, with commas between")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    wanted = arguments.only.split(",")
    print("| written / runs |", " | ".join(KINDS), "|")
    print("| --- |", " | ".join("---" for _ in KINDS), "|")
    for case in CASES:
        if not any(name in case.name for name in wanted) or (
            case.wrt == () and arguments.part != "value"
        ):
            continue
        found = errors(case, arguments.part)
        cells = [f"{shown(found[k].literal)} / {shown(found[k].stable)}" for k in KINDS]
        print(f"| {case.name} |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
