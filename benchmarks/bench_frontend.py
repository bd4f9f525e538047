"""How long it takes to read a program, check it, and derive its backward; and to import loopgrad.

    python benchmarks/bench_frontend.py

Medians of repeated runs in one process (the import: of fresh processes, beyond NumPy's own import).
The bars: parse, check and derive `ugrnn` under 20 ms; the import under 100 ms.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import resources

from rich.console import Console
from rich.table import Table

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate


def median(function: Callable[[], object], repeat: int = 30) -> float:
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e3


def process_time(code: str, repeat: int = 9) -> float:
    return median(lambda: subprocess.run([sys.executable, "-c", code], check=True), repeat)


def main() -> None:
    text = resources.files("loopgrad.problems").joinpath("problems.loops").read_text("utf-8")
    start = text.index("ugrnn(")
    ugrnn = text[start:]

    def whole() -> None:
        program = lg.program(ugrnn)
        infer(program)
        validate(program)
        program.backward()

    table = Table("what", "milliseconds", "bar")
    table.add_row("ugrnn: parse, check, derive", f"{median(whole):.1f}", "20")
    program = lg.program(ugrnn)
    table.add_row("ugrnn: parse and check", f"{median(lambda: lg.program(ugrnn)):.1f}", "")
    table.add_row("ugrnn: derive", f"{median(lambda: lg.program(ugrnn).backward()):.1f}", "")
    table.add_row("ugrnn: print", f"{median(lambda: str(program)):.2f}", "")
    imports = process_time("import numpy, loopgrad") - process_time("import numpy")
    table.add_row("import loopgrad, beyond NumPy", f"{imports:.0f}", "100")
    Console().print(table)


if __name__ == "__main__":
    main()
