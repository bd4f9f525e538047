"""Problem 5 (b): how long a recurrent network takes on as many processors as you like."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from loopgrad.cost.costs import Analysis, analyze
from loopgrad.cost.greedy import greedy
from loopgrad.frontend.library import lib
from loopgrad.ir.nodes import Extent, Program
from loopgrad.pipeline import compile
from loopgrad.problems.answers import Evidence, Part

SIZES = {"B": 8, "J": 32, "K": 32, "N": 16}
TIMES = (16, 64, 256, 1024, 4096, 16384, 65536)
CHECKED = (1, 2, 5, 16)  # of T, where the graph is counted level by level
TURNS = 64  # of the graph that processors share
PROCESSORS = tuple(10**k for k in range(7))
MEASURED = (16, 32, 64, 128, 256, 512)
ROUNDS = 5
WIDTH = 40  # of the longest bar

WHY = (
    "The time is linear in T: every h[t] waits for h[t-1], by the chain of reads below, and no processor\n"
    "can shorten a chain. Within a step sums are trees: a step takes the logarithm of the number of units."
)
SCANNED = (
    "Where the state enters a step linearly, steps can be put together before the state is known: two of\n"
    "them are one step of the same form. All T take a number of rounds that grows as log T: a parallel scan."
)


@dataclass(frozen=True)
class Scaling:
    """What is drawn: spans by program for each of `TIMES`, steps by processors, seconds by T."""

    spans: Mapping[str, tuple[int, ...]]
    steps: tuple[int, ...]
    work: int
    span: int
    seconds: tuple[float, ...]


def parts(programs: Mapping[str, Program]) -> tuple[Part | Evidence, ...]:
    """The answer to (b), with its evidence."""
    cost = analyze(programs["ugrnn"])
    found = scaling(programs)
    return (
        Part(
            "(b) The parallel time of the unrolled network, and of its backward", formulas(programs)
        ),
        Part("How it grows with T", WHY),
        chain(cost),
        counted(cost),
        Part("Recurrences that need not wait", SCANNED),
        linear(programs),
        grows(found),
        processors(found),
        measured(found),
    )


def others(programs: Mapping[str, Program]) -> dict[str, Program]:
    """Recurrences that are linear in their state."""
    return {
        "minGRU": lib["mingru"],
        "selective scan": lib["selective_scan"],
        "running sum": programs["running_sum"],
    }


def scaling(programs: Mapping[str, Program]) -> Scaling:
    """What is drawn; computed and measured once."""
    return _scaling(programs["ugrnn"], tuple(others(programs).items()))


@lru_cache(maxsize=1)
def _scaling(ugrnn: Program, scanned: tuple[tuple[str, Program], ...]) -> Scaling:
    costs = {"UGRNN": analyze(ugrnn), **{name: analyze(program) for name, program in scanned}}
    spans = {name: tuple(at(cost, t).span for t in TIMES) for name, cost in costs.items()}
    levels = costs["UGRNN"].levels(**sizes(costs["UGRNN"], TURNS))
    steps = tuple(greedy(levels, p) for p in PROCESSORS)
    return Scaling(spans, steps, levels.work, levels.span, seconds(ugrnn))


def sizes(cost: Analysis, turns: int) -> dict[str, int]:
    names = {s.name for f in (cost.work, cost.bytes) for s in f.free_symbols}
    known = {**SIZES, "T": turns}
    return {name: known[name.rstrip("'")] for name in names if name.rstrip("'") in known}


def at(cost: Analysis, turns: int) -> Any:
    return cost.at(**sizes(cost, turns))


# ---------------------------------------------------------------------------------------- answers


def formulas(programs: Mapping[str, Program]) -> str:
    """Work and span of the network, both directions."""
    ugrnn = programs["ugrnn"]
    forward, backward = analyze(ugrnn), analyze(ugrnn.backward())
    lines = [
        f"{name:22}  {'' if wanted in cost.exact else 'at most '}{getattr(cost, wanted)}"
        for name, cost, wanted in (
            ("work", forward, "work"),
            ("time", forward, "span"),
            ("work of the backward", backward, "work"),
            ("time of the backward", backward, "sequential_span"),
            ("with a parallel scan", backward, "span"),
        )
    ]
    return "\n".join(lines)


def chain(cost: Analysis) -> Evidence:
    """Why it is sequential, and that each step adds the same."""
    [carried] = cost.recurrences
    spans = [at(cost, t).span for t in (100, 200, 300)]
    steps = [(b - a) / 100 for a, b in pairwise(spans)]
    lines = (
        carried.reads,
        carried.why,
        f"operations that a step adds to the longest chain: {', '.join(f'{s:g}' for s in steps)}",
    )
    passed = not carried.linear and steps[0] == steps[1] > 0
    return Evidence("The chain that forces it", lines, passed)


def counted(cost: Analysis) -> Evidence:
    """The formulas against the graph itself."""
    lines, passed = [], True
    for turns in CHECKED:
        given = sizes(cost, turns)
        formula, levels = cost.at(**given), cost.levels(**given)
        passed &= (formula.work, formula.span) == (levels.work, levels.span)
        lines.append(
            f"T = {turns:2}: work {formula.work:,} and {levels.work:,}, "
            f"time {formula.span:,} and {levels.span:,}"
        )
    claim = "The formulas, and the operations of the unrolled graph counted level by level"
    return Evidence(claim, tuple(lines), passed)


def linear(programs: Mapping[str, Program]) -> Evidence:
    """What is found to be linear, and the spans."""
    lines, passed = [], True
    for name, program in others(programs).items():
        cost = analyze(program)
        [carried] = cost.recurrences
        lines.append(f"{name:15} {carried.reads}: {carried.why}")
        lines.append(f"{'':15} time at most {cost.span}, without a scan {cost.sequential_span}")
        passed &= carried.linear
    return Evidence("Found to be linear in their state, from their loops", tuple(lines), passed)


def grows(found: Scaling) -> Evidence:
    """The spans side by side; a bar is a logarithm."""
    head = f"{'T':>6}  " + "  ".join(f"{name:>14}" for name in found.spans)
    lines = [head]
    for place, turns in enumerate(TIMES):
        spans = (f"{span[place]:14,}" for span in found.spans.values())
        lines.append(f"{turns:6}  " + "  ".join(spans))
    lines.append("")
    longest = max(max(span) for span in found.spans.values())
    for name, span in found.spans.items():
        lines += bars(name, TIMES, span, longest)
    first, *rest = (tuple(b - a for a, b in pairwise(span)) for span in found.spans.values())
    # T is 4 times as large from line to line: what is linear grows 4 times as much, logarithms by as much.
    passed = all(b == 4 * a for a, b in pairwise(first))
    passed &= all(len(set(growth)) == 1 for growth in rest)
    given = ", ".join(f"{name} = {size}" for name, size in SIZES.items())
    return Evidence(f"The time by the formulas, in operations, where {given}", tuple(lines), passed)


def processors(found: Scaling) -> Evidence:
    """A machine of P processors: not below either bound, nor above Brent's."""
    lines = [f"{'P':>9}  {'steps':>12}  {'speed-up':>9}"]
    passed = True
    for count, steps in zip(PROCESSORS, found.steps, strict=True):
        most = found.work / count + found.span
        passed &= max(found.work / count, found.span) <= steps <= most
        lines.append(f"{count:9,}  {steps:12,}  {found.work / steps:9,.1f}")
    lines.append("")
    lines += bars("steps", PROCESSORS, found.steps)
    sizes_of_graph = f"work {found.work:,}, longest chain {found.span:,}"
    claim = f"A greedy schedule of the UGRNN's graph, T = {TURNS}: {sizes_of_graph}"
    return Evidence(claim, tuple(lines), passed)


