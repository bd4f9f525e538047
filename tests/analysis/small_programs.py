"""Random small programs of affine loops, and what really happens when they run.

A program is drawn as plain data, written out in the notation for `validate`, and run here by a
few lines that know nothing of proofs: they watch each element as docs/decisions/0001 says.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from types import CodeType

from hypothesis import strategies as st

EXTENTS = {"x": ("N",), "w": ("N", "M"), "y": ("N",), "z": ("N", "M")}
RANGES = {
    "n": [("0", "N"), ("1", "N"), ("0", "N-1"), ("0", "N//2"), ("1", "N-1")],
    "m": [("0", "M"), ("1", "M"), ("0", "M-1")],
    "k": [("0", "N"), ("0", "n+1"), ("n+1", "N"), ("0", "n")],
}


@dataclass
class Line:
    """`for ranges: target op reads` with a guard; `reads` are (tensor, subscripts, condition)."""

    ranges: list[tuple[str, str, str]]
    target: tuple[str, tuple[str, ...]]
    op: str
    reads: list[tuple[str, tuple[str, ...], str | None]]
    guard: str | None

    def text(self, indent: str) -> list[str]:
        head = ", ".join(f"{lo} <= {i} < {up}" for i, lo, up in self.ranges)
        terms = [
            f"({tensor}[{','.join(subs)}] if {condition} else 0)"
            if condition
            else f"{tensor}[{','.join(subs)}]"
            for tensor, subs, condition in self.reads
        ]
        line = f"{self.target[0]}[{','.join(self.target[1])}] {self.op} {' + '.join(terms)}"
        line += f"  if {self.guard}" if self.guard else ""
        return [f"{indent}for {head}: {line}" if head else f"{indent}{line}"]


@dataclass
class Loop:
    """A block over one index."""

    index: tuple[str, str, str]
    descending: bool
    body: list[Line | Loop] = field(default_factory=list)

    def text(self, indent: str) -> list[str]:
        i, lower, upper = self.index
        falling = " descending" if self.descending else ""
        lines = [f"{indent}for {lower} <= {i} < {upper}{falling}:"]
        for inner in self.body:
            lines += inner.text(indent + "    ")
        return lines


def written(body: list[Line | Loop]) -> set[str]:
    return {
        name
        for item in body
        for name in (written(item.body) if isinstance(item, Loop) else {item.target[0]})
    }


def text_of(body: list[Line | Loop]) -> str:
    """The program's text; what no statement writes is an input."""
    results = written(body)
    inputs, outputs = (
        ", ".join(f"{t}[{','.join(e)}]" for t, e in EXTENTS.items() if (t in results) == computed)
        for computed in (False, True)
    )
    lines = [f"drawn({inputs}) -> {outputs}:"]
    for inner in body:
        lines += inner.text("    ")
    return "\n".join(lines)


# ------------------------------------------------------------------------------------------ running


@dataclass
class Watched:
    """What went wrong in a run: tensors out of order; (line, tensor, subscripts) outside."""

    disorder: set[str] = field(default_factory=set)
    outside: set[tuple[int, str, tuple[str, ...]]] = field(default_factory=set)


def run(body: list[Line | Loop], sizes: dict[str, int]) -> Watched:
    """Runs the program at these sizes and notes every rule that is broken."""
    watched = Watched()
    state: dict[tuple[str, tuple[int, ...]], int] = defaultdict(int)
    clock = count(1)
    numbers: dict[int, int] = {}

    def number(items: list[Line | Loop]) -> None:
        for item in items:
            numbers[id(item)] = len(numbers)
            if isinstance(item, Loop):
                number(item.body)

    number(body)

    def place(
        line: Line, tensor: str, subs: tuple[str, ...], at: dict[str, int]
    ) -> tuple[int, ...]:
        values = tuple(value_of(s, at) for s in subs)
        shape = [sizes[e] for e in EXTENTS[tensor]]
        if not all(0 <= v < extent for v, extent in zip(values, shape, strict=True)):
            watched.outside.add((numbers[id(line)], tensor, subs))
        return values

    def execute(
        line: Line, at: dict[str, int], now: int, ranges: list[tuple[str, str, str]]
    ) -> None:
        if ranges:
            (i, lower, upper), rest = ranges[0], ranges[1:]
            for value in range(value_of(lower, at), value_of(upper, at)):
                execute(line, {**at, i: value}, now, rest)
            return
        if line.guard and not value_of(line.guard, at):
            return
        for tensor, subs, condition in line.reads:
            if condition is None or value_of(condition, at):
                element = tensor, place(line, tensor, subs, at)
                if tensor in "yz":
                    if state[element] == now:
                        watched.disorder.add(tensor)
                    state[element] = -1
        tensor, subs = line.target
        element = tensor, place(line, tensor, subs, at)
        if state[element] == -1 or (line.op == "=" and state[element] != 0):
            watched.disorder.add(tensor)
        state[element] = now

    def go(items: list[Line | Loop], at: dict[str, int]) -> None:
        for item in items:
            if isinstance(item, Line):
                execute(item, at, next(clock), item.ranges)
                continue
            i, lower, upper = item.index
            turns = range(value_of(lower, at), value_of(upper, at))
            for value in reversed(turns) if item.descending else turns:
                go(item.body, {**at, i: value})

    with suppress(ZeroDivisionError):  # which ends the run
        go(body, dict(sizes))
    return watched


