"""The formulas, against what they come to level by level, at sizes that they were not made from."""

from __future__ import annotations

import itertools

import pytest
import sympy
from hypothesis import HealthCheck, given, settings

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.cost.levels import levels
from tests.cost.programs import SIZES, all_programs, each, sized
from tests.effort import EFFORT, sample
from tests.strategies import CARRIED, STEPS, Drawn, programs

PROGRAMS = all_programs()
LIBRARY = [(name, p) for name, p in PROGRAMS.items() if name.startswith("lib.")]
LARGER = {"B": 5, "J": 9, "T": 8, "K": 6, "X": 10, "Y": 9, "DX": 3, "DY": 2, "N": 8, "M": 5, "I": 7}
CASES = [SIZES[0], LARGER, {"T": 2, "N": 2, "X": 9, "Y": 9, "DX": 2, "DY": 2}]

usual = settings(max_examples=15 * EFFORT, deadline=None, suppress_health_check=list(HealthCheck))


def check(program: lg.Program, bases: list[dict[str, int]]) -> None:
    cost = lg.analyze(program)
    facts = infer(program)
    for base in bases:
        sizes = sized(facts, base)
        at = cost.at(**{n: int(v) for n, v in sizes.items() if n in facts.extents})
        try:
            found = levels(facts, sizes)
        except ValueError:
            assert cost.work == sympy.oo
            continue
        assert at.work >= found.work
        if "work" in cost.exact:
            assert at.work == found.work
        assert at.sequential_span >= found.span
        if "sequential_span" in cost.exact:
            assert at.sequential_span == found.span
        assert at.span <= at.sequential_span


@pytest.mark.parametrize("name", sample(list(PROGRAMS), 20))
def test_formulas_come_to_the_graph(name: str) -> None:
    for program in each(PROGRAMS[name]):
        check(program, CASES)


def test_most_formulas_are_exact() -> None:
    """Upper bounds are the exception: what hangs on data, and borders."""
    costs = [lg.analyze(p) for name, p in sample(LIBRARY, 8)]
    found = [cost.exact for cost in costs]
    assert sum("sequential_span" in exact for exact in found) >= 0.8 * len(found)
    cut = "loops that data may cut short"
    assert all("work" in cost.exact or cost.reasons[0].startswith(cut) for cost in costs)


@usual
@pytest.mark.filterwarnings("ignore::loopgrad.ProgramWarning")
@given(programs(among=[*STEPS, *CARRIED]))
def test_formulas_of_drawn_programs(drawn: Drawn) -> None:
    check(lg.program(drawn.text), [drawn.sizes, {"B": 7, "J": 6, "K": 5}, {"B": 2, "J": 9, "K": 8}])


# --------------------------------------------------------------------------------------- by hand

