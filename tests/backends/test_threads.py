"""The threads of compiled code: every part runs once, whatever else the process does."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import pytest

import loopgrad as lg
from loopgrad.backends import thread_count
from loopgrad.backends.llvm.compiling import engine
from loopgrad.backends.llvm.threading import threads

PART = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
CALL = ctypes.CFUNCTYPE(None, PART, ctypes.c_void_p, ctypes.c_int64)

# Code that uses the threads, as a module with scheduled loops does.
TEXT = """
declare void @loopgrad_parallel(void (i8*, i64, i64)*, i8*, i64)
declare i64 @loopgrad_num_threads()
define void @call(void (i8*, i64, i64)* %function, i8* %context, i64 %threads) {
  call void @loopgrad_parallel(void (i8*, i64, i64)* %function, i8* %context, i64 %threads)
  ret void
}
define void @nothing(i8* %context) {
  ret void
}
define void @mark(i8* %context, i64 %thread, i64 %threads) {
  %marks = bitcast i8* %context to i64*
  %mine = getelementptr i64, i64* %marks, i64 %thread
  %before = load i64, i64* %mine
  %after = add i64 %before, 1
  store i64 %after, i64* %mine
  ret void
}
define void @ask(i8* %context, i64 %thread, i64 %threads) {
  %at = bitcast i8* %context to i32 ()**
  %function = load i32 ()*, i32 ()** %at
  %answer = call i32 %function()
  %word = sext i32 %answer to i64
  %answers = bitcast i8* %context to i64*
  %number = add i64 %thread, 1
  %mine = getelementptr i64, i64* %answers, i64 %number
  store i64 %word, i64* %mine
  ret void
}
define i64 @count() {
  %count = call i64 @loopgrad_num_threads()
  ret i64 %count
}
"""

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="one thread elsewhere")


def text() -> str:
    opaque = engine.new_module("double").opaque_pointers
    return threads.without_types(TEXT) if opaque else TEXT


_loaded: list[engine.Loaded] = []


def address(name: str) -> int:
    if not _loaded:
        _loaded.append(engine.load(text()))
    return _loaded[0].address(name)


def parallel(work: Callable[[int, int], object], count: int) -> None:
    """Calls `work(thread, threads)` through the compiled code."""
    CALL(address("call"))(PART(lambda _, thread, of: work(thread, of) and None), None, count)


def run(count: int) -> None:
    """Every part once, each told of the same number."""
    seen: Counter[tuple[int, int]] = Counter()

    def part(thread: int, of: int) -> None:
        seen[thread, of] += 1

    parallel(part, count)
    of = max(count, 1)
    assert seen == {(thread, of): 1 for thread in range(of)}


def run_nested() -> None:
    seen: Counter[tuple[int, int]] = Counter()

    def outer(thread: int, _: int) -> None:
        def inner(within: int, _: int) -> None:
            seen[thread, within] += 1

        parallel(inner, 3)

    parallel(outer, 4)
    assert seen == {(thread, within): 1 for thread in range(4) for within in range(3)}


@pytest.fixture(autouse=True)
def four_threads() -> object:
    before = lg.get_num_threads()
    lg.set_num_threads(4)
    yield
    lg.set_num_threads(before)


# ---------------------------------------------------------------------------------- in this process


@pytest.mark.parametrize("count", [-1, 0, 1, 2, 3, 4, 5, 8, 17, 64, 1023, 1024, 1025, 3000])
def test_every_part_runs_once(count: int) -> None:
    run(count)


def test_a_part_may_use_threads_itself() -> None:
    for _ in range(20):
        run_nested()


def test_many_python_threads_at_once() -> None:
    def work(_: int) -> None:
        for count in range(1, 30):
            run(count)
            run_nested()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))


@linux
def test_parts_run_at_the_same_time() -> None:
    meeting = threading.Barrier(4)  # nobody passes before all four are there
    parallel(lambda *_: meeting.wait(timeout=60), 4)


def test_a_caller_does_not_wait_for_another_call() -> None:
    """While a long call has the pool, a short one comes and goes."""
    begun, over = threading.Event(), threading.Event()

    def long(thread: int, _: int) -> None:
        begun.set()
        assert over.wait(timeout=60)

    other = threading.Thread(target=parallel, args=(long, 3))
    other.start()
    try:
        assert begun.wait(timeout=60)
        run(5)
    finally:
        over.set()
        other.join()


def test_compiled_code_sees_the_number_of_each_moment() -> None:
    count = ctypes.CFUNCTYPE(ctypes.c_int64)(address("count"))
    for number in (3, 1, 1024):
        lg.set_num_threads(number)
        assert count() == lg.get_num_threads() == number


@linux
def test_no_more_threads_than_the_user_wants() -> None:
    lg.set_num_threads(2)
    time.sleep(0.1)  # who was woken for an earlier call of more threads may come late
    seen = set()
    for _ in range(50):
        parallel(lambda *_: seen.add(threading.get_native_id()), 8)
    assert len(seen) <= 2


# ------------------------------------------------------------------------------- in other processes


def load_openmp() -> ctypes.CDLL:
    """The runtime that scikit-learn brings along, without the rest of it."""
    found = find_spec("sklearn")
    assert found is not None and found.origin is not None
    (path,) = (Path(found.origin).parents[1] / "scikit_learn.libs").glob("libgomp*")
    return ctypes.CDLL(str(path))


def python(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])
    head = "from tests.backends.test_threads import *\n"
    return subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", head + script],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": path, **environment},
    )


def run_marking(count: int) -> None:
    """As `run`, of parts that do not call Python. A thread that Python does not know makes itself known for
    each call, outside of Python's great lock, and CPython 3.11's child of a fork waits for ever
    for one that was about to."""
    marks = (ctypes.c_int64 * count)()
    call = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)(address("call"))
    call(address("mark"), ctypes.addressof(marks), count)
    assert list(marks) == [1] * count


MOST_SECONDS = 30  # of a child


def fork(work: Callable[[], object]) -> None:
    """Has a child do the work. One that takes too long says where it is, and is an error."""
    child = os.fork()
    if child == 0:  # has this thread alone
        work()
        os._exit(0)
    end = time.monotonic() + MOST_SECONDS
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() > end:
            os.kill(child, signal.SIGABRT)  # faulthandler prints where
            ended = os.waitpid(child, 0)
            break
        time.sleep(0.001)
    assert ended[1] == 0


FORK = """
lg.set_num_threads(3)
stop = threading.Event()
def busy():
    while not stop.is_set():
        run_marking(3)
