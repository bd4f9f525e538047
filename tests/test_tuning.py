"""Python's settings while something is built, and as before afterwards."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

import loopgrad as lg
from loopgrad.tuning import RARELY, SOON, Tuned


@pytest.fixture(autouse=True)
def thresholds() -> Iterator[None]:
    before = gc.get_threshold()
    switch = sys.getswitchinterval()
    gc.set_threshold(650, 9, 8)
    yield
    gc.set_threshold(*before)
    sys.setswitchinterval(switch)


def test_rarely_within_and_as_before_behind() -> None:
    with Tuned(), Tuned(), Tuned():
        assert gc.get_threshold() == (RARELY, 9, 8)
    assert gc.get_threshold() == (650, 9, 8)
    with pytest.raises(KeyError), Tuned():
        raise KeyError
    assert gc.get_threshold() == (650, 9, 8)


@pytest.mark.parametrize("own", [(0, 9, 8), (10 * RARELY, 9, 8)])
def test_who_has_fewer_collections_keeps_them(own: tuple[int, int, int]) -> None:
    gc.set_threshold(*own)
    with Tuned():
        assert gc.get_threshold() == own
    assert gc.get_threshold() == own


@pytest.mark.parametrize("own", [0.25, 0.0001])
def test_threads_have_python_soon_within_and_as_before_behind(own: float) -> None:
    sys.setswitchinterval(own)
    with Tuned(), Tuned():
        assert sys.getswitchinterval() == pytest.approx(min(own, SOON))
    assert sys.getswitchinterval() == pytest.approx(own)


def test_what_is_set_meanwhile_stays() -> None:
    with Tuned():
        gc.set_threshold(33, 4, 5)
        sys.setswitchinterval(0.125)
    assert gc.get_threshold() == (33, 4, 5)
    assert sys.getswitchinterval() == 0.125
    with Tuned():
        sys.setswitchinterval(0.25)
    assert gc.get_threshold() == (33, 4, 5)
    assert sys.getswitchinterval() == 0.25


def test_two_threads() -> None:
    """Who comes last restores what the first has found."""
    entered, left = threading.Event(), threading.Event()

    def other() -> None:
        with Tuned():
            entered.set()
            assert left.wait(10)

    thread = threading.Thread(target=other)
    with Tuned():
        thread.start()
        assert entered.wait(10)
    assert gc.get_threshold() == (RARELY, 9, 8)
    left.set()
    thread.join()
    assert gc.get_threshold() == (650, 9, 8)


def test_compiling_leaves_them_as_they_were() -> None:
    lg.program("double(x[N]) -> y[N]:\n    y[n] = 2 * x[n]")([1.0])
    assert gc.get_threshold() == (650, 9, 8)


def test_who_is_interrupted_on_the_way_out_is_forgotten() -> None:
    one = Tuned()
    one.__enter__()
    del one
    with Tuned():
        assert gc.get_threshold() == (RARELY, 9, 8)
    assert gc.get_threshold() == (650, 9, 8)


INTERRUPTED = """
import signal, sys, threading, time, warnings
import loopgrad as lg

warnings.simplefilter("ignore")
signal.signal(signal.SIGALRM, signal.default_int_handler)
TEXT = "f(x[N], W[N,M]) -> y[M]:\\n    for n, m:  y[m] += {} * x[n] * W[n,m]"

def make(number):
    program = lg.program(TEXT.format(number))
    assert lg.compile(program)([1.0], [[2.0]]).tolist() == [2.0 * number]

def go_on(frame, event, argument):  # interrupts wherever a line of ours enters or leaves what it holds
    if event == "call" and frame.f_code.co_name in ("__enter__", "__exit__", "acquire", "release"):
        if any(part in frame.f_code.co_filename for part in ("/loopgrad/backends/", "/loopgrad/tuning")):
            seen.append(frame.f_code.co_name)
            if len(seen) == wanted:
                raise KeyboardInterrupt

wanted, number = 0, 2
while True:
    seen, wanted, number = [], wanted + 1, number + 1
    sys.setprofile(go_on)
    try:
        make(number)
    except KeyboardInterrupt:
        pass
    finally:
        sys.setprofile(None)
    other = threading.Thread(target=make, args=(number,), daemon=True)
    other.start()
    other.join(60)
    if other.is_alive():
        print("held after", seen)
        break
    if len(seen) < wanted:
        print("fine", wanted > 4)
        break
sys.stdout.flush()
"""


def test_an_interrupt_leaves_no_lock_held() -> None:
    """As another thread finds that wants to compile."""
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "LOOPGRAD_CACHE": "0"},
    )
    assert (done.stdout, done.returncode) == ("fine True\n", 0), done.stderr
