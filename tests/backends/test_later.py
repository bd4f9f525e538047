"""Code that no call waits for."""

from __future__ import annotations

import os
import threading

import pytest

from loopgrad.backends.llvm.compiling.later import LATER, Later


def test_a_fork_waits_for_what_is_being_made() -> None:
    later, goes_on, made, entered = Later(), threading.Event(), [], threading.Event()

    def make() -> None:
        goes_on.wait(30)
        made.append(1)

    def fork() -> None:
        with later, later:  # its holder may take it again
            assert made
            entered.set()

    later.make(make)
    waiting = threading.Thread(target=fork)
    waiting.start()
    assert not entered.wait(0.05)
    goes_on.set()
    waiting.join(30)
    assert entered.is_set()


def test_what_fails_is_done_without() -> None:
    later = Later()
    later.make(lambda: 1 // 0)
    with later:
        pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_has_what_was_being_made() -> None:
    made = list[int]()
    LATER.make(lambda: made.append(1))
    child = os.fork()
    if not child:
        os._exit(0 if made else 1)
    assert os.waitpid(child, 0)[1] == 0