others = [threading.Thread(target=busy) for _ in range(2)]
for other in others:
    other.start()
def work():
    for count in (1, 2, 3, 7):
        run(count)
    run_nested()
    meeting = threading.Barrier(3)
    met = []
    parallel(lambda *_: met.append(meeting.wait(timeout=20)), 3)
    assert sorted(met) == [0, 1, 2]
for _ in range(10):
    fork(work)
    run_marking(3)
stop.set()
for other in others:
    other.join()
print("fine")
"""


@linux
@pytest.mark.parametrize("before", ["", "load_openmp()\n"], ids=["pool", "openmp"])
def test_fork_in_the_midst_of_calls(before: str) -> None:
    done = python(before + FORK)
    assert (done.stdout, done.returncode) == ("fine\n", 0), done.stderr


# glibc has a lock for its list of libraries, in which each call looks: it must be free in the child.
MANY_FORKS = """
lg.set_num_threads(3)
run(3)
function, entry, context = address("nothing"), address("call"), (ctypes.c_int64 * 1)()
call = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)(entry)
stop = threading.Event()
def busy():
    while not stop.is_set():
        call(function, ctypes.addressof(context), 2)
others = [threading.Thread(target=busy) for _ in range(3)]
for other in others:
    other.start()
for _ in range(60):
    fork(lambda: call(function, ctypes.addressof(context), 2))
stop.set()
for other in others:
    other.join()
print("fine")
"""


@linux
def test_many_forks_in_the_midst_of_short_calls() -> None:
    done = python(MANY_FORKS)
    assert (done.stdout, done.returncode) == ("fine\n", 0), done.stderr


# Somebody else uses OpenMP or lets it be, in turn with us.
BESIDE_OPENMP = """
lg.set_num_threads(2)
library = load_openmp()
nothing, ask = address("nothing"), address("ask")
context = (ctypes.c_int64 * 5)(ctypes.cast(library.omp_in_parallel, ctypes.c_void_p).value)

