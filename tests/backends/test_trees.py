"""Code for trees of marked loops, made by hand, gives what the interpreter gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.backends.kernel import Kernel, Task
from loopgrad.backends.llvm import LLVMBackend
from loopgrad.backends.llvm.compiling.machine import this_machine
from loopgrad.ir import walk
from loopgrad.ir.nodes import Accumulate, Expression, Extent, Index, Number, Read
from loopgrad.ir.operations import ElementType
from loopgrad.schedule import Scheduled, default
from loopgrad.schedule.tree import (
    Axis,
    Blocks,
    Buffer,
    Dimension,
    Fused,
    Mark,
    Node,
    Over,
    Product,
    Scope,
    Step,
    block_from,
    block_to,
)

FLOAT, INT = ElementType.FLOAT, ElementType.INT
PARALLEL, VECTOR = Mark.PARALLEL, Mark.VECTOR
MUCH = Number(10**9)  # nanoseconds: worth all threads
LENGTHS = (0, 1, 15, 16, 17, 33, 64, 65)

Given = dict[str, Any]


# ------------------------------------------------------------------------------------ making trees


def over(index: str, *body: Node, mark: Mark = Mark.SEQUENTIAL, **more: Any) -> Over:
    """Over the whole extent of the same letter, where no bounds are given."""
    lower = more.pop("lower", Number(0))
    upper = more.pop("upper", Extent(index.upper()))
    return Over(index, lower, upper, body, mark, **more)


def lanes(index: str, *body: Node, **more: Any) -> Over:
    return over(index, *body, mark=VECTOR, **more)


def threads(index: str, *body: Node) -> Over:
    return over(index, *body, mark=PARALLEL)


def row(tensor: str, position: int, extent: str) -> Buffer:
    return Buffer(tensor, FLOAT, Scope.ROW, (Axis(position, Extent(extent)),))


def register(tensor: str, lanes: bool = False, element: ElementType = FLOAT) -> Buffer:
    return Buffer(tensor, element, Scope.REGISTER, lanes=lanes)


def partial(tensor: str, *extents: str, first: bool = True) -> Buffer:
    axes = tuple(Axis(i, Extent(extent)) for i, extent in enumerate(extents))
    return Buffer(tensor, FLOAT, Scope.PARTIAL, axes, first=first)


class Tree:
    """A program and its schedule: `phases` gets a step for each statement."""

    def __init__(
        self,
        text: str,
        phases: Callable[..., Any],
        *buffers: Buffer,
        started: str = "",
        requires: tuple[Expression, ...] = (),
    ):
        self.program = lg.program(text)
        self.kernel = lg.compile(self.program)  # optimised: its task is what is taken of it
        facts, safety = self.kernel.task.facts, self.kernel.task.safety
        statements = [s for _, s in walk.accumulates(facts.program.statements)]
        made = phases(*(Step(replace(s, ranges=())) for s in statements))
        if not isinstance(made, tuple):
            made = (made,)
        phase = Fused(made, buffers, MUCH)
        self.scheduled = Scheduled(
            facts, safety, (phase,), dict(facts.tensors), frozenset(started.split()), requires
        )

    @contextmanager
    def compiled(self) -> Iterator[Kernel]:
        task = Task(self.scheduled.facts, self.scheduled.safety, True)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LOOPGRAD_CACHE", "0")  # which knows programs, not their schedules
            patch.setattr(default, "optimized", lambda *_: self.scheduled)
            yield Kernel(task, LLVMBackend().prepare(task))

    def check(self, given: Given, number: int, rtol: float) -> None:
        reference = lg.compile(self.program, backend="interpret")
        wanted = reference(**{k: widened(v) for k, v in given.items()})
        before = lg.get_num_threads()
        lg.set_num_threads(number)
        try:
            with self.compiled() as kernel:
                found = kernel(**given)
        finally:
            lg.set_num_threads(before)
        several = isinstance(found, tuple)
        for f, w in zip(
            found if several else (found,), wanted if several else (wanted,), strict=True
        ):
            np.testing.assert_allclose(f, w, rtol=rtol, atol=rtol)


def widened(value: Any) -> Any:
    floating = isinstance(value, np.ndarray) and value.dtype == np.float32
    return value.astype(np.float64) if floating else value


def first(step: Step) -> Step:
    return replace(step, first=True)


def unproved(step: Step, *reads: Read) -> Step:
    return replace(step, unproved=reads)


def read(tensor: str, *subscripts: Expression | str) -> Read:
    return Read(tensor, tuple(Index(s) if isinstance(s, str) else s for s in subscripts))


SOFTMAX = """softmax(x[B,J]) -> p[B,J]:
    for b, j:  m[b]   max= x[b,j]
    for b, j:  e[b,j] = exp(x[b,j] - m[b])
    for b, j:  Z[b]   += e[b,j]
    for b, j:  p[b,j] = e[b,j] / Z[b]"""

TREES: dict[str, Callable[[], Tree]] = {
    "softmax in one nest": lambda: Tree(
        SOFTMAX,
        lambda m, e, z, p: threads(
            "b", lanes("j", first(m)), lanes("j", e, first(z)), lanes("j", p)
        ),
        register("m"),
        row("e", 1, "J"),
        register("Z"),
        started="p",
    ),
    "values in lanes, used at once": lambda: Tree(
        """f(x[B,J], w[J]) -> y[B,J], z[B,J]:
            for b, j:  t[b,j] = tanh(x[b,j]) * w[j]
            for b, j:  y[b,j] = t[b,j] + 1
            for b, j:  z[b,j] += t[b,j] * y[b,j] - t[b,j]""",
        lambda t, y, z: threads("b", lanes("j", t, y, first(z))),
        register("t", lanes=True),
        started="y z",
    ),
    "sums down columns": lambda: Tree(
        """f(x[B,J]) -> s[J], n[J], u[J], l[J]:
            for b, j:  s[j] += x[b,j]
            for b, j:  n[j] -= x[b,j] * x[b,j]
            for b, j:  u[j] max= x[b,j]
            for b, j:  l[j] *= 1 + x[b,j] / 8""",
        lambda s, n, u, l: threads("b", lanes("j", s, n, u, l)),
        *(partial(t, "J") for t in "snul"),
        started="s n u l",
    ),
    "sums down columns, onto what is there": lambda: Tree(
        """f(x[B,J]) -> s[J]:
            for j:     s[j] = j + 0.5
            for b, j:  s[j] += x[b,j]""",
        lambda s, t: (lanes("j", s), over("b", lanes("j", t))),
        started="s",
    ),
    "a loss": lambda: Tree(
        """f(x[B,J]) -> loss, most:
            for b, j:  loss += x[b,j] ** 2
            for b, j:  most max= x[b,j]""",
        lambda loss, most: threads("b", lanes("j", loss, most)),
        partial("loss"),
        partial("most"),
        started="loss most",
    ),
    "one index for threads and lanes": lambda: Tree(
        "f(x[J]) -> s, y[J]:\n    for j:  s += x[j]\n    for j:  y[j] = x[j] * 2",
        lambda s, y: Blocks(
            "j",
            Number(0),
            Extent("J"),
            None,
            (lanes("j", s, y, lower=block_from("j"), upper=block_to("j")),),
            PARALLEL,
        ),
        partial("s"),
        started="s y",
    ),
    "blocks of rows": lambda: Tree(
        "f(x[B,J]) -> s[B], c[J]:\n"
        "    for b, j:  s[b] += x[b,j]\n    for b, j:  c[j] += x[b,j] * b",
        lambda s, c: Blocks(
            "b",
            Number(0),
            Extent("B"),
            2,
            (
                over("b", lanes("j", first(s)), lower=block_from("b"), upper=block_to("b")),
                over("b", lanes("j", c), lower=block_from("b"), upper=block_to("b")),
            ),
            PARALLEL,
        ),
        partial("c", "J"),
        started="s c",
    ),
    "a triangle": lambda: Tree(
        """f(x[J,J]) -> m[J], s[J], v[J,J]:
            for j, u <= j:  m[j]   max= x[j,u]
            for j, u <= j:  s[j]   += exp(x[j,u] - m[j])
            for j, u <= j:  v[u,j] += x[j,u] * s[j]""",
        lambda m, s, v: threads(
            "j", *(lanes("u", step, upper=_plus("j")) for step in (first(m), first(s), v))
        ),
        started="m s",
    ),
    "bounds that differ between lanes": lambda: Tree(
        """f(x[J,J], int n[J]) -> s[J], r:
            for j, u <= j:                             s[j] += x[u,j]
            for j, max(n[j], 0) <= u < J:              r += x[j,u]   if u > 2""",
        lambda s, r: (
            lanes("j", over("u", first(s), upper=_plus("j"))),
            lanes(
                "j",
                over("u", r, lower=walk.apply("max", read("n", "j"), Number(0)), upper=Extent("J")),
            ),
        ),
        started="s",
    ),
    "recurrences, up and down": lambda: Tree(
        """f(x[B,J], a) -> h[B,J], g[B,J]:
            for b:
                for j:  h[b,j] = x[b,j] + (a * h[b-1,j] if b > 0 else 0)
            for 0 <= b < B descending:
                for j:  g[b,j] = h[b,j] + (a * g[b+1,j] if b + 1 < B else 1)""",
        lambda h, g: (over("b", lanes("j", h)), over("b", lanes("j", g), descending=True)),
        started="h g",
    ),
    "a recurrence along the row": lambda: Tree(
        """f(x[B,J]) -> h[B,J]:
            for b, j:
                h[b,j] = x[b,j] + (h[b,j-1] / 2 if j > 0 else 0)""",
        lambda h: threads("b", over("j", h)),
        started="h",
    ),
    "strides": lambda: Tree(
        """f(x[J,J], z[2*J,3], k = 2) -> a[J,J], b[J], c[J], d[J], e[J,2], g[J], h[k*J+3]:
            for j, u < J:  a[j,u] = x[u,J-1-j] - x[J-1-u,j]
            for u < J:     b[J-1-u] = z[2*u,1] * z[2*u+1,2]
            for u < J:     c[u] = z[0,0] + z[2*J-1-u,u-u]
            for u < J:     d[u] = x[u,u] + x[J-1-u,u]
            for u < J:     e[u,1] = z[u,0]
            for u < J:     g[u] += x[0,u] - z[u*2,0]
            for u < J:     h[k*u+1] += z[u,2]""",
        lambda a, b, c, d, e, g, h: (
            over("j", lanes("u", a, upper=Extent("J"))),
            lanes("u", b, c, d, e, first(g), h, upper=Extent("J")),
        ),
        started="a b c d g",
    ),
    "lazy conditions and guards": lambda: Tree(
        """f(x[B,J], int w[B], bool k[J]) -> y[B,J], n[B], z[J], q[J], r[B,J]:
            for b, j:  y[b,j] = x[b,j-1] + x[b-1,j] if j > 0 and b > 0 else -x[b,j]
            for b, j:  n[b]   += x[b,j] / w[b]   if k[j] and w[b] != 0
            for b, j:  z[j-1] += x[b,j]          if 0 < j
            for b, j:  q[j]   -= w[b] * j        if x[b,j] > 0 or k[j]
            for b, j:  r[b,j] += x[w[b],j] if 0 <= w[b] < B else sqrt(abs(x[b,j]))   if b != 1""",
        lambda y, n, z, q, r: over("b", lanes("j", y, first(n), z, q, first(r))),
        started="y n r",
    ),
    "integers": lambda: Tree(
        """f(x[B,J], int w[B]) -> c[B], f[B], y[B,J], v[B,J]:
            local int c[B], int f[B]
            for b, j:  c[b] += 1     if x[b,j] > 0
            for b, j:  f[b] min= j   if x[b,j] > 0
            for b, j:  y[b,j] = (j // 3 - w[b] % 5) * abs(j - w[b]) + sign(w[b]) + (b * j) ** 2
            for b, j:  v[b,j] = floor(x[b,j] * 8) + max(w[b], j) / 2""",
        lambda c, f, y, v: threads("b", lanes("j", first(c), first(f), y, v)),
        started="c f y v",
    ),
    "gathers and scatters": lambda: Tree(
        """f(x[B,J], int w[B], int i[J]) -> g[B,J], t[B,J], h[B,J], s[B]:
            for b, j:  g[b,j] = x[w[b],j]
            for b, j:  t[b,j] = x[b,i[j]]
            for b, j:  h[w[b],j] += x[b,j]
            for b, j:  s[i[j] % B] += x[b,j]""",
        lambda g, t, h, s: over(
            "b",
            lanes(
                "j",
                unproved(g, read("x", read("w", "b"), "j")),
                unproved(t, read("x", "b", read("i", "j"))),
                unproved(h, read("h", read("w", "b"), "j")),
                unproved(s, read("s", walk.apply("%", read("i", "j"), Extent("B")))),
            ),
        ),
        started="g t",
    ),
    "a product": lambda: Tree(
        "f(x[B,J], W[J,B]) -> y[B,B], z[B,B]:\n"
        "    for b, c < B, j:  y[b,c] += x[b,j] * W[j,c]\n"
        "    for b, c < B, j:  z[b,c] -= x[b,j] * W[j,c]",
        lambda y, z: (
            Product(*_factors(y), *_dimensions("b", "c", "j"), first=True),
            Product(*_factors(z), *_dimensions("b", "c", "j"), negative=True),
        ),
        started="y",
    ),
}


def _plus(index: str) -> Expression:
    return walk.apply("+", Index(index), Number(1))


def _factors(step: Step) -> tuple[Read, Expression, Expression]:
    match step.statement:
        case Accumulate(target, _, value):
            left, right = walk.children(value)
            return target, left, right


def _dimensions(*indices: str) -> Iterator[tuple[Dimension, ...]]:
    for index in indices:
        extent = {"c": "B"}.get(index, index.upper())
        yield (Dimension(index, Number(0), Extent(extent)),)


def inputs(program: lg.Program, sizes: dict[str, int], dtype: Any) -> Given:
    rng = np.random.default_rng(sum(sizes.values()))
    given: Given = {}
    for argument in program.inputs:
        shape = tuple(_size(e, sizes) for e in argument.extents)
        match argument.kind:
            case "int":
                given[argument.name] = rng.integers(0, max(1, min(sizes.values())), shape)
            case "bool":
                given[argument.name] = rng.integers(0, 2, shape).astype(bool)
            case _:
                given[argument.name] = rng.normal(size=shape).astype(dtype)
    return given


def _size(extent: Expression, sizes: dict[str, int]) -> int:
    match extent:
        case Extent(name):
            return sizes[name]
        case Number(value):
            return int(value)
    return 2 * sizes["J"]  # the one formula above


@pytest.mark.parametrize("name", TREES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_as_the_interpreter(name: str, dtype: str) -> None:
    tree = TREES[name]()
    for i, length in enumerate(LENGTHS):
        sizes = {"B": 3 if i % 2 else 2, "J": length}
        if not length and "strides" in name:
            continue  # z[0,0] is not there
        given = inputs(tree.program, sizes, dtype)
        tree.check(given, 1 + i % 3, 1e-12 if dtype == "float64" else 2e-5)


@pytest.mark.parametrize("rows", [0, 1, 2, 5])
def test_more_threads_than_rows(rows: int) -> None:
    for name in ("softmax in one nest", "sums down columns", "a loss", "blocks of rows"):
        tree = TREES[name]()
        tree.check(inputs(tree.program, {"B": rows, "J": 5}, "float64"), 4, 1e-12)


def test_what_threads_have_added_goes_onto_what_is_there() -> None:
    tree = Tree(
        "f(x[B,J]) -> s[J]:\n    for j:  s[j] = j + 0.5\n    for b, j:  s[j] += x[b,j]",
        lambda s, t: (lanes("j", s),),
        started="s",
    )
    statement = [s for _, s in walk.accumulates(tree.scheduled.facts.program.statements)][1]
    added = threads("b", lanes("j", Step(replace(statement, ranges=()))))
    phase = Fused((added,), (partial("s", "J", first=False),), MUCH)
    tree.scheduled = replace(tree.scheduled, phases=(*tree.scheduled.phases, phase))
    for number in (1, 2, 3):
        tree.check(inputs(tree.program, {"B": 5, "J": 21}, "float64"), number, 1e-12)


def test_trees_beside_nests_as_they_are_written() -> None:
    tree = Tree(
        """f(x[B,J]) -> y[B,J], s[B], z[B,J]:
            for b, j:  y[b,j] = 2 * x[b,j]
            for b, j:  s[b] += y[b,j]
            for b, j:  z[b,j] = y[b,j] - s[b]""",
        lambda y, s, z: (over("b", lanes("j", first(s))),),
        started="y s",
    )
    literal = default.literal(tree.scheduled.facts, tree.scheduled.safety).phases
    tree.scheduled = replace(
        tree.scheduled, phases=(literal[0], *tree.scheduled.phases, literal[2])
    )
    tree.check(inputs(tree.program, {"B": 3, "J": 37}, "float32"), 2, 1e-5)


@pytest.mark.parametrize("bad", [-1, 3, 2**62])
def test_the_literal_code_says_what_is_out_of_range(bad: int) -> None:
    tree = TREES["gathers and scatters"]()
    for tensor, place in (("w", 1), ("i", 18)):
        given = inputs(tree.program, {"B": 3, "J": 19}, "float64")
        given["i"] %= 3
        given[tensor][place] = bad if tensor == "w" else bad + 16 * (bad > 0)
        with pytest.raises(IndexError) as wanted:
            lg.compile(tree.program, backend="interpret")(**given)
        with tree.compiled() as kernel, pytest.raises(IndexError) as found:
            kernel(**given)
        assert str(found.value) == str(wanted.value)


def test_a_requirement_that_is_not_met() -> None:
    few = walk.compare("<", Extent("J"), Number(20))
    wrong = Tree(  # the schedule is right for nothing, so that one sees whether it ran
        "f(x[J]) -> y[J]:\n    for j:  y[j] = x[j]",
        lambda y: lanes("j", y, upper=Number(0)),
        started="y",
        requires=(few,),
    )
    wrong.check({"x": np.arange(21.0)}, 1, 0)
    with wrong.compiled() as kernel:
        before = np.full(19, 7.0)
        assert (kernel(np.arange(19.0), out=before) == 7).all()


@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
def test_extremes_of_special_values(special: float) -> None:
    tree = Tree(
        "f(x[B,J]) -> u[B], l[B]:\n    for b, j:  u[b] max= x[b,j]\n    for b, j:  l[b] min= x[b,j]",
        lambda u, l: threads("b", lanes("j", first(u), first(l))),
        started="u l",
    )
    for place in (0, 17, 63, 64, 69):
        x = np.random.default_rng(0).normal(size=(3, 70))
        x[1, place] = special
        tree.check({"x": x}, 1, 0)


def test_rows_together() -> None:
    """What they add to is stored once for all of them."""
    tree = Tree(
        """f(x[B,J], w[B], int i[B]) -> y[B,J], s[J], n[J], q[J], g[J]:
            for b, j:  y[b,j] = x[b,j] * 2
            for b, j:  s[j] += x[b,j] * w[b]
            for b, j:  n[j] -= x[b,j]   if x[b,j] > 0
            for b, j:  n[j] += w[b]
            for b, j:  q[j] max= x[b,j]
            for b, j:  g[j] += x[i[b],j]""",
        lambda y, s, n, m, q, g: threads(
            "b", lanes("j", y, s, n, m, q, unproved(g, read("x", read("i", "b"), "j")))
        ),
        *(partial(t, "J") for t in "snqg"),
        started="y s n q g",
    )
    for rows in range(7):
        given = inputs(tree.program, {"B": rows, "J": 21}, "float64")
        tree.check(given, 1 + rows % 2, 1e-12)


def stores_of_all_lanes(lines: list[str], value: str) -> list[str]:
    """Those that are not alone in a block, as the pieces of the last lanes of a row are."""
    return [
        line
        for before, line in pairwise(lines)
        if f"store {value}" in line and not before.endswith(":")
    ]


def test_sums_of_rows_together_are_stored_once() -> None:
    tree = Tree(
        "f(x[B,J]) -> s[J]:\n    for b, j:  s[j] += x[b,j]",
        lambda s: threads("b", lanes("j", s)),
        partial("s", "J"),
        started="s",
    )
    with tree.compiled() as kernel:
        phase = kernel.runner.text("double").split("define internal void @phase0(")[1]
    vector = f"<{this_machine().vector_bytes // 8} x double>"
    lines = phase.split("\n}")[0].splitlines()
    whole = stores_of_all_lanes(lines, vector)
    loads = [line for line in lines if f"= load {vector}" in line]
    # Rows of four and single ones; two vectors at a time.
    assert (len(whole), len(loads)) == (2 + 2, 2 * 5 + 2 * 2)
    for rows in (3, 4, 9):
        tree.check(inputs(tree.program, {"B": rows, "J": 37}, "float64"), 2, 1e-12)


def test_rows_that_are_looked_up_are_stored_once_and_checked_each() -> None:
    bag = lg.program(
        """bag(E[V,J], int w[B,T]) -> y[B,J]:
            for b, t, j:  y[b,j] += E[w[b,t], j]"""
    )
    kernel, slow = lg.compile(bag), lg.compile(bag, backend="interpret")
    rng = np.random.default_rng(0)
    E = rng.normal(size=(5, 37))
    for rows in range(10):
        w = rng.integers(0, 5, (3, rows))
        np.testing.assert_allclose(kernel(E, w), slow(E, w), rtol=0, atol=1e-14)
        for place in range(rows):
            w[1, place] = 5
            with pytest.raises(IndexError) as wanted:
                slow(E, w)
            with pytest.raises(IndexError) as found:
                kernel(E, w)
            assert str(found.value) == str(wanted.value)
            w[1, place] = 4
    phase = kernel.runner.text("double").split("define internal void @phase0(")[1]
    vector = f"<{this_machine().vector_bytes // 8} x double>"
    lines = phase.split("\n}")[0].splitlines()
    loads = [line for line in lines if f"= load {vector}" in line]
    whole = stores_of_all_lanes(lines, f"{vector} %")
    # One row at a time loads two vectors for each that it stores.
    assert len(loads) > 2 * len(whole)
