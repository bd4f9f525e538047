"""The largest error of our own float32 functions over all numbers, in units in the last place.

    python benchmarks/check_mathematics.py [--every 1] [--only exp,tanh]

Takes minutes a function; `--every 101` looks at each hundred-and-first number. "wrong" counts infinities,
NaNs and signs of zero that are not as they should be: none is expected.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.backends.elementwise import aligned, elementwise
from tests.backends.exact import FUNCTIONS, deviation

CHUNK = 1 << 20


def check(name: str, every: int) -> tuple[float, float, int]:
    """The largest error, where it is, and how many values are wrong altogether."""
    ours = elementwise(name, np.float32, 16)
    x, y = aligned(CHUNK, np.float32), aligned(CHUNK, np.float32)
    largest, place, wrong = 0.0, 0.0, 0
    for start in range(0, 1 << 32, CHUNK * every):
        bits = np.arange(CHUNK, dtype=np.uint64) * every + start
        x[:] = bits.astype(np.uint32).view(np.float32)
        ours(x, y)
        with np.errstate(all="ignore"):
            errors, different = deviation(y, FUNCTIONS[name](x.astype(np.float64)))
        at = int(errors.argmax())
        if errors[at] > largest:
            largest, place = float(errors[at]), float(x[at])
        wrong += int(different.sum())
    return largest, place, wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--only", default="", help="names, with commas between")
    arguments = parser.parse_args()
    for name in [n for n in arguments.only.split(",") if n] or list(FUNCTIONS):
        error, place, wrong = check(name, arguments.every)
        print(f"{name:10} {error:.3f} at {place!r:24} wrong: {wrong}", flush=True)


if __name__ == "__main__":
    main()