def ours():
    ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64)(address("call"))(
        ask, ctypes.addressof(context), 4
    )
    return set(context[1:])

def until(wanted, theirs, count):
    end, several = time.monotonic() + 60, 0
    while several < count:
        assert time.monotonic() < end, wanted
        if theirs:
            library.GOMP_parallel(ctypes.c_void_p(nothing), None, 2, 0)
        several = several + 1 if ours() == wanted else 0

print(ours())
for _ in range(2):
    until({0}, theirs=False, count=50)
    until({1}, theirs=True, count=3)
with ThreadPoolExecutor(4) as pool:  # callers that nobody watches, and one that is
    list(pool.map(lambda _: [run(count) for count in range(20)], range(4)))
print("fine")
"""


@linux
def test_openmp_is_used_while_others_use_it() -> None:
    done = python(BESIDE_OPENMP)
    assert (done.stdout, done.returncode) == ("{1}\nfine\n", 0), done.stderr


LATE_OPENMP = """
lg.set_num_threads(2)
run(2)  # our own pool
before = threads.runtimes()
library = load_openmp()
def used():
    found = set()
    parallel(lambda *_: found.add((library.omp_in_parallel(), library.omp_get_num_threads())), 5)
    return found
print(before, used())
run(1), run(2), run(5), run_nested()
with ThreadPoolExecutor(4) as pool:
    list(pool.map(lambda _: [run(count) for count in range(20)], range(4)))
"""


@linux
def test_an_openmp_runtime_that_comes_later_is_used() -> None:
    done = python(LATE_OPENMP)
    assert (done.stdout, done.returncode) == ("[] {(1, 2)}\n", 0), done.stderr


@linux
def test_openmp_may_give_fewer_threads_than_asked_for() -> None:
    done = python(LATE_OPENMP, OMP_THREAD_LIMIT="1")
    assert (done.stdout, done.returncode) == ("[] {(0, 1)}\n", 0), done.stderr


@linux
def test_a_fault_in_a_part_is_reported() -> None:
    script = """
import faulthandler
faulthandler.enable()
main = threading.get_native_id()
meeting = threading.Barrier(4)
def part(thread, of):
    meeting.wait(timeout=60)
    if threading.get_native_id() != main:
        ctypes.string_at(8)
    time.sleep(60)
parallel(part, 4)"""
    done = python("lg.set_num_threads(4)\n" + script)
    assert done.returncode < 0
    assert "Segmentation fault" in done.stderr


@linux
def test_workers_without_work_take_no_time() -> None:
    script = """
run(4)
before = time.process_time()
time.sleep(0.5)
print(time.process_time() - before)"""
    done = python("lg.set_num_threads(4)\n" + script)
    assert float(done.stdout) < 0.1  # three of them, 0.2 ms each


@linux
def test_the_interpreter_ends_while_workers_sleep_or_watch() -> None:
    for pause in ("", "time.sleep(0.05)"):
        done = python(f"run(4)\n{pause}")
        assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


def test_the_library_is_not_made_before_a_module_needs_it() -> None:
    script = """
lg.compile(lg.lib.softmax, optimize=False)([[1.0, 2.0]])
print(len(engine._libraries))
address("call")
print(len(engine._libraries))"""
    done = python(script)
    assert (done.stdout, done.returncode) == ("0\n1\n", 0), done.stderr


def test_systems_without_what_the_pool_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The code for them, run in this process."""
    monkeypatch.setattr(engine.llvm, "add_symbol", lambda *_: None)  # this one's threads stay
    names = ["loopgrad_parallel", "loopgrad_num_threads"]
    names.append("loopgrad_threads_setup")
    found = engine.library(threads._text("one_thread.ll"), names)
    ctypes.CFUNCTYPE(None, ctypes.c_void_p)(found["loopgrad_threads_setup"])(thread_count.address())
    assert ctypes.CFUNCTYPE(ctypes.c_int64)(found["loopgrad_num_threads"])() == 4
    for count in (-1, 0, 1, 2, 5):
        order: list[tuple[int, int]] = []
        part = PART(lambda _, thread, of, order=order: order.append((thread, of)))
        CALL(found["loopgrad_parallel"])(part, None, count)
        assert order == [(thread, max(count, 1)) for thread in range(max(count, 1))]


