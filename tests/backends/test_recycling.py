"""Memory that is used again: never while somebody holds it, and never without bound."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from loopgrad.backends import memory, recycling
from loopgrad.frontend.library import program
from loopgrad.pipeline import compile

DOUBLE = np.dtype(np.float64)
SHAPE = (1 << 9, 1 << 9)  # 2 MB of float64


@pytest.fixture(autouse=True)
def nothing_idle() -> None:
    recycling.trim_memory()


def address(array: np.ndarray) -> int:
    return int(array.ctypes.data)


def test_a_large_array_gets_the_memory_of_one_that_died() -> None:
    first = recycling.empty(SHAPE, DOUBLE)
    place = address(first)
    assert recycling.idle_bytes() == 0
    del first
    assert recycling.idle_bytes() >= 8 << 18
    second = recycling.empty(SHAPE, DOUBLE)
    assert address(second) == place
    assert recycling.idle_bytes() == 0


def test_memory_of_which_a_view_is_alive_is_not_used_again() -> None:
    first = recycling.empty(SHAPE, DOUBLE)
    place, view, raw = address(first), first[3:, ::2], memoryview(first)
    del first
    assert address(recycling.empty(SHAPE, DOUBLE)) != place
    del view
    assert address(recycling.empty(SHAPE, DOUBLE)) != place
    raw.release()
    assert address(recycling.empty(SHAPE, DOUBLE)) == place


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_arrays_are_like_those_of_numpy(dtype: str) -> None:
    for shape in ((), (0,), (3, 0, 2), (1 << 13,), (31, 1 << 9), (1 << 20,), (1, 1 << 18, 3)):
        array = recycling.empty(shape, np.dtype(dtype))
        assert array.dtype is np.dtype(dtype)
        assert type(array) is np.ndarray
        assert array.shape == shape
        assert array.flags.carray
        if array.nbytes >= recycling.LONG:
            assert address(array) % 64 == 0
        array.fill(7)
        assert (array == 7).all()


@pytest.mark.parametrize("size", [10, 1 << 18])
def test_copies_are_of_a_type_and_in_order(size: int) -> None:
    array = np.arange(2 * size).reshape(2, size).T[::-1]
    made = recycling.copy(array, np.dtype(np.float32))
    assert made.flags.carray
    assert made.dtype == np.float32
    np.testing.assert_array_equal(made, array.astype(np.float32))
    assert not np.may_share_memory(recycling.copy(made, made.dtype), made)


def test_blocks_of_sizes_that_vary_a_little_are_used_again() -> None:
    first = recycling.take(10_100_000)
    recycling.give(first)
    assert recycling.take(10_000_000) is first


@pytest.mark.parametrize("size", [1, 1 << 20, (1 << 20) + 1, 3_000_000, (1 << 24) - 1, 1 << 24])
def test_a_block_is_large_enough_and_not_much_larger(size: int) -> None:
    block = recycling.take(size)
    assert size <= block.size <= max(1.25 * size + 4096, recycling.LEAST)
    whole = (np.ctypeslib.ctypes.c_char * block.size).from_address(block.address)
    whole[0] = whole[block.size - 1] = b"x"  # both ends are there


def test_idle_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recycling, "_bound", 5 << 20)
    blocks = [recycling.take(2 << 20) for _ in range(6)]
    for block in blocks:
        recycling.give(block)
    assert recycling.idle_bytes() <= 5 << 20
    assert recycling.take(2 << 20) is blocks[-1]  # the longest idle are gone


@pytest.mark.parametrize(
    ("file", "text"), [("memory.max", "4096\n"), ("memory/memory.limit_in_bytes", "4096")]
)
def test_a_container_may_have_less(
    file: str, text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(recycling, "CONTROL_GROUP", f"{tmp_path}/")
    machine = recycling._memory()
    assert machine > 1 << 24
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(text)
    assert recycling._memory() == 4096
    (tmp_path / file).write_text("max\n")
    assert recycling._memory() == machine


def test_idle_memory_is_given_up_where_there_is_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for what NumPy allocates."""
    recycling.give(recycling.take(1 << 20))
    empty = recycling.empty

    def refuse(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        if recycling.idle_bytes():
            raise MemoryError
        return empty(shape, dtype)

    monkeypatch.setattr(recycling, "empty", refuse)
    assert memory.allocate("all", {"x": (3,)}, {"x": DOUBLE})["x"].shape == (3,)


def test_what_is_idle_for_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(recycling.time, "monotonic", lambda: now)
    old, other = recycling.take(1 << 20), recycling.take(4 << 20)
    recycling.give(old)
    now += recycling.IDLE_SECONDS + 1
    recycling.give(other)
    assert recycling.idle_bytes() == other.size


def test_idle_memory_counts_as_available(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_system", lambda: 1000)
    monkeypatch.setattr(memory, "_container", lambda: None)
    block = recycling.take(1 << 20)
    assert memory.available() == 1000
    recycling.give(block)
    assert memory.available() == 1000 + (1 << 20)


def test_memory_is_looked_at_again_after_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    there, now = [4000, 3000], 50.0
    monkeypatch.setattr(memory, "_seen", (0, 0.0))
    monkeypatch.setattr(memory, "available", lambda: there.pop(0))
    monkeypatch.setattr(memory.time, "monotonic", lambda: now)
    assert memory._is_plenty_for(1000)
    assert not memory._is_plenty_for(1001)
    now += 1.1
    assert not memory._is_plenty_for(1000)
    assert not there


def test_memory_of_a_long_run_does_not_grow() -> None:
    resource = pytest.importorskip("resource")
    twice = compile(
        program("twice(x[N]) -> y[N]:\n    t[n] = 2 * x[n]\n    y[n] = t[n] + t[N-1-n]")
    )
    x = np.ones(1 << 18)

    def peak() -> int:
        return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)

    for _ in range(5):
        twice(x)
    before = peak()
    for _ in range(300):  # of 2 MB each
        assert twice(x)[0] == 4
    assert peak() - before < 20_000  # kilobytes


def test_what_no_system_has_is_a_memory_error() -> None:
    with pytest.raises(MemoryError):
        recycling.take(1 << 60)


def test_scratch_is_aligned_and_its_own_for_each_thread() -> None:
    scratch = recycling.Scratch()
    with scratch.of(100) as one, scratch.of(100) as two:
        assert one % 64 == two % 64 == 0
        assert abs(one - two) >= 100
    with scratch.of(3 << 20) as large, scratch.of(3 << 20) as other:
        assert large % 64 == 0
        assert abs(large - other) >= 3 << 20
    assert recycling.idle_bytes() >= 6 << 20


def test_threads_never_share_an_array() -> None:
    """Each writes its number, waits for others to do the same, and finds what it wrote."""
    wrong: list[int] = []

    def work(number: int) -> None:
        for turn in range(40):
            held = [recycling.empty((1 << 17,), DOUBLE) for _ in range(3)]
            for i, array in enumerate(held):
                array.fill(number * 1000 + turn * 10 + i)
            for i, array in enumerate(held):
                if not (array == number * 1000 + turn * 10 + i).all():
                    wrong.append(number)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_results_of_calls_are_recycled_and_never_alias() -> None:
    double = compile(program("double(x[N]) -> y[N], z[N]:\n    y[n] = 2 * x[n]\n    z[n] = x[n]"))
    x = np.arange(1 << 17, dtype=np.float64)
    kept = [double(x + i) for i in range(4)]
    for i, (y, z) in enumerate(kept):
        np.testing.assert_array_equal(y, 2 * (x + i))
        np.testing.assert_array_equal(z, x + i)
    places = {address(a) for pair in kept for a in pair}
    assert len(places) == 8
    del kept, y, z
    assert {address(a) for a in double(x)} <= places


def test_temporaries_are_in_scratch_that_is_used_again() -> None:
    text = "f(x[N]) -> s:\n    t[n] = exp(x[n])\n    s += t[n] * t[n]"
    total, x = compile(program(text)), np.linspace(0.0, 1.0, 1 << 18)
    for _ in range(3):
        assert total(x) == pytest.approx(np.exp(2 * x).sum())
        assert recycling.idle_bytes() <= 4 << 20


PROCESS = """
import os, sys
import numpy as np
import loopgrad as lg
double = lg.program("double(x[N]) -> y[N]:\\n    y[n] = 2 * x[n]")
x = np.ones(1 << 18)
kept, place = double(x), double(x).ctypes.data
"""


def run(code: str, before: str = PROCESS) -> str:
    done = subprocess.run(
        # Newer versions of Python warn of a fork beside other threads.
        [sys.executable, "-W", "ignore", "-c", before + code],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout


def test_arrays_that_outlive_the_program_end_in_peace() -> None:
    assert run("import builtins; builtins.kept = kept; print(kept[0])") == "2.0\n"


def test_no_block_has_been_given_back_before_the_program_ends() -> None:
    before = PROCESS.replace("kept, place = double(x), double(x).ctypes.data", "kept = double(x)")
    assert run("import builtins; builtins.kept = kept; print(kept[0])", before) == "2.0\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_child_does_not_wait_for_a_thread_that_it_does_not_have() -> None:
    code = """
kernel, x = lg.compile(double), np.ones(3)
for _ in range(3):
    kernel(x)
kernel._shortcut._in_use[0] = 1  # by another thread
if os.fork() == 0:
    print(kernel.call_known(x)[0], flush=True)
    os._exit(0)
os.wait()
print(kernel.call_known(x), kernel(x)[0])
"""
    assert run(code).splitlines() == ["2.0", "None 2.0"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_process_goes_on() -> None:
    code = """
if os.fork() == 0:
    again = double(x + 1)  # in the block that was idle
    print(again.ctypes.data == place, again[0], kept[0], flush=True)
    os._exit(0)
os.wait()
print(double(x)[0], kept[0])
"""
    assert run(code).splitlines() == ["True 4.0 2.0", "2.0 2.0"]


def test_only_what_is_really_kept_has_to_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The literal loops store 80 MB on the way; fused ones a row of them."""
    text = "f(x[N,M]) -> y[N]:\n    t[n,m] = exp(x[n,m])\n    y[n] += t[n,m] * t[n,m]"
    fused, literal = compile(program(text)), compile(program(text), optimize=False)
    x = np.zeros((100_000, 100))
    assert literal(x[:2])[1] == fused(x[:2])[1] == 100
    monkeypatch.setattr(memory, "_seen", (0, 0.0))
    monkeypatch.setattr(memory, "available", lambda: 70 << 20)
    assert fused(x)[-1] == 100
    with pytest.raises(MemoryError, match="the largest tensor is `t`, of shape"):
        literal(x)
