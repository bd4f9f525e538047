"""Calls that a kernel knows from before: quick, and otherwise like any other."""

from __future__ import annotations

import gc
import pickle
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import loopgrad as lg
from loopgrad.backends import recycling
from loopgrad.backends.kernel import Kernel
from loopgrad.backends.llvm.calling import calls, python_api

pytestmark = pytest.mark.skipif(not python_api.fits(), reason="no CPython with a GIL, 64 bits")

AFFINE = """affine(x[B,I], w[I], int k[B], a = 2.0, n = 3) -> y[B], z[B]:
    y[b] += x[b,i] * w[i]
    z[b] = a * w[k[b]] + n"""
SUM = "total(x[N], size M) -> s:\n    for n, m < M:  s += x[n]"
SCALE = "scale(x[N], a = 2.0) -> y[N]:\n    y[n] = a * x[n]"


def kernel(text: str, *arguments: Any, **named: Any) -> Kernel:
    """A kernel that knows a call."""
    made = lg.compile(lg.program(text))
    made(*arguments, **named)
    assert made.call_known(*arguments, **named) is None
    made(*arguments, **named)
    assert made.call_known(*arguments, **named) is not None
    return made


def slow(text: str) -> Kernel:
    """One that never learns."""
    made = lg.compile(lg.program(text))
    made._learns = False
    return made


def test_this_python_is_one_that_quick_calls_are_made_for() -> None:
    """Else everything here is skipped, and calls are slow."""
    assert sys.implementation.name == "cpython"


def test_a_python_with_other_objects_goes_the_long_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "available", lambda: False)
    scale, x = lg.compile(lg.program(SCALE.replace("scale", "never"))), np.arange(3.0)
    for _ in range(4):
        assert scale(x).tolist() == [0, 2, 4]
        assert scale(x, out=np.empty(3)).tolist() == [0, 2, 4]
    assert scale.call_known(x) is None
    assert scale._shortcut is None


