"""A child of a fork finds every lock free, whatever other threads were doing."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import loopgrad as lg
from loopgrad import forks
from loopgrad.backends.llvm.compiling import generating

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")

ROOT = str(Path(lg.__file__).parents[1])

MOST_SECONDS = 120  # of a script


def printed(script: str, *folders: Path, **environment: str) -> str:
    """What a new process prints, which finds modules in the folders too."""
    path = os.pathsep.join([ROOT, *map(str, folders)])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-X", "faulthandler", "-c", script],
        capture_output=True,
        text=True,
        timeout=MOST_SECONDS,
        env={**os.environ, "PYTHONPATH": path, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


SCRIPT = """
import os, threading, time, warnings
import loopgrad as lg
warnings.simplefilter("ignore")

def work(name, number):  # a program that nobody has compiled before
    text = f"{name}{number}(s[B,J]) -> p[B,J]:\\n    for b, j:  Z[b] += exp({number + 2} * s[b,j])\\n"
    text += f"    for b, j:  p[b,j] += exp({number + 2} * s[b,j]) / Z[b]"
    assert lg.compile(lg.program(text))([[0.5, 0.5]]).tolist() == [[0.5, 0.5]]

over = threading.Event()

def busy(name):
    number = 0
    while not over.is_set():
        work(name, number)
        number += 1

others = [threading.Thread(target=busy, args=("f" * n,)) for n in (1, 2)]
for other in others:
    other.start()
for number in range(4):
    time.sleep(0.03)
    child = os.fork()
    if child == 0:
        work("g", number)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
over.set()
for other in others:
    other.join()
print("fine")
"""


def test_forks_while_threads_compile() -> None:
    assert printed(SCRIPT, LOOPGRAD_CACHE="0") == "fine\n"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_fork_waits_for_a_lock_and_the_child_finds_it_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(forks, "_held", {})
    lock = threading.RLock()
    forks.hold("cache", lock)
    held, over = threading.Event(), threading.Event()
    done = []

    def other() -> None:
        with lock:
            held.set()
            over.wait(timeout=60)
            done.append(True)

    holder = threading.Thread(target=other)
    holder.start()
    assert held.wait(timeout=60)
    threading.Timer(0.05, over.set).start()
    child = os.fork()
    if child == 0:
        os._exit(0 if done and lock.acquire(timeout=0) else 1)
    assert os.waitpid(child, 0)[1] == 0
    holder.join()
    assert lock.acquire(timeout=0)
    lock.release()


def test_a_lock_has_a_place() -> None:
    with pytest.raises(ValueError, match="'somewhere' has no place in the order of locks"):
        forks.hold("somewhere", threading.RLock())


IMPORTS = """
import os, sys, threading
import loopgrad as lg

threading.Thread(target=lambda: __import__("slow_module")).start()
begun.wait()
child = os.fork()
if child == 0:
    import slow_module, colorsys
    again = os.fork()
    if again == 0:
        import wave
        os._exit(0)
    os._exit(os.waitpid(again, 0)[1])
assert os.waitpid(child, 0)[1] == 0
import chunk_of_ours
print("fine")
"""


def test_a_fork_waits_for_imports(tmp_path: Path) -> None:
    (tmp_path / "slow_module.py").write_text(
        "import time, __main__\n__main__.begun.set()\ntime.sleep(0.3)"
    )
    (tmp_path / "chunk_of_ours.py").write_text("")
    script = "import threading\nbegun = threading.Event()" + IMPORTS
    assert printed(script, tmp_path) == "fine\n"


GARBAGE = """
import _imp, os, sys, threading, time
from loopgrad import forks

lock, begun = threading.RLock(), threading.Event()
forks.hold("llvmlite", lock)

def collect():  # as a collection of garbage would, in the midst of Python's own steps of an import
    _imp.acquire_lock()
    begun.set()
    time.sleep(0.1)
    with lock:
        _imp.release_lock()

other = threading.Thread(target=collect)
other.start()
begun.wait()
child = os.fork()
if child == 0:
    import wave
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
other.join()
print("fine")
"""


def test_a_fork_waits_for_no_import_with_locks_in_its_hands() -> None:
    assert printed(GARBAGE) == "fine\n"


ENDLESS = """
import os, threading, time
from loopgrad import forks
forks.MOST_WAITING = 0.5
begun, over = threading.Event(), threading.Event()
other = threading.Thread(target=lambda: __import__("endless_module"))
other.start()
begun.wait()
seconds = []
for _ in range(3):
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        import colorsys
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    seconds.append(time.monotonic() - start >= 0.5)
over.set()
other.join()
print(seconds[0], seconds[1] and seconds[2], len(forks._endless))
"""


def test_a_program_that_is_an_import_is_waited_for_once(tmp_path: Path) -> None:
    (tmp_path / "endless_module.py").write_text(
        "import __main__\n__main__.begun.set()\n__main__.over.wait()"
    )
    assert printed(ENDLESS, tmp_path) == "True False 0\n"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_fork_waits_for_code_that_is_made_aside() -> None:
    if not generating.APART:
        pytest.skip("one thread at a time, which holds a lock")
    begun, done = threading.Event(), []

    def make() -> None:
        begun.set()
        time.sleep(0.1)
        done.append(True)

    made = generating.aside(make)
    assert begun.wait(timeout=60)
    child = os.fork()
    if child == 0:
        os._exit(0 if done else 1)
    assert os.waitpid(child, 0)[1] == 0
    made.result()


KEYBOARD = """
import os, signal, sys, threading, time
from loopgrad import forks

signal.signal(signal.SIGALRM, signal.default_int_handler)
signal.signal(signal.SIGINT, signal.default_int_handler)  # processes behind a shell ignore it
lock, begun, over = threading.RLock(), threading.Event(), threading.Event()
forks.hold("compiling", lock)

def hold():
    with lock:
        begun.set()
        over.wait()

other = threading.Thread(target=hold)
other.start()
begun.wait()
main = threading.get_ident()

def interrupt():
    while sys._current_frames()[main].f_code.co_filename != forks.__file__:
        time.sleep(0.01)
    time.sleep(0.1)  # it is told of what it waits for
    signal.pthread_kill(main, signal.SIGALRM)
    time.sleep(0.3)
    over.set()

threading.Thread(target=interrupt).start()
child = None
try:
    child = os.fork()
    if child:
        for _ in range(200):  # it is told between two lines
            time.sleep(0.1)
except KeyboardInterrupt:
    print("interrupted", flush=True)
if child == 0:
    os._exit(0 if lock.acquire(timeout=0) else 1)
assert lock.acquire(timeout=0)
lock.release()
free = []
other = threading.Thread(target=lambda: free.append(lock.acquire(timeout=5)))
other.start()
other.join()
print(free, forks._taken)
"""


def test_an_interrupt_while_a_fork_waits_comes_behind_it() -> None:
    assert printed(KEYBOARD) == "interrupted\n[True] []\n"


def test_a_fork_within_an_import_waits_for_nobody(tmp_path: Path) -> None:
    (tmp_path / "forking.py").write_text(
        "import os\nimport loopgrad\nchild = os.fork()\nif child == 0:\n    import wave\n    os._exit(0)\n"
        "print(os.waitpid(child, 0)[1])"
    )
    assert printed("import forking", tmp_path) == "0\n"