BY_HAND = {
    "a product of matrices": (
        "f(A[I,K], B[K,J]) -> C[I,J]:\n    for i, j, k:  C[i,j] += A[i,k] * B[k,j]",
        "2*I*J*K",
        "ceil(log2(K)) + 2",
    ),
    "a triangle": (
        "f(q[T,T]) -> o[T]:\n    for t, u <= t:  o[t] += q[t,u]",
        "T**2/2 + T/2",
        "ceil(log2(T)) + 1",
    ),
    "nothing but copies": ("f(x[N]) -> y[N]:\n    for n:  y[n] = x[n]", "0", "0"),
    "numbers known beforehand": (
        "f(x[N]) -> y[N]:\n    for n:  y[n] = x[n] * (2 * n + N // 2) if n > 0 else x[n]",
        "N - 1",
        "Piecewise((1, N >= 2), (0, True))",
    ),
    "both branches, where data decide": (
        "f(x[N]) -> y[N]:\n    for n:  y[n] = exp(x[n]) if x[n] > 0 else sin(cos(x[n]))",
        "5*N",
        "3",
    ),
    "a recurrence": (
        "f(x[T]) -> h[T]:\n    for t:\n        h[t] = tanh(h[t-1] + x[t]) if t > 0 else x[t]",
        "2*T - 2",
        "2*T - 2",
    ),
    "two in a row, of which the second need not wait": (
        "f(x[T]) -> g[T]:\n"
        "    for t:\n        h[t] = tanh(h[t-1]) if t > 0 else x[t]\n"
        "    for t:\n        g[t] = tanh(g[t-1] + h[t]) if t > 0 else h[t]",
        "3*T - 3",
        "Piecewise((2*T - 1, T >= 2), (2*T - 2, True))",
    ),
    "two in a row, of which the second has to": (
        "f(x[T]) -> g[T]:\n"
        "    for t:\n        h[t] = tanh(h[t-1]) if t > 0 else x[t]\n"
        "    for t descending:\n        g[t] = tanh(g[t+1] + h[t]) if t < T - 1 else h[t]",
        "3*T - 3",
        "3*T - 3",
    ),
    "over two indices": (
        "f(x[N,M]) -> h[N,M]:\n"
        "    for i < N:\n"
        "        for j < M:\n"
        "            h[i,j] = x[i,j] + (tanh(h[i-1,j]) if i > 0 else 0) + (tanh(h[i,j-1]) if j > 0 else 0)",
        "4*M*N - M - N",
        None,
    ),
    "several statements into one": (
        "f(x[N], y[M]) -> s:\n    for n:  s += x[n]\n    for m:  s -= y[m]",
        "M + N",
        "Max(ceil(log2(M)) + 1, ceil(log2(N)) + 2)",
    ),
    "over the turns of a block": (
        "f(x[T]) -> s:\n    for t:\n        e[t] = exp(x[t])\n        s += e[t]",
        "2*T",
        "ceil(log2(T)) + 2",
    ),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_by_hand(name: str) -> None:
    text, work, span = BY_HAND[name]
    cost = lg.analyze(lg.program(text))
    assert str(cost.work) == work
    if span is not None:
        assert str(cost.sequential_span) == span and "sequential_span" in cost.exact
    check(
        lg.program(text),
        [{"T": t, "N": n, "M": m} for t, n, m in ((1, 2, 3), (6, 5, 1), (4, 9, 8))],
    )


# ----------------------------------------------------------------------------------- recurrences


def test_a_general_cell_is_linear_in_time() -> None:
    cost = lg.analyze(lg.lib.ugrnn)
    assert cost.span == cost.sequential_span and "span" in cost.exact
    sizes = {"B": 4, "J": 8, "J'": 8, "K": 5}
    spans = [cost.at(T=t, **sizes).span for t in (10, 20, 40)]
    assert spans[2] - spans[1] == 2 * (spans[1] - spans[0]) == 20 * 11
    [carried] = cost.recurrences
    assert not carried.linear
    assert carried.reads == (
        "h[t,b,j] reads G[t,b,j] reads Ga[t,b,j] reads hp[t,b,j'] reads h[t-1,b,j']"
    )


LINEAR = {
    "elementwise": "linear_recurrence",
    "a running sum": (
        "f(x[T,J]) -> h[T,J]:\n    for t:\n        for j:  h[t,j] = x[t,j] + (h[t-1,j] if t > 0 else 0)"
    ),
    "minGRU": (
        "f(x[T,K], Wz[J,K], Wh[J,K]) -> h[T,J]:\n"
        "    for t:\n"
        "        for j, k:  za[t,j] += Wz[j,k] * x[t,k]\n"
        "        for j, k:  n[t,j] += Wh[j,k] * x[t,k]\n"
        "        for j:  z[t,j] = sigmoid(za[t,j])\n"
        "        for j:  h[t,j] = z[t,j] * n[t,j] + ((1 - z[t,j]) * h[t-1,j] if t > 0 else 0)"
    ),
    "by a matrix": (
        "f(x[T,J], A[J,J]) -> h[T,J]:\n"
        "    for t:\n"
        "        for j:  h[t,j] += x[t,j]\n"
        "        for j, i:  h[t,j] += A[j,i] * h[t-1,i]   if t > 0"
    ),
}


@pytest.mark.parametrize("name", LINEAR)
def test_a_recurrence_that_is_linear_takes_a_logarithm(name: str) -> None:
    text = LINEAR[name]
    program = lg.program(text) if "(" in text else getattr(lg.lib, text)
    cost = lg.analyze(program)
    assert all(one.linear for one in cost.recurrences)
    sizes = {n: 6 for n in infer(program).extents if n != "T"}
    spans = [cost.at(T=2**k, **sizes).span for k in (10, 11, 12, 13)]
    steps = [b - a for a, b in itertools.pairwise(spans)]
    assert len(set(steps)) == 1 and 0 < steps[0] < 20
    assert cost.at(T=2**13, **sizes).sequential_span >= 2**13
    T = sympy.Symbol("T", integer=True, positive=True)
    assert T in cost.span.free_symbols and "span" not in cost.exact


def test_a_scan_drawn_by_hand() -> None:
    """`h = a h' + b`: as many rounds as a tree over the turns has, two operations each, and the sum."""
    program = lg.lib.linear_recurrence

    def drawn(turns: int) -> int:
        """The depth of the last state: pairs (a, b) are put together, neighbours first."""
        row = [(0, 1)] * turns  # the depths of a and of b, whose `+=` is one operation
        while len(row) > 1:
            put = []
            for i in range(0, len(row) - 1, 2):
                (a, b), (c, d) = row[i], row[i + 1]
                put.append((max(a, c) + 1, max(max(c, b) + 1, d) + 1))
            row = put + row[len(put) * 2 :]
        return row[0][1]

    cost = lg.analyze(program)
    for turns in (1, 2, 3, 4, 7, 8, 9, 100):
        at = cost.at(T=turns, B=2, J=3)
        assert at.span == min(drawn(turns), at.sequential_span)


# ------------------------------------------------------------------------------------- the object


def test_bytes_and_memory() -> None:
    cost = lg.analyze(lg.lib.softmax)
    assert str(cost.bytes) == "8*B*J"  # read s, write p
    assert str(cost.memory) == "8*B*J + 4*B"  # and Z
    assert str(cost.literal_bytes) == "28*B*J"
    assert str(cost.intensity) == "5/8"
    assert str(lg.analyze(lg.lib.softmax, "float64").bytes) == "16*B*J"
    embedding = lg.analyze(lg.lib.embedding)
    assert embedding.at(V=10, K=4, B=2, T=3).bytes == 4 * 10 * 4 + 8 * 2 * 3 + 4 * 2 * 3 * 4


def test_temporaries_are_held_from_first_to_last_use() -> None:
    text = (
        "f(x[N]) -> y[N]:\n    for n:  a[n] = 2 * x[n]\n    for n:  b[n] = 2 * a[n]\n"
        "    for n:  c[n] = 2 * b[n]\n    for n:  y[n] = 2 * c[n]"
    )
    assert str(lg.analyze(lg.program(text)).memory) == "16*N"  # x, y and two of the three


def test_printed() -> None:
    cost = lg.analyze(lg.lib.softmax)
    assert str(cost) == (
        "softmax:\n"
        "    work           5*B*J\n"
        "    span           ceil(log2(J)) + 4\n"
        "    bytes          8*B*J\n"
        "    literal bytes  28*B*J\n"
        "    memory         8*B*J + 4*B"
    )
    latex = cost._repr_latex_()
    assert r"\text{span} &= \left\lceil \log_2 J \right\rceil + 4" in latex
    assert latex.count(r"\begin{aligned}") == latex.count(r"\end{aligned}") == 1
    assert str(lg.analyze(lg.lib.linear_recurrence)).splitlines()[2:4] == [
        "    span             at most 2*ceil(log2(T)) + 1",
        "    sequential span  2*T - 1",
    ]


def test_at() -> None:
    cost = lg.analyze(lg.lib.softmax)
    at = cost.at(B=64, J=1000)
    assert (at.work, at.span, at["bytes"]) == (320_000, 14, 512_000)
    assert at.parallelism == 320_000 / 14
    assert repr(at).startswith("work = 320,000, span = 14")
    assert cost.at(B=0, J=7).work == cost.at(B=0, J=7).span == 0
    assert cost.at(B=1, J=1).span == 4
    assert {str(s) for s in cost.work.free_symbols} == {"B", "J"}
    with pytest.raises(AttributeError):
        _ = at.nothing


@pytest.mark.parametrize(
    "sizes, error, words",
    [
        ({"B": 2}, ValueError, "softmax: `J` is not given"),
        ({"B": 2, "J": -1}, ValueError, "J: a size is 0 or more, got -1"),
        ({"B": 2, "J": 1.5}, TypeError, "J: a size is an integer, got 1.5"),
        ({"B": 2, "J": True}, TypeError, "J: a size is an integer, got True"),
        ({"B": 2, "J": 1, "K": 1}, TypeError, "softmax has no extent `K`: "),
    ],
)
def test_sizes_that_are_none(sizes: dict[str, object], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        lg.analyze(lg.lib.softmax).at(**sizes)  # type: ignore[arg-type]


def test_what_cannot_be_analysed() -> None:
    with pytest.raises(TypeError, match="program: a loopgrad program is needed, got str"):
        lg.analyze("softmax")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="dtype: 'float16'"):
        lg.analyze(lg.lib.softmax, "float16")


@pytest.mark.parametrize(
    "condition", ["s > 0.2", "sigmoid(n) > 0.6", "(n > 2) * 2 == 2", "n / 2 < 1"]
)
def test_conditions_that_formulas_are_not_about(condition: str) -> None:
    """Real numbers, and truths as numbers: no chain is lost."""
    text = f"f(x[N], s=0.5) -> y[N]:\n    for n:  y[n] = x[n] * s if {condition} else x[n]"
    program = lg.program(text)
    cost = lg.analyze(program)
    assert cost.span == 1 and "span" not in cost.exact
    check(program, [{"N": n} for n in (1, 2, 5, 9)])


def test_upper_bounds_say_so() -> None:
    """What hangs on data, and what is not followed, is never printed as exact."""
    ragged = lg.analyze(
        lg.program("f(x[B,J], int n[B]) -> s[B]:\n    for b, j < n[b]:  s[b] += x[b,j]")
    )
    assert {"work", "span", "sequential_span"}.isdisjoint(ragged.exact)
    assert "work" in str(ragged) and "at most B*J" in str(ragged)
    assert "loops that data may cut short run in full" in ragged.reasons[0]
    tree = lg.analyze(PROGRAMS["corpus.tree_sum"])
    assert "sequential_span" not in tree.exact
    assert tree.reasons[0].startswith("every turn waits for the one before: ")
