"""How long `simplify` takes, and where: the algebra's search, the certificate, the rest.

    python benchmarks/bench_simplify.py

Medians of processor time in one process, after a first call that fills the tables of the finite fields.
The bars: softmax under 30 ms, `ugrnn` whole under 0.5 s, attention and a program of 50 statements under
2 s. The last rows show how time grows with the program: a network of more and more layers.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.table import Table

import loopgrad as lg
from loopgrad.simplify import improving
from loopgrad.simplify.searching import judging

NAMES = (
    "softmax stable_softmax batchnorm layer_norm gelu attention ugrnn_cell gru_cell lstm_cell ugrnn"
)
BARS = {"softmax": "30", "attention": "2000", "ugrnn": "500"}
PARTS = {"cheaper": "search", "certified": "certificate", "_moves": "digits"}
MODULES = {"cheaper": improving, "certified": judging, "_moves": judging.Judge}
LAYERS = (3, 6, 9, 15)


def network(layers: int) -> str:
    """`layers` affine maps with tanh between them, under the cross entropy of a softmax."""
    parameters = ", ".join(
        f"param W{k}[J{k + 1},J{k}], param c{k}[J{k + 1}]" for k in range(layers)
    )
    lines = [f"network(x0[B,J0], {parameters}, t[B,J{layers}]) -> L[B]:"]
    for k in range(layers):
        of = f"J{k}"
        lines.append(f"a{k}[b,j] = W{k}[j,{of}] * x{k}[b,{of}] + c{k}[j]")
        if k < layers - 1:
            lines.append(f"x{k + 1}[b,j] = tanh(a{k}[b,j])")
    last = layers - 1
    lines.append(f"Z[b] = sum[j](exp(a{last}[b,j]))")
    lines.append(f"L[b] = sum[j](t[b,j] * (log(Z[b]) - a{last}[b,j]))")
    return "\n    ".join(lines)


@contextmanager
def timed(spent: dict[str, float]) -> Iterator[None]:
    """Adds up what the stages of `simplify` take."""

    def watch(name: str) -> None:
        function = kept[name]

        def watched(*arguments: object, **options: object) -> object:
            start = time.process_time()
            try:
                return function(*arguments, **options)
            finally:
                spent[name] = spent.get(name, 0.0) + time.process_time() - start

        setattr(MODULES[name], name, watched)

    kept = {name: getattr(MODULES[name], name) for name in PARTS}
    for name in PARTS:
        watch(name)
    try:
        yield
    finally:
        for name, function in kept.items():
            setattr(MODULES[name], name, function)


def milliseconds(text: str, repeat: int) -> dict[str, float]:
    """The medians for the program's backward, read anew each time."""
    rows = []
    for _ in range(repeat):
        literal = lg.program(text).backward()
        spent: dict[str, float] = {}
        with timed(spent):
            start = time.process_time()
            literal.simplify()
            spent["whole"] = time.process_time() - start
        rows.append(spent)
    return {n: 1e3 * statistics.median(r.get(n, 0.0) for r in rows) for n in ("whole", *PARTS)}


def statements(text: str) -> int:
    return str(lg.program(text).backward()).count("=")


def main() -> None:
    os.environ["LOOPGRAD_CACHE"] = "0"  # nothing is on the disk already
    table = Table("backward of", "statements", "milliseconds", *PARTS.values(), "bar")
    programs = {name: str(getattr(lg.lib, name)) for name in NAMES.split()}
    programs |= {f"{n} layers": network(n) for n in LAYERS}
    for name, text in programs.items():
        found = milliseconds(text, 3 if "layers" in name else 7)
        count = statements(text)
        bar = BARS.get(name, "2000" if "layers" in name and count <= 60 else "")
        table.add_row(name, str(count), *(f"{v:.0f}" for v in found.values()), bar)
    Console().print(table)


if __name__ == "__main__":
    main()