# ------------------------------------------------------------------------------ the number of threads


@pytest.mark.parametrize("number", [0, -1, 1025, 10**30])
def test_numbers_out_of_range(number: int) -> None:
    with pytest.raises(ValueError, match=f"the number of threads is from 1 to 1024, got {number}"):
        lg.set_num_threads(number)
    assert lg.get_num_threads() == 4


@pytest.mark.parametrize(
    ("number", "kind"), [(2.0, "float"), ("2", "str"), (None, "NoneType"), (True, "a bool")]
)
def test_what_is_no_number(number: object, kind: str) -> None:
    with pytest.raises(TypeError, match=f"a number of threads is needed, got {kind}"):
        lg.set_num_threads(number)  # type: ignore[arg-type]


# The environment -> the number, or None where that of the processors is taken.
ENVIRONMENTS = [
    ({}, None),
    ({"LOOPGRAD_NUM_THREADS": " 3 "}, 3),
    ({"LOOPGRAD_NUM_THREADS": "3", "OMP_NUM_THREADS": "5"}, 3),
    ({"LOOPGRAD_NUM_THREADS": "", "OMP_NUM_THREADS": "5"}, 5),
    ({"OMP_NUM_THREADS": "5,2"}, 5),
    ({"OMP_NUM_THREADS": "many"}, None),
    ({"OMP_NUM_THREADS": "0"}, None),
    ({"OMP_NUM_THREADS": "100000"}, 1024),
]


@pytest.mark.parametrize(("environment", "number"), ENVIRONMENTS)
def test_the_number_at_first(
    environment: dict[str, str], number: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget(environment, monkeypatch)
    assert lg.get_num_threads() == (number or thread_count.processors())


@pytest.mark.parametrize("text", ["0", "-2", "1025", "2.0", "all", "²"])
def test_an_environment_that_makes_no_sense(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    forget({"LOOPGRAD_NUM_THREADS": text}, monkeypatch)
    message = (
        f"the environment variable LOOPGRAD_NUM_THREADS is a number from 1 to 1024, not '{text}'"
    )
    for _ in range(2):
        with pytest.raises(ValueError, match=message):
            lg.get_num_threads()
    lg.set_num_threads(2)  # what the program says counts
    assert lg.get_num_threads() == 2


def forget(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOOPGRAD_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(thread_count, "_count", ctypes.c_int64(0))


# What /proc/self/cgroup says, files of /sys/fs/cgroup, and the quotas there.
GROUPS = [
    ("0::/", {"cpu.max": "150000 100000"}, [1.5]),
    ("0::/", {"cpu.max": "max 100000"}, []),
    ("0::/a/b", {"a/b/cpu.max": "max 100000", "a/cpu.max": "400000 100000"}, [4.0]),
    ("0::/not/there", {"cpu.max": "300000 100000"}, [3.0]),
    (
        "2:cpu,cpuacct:/a\n0::/",
        {"cpu,cpuacct/a/cpu.cfs_quota_us": "200000", "cpu,cpuacct/a/cpu.cfs_period_us": "100000"},
        [2.0],
    ),
    ("2:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, []),
    ("0::/", {"cpu.max": "nonsense"}, []),
    ("", {}, []),
]


@pytest.mark.parametrize(("own", "files", "quotas"), GROUPS)
def test_quotas_of_control_groups(
    own: str, files: dict[str, str], quotas: list[float], tmp_path: Path
) -> None:
    (tmp_path / "own").write_text(own)
    for name, content in files.items():
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n")
    assert list(thread_count._quotas(tmp_path / "root", tmp_path / "own")) == quotas


def test_a_quota_limits_the_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread_count, "_quotas", lambda: iter([0.5, 8.0]))
    assert thread_count.processors() == 1
