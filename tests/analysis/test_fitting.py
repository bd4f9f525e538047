"""What index tensors have to lie between, from the program's own subscripts, ranges and conditions."""

from __future__ import annotations

from decimal import localcontext
from math import inf

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.analysis.fitting import Fitting, Interval
from loopgrad.analysis.infer import infer
from loopgrad.simplify.certifying.sampling import Inputs, World
from loopgrad.simplify.numbers.decimals import CONTEXT
from loopgrad.simplify.numbers.lines import Lines
from loopgrad.stable.cases import draw

SIZES = {"B": 3, "T": 5, "S": 4, "C": 7, "N": 11, "D": 2}

ASKED = {
    "a gather": ("f(x[T], int k[B]) -> y[B]:\n    for b:  y[b] = x[k[b]]", (0, 4)),
    "a scatter": ("f(x[B], int k[B], size T) -> y[T]:\n    for b:  y[k[b]] += x[b]", (0, 4)),
    "a length, at least 1": ("f(x[T], int k[B]) -> y[B]:\n    for b:  y[b] = x[k[b]-1]", (1, 5)),
    "twice": ("f(x[2*T+1], int k[B], size T) -> y[B]:\n    for b:  y[b] = x[2*k[b]]", (0, 5)),
    "halves": ("f(x[T], int k[B]) -> y[B]:\n    for b:  y[b] = x[k[b]//2]", (0, 9)),
    "from the end": ("f(x[T], int k[B]) -> y[B]:\n    for b:  y[b] = x[T-k[b]]", (1, 5)),
    "a window": (
        "f(x[T], int k[B]) -> y[B]:\n    for b, d < 2:  y[b] += x[k[b]+d]",
        (0, 3),
    ),
    "a length as the end of a range": (
        "f(x[B,T], int k[B]) -> y[B]:\n    for b, t < k[b]:  y[b] += x[b,t]",
        (-inf, 5),
    ),
    "a start": (
        "f(x[T], int k[B]) -> y[B]:\n    for b, k[b] <= t < T:  y[b] += x[t]",
        (0, inf),
    ),
    "a guard": (
        "f(x[T], int k[B]) -> y[B]:\n    for b:  y[b] = x[k[b]-1]   if k[b] > 0",
        (-inf, 5),
    ),
    "a conditional, and the bound that it leaves": (
        "f(x[T], int k[B]) -> y[B]:\n    for b:  y[b] = x[k[b]] if k[b] < T else 0",
        (0, inf),
    ),
    "a conditional the other way round": (
        "f(x[T], int k[B]) -> y[B]:\n    for b:  y[b] = 0 if k[b] < 0 or k[b] >= T else x[k[b]]",
        None,
    ),
    "of another tensor": (
        "f(x[C], int k[B]) -> y[B]:\n    local int l[B]\n    for b:  l[b] = 1 if b % 2 == 0 else k[b] + 1\n"
        "    for b:  y[b] = x[l[b]]",
        (-1, 5),
    ),
    "the least of two": ("f(x[T], int k[B]) -> y[B]:\n    for b:  y[b] = x[min(k[b], T-1)]", (0, inf)),
    "nothing": ("f(x[B], int k[B]) -> y[B]:\n    for b:  y[b] = k[b] * x[b]", None),
    "a constant": (
        "f(x[T], int k[B], first = 2) -> y[B]:\n    for b:  y[b] = x[k[b]-first]",
        (2, 6),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ASKED)
def test_asked(name: str) -> None:
    text, expected = ASKED[name]
    facts = infer(lg.program(text))
    found = Fitting(facts).interval("k", {**SIZES, "first": 2}, {})
    assert found == (None if expected is None else Interval(*expected))


def test_offsets_leave_room_for_lengths() -> None:
    """Of two that are added, the second is asked what the first leaves over."""
    text = (
        "f(x[N], int start[B], int length[B]) -> y[B]:\n"
        "    for b, t < length[b]:  y[b] += x[start[b]+t]"
    )
    fitting = Fitting(infer(lg.program(text)))
    assert fitting.interval("start", SIZES, {}) == Interval(0, 10)
    assert fitting.interval("length", SIZES, {"start": Interval(2, 7)}) == Interval(-inf, 4)


def test_what_the_second_program_asks_counts_where_the_first_asks_nothing() -> None:
    one_hot = infer(
        lg.program("f(x[B,C], int k[B]) -> y[B]:\n    for b, c:  y[b] += x[b,c]   if c == k[b]")
    )
    gather = infer(lg.program("f(x[B,C], int k[B]) -> y[B]:\n    for b:  y[b] = x[b,k[b]]"))
    beyond = infer(lg.program("f(x[B,C], int k[B]) -> y[B]:\n    for b:  y[b] = x[b,k[b]+1]"))

    def asked(*programs: object) -> Interval | None:
        return Inputs(programs, second=1).interval("k", [SIZES, SIZES], {}, {})  # type: ignore[arg-type]

    assert asked(one_hot, gather) == Interval(0, 6)
    assert asked(gather, beyond) == Interval(
        0, 6
    )  # it is out of range there, and that is its fault
    assert not lg.equal(gather.program, beyond.program)


PACKED = """
packed(x[N,D], int start[B], int length[B], int label[N]) -> y[B], q[N]:
    for b, t < length[b], d:  y[b] += x[start[b]+t,d]
    for n:  q[n] = x[n,label[n]]
"""


def test_inputs_of_the_gate_run() -> None:
    """Lengths of sequences, their places in one array, labels: with most draws something is summed."""
    facts, rng = infer(lg.program(PACKED)), np.random.default_rng(3)
    sums = 0
    for _ in range(10):
        case = draw(facts, rng)
        assert case is not None
        sums += int((np.asarray(case.inputs["length"]) > 0).any())
    assert sums > 5


@pytest.mark.parametrize("name", ["ctc_loss", "crf_loss_packed", "crf_loss"])
def test_losses_over_lattices(name: str) -> None:
    forward = getattr(lg.lib, name)
    for program in (forward, forward.backward()):
        facts, rng = infer(program), np.random.default_rng(1)
        with localcontext(CONTEXT), np.errstate(all="ignore"):
            assert all(draw(facts, rng) is not None for _ in range(4))


def test_numbers_beside_the_range_are_tried_where_the_program_compares_with_them() -> None:
    text = (
        "f(x[C], int k[B], ignore = -100) -> y[B]:\n    for b:  y[b] = x[k[b]]   if k[b] != ignore"
    )
    facts = infer(lg.program(text))
    drawn = Inputs([facts]).in_worlds(
        "k", 0, [{"B": 40, "C": 7}], {"ignore": -100}, Lines(None), np.random.default_rng(0),
        [World("signed")], 0, {},
    )  # fmt: skip
    values = set(np.asarray(drawn).ravel().tolist())
    assert -100 in values and values - {-100} <= set(range(7))