@pytest.mark.parametrize(
    ("what", "answer"),
    [
        ("FUNCTIONS", ["PyList_Size", "PyNone_Such"]),
        ("_floats_are_where_they_should_be", lambda: False),
        ("_is_laid_out", lambda array: array.ndim != 3),
        ("_makes_arrays", lambda: False),
        ("_makes_views", lambda: False),
    ],
)
def test_what_differs_is_noticed(what: str, answer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(python_api, what, answer)
    assert not python_api.fits.__wrapped__()


def arguments(dtype: Any = np.float32) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(3)
    x, w = random.normal(size=(4, 3)).astype(dtype), random.normal(size=3).astype(dtype)
    return x, w, np.array([2, 0, 1, 1])


def variations() -> Iterator[tuple[str, tuple[Any, ...], dict[str, Any]]]:
    """Calls like and unlike one with plain float32 arrays."""
    x, w, k = arguments()
    frozen = x.copy()
    frozen.flags.writeable = False
    unaligned = np.zeros(x.nbytes + 1, np.uint8)[1:].view(np.float32).reshape(x.shape)
    unaligned[...] = x
    yield "the same", (x, w, k), {}
    yield "other contents", (x + 1, w * 2, k[::-1].copy()), {}
    yield "other shapes", (np.tile(x, (2, 1)), w, np.tile(k, 2)), {}
    yield "no elements", (x[:0], w, k[:0]), {}
    yield "float64", arguments(np.float64), {}
    yield "mixed types", (x, w.astype(np.float64), k), {}
    yield "float16 beside float32", (x.astype(np.float16), w, k), {}
    yield "integers", (np.arange(12).reshape(4, 3), w, k), {}
    yield "int32 indices", (x, w, k.astype(np.int32)), {}
    yield "big endian", (x.astype(">f4"), w, k), {}
    yield "a transposed array", (np.asfortranarray(x), w, k), {}
    yield "every second element", (np.repeat(x, 2, axis=1)[:, ::2], w, k), {}
    yield "not aligned", (unaligned, w, k), {}
    yield "read-only", (frozen, w, k), {}
    yield "broadcast", (np.broadcast_to(x[0], (4, 3)), w, k), {}
    yield "a subclass", (x.view(np.matrix), w, k), {}
    yield "lists", (x.tolist(), w.tolist(), k.tolist()), {}
    yield "by name", (), {"x": x, "w": w, "k": k}
    yield "in another order", (x,), {"k": k, "w": w}
    yield "a constant", (x, w, k), {"a": 0.5}
    yield "another", (x, w, k), {"a": 1e300}
    yield "minus zero", (x, w, k), {"a": -0.0}
    yield "not a number", (x, w, k), {"a": float("nan")}
    yield "a whole constant", (x, w, k), {"a": 3}
    yield "an integer constant", (x, w, k), {"n": 12345678901}
    yield "both", (x, w, k), {"n": -1, "a": 0.25}
    yield "true", (x, w, k), {"n": True}
    yield "a NumPy number", (x, w, k), {"a": np.float64(0.5)}
    yield "too few", (x, w), {}
    yield "too many", (x, w, k, x), {}
    yield "twice", (x, w, k), {"x": x}
    yield "an unknown name", (x, w, k), {"b": 1.0}
    yield "the wrong rank", (x[0], w, k), {}
    yield "extents that differ", (x, w[:2].copy(), k), {}
    yield "the wrong kind", (x, w, k.astype(np.float32)), {}
    yield "complex", (x.astype(complex), w, k), {}
    yield "no array", (None, w, k), {}
    yield "an index out of range", (x, w, k + 1), {}
    yield "a negative index", (x, w, -k), {}
    yield "an integer that does not fit", (x, w, k), {"n": 2**70}


def outcome(function: Any, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
    try:
        return function(*given, **named)
    except Exception as error:
        return type(error), str(error)


@pytest.mark.parametrize("case", list(variations()), ids=lambda case: case[0])
def test_a_kernel_that_knows_a_call_answers_like_one_that_does_not(case: Any) -> None:
    """Also when it has been asked often enough to know this one too, and the first again."""
    _, given, named = case
    knowing = kernel(AFFINE, *arguments())
    first = knowing(*arguments())
    wanted = outcome(slow(AFFINE), given, named)
    for _ in range(4):
        found = outcome(knowing, given, named)
        if isinstance(wanted[0], type):
            assert found == wanted
            continue
        for f, w in zip(found, wanted, strict=True):
            assert type(f) is np.ndarray
            assert (f.dtype, f.shape) == (w.dtype, w.shape)
            assert f.flags.carray
            assert f.flags.owndata
            np.testing.assert_array_equal(f, w)
    for f, w in zip(knowing(*arguments()), first, strict=True):
        assert_array_equal(f, w)


def test_the_program_itself_is_called_like_its_kernel() -> None:
    scale, x = lg.program(SCALE), np.arange(3.0)
    for _ in range(4):
        assert scale(x).tolist() == [0, 2, 4]
        assert scale(x, a=3.0).tolist() == [0, 3, 6]
    assert scale.__dict__["_kernel"].call_known(x) is not None


def test_arrays_mapped_from_a_file(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(4.0))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    scale = kernel(SCALE, np.arange(4.0))
    assert type(scale(mapped)) is np.ndarray
    assert_array_equal(scale(mapped), 2 * np.arange(4.0))


def test_arrays_whose_type_is_an_object_of_its_own() -> None:
    """Equal, but elsewhere in memory."""
    scale, x = kernel(SCALE, np.arange(4.0)), pickle.loads(pickle.dumps(np.arange(4.0)))
    assert x.dtype is not np.dtype(np.float64)
    for _ in range(4):
        assert_array_equal(scale(x), 2 * np.arange(4.0))


def test_scalars_in_and_out() -> None:
    square = lg.compile(lg.program("square(x) -> y:\n    y += x * x"))
    for value in (2.0, 3.0, 4.0):
        x = np.array(value)
        assert square(x) == value**2
        assert square(x).shape == ()
    assert square.call_known(x) is not None
    assert square(5) == 25
    assert square(np.float64(6)) == 36


def test_names_made_while_running_are_compared_by_their_letters() -> None:
    scale, x = kernel(SCALE, np.ones(2), a=3.0), np.ones(2)
    name = "".join(["", "a"])
    assert scale.call_known(x, **{name: 3.0}) is not None
    assert scale.call_known(x, b=3.0) is None
    assert scale(**{"x": x, name: 5.0}).tolist() == [5, 5]


# --------------------------------------------------------------------------------------------- out


def test_out_is_written_and_returned() -> None:
    x, out = np.arange(3.0), np.empty(3)
    scale = kernel(SCALE, x, out=out)
    assert scale(x, out=out) is out
    assert scale(out=out, x=x + 1) is out
    assert out.tolist() == [2, 4, 6]
    other = np.empty(3)
    assert scale.call_known(x, out=other) is other
    assert other.tolist() == [0, 2, 4]


def test_out_that_overlaps_an_input_is_not_written_too_early() -> None:
    text = "turn(x[N]) -> y[N]:\n    y[n] = x[N-1-n]"
    x = np.arange(6.0)
    turn = kernel(text, x, out=np.empty(6))
    assert turn.call_known(x, out=x) is None
    assert turn(x, out=x) is x
    assert x.tolist() == [5, 4, 3, 2, 1, 0]
    both = np.arange(8.0)
    assert turn.call_known(both[:6], out=both[2:]) is None
    assert turn(both[:6], out=both[2:]).tolist() == [5, 4, 3, 2, 1, 0]
    assert turn.call_known(both[:2].repeat(3), out=both[2:]) is not None


def test_out_that_touches_an_input_does_not_overlap_it() -> None:
    text = "turn(x[N]) -> y[N]:\n    y[n] = x[N-1-n]"
    both = np.arange(8, dtype=np.float32)
    x, out = both[:4], both[4:]
    turn = kernel(text, x, out=out)
    assert turn.call_known(x, out=out) is out
    assert turn.call_known(out, out=x) is x
    assert both.tolist() == [0, 1, 2, 3, 3, 2, 1, 0]


def test_large_results_are_recycled() -> None:
    x = np.ones((4, 1 << 16))
    scale = kernel("scale(x[N,M]) -> y[N,M]:\n    y[n,m] = 2 * x[n,m]", x)
    first, second = scale.call_known(x), scale.call_known(x)
    assert first.shape == second.shape == (4, 1 << 16)
    place = first.ctypes.data
    assert place != second.ctypes.data
    assert (first == 2).all()
    del first
    assert scale.call_known(x).ctypes.data == place


def test_results_that_are_not_small_begin_at_a_line_of_memory() -> None:
    """By the first call and by those that are known; in memory that lives as long as a view of it."""
    text = "both(x[N,M]) -> y[N,M], z[M,N]:\n    y[n,m] = 2 * x[n,m]\n    z[m,n] = x[n,m]"
    for rows in (recycling.LONG // 8 // 5, recycling.LONG // 8 // 5 + 1, 1000, 20_000):
        x = np.random.default_rng(0).normal(size=(rows, 5))
        first = lg.compile(lg.program(text))
        calls_of = [*(first(x) for _ in range(3)), *(kernel(text, x).call_known(x),)]
        for y, z in calls_of:
            assert_array_equal(y, 2 * x)
            assert_array_equal(z, x.T)
            for array in (y, z):
                assert array.flags.carray
                assert array.nbytes < recycling.LONG or array.ctypes.data % 64 == 0
        view = calls_of[-1][0][1:]
        del y, z, array
        calls_of.clear()
        others = [first(x + 1) for _ in range(4)]
        assert_array_equal(view, 2 * x[1:])
        del others


def test_large_scratch_is_taken_for_the_length_of_a_call() -> None:
    text = "f(x[N], int k[N]) -> s:\n    local t[N]\n    t[k[n]] += x[n]\n    s max= t[n]"
    x, k = np.ones(1 << 18), np.arange(1 << 18)
    most = kernel(text, x, k)
    recycling.trim_memory()
    assert most.call_known(x, k) == 1
    idle = recycling.idle_bytes()
    assert idle >= 2 << 20
    for _ in range(5):
        assert most.call_known(x, k) == 1
        assert recycling.idle_bytes() == idle
    held = recycling.take(idle)
    assert most.call_known(x, k) == 1
    assert recycling.idle_bytes() == idle
    recycling.give(held)
    assert most.call_known(x, k + 1) is None  # fails inside
    assert recycling.idle_bytes() == 2 * idle
    with pytest.raises(IndexError):
        most(x, k + 1)


def test_a_large_result_for_which_there_is_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.ones(1 << 17)
    scale = kernel(SCALE, x)
    entry = scale._shortcut._entries[1]
    (maker,) = entry[8]
    assert maker.func is recycling.empty

    def refuse(size: int) -> Any:
        raise MemoryError("none")

    monkeypatch.setattr(recycling, "take", refuse)
    assert scale.call_known(x) is None
    with pytest.raises(MemoryError, match="what it returns takes 1,048,576 bytes"):
        scale(x)

    def interrupt(size: int) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(recycling, "take", interrupt)
    with pytest.raises(KeyboardInterrupt):
        scale(x)
    monkeypatch.undo()
    assert scale.call_known(x)[0] == 2


def test_out_that_does_not_fit_is_refused_as_ever() -> None:
    x = np.arange(3.0)
    scale, never = kernel(SCALE, x, out=np.empty(3)), slow(SCALE)
    frozen = np.empty(3)
    frozen.flags.writeable = False
    for out in (np.empty(4), np.empty(3, np.float32), frozen, [0.0] * 3, (np.empty(3),) * 2):
        assert outcome(scale, (x,), {"out": out}) == outcome(never, (x,), {"out": out})
    for out in (np.empty(6)[::2], np.empty(3, ">f8"), np.empty(3).view(np.recarray), None):
        for _ in range(3):
            found = scale(x, out=out)
            assert found.tolist() == [0, 2, 4]
            assert out is None or found is out


def test_out_of_several_results() -> None:
    x, w, k = arguments()
    affine, out = kernel(AFFINE, x, w, k), (np.empty(4, np.float32), np.empty(4, np.float32))
    wanted = affine(x, w, k)
    for written in (out, list(out), (out[0], None), (None, out[1])):
        for _ in range(4):
            for array in out:
                array.fill(0)
            found = affine(x, w, k, out=written)
            assert_array_equal(found, wanted)
            assert all(w is None or f is w for f, w in zip(found, written, strict=True))
    found = affine.call_known(x, w, k, out=out)
    assert found[0] is out[0]
    assert found[1] is out[1]
    assert affine.call_known(x, w, k, out=list(out)) is None
    assert affine.call_known(x, w, k, out=out[:1]) is None
    assert affine.call_known(x, w, k, out=(*out, out[0])) is None
    assert affine.call_known(x, w, k, out=(out[0], out[1][:3])) is None
    assert affine.call_known(x, w, k, out=(out[0], out[0])) is None
    with pytest.raises(ValueError, match="overlap"):
        affine(x, w, k, out=(out[0], out[0]))
    taken = np.empty(5, np.float32)
    assert affine.call_known(x, w, k, out=(taken[:4], taken[1:])) is None
    assert affine.call_known(x, w, k, out=(x[1:].reshape(9)[:4], out[1])) is None
    before = counts([*out])
    for _ in range(1000):
        affine.call_known(x, w, k, out=out)
        affine.call_known(x, w, k + 1, out=out)
    assert counts([*out]) == before


def test_out_of_one_result_in_a_tuple_and_of_none() -> None:
    scale, x, out = lg.compile(lg.program(SCALE)), np.arange(3.0), np.empty(3)
    for given in ((out,), None, (None,), [out], out):
        for _ in range(4):
            found = scale(x, out=given)
            assert found.tolist() == [0, 2, 4]
            assert type(found) is np.ndarray
    assert scale.call_known(x, out=(out,)) is out
    assert scale.call_known(x, out=(x,)) is None
    assert scale.call_known(x, out=None) is None


def test_large_results_that_are_given_are_known() -> None:
    """Nothing has to be asked for them."""
    x = np.ones(1 << 22, np.float32)
    scale, out = kernel(SCALE.replace("scale", "great"), x, out=np.empty_like(x)), np.empty_like(x)
    assert scale.call_known(x, out=out)[-1] == 2
    scale(x)
    scale(x)
    assert scale.call_known(x) is None  # is there enough memory?


def test_an_argument_that_is_named_out() -> None:
    add = lg.compile(lg.program("add(x[N], out[N]) -> y[N]:\n    y[n] = x[n] + out[n]"))
    x, out = np.arange(3.0), np.ones(3)
    for _ in range(4):
        found = add(x, out=out)
        assert found.tolist() == [1, 2, 3]
        assert found is not out
    assert out.tolist() == [1, 1, 1]


# ------------------------------------------------------------------------- references and memory


def counts(objects: list[Any]) -> list[int]:
    return [sys.getrefcount(o) for o in objects]


def test_references_stay_as_they_are() -> None:
    x, w, k = arguments()
    affine, out = kernel(AFFINE, x, w, k, a=0.5), np.empty(3)
    scale = kernel(SCALE, np.arange(3.0), out=out)
    y, a, bad = np.arange(3.0), 0.5, k + 1
    bound = affine.run_known(x, w, k, a=a)[0]
    watched = [x, w, k, y, a, out, bound, np.dtype(np.float32), np.dtype(np.float64), np.ndarray]
    assert affine.call_known(x, w, k, a=0.25) is None
    gc.collect()
    before = counts(watched)
    for _ in range(20_000):
        affine(x, w, k, a=a)
        affine.run_known(x, w, k, a=a)
        affine.call_known(x, w, bad, a=a)  # fails inside
        affine.call_known(x, w, a=a)
        scale(y, out=out)
    gc.collect()
    assert max(abs(n - m) for n, m in zip(counts(watched), before, strict=True)) <= 2
    found = affine.run_known(x, w, k, a=a)
    assert found[:4] == (bound, x, w, k)
    _, *_, y, z = found
    del found
    fresh = np.ones(1)
    assert sys.getrefcount(y) == sys.getrefcount(z) == sys.getrefcount(fresh)


@pytest.mark.parametrize("size", [1000, recycling.LONG])
def test_memory_does_not_grow(size: int) -> None:
    import tracemalloc

    x = np.arange(float(size))
    scale, bytes_ = kernel(SCALE, x), np.dtype(np.uint8)
    before_counts = sys.getrefcount(x.dtype), sys.getrefcount(bytes_)
    tracemalloc.start()
    for _ in range(100):
        scale(x)
    before, _ = tracemalloc.get_traced_memory()
    for _ in range(20_000):
        scale(x)
    after_counts = sys.getrefcount(x.dtype), sys.getrefcount(bytes_)
    assert max(abs(n - m) for n, m in zip(after_counts, before_counts, strict=True)) <= 10
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 4000


def test_results_that_cannot_be_allocated_go_the_long_way() -> None:
    x = np.arange(3.0)
    scale = kernel(SCALE, x)
    block = scale._shortcut._entries[1][0]
    assert block[-3] == 3
    block[-3] = 2**61  # elements of the result
    dtype, before = np.dtype(np.float64), sys.getrefcount(np.dtype(np.float64))
    for _ in range(1000):
        assert scale.call_known(x) is None
    assert abs(sys.getrefcount(dtype) - before) < 10
    assert scale(x).tolist() == [0, 2, 4]


def test_code_in_use_by_another_thread_is_left_alone() -> None:
    x = np.arange(3.0)
    scale = kernel(SCALE, x)
    scale._shortcut._in_use[0] = 1
    assert scale.call_known(x) is None
    assert scale(x).tolist() == [0, 2, 4]


def test_old_calls_are_forgotten_and_learnt_again() -> None:
    scale = kernel(SCALE, np.arange(3.0))
    for size in range(4, 4 + 3 * calls.MOST_ENTRIES):
        for _ in range(2):
            assert_array_equal(scale(np.arange(float(size))), 2 * np.arange(size))
    assert len(scale._shortcut._entries) == 1 + calls.MOST_ENTRIES
    assert scale.call_known(np.arange(3.0)) is None
    scale(np.arange(3.0))
    assert scale.call_known(np.arange(3.0)) is not None


def test_a_kernel_dies_with_what_it_knows() -> None:
    import weakref

    scale = kernel(SCALE, np.arange(3.0))
    call, place = scale.call_known, weakref.ref(scale)
    del scale
    gc.collect()
    assert place() is None
    assert call(np.arange(3.0)).tolist() == [0, 2, 4]  # it owns its code


# ----------------------------------------------------------------------------------------- threads


@pytest.mark.parametrize("rows", [4, 40])
def test_many_threads_that_learn_and_forget(rows: int) -> None:
    """Small calls keep the GIL, larger ones let it go."""
    text = "f(x[N,M]) -> y[N]:\n    t[n,m] = x[n,m] * x[n,m]\n    y[n] += t[n,m]"
    shared = lg.compile(lg.program(text))
    wrong: list[Any] = []

    def work(number: int) -> None:
        random = np.random.default_rng(number)
        for turn in range(100):
            x = random.normal(size=(rows, 800 + (turn * number) % (2 * calls.MOST_ENTRIES)))
            if not np.allclose(shared(x), (x * x).sum(1)):
                wrong.append((number, turn))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize(("count", "long"), [(3, False), (10**9, True)])
def test_long_calls_let_other_threads_run(count: int, long: bool) -> None:
    total = lg.compile(lg.program(SUM))
    call = total.bind((np.ones(2),), {"M": count}, (None,))
    assert calls.is_long(total.program, call) is long


def test_loops_whose_length_is_not_known_count_as_long() -> None:
    text = "f(x[N], int k[N]) -> y[N]:\n    for n, m < k[n]:  y[n] += x[n]"
    ragged, x, k = lg.compile(lg.program(text)), np.ones(3), np.array([3, 0, 2])
    for _ in range(4):
        assert ragged(x, k).tolist() == [3, 0, 2]
    assert calls.is_long(ragged.program, ragged.bind((x, k), {}, (None,)))
    assert ragged.call_known(x, k) is not None


def test_calls_are_learnt_for_the_number_of_threads() -> None:
    scale, x, before = kernel(SCALE, np.arange(3.0)), np.arange(3.0), lg.get_num_threads()
    try:
        lg.set_num_threads(before + 1)
        assert scale.call_known(x) is None
        for _ in range(2):
            assert scale(x).tolist() == [0, 2, 4]
        assert scale.call_known(x) is not None
    finally:
        lg.set_num_threads(before)
    assert scale.call_known(x) is not None


# ------------------------------------------------------------------------------------- derivatives


def test_a_pullback_knows_its_shapes() -> None:
    """The gradient hangs on the seed alone: a seed of another call's shape is still refused."""
    double = lg.program("double(x[N]) -> y[N]:\n    y[n] = 2 * x[n]")
    for size in (3, 4):
        for _ in range(4):
            _, pullback = lg.vjp(double, np.ones(size))
            assert pullback(np.ones(size))[0].tolist() == [2] * size
            with pytest.raises(ValueError, match="has to have shape"):
                pullback(np.ones(7 - size))
            single = pullback(np.ones(size, np.float32))[0]
            assert single.dtype == np.float64


def test_a_pullback_does_not_see_later_changes() -> None:
    text = "f(x[N], w[N]) -> y[N]:\n    y[n] = exp(x[n]) * w[n]"
    f, x, w = lg.program(text), np.array([0.5, 1.0]), np.array([2.0, 3.0])
    for _ in range(4):
        y, pullback = lg.vjp(f, x, w)
        wanted = pullback([1.0, 1.0])
        y[:] = x[:] = w[:] = 0
        assert_array_equal(pullback([1.0, 1.0]), wanted)
        x[:], w[:] = [0.5, 1.0], [2.0, 3.0]


def test_sizes_and_constants_reach_the_backward() -> None:
    text = "f(x[N], size M, a = 2.0) -> s:\n    for n, m < M:  s += a * x[n] ** 2"
    f, x = lg.program(text), np.array([1.0, 3.0])
    value_and_grad = lg.value_and_grad(f)
    for _ in range(3):
        for m, a in ((2, 2.0), (3, 2.0), (3, 0.5)):
            value, gradient = value_and_grad(x, M=m, a=a)
            assert value == m * a * 10
            assert_array_equal(gradient, 2 * m * a * x)


def test_inputs_by_name_reach_the_backward() -> None:
    text = "f(x[N], y[N]) -> z[N]:\n    z[n] = x[n] * x[n] * y[n]"
    f, x, y = lg.program(text), np.array([1.0, 2.0]), np.array([3.0, 5.0])
    for _ in range(4):
        _, pullback = lg.vjp(f, y=y, x=x)
        gradients = pullback(np.ones(2))
        assert_array_equal(gradients[0], 2 * x * y)
        assert_array_equal(gradients[1], x * x)


# ------------------------------------------------------------------- known, but not as they are


def test_arrays_to_convert_are_looked_at_each_time() -> None:
    """What is known of such calls is what their types and shapes say, not what they hold."""
    text = "f(x[N,M], int k[N]) -> y[N]:\n    y[n] = x[n,k[n]]"
    pick, k = lg.compile(lg.program(text)), np.array([0, 2], np.uint64)
    for turn in range(4):
        x = np.asfortranarray(np.arange(6).reshape(2, 3) + turn)
        assert pick(x, k).tolist() == [turn, 5 + turn]
        with pytest.raises(ValueError, match="holds 18446744073709551615"):
            pick(x, np.array([0, 2**64 - 1], np.uint64))
    plain = np.ascontiguousarray(x, np.float64)
    for _ in range(3):
        assert pick(plain, k.astype(np.int64)).tolist() == [3, 8]
    assert pick.call_known(plain, k.astype(np.int64)) is not None
    assert pick.call_known(plain, k) is None


def test_a_number_for_an_array_is_not_known_by_its_value() -> None:
    scale = lg.compile(lg.program("scale(x[N], a) -> y[N]:\n    y[n] = a * x[n]"))
    x = np.ones(2)
    for a in range(200):
        assert scale(x, float(a)).tolist() == [a, a]
    assert not scale._binder._known


def test_known_calls_share_their_scratch() -> None:
    text = "f(x[N], int k[N]) -> s:\n    local t[N]\n    t[k[n]] += x[n]\n    s max= t[n]"
    most = lg.compile(lg.program(text))
    for size in range(1000, 1000 + 100 * calls.MOST_ENTRIES, 100):
        for _ in range(2):
            assert most(np.arange(float(size)), np.arange(size)) == size - 1
    scratch = {id(entry[5][1]): entry[5][1].size for entry in most._shortcut._entries[1:]}
    assert len(most._shortcut._entries) == 1 + calls.MOST_ENTRIES
    assert sum(scratch.values()) <= 4 * max(scratch.values())
    assert len(scratch) < calls.MOST_ENTRIES / 2
    for size in (1000, 1700, 1300):
        assert most.call_known(np.arange(float(size)), np.arange(size)) == size - 1
