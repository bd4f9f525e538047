"""The table of speeds: loopgrad, from the literal loops, beside everybody else.

    python benchmarks/bench_table.py                          the rows of the table
    python benchmarks/bench_table.py softmax "batch norm"     those whose names hold one of the words
    python benchmarks/bench_table.py --layers                 those outside the table too
    python benchmarks/bench_table.py --program mine.loops:layer B=4096 J=1024
    python benchmarks/bench_table.py --rounds 5 --json out.json --against torch,jax

Against are PyTorch (as the layer is spelled out, and its operator), torch.compile ("compile": 10 to 20
seconds to start, some a row; of a loop over time written by hand it gets the step), jax.jit, and numba
over the literal loops, where those take no minutes.

Contenders are called in turn, in one process; the medians of the rounds are shown (`--least`: the least),
in microseconds. "default": peers as a user runs them, our output arrays reused (`out=`). "fair": freed
memory stays with the process, so that nobody pays page faults, and we return new arrays.

Forward and backward are two programs for "loopgrad", as in PyTorch (`--way vjp`: what `lg.vjp` makes of them,
which keeps copies of what a caller may change), and one for "loopgrad joint", as under `jax.jit`. The last
table has both; a row is missed where neither reaches what is asked.

The bound is the time to copy the layer's bytes, or to do its multiplications by the vendor's product; error
is the largest difference from float64, over the largest value; first is the first call of forward and
backward, what is compiled included (nothing comes from a cache on disk), for the first row of a program. A
contender that is missing, fails or computes something else is named below its row.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import machine
import peers
import workloads
from workloads import Workload

from loopgrad.peers import libraries
from loopgrad.peers.comparison import difference
from loopgrad.peers.ours import WAYS, ours
from loopgrad.peers.problem import Contender, NoContender, Outcome, Problem
from loopgrad.peers.timing import interleaved

MODES = ("default", "fair")
PHASES = ("forward", "backward", "both")
AGAINST = ("torch", "compile", "jax", "numba")
OURS, JOINT = "loopgrad", "loopgrad joint"
MOST_TURNS = 64  # that torch.compile is asked to write out
MOST_STEPS = 4096  # that are called one by one
MOST_ITERATIONS = 2e9  # of literal loops, some seconds
FARTHEST = 1e-3  # an error beyond which a contender computes something else


@dataclass
class Line:
    """A contender in a row."""

    name: str
    seconds: dict[str, float] = field(default_factory=dict)
    first: float | None = None
    peak: int | None = None
    error: float | None = None


@dataclass
class Row:
    """A workload in one mode."""

    workload: Workload
    mode: str
    lines: list[Line]
    bounds: dict[str, float]  # by phase, seconds
    copy: float  # bytes a second
    product: float  # operations a second
    notes: list[str]

    def own(self, phase: str, name: str = OURS) -> float | None:
        """Our seconds; None where we failed, or have no such phase."""
        return next((x.seconds.get(phase) for x in self.lines if x.name == name), None)

    def best_peer(self, phase: str) -> Line | None:
        found = [x for x in self.lines if not x.name.startswith(OURS) and phase in x.seconds]
        return min(found, key=lambda line: line.seconds[phase], default=None)

    def ratio(self, phase: str, name: str = OURS) -> float | None:
        """The best peer's time over ours."""
        best, own = self.best_peer(phase), self.own(phase, name)
        return best.seconds[phase] / own if best and own else None

    def over_bound(self, phase: str, name: str = OURS) -> float | None:
        own = self.own(phase, name)
        return own / self.bounds[phase] if own and self.bounds.get(phase) else None


# ----------------------------------------------------------------------------------------- contenders


def contenders(
    workload: Workload, problem: Problem, mode: str, options: argparse.Namespace, notes: list[str]
) -> list[Contender]:
    """Everybody who can be had. A note for each other."""
    reuse = mode == "default"
    makers: dict[str, Callable[[], Contender]] = {
        OURS: lambda: ours(problem, options.way or "kernels", reuse=reuse)
    }
    if problem.seeds:
        makers[JOINT] = lambda: _joint(problem, reuse)
    for library in [a for a in options.against if a != "compile" or "torch" not in options.against]:
        makers.update(_peers_of(workload, problem, library, options, notes))
    found = []
    for name, make in makers.items():
        try:
            found.append(make())
        except NoContender as reason:
            notes.append(f"{name}: {reason}")
        except Exception as error:  # whatever another library raises; the table goes on
            if options.traceback:
                traceback.print_exc()
            notes.append(
                f"{name}: fails: {type(error).__name__}: {str(error).splitlines()[0][:150]}"
            )
    return found