def measured(found: Scaling) -> Evidence:
    """The compiled program on this machine."""
    lines = [f"T = {t:4}: {s * 1e3:8.3f} ms" for t, s in zip(MEASURED, found.seconds, strict=True)]
    lines += ["", *bars("ms", MEASURED, [s * 1e3 for s in found.seconds])]
    claim = "The compiled UGRNN on this machine, float32"
    return Evidence(claim, tuple(lines), all(s > 0 for s in found.seconds), measured=True)


def bars(
    name: str, labels: Sequence[int], values: Sequence[float], longest: float | None = None
) -> list[str]:
    """A bar for each value, as long as its logarithm."""
    logs = np.log2(np.asarray(values, float))
    low = min(0.0, float(logs.min()) - 1)
    most = max(1.0, float(np.log2(longest or max(values))) - low)
    return [
        f"{'' if place else name:14} {label:9,} {'█' * max(1, round(WIDTH * (one - low) / most))}"
        for place, (label, one) in enumerate(zip(labels, logs, strict=True))
    ]


# ------------------------------------------------------------------------------------ measurements


def seconds(program: Program) -> tuple[float, ...]:
    """The least of some runs at each T, one T after the other in each round."""
    kernel = compile(program)
    inputs = [_inputs(program, turns) for turns in MEASURED]
    least = [float("inf")] * len(inputs)
    for _ in range(ROUNDS):
        for place, given in enumerate(inputs):
            start = time.perf_counter()
            kernel(**given)
            least[place] = min(least[place], time.perf_counter() - start)
    return tuple(least)


def _inputs(program: Program, turns: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    known = {**SIZES, "T": turns}
    shape = lambda e: known[e.name.rstrip("'")] if isinstance(e, Extent) else 1
    return {
        i.name: 0.1 * rng.normal(size=tuple(map(shape, i.extents))).astype(np.float32)
        for i in program.inputs
    }


# --------------------------------------------------------------------------------------- the plot


def plot(path: Path, found: Scaling) -> None:
    """Writes the formulas, the greedy schedule and what was measured as a PNG.

    Raises ImportError without matplotlib, OSError where the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4), layout="constrained")
    FigureCanvasAgg(figure)
    formula, machine, clock = figure.subplots(1, 3)
    for name, span in found.spans.items():
        formula.loglog(TIMES, span, marker=".", label=name)
    formula.set(title="the formulas", xlabel="T", ylabel="time (operations)")
    formula.legend()
    machine.loglog(PROCESSORS, found.steps, marker=".", label="greedy schedule")
    machine.loglog(PROCESSORS, [found.work / p for p in PROCESSORS], "--", label="work / P")
    machine.axhline(found.span, linestyle=":", label="longest chain")
    machine.set(title=f"UGRNN, T = {TURNS}", xlabel="processors", ylabel="steps")
    machine.set_ylim(found.span / 4, found.work * 2)
    machine.legend()
    clock.loglog(MEASURED, [s * 1e3 for s in found.seconds], marker=".")
    clock.set(title="UGRNN, measured on this machine", xlabel="T", ylabel="ms")
    for axes in figure.axes:
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