@cache
def compiled(text: str) -> CodeType:
    return compile(text, "<drawn>", "eval")


def value_of(text: str, at: dict[str, int]) -> int:
    return int(eval(compiled(text), {}, at))


# ------------------------------------------------------------------------------------------ drawing


def subscripts(axis: str, indices: list[str]) -> st.SearchStrategy[str]:
    """Something to put on an axis of extent N or M, mostly an index that fits."""
    fitting = [i for i in indices if (i == "m") == (axis == "M")]
    simple = [*fitting, *fitting, *fitting, "0"]
    for i in indices:
        simple += [f"{i}-1", f"{i}+1", f"{axis}-1-{i}", f"{i}//2", f"({i}+1)%{axis}", i]
        simple += [f"2*{i}", f"min({i}+1,{axis}-1)", f"max({i}-1,0)"]
    return st.sampled_from(simple)


def conditions(indices: list[str]) -> st.SearchStrategy[str | None]:
    found: list[str | None] = [None, None]
    for i in indices:
        extent = "M" if i == "m" else "N"
        found += [f"{i} > 0", f"{i} < {extent}-1", f"{i} == 0", f"{i} % 2 == 0", f"not {i} == 0"]
        found += [f"{i} > 0 and {i} < {extent}-1", f"{i} == 0 or {i} == 1", f"0 < {i} < {extent}"]
        found += [f"{i} < {j}" for j in indices if j != i]
        found += [f"{i} == {j}" for j in indices if j != i]
    return st.sampled_from(found)


@st.composite
def lines(draw: st.DrawFn, outer: list[str]) -> Line:
    ranges: list[tuple[str, str, str]] = []
    scope = list(outer)
    for i in ("n", "m", "k"):
        if i not in scope and draw(st.booleans()):
            options = [r for r in RANGES[i] if i != "k" or "n" in scope or "n" not in "".join(r)]
            ranges.append((i, *draw(st.sampled_from(options))))
            scope.append(i)

    def access(tensors: str) -> tuple[str, tuple[str, ...]]:
        tensor = draw(st.sampled_from(tensors))
        return tensor, tuple(draw(subscripts(axis, scope)) for axis in EXTENTS[tensor])

    target = access("yz")
    reads = [(*access("xwyyzz"), draw(conditions(scope))) for _ in range(draw(st.integers(1, 2)))]
    op = draw(st.sampled_from(["=", "=", "+="]))
    return Line(ranges, target, op, reads, draw(conditions(scope)))


@st.composite
def bodies(draw: st.DrawFn, outer: tuple[str, ...] = (), depth: int = 0) -> list[Line | Loop]:
    body: list[Line | Loop] = []
    for _ in range(draw(st.integers(1, 3 if depth == 0 else 2))):
        free = [i for i in ("n", "m") if i not in outer]
        if depth < 2 and free and draw(st.booleans()):
            i = draw(st.sampled_from(free))
            loop = Loop((i, *draw(st.sampled_from(RANGES[i]))), draw(st.booleans()))
            loop.body = draw(bodies((*outer, i), depth + 1))
            body.append(loop)
        else:
            body.append(draw(lines(list(outer))))
    return body