def _joint(problem: Problem, reuse: bool) -> Contender:
    made = ours(problem, "joint", reuse=reuse)
    return replace(made, name=JOINT, calls={"both": made.calls["both"]})


def _peers_of(
    workload: Workload,
    problem: Problem,
    library: str,
    options: argparse.Namespace,
    notes: list[str],
) -> dict[str, Callable[[], Contender]]:
    if library == "numba":
        times = machine.iterations(problem.program, problem)
        if times > MOST_ITERATIONS:
            notes.append(f"numba: {times:.0e} literal iterations would take minutes")
            return {}
        return {"numba": lambda: libraries.numba(problem)}
    compiles = "compile" in options.against
    own = "torch" if library == "compile" else library
    try:
        libraries.need(own)
        made = peers.functions(workload.family, problem, own)
    except NoContender as reason:
        notes.append(f"{library}: {reason}")
        return {}
    if not made:  # nobody has written this one by hand
        try:
            made = {"spelled": libraries.translated(problem, own)}
        except NoContender as reason:
            notes.append(f"{library}: {reason}")
    if library == "jax":
        (function,) = made.values() or (None,)
        return {"jax": partial(libraries.jax, problem, function, "jax")} if function else {}
    found: dict[str, Callable[[], Contender]] = {}
    for kind, function in made.items() if library == "torch" else ():
        name = "torch" if kind == "spelled" else "torch op"
        found[name] = lambda f=function, n=name: libraries.torch(problem, f, n)
    if compiles and made:
        spelled, by_steps = made.get("spelled"), peers.STEPS.get(workload.family)
        count = turns(problem)
        if by_steps is None and count > MOST_TURNS:
            notes.append("torch.compile: would write out every turn of the loop over time")
        elif count > MOST_STEPS:
            notes.append(f"torch.compile: {count:.0f} calls of a step would take seconds")
        else:
            found["torch.compile"] = lambda: libraries.torch(
                problem, spelled or made["operator"], "torch.compile", True, by_steps
            )
    return found


def turns(problem: Problem) -> float:
    """Of the program's longest loop over time; 0 without one."""
    return max(machine.turns(problem.program, problem), default=0)


# ------------------------------------------------------------------------------------------ measuring

SEEN: set[tuple[str, str]] = set()  # programs whose first call was measured, by contender


def measure(workload: Workload, mode: str, options: argparse.Namespace) -> Row:
    problem, notes = workload.problem(options.dtype), []
    found = contenders(workload, problem, mode, options, notes)
    reference = exact(workload, problem, notes)
    lines = []
    for contender in list(found):
        line = Line(contender.name)
        key = (workload.source, contender.name)
        if key not in SEEN:
            SEEN.add(key)
            line.first = contender.first
        near = workload.family in peers.NEAR and contender.name == "torch op"
        if reference is not None and not near:
            line.error = difference(contender.outcome(), reference)
            if not line.error < FARTHEST:
                notes.append(f"{contender.name}: computes something else: error {line.error:.1e}")
                if contender.name != OURS:
                    found.remove(contender)
                    continue
        if not options.quick:
            line.peak = machine.peak_bytes(
                contender.calls.get("both") or contender.calls["forward"]
            )
        lines.append(line)
    taken, bounds = timed(found, problem, options)
    for line in lines:
        line.seconds = taken[line.name]
    return Row(workload, mode, lines, bounds["bounds"], bounds["copy"], bounds["product"], notes)


