"""The list of passes, the warnings, and what is kept with a program."""

from __future__ import annotations

import threading
import warnings
from pathlib import Path

import pytest

import loopgrad as lg
from loopgrad.ir import memo
from loopgrad.pipeline import BACKENDS, PASSES, compile_returning, verify


def test_the_passes_in_their_order() -> None:
    assert [p.name for p in PASSES] == ["unfold", "infer", "validate"]
    assert all(p.description for p in PASSES)


def test_check_returns_the_program_or_raises_with_the_place() -> None:
    program = lg.program("f(x[N]) -> y[N]:\n    y[n] = x[n]")
    assert verify(program) is program
    with pytest.raises(lg.ProgramError) as caught:
        lg.program("f(x[N]) -> y[N]:\n    y[n] = x[n+1]")
    assert caught.value.line == 2


UNUSED = [
    ("f(x[N], z[M]) -> y[N]:\n    y[n] = x[n]", "input `z` is never used", (1, 9)),
    ("f(x[N], size K) -> y[N]:\n    y[n] = x[n]", "size `K` is never used", (1, 9)),
    ("f(x[N], eps = 1.0) -> y[N]:\n    y[n] = x[n]", "constant `eps` is never used", (1, 9)),
    (
        "f(x[N]) -> y[N]:\n    y[n] = x[n]\n    z[n] = x[n]",
        "tensor `z` is computed and never read",
        (3, 5),
    ),
    ("f(x[N], z[N]) -> y[N]:\n    y[n] = x[n]", "input `z` is never used", (1, 9)),
]


@pytest.mark.parametrize(("text", "words", "place"), UNUSED)
def test_what_is_not_used_is_a_warning_at_its_place(
    text: str, words: str, place: tuple[int, int]
) -> None:
    with pytest.warns(lg.ProgramWarning, match=words) as caught:
        program = lg.program(text)
    assert len(caught) == 1
    assert Path(caught[0].filename) == Path(__file__)
    assert f"<text>:{place[0]}:{place[1]}" in str(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        verify(program)  # once is enough


@pytest.mark.parametrize(
    "text",
    [
        "ones(x[N]) -> y[N]:\n    y[n] = 1",  # of use by its shape
        "f(x[N], k[D], g[N-D]) -> y[N]:\n    y[n] = x[n]\n    z += g[0]\n    y[0] += z",
        "f(x[N], s = 2) -> y[N//s]:\n    for i < N//s:  y[i] = x[i]",
        "f(x[N], int w[M]) -> y[N]:\n    for n, m:  y[w[m]] += x[n]   if n == 0",
        "f(x[N], int t) -> y:\n    for n < t:  y += x[n]",
        "f(x[N]) -> y:\n    z = sum[n](x[n])\n    y = 2 * z",
    ],
)
def test_what_is_used_in_any_way_is_no_warning(text: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lg.program(text)


def test_derived_programs_are_not_warned_of() -> None:
    affine = lg.program("affine(x[N], c[N]) -> y[N]:\n    y[n] = 2 * x[n] + c[n]")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lg.program(str(affine.backward(recompute=True)))
        lg.program(str(affine.forward_mode()))


def test_threads_that_ask_for_one_kernel_share_it() -> None:
    program = lg.program("shared(x[N]) -> y[N]:\n    y[n] = 3 * x[n]")
    together, kernels = threading.Barrier(8), []

    def ask() -> None:
        together.wait()
        kernels.append(lg.compile(program))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(kernels) == 8
    assert len({id(k) for k in kernels}) == 1


def test_a_text_given_again_has_its_kernel_already() -> None:
    text = "again(x) -> y:\n    y = 3 * x"
    assert lg.compile(text) is lg.compile(text)


def test_further_tensors_are_returned_without_their_being_checked_as_results() -> None:
    text = "f(x[T]) -> L:\n    for t < T-1:  d[t] = x[t+1]\n    for t < T-1:  L += d[t]"
    widened = compile_returning(lg.program(text), ["L"], ["d"])
    total, d = widened([1.0, 2.0, 3.0])
    assert (total, d.tolist()) == (5, [2, 3])
    assert widened([])[1].shape == (0,)


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_backend_is_there(backend: str) -> None:
    assert lg.compile("f(x) -> y:\n    y = 3 * x", backend=backend)(2.0) == 6


def test_answers_kept_by_identity() -> None:
    """Equal records are asked about each for itself, and no more are kept than a few thousand."""
    asked = list[list[int]]()

    @memo.by_identity
    def total(record: list[int]) -> int:
        asked.append(record)
        return sum(record)

    first, second = [1, 2], [1, 2]
    assert [total(first), total(second), total(first)] == [3, 3, 3]
    assert len(asked) == 2
    many = [[n] for n in range(memo.MOST_RECORDS + 1)]
    assert [total(one) for one in many] == [n for [n] in many]
    assert total(first) == 3