def timed(
    found: list[Contender], problem: Problem, options: argparse.Namespace
) -> tuple[dict[str, dict[str, float]], dict[str, Any]]:
    """Seconds by contender and phase; the bounds by phase, with the speeds that they rest on."""
    value = (lambda t: t.least) if options.least else (lambda t: t.median)
    moved, operations = machine.bytes_moved(problem), machine.multiplications(problem)
    multiply, done = machine.product(options.dtype)
    seconds: dict[str, dict[str, float]] = {c.name: {} for c in found}
    bounds: dict[str, float] = {}
    speeds = {"copy": 0.0, "product": 0.0}
    for phase in PHASES:
        calls = {c.name: c.calls[phase] for c in found if phase in c.calls}
        if phase not in moved or not calls or (phase != "both" and options.both):
            continue
        limits = machine.copies(moved[phase], options.threads)
        if operations[phase]:
            limits["product"] = multiply
        clock = time.process_time if options.cpu else time.perf_counter
        taken = interleaved(calls, options.rounds, options.seconds, clock=clock)
        rounds = max(3, options.rounds // 2)
        limit = interleaved(limits, rounds, options.seconds / 4, clock=clock)
        for name in calls:
            seconds[name][phase] = value(taken[name])
        copy = min(value(limit[n]) for n in limits if n != "product")
        speeds["copy"] = moved[phase] / copy
        bounds[phase] = copy
        if operations[phase]:
            speeds["product"] = done / value(limit["product"])
            bounds[phase] = max(copy, operations[phase] / speeds["product"])
    return seconds, {"bounds": bounds, **speeds}


EXACT: dict[str, Outcome] = {}


def exact(workload: Workload, problem: Problem, notes: list[str]) -> Outcome | None:
    """The results and gradients in float64, by PyTorch where somebody wrote the layer for it."""
    if workload.name in EXACT:
        return EXACT[workload.name]
    wide = problem.widened()
    try:
        libraries.need("torch")
        made = peers.functions(workload.family, wide, "torch")
        by_hand = made.get("spelled") or made.get("operator") or libraries.translated(wide, "torch")
        found = libraries.torch(wide, by_hand).outcome()
    except NoContender:
        notes.append("errors are against our own float64")
        found = ours(wide, "kernels", reuse=False).outcome()
    EXACT.clear()  # of one row at a time: they are large
    EXACT[workload.name] = found
    return found


# --------------------------------------------------------------------------------------------- output


def show(row: Row, options: argparse.Namespace) -> None:
    speeds = f"copy {row.copy / 1e9:.1f} GB/s"
    if row.product:
        speeds += f", product {row.product / 1e9:.0f} Gflop/s"
    print(
        f"\n{row.workload.name}, {row.mode}, {options.dtype}, {options.threads} threads; {speeds}"
    )
    head = f"  {'microseconds':16}" + "".join(f"{p:>12}" for p in PHASES)
    print(f"{head}{'first ms':>10}{'peak MB':>9}{'error':>10}")
    for line in row.lines:
        cells = "".join(_micro(line.seconds.get(p)) for p in PHASES)
        first = f"{line.first * 1e3:10.0f}" if line.first is not None else " " * 10
        peak = f"{line.peak / 1e6:9.1f}" if line.peak is not None else " " * 9
        error = f"{line.error:10.1e}" if line.error is not None else " " * 10
        print(f"  {line.name:16}{cells}{first}{peak}{error}")
    print(f"  {'bound':16}" + "".join(_micro(row.bounds.get(p)) for p in PHASES))
    for phase in PHASES:
        best, ratio = row.best_peer(phase), row.ratio(phase)
        if best is not None and ratio is not None:
            joint = row.ratio(phase, JOINT)
            print(
                f"  {phase:9} best peer over ours {ratio:5.2f} ({best.name}); "
                f"ours over the bound {row.over_bound(phase):5.2f}"
                + (f"; joint {joint:5.2f}, {row.over_bound(phase, JOINT):5.2f}" if joint else "")
            )
    for note in row.notes:
        print(f"  - {note}")
    sys.stdout.flush()


def _micro(seconds: float | None) -> str:
    return f"{seconds * 1e6:12.1f}" if seconds is not None else " " * 12


def quicker(row: Row) -> list[str]:
    """A line for each peer that takes less time than we do, by phase."""
    found = []
    for phase in PHASES:
        own = [t for name in (OURS, JOINT) if (t := row.own(phase, name))]
        for line in row.lines:
            time = line.seconds.get(phase)
            if own and time and not line.name.startswith(OURS) and time < min(own):
                ratio = time / min(own)
                found.append(
                    f"{row.workload.name}, {row.mode}, {phase}: {line.name} takes {ratio:.2f} of our time"
                )
    return found


def summary(rows: list[Row]) -> None:
    """One line a workload: best peer's time over ours in both modes, what is asked for, the bound.

    The means are of the better of two programs and one.
    """
    names = list(dict.fromkeys(row.workload.name for row in rows))
    columns = [(mode, name) for mode in MODES for name in (OURS, JOINT)]
    heads = ("default", "joint", "fair", "joint")
    print(
        f"\n{'forward and backward':28}{'best peer':>15}"
        + "".join(f"{head:>9}" for head in heads)
        + f"{'asked':>14}{'/bound':>8}"
    )
    ratios: dict[str, list[float]] = {mode: [] for mode in MODES}
    for name in names:
        by_mode = {row.mode: row for row in rows if row.workload.name == name}
        one = next(iter(by_mode.values()))
        phase = "both" if "both" in one.bounds else "forward"
        found = {(m, n): by_mode[m].ratio(phase, n) for m, n in columns if m in by_mode}
        missed = False
        for k, mode in enumerate(MODES):
            reached = max((found.get((mode, n)) or 0.0 for n in (OURS, JOINT)), default=0.0)
            if reached:
                least = max(1.0, 0.95 * one.workload.bar[k]) if one.workload.bar else 1.0
                missed |= reached < least
                if one.workload.bar:
                    ratios[mode].append(reached)
        cells = "".join(f"{r:9.2f}" if (r := found.get(c)) else " " * 9 for c in columns)
        best = one.best_peer(phase)
        asked = "{} / {}".format(*one.workload.bar) if one.workload.bar else "1 / 1"
        over = min((o for n in (OURS, JOINT) if (o := one.over_bound(phase, n))), default=None)
        bound = f"{over:8.2f}" if over is not None else ""
        print(
            f"{name:28}{best.name if best else '':>15}{cells}{asked:>14}{bound}"
            f"{'  missed' if missed else ''}"
        )
    for row in rows:
        for line in quicker(row):
            print(line)
    for mode, found in ratios.items():
        if found:
            mean = math.exp(sum(map(math.log, found)) / len(found))
            print(f"geometric mean of the table's rows, {mode}: {mean:.2f} (asked in default: 2.4)")


def as_json(row: Row) -> dict[str, Any]:
    return {
        "row": row.workload.name,
        "mode": row.mode,
        "bounds": row.bounds,
        "copy": row.copy,
        "product": row.product,
        "bar": row.workload.bar,
        "notes": row.notes,
        "lines": [vars(line) for line in row.lines],
        "ratio": {n: {p: row.ratio(p, n) for p in PHASES} for n in (OURS, JOINT)},
        "over_bound": {n: {p: row.over_bound(p, n) for p in PHASES} for n in (OURS, JOINT)},
    }


# -------------------------------------------------------------------------------------------- command


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rows", nargs="*", help="words of rows' names; with --program, NAME=VALUE")
    parser.add_argument("--layers", action="store_true", help="all rows, outside the table too")
    parser.add_argument("--program", metavar="FILE:NAME", help="measure this program")
    parser.add_argument("--mode", choices=[*MODES, "all"], default="all")
    parser.add_argument("--way", choices=WAYS, help="what forward and backward is for us")
    parser.add_argument(
        "--against", default=",".join(AGAINST), help=f"of {','.join(AGAINST)}, or none"
    )
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument(
        "--seconds", type=float, default=8.0, help="at most, for each row and phase"
    )
    parser.add_argument(
        "--least", action="store_true", help="the least of the rounds, not the median"
    )
    parser.add_argument(
        "--cpu", action="store_true", help="one thread, processor time: busy machines"
    )
    parser.add_argument("--both", action="store_true", help="forward and backward together only")
    parser.add_argument("--quick", action="store_true", help="no peak memory")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--traceback", action="store_true", help="of contenders that fail")
    options = parser.parse_args()
    if options.cpu:
        options.threads = 1
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    options.against = [a for a in options.against.split(",") if a and a != "none"]
    if unknown := [a for a in options.against if a not in AGAINST]:
        parser.error(f"--against: {', '.join(unknown)} is none of {', '.join(AGAINST)}")
    return options


def set_threads(count: int) -> None:
    """The same number for everybody who can be told."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)
    import loopgrad

    if hasattr(loopgrad, "set_num_threads"):
        loopgrad.set_num_threads(count)


def main() -> None:
    options = parsed()
    os.environ["LOOPGRAD_CACHE"] = "0"  # first calls compile
    warnings.simplefilter("ignore")
    if options.program:
        sizes = dict(word.split("=") for word in options.rows)
        values = {n: float(v) if "." in v else int(v) for n, v in sizes.items()}
        name = options.program.rpartition(":")[2]
        rows = [Workload(f"{name} ({' '.join(options.rows)})", "", options.program, values)]
    else:
        rows = workloads.chosen(options.rows, options.layers)
    if "torch" in options.against:
        with contextlib.suppress(NoContender):
            libraries.need("torch")
    set_threads(options.threads)
    done: list[Row] = []
    start = time.time()
    for mode in MODES if options.mode == "all" else (options.mode,):
        if mode == "fair" and not machine.keep_pages():
            print("fair: this allocator cannot be told to keep its pages")
        for workload in rows:
            row = measure(workload, mode, options)
            done.append(row)
            show(row, options)
    summary(done)
    print(f"{time.time() - start:.0f} seconds")
    if options.json:
        Path(options.json).write_text(json.dumps([as_json(row) for row in done], indent=1))


if __name__ == "__main__":
    main()
