"""How many threads compiled code may use: what the user says, or what this process may have."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from operator import index
from pathlib import Path

LARGEST = 1024  # what the pool of threads has room for
VARIABLE = "LOOPGRAD_NUM_THREADS"

_count = ctypes.c_int64(0)  # 0: nobody has asked yet. Compiled code reads it at each call


def get_num_threads() -> int:
    """The number of threads that compiled programs use where they have enough work.

    At first that of the environment variable LOOPGRAD_NUM_THREADS; where it is not set, that of
    OMP_NUM_THREADS; else the number of processors that this process may use.

    Raises ValueError where LOOPGRAD_NUM_THREADS is not a number from 1 to 1024.

    >>> import loopgrad as lg
    >>> lg.get_num_threads() >= 1
    True
    """
    if not _count.value:
        _count.value = _from_environment() or processors()
    return _count.value


def set_num_threads(number: int) -> None:
    """Sets the number of threads of compiled programs, for all calls that begin from now on.

    1 means that a call runs in its own thread alone. Results are the same, to the bit, wherever and
    whenever a program runs with the same number; with another number, sums are added up in other
    groups.

    Raises ValueError where the number is not between 1 and 1024, TypeError where it is not a whole
    number.

    >>> import loopgrad as lg
    >>> before = lg.get_num_threads()
    >>> lg.set_num_threads(2)
    >>> lg.get_num_threads()
    2
    >>> lg.set_num_threads(before)
    """
    if isinstance(number, bool):
        raise TypeError("a number of threads is needed, got a bool")
    try:
        value = index(number)
    except TypeError:
        kind = type(number).__name__
        raise TypeError(f"a number of threads is needed, got {kind}") from None
    if not 1 <= value <= LARGEST:
        raise ValueError(f"the number of threads is from 1 to {LARGEST}, got {value}")
    _count.value = value


def address() -> int:
    """Where the number is, as an `i64`, for code that reads it at each call."""
    get_num_threads()
    return ctypes.addressof(_count)


def processors() -> int:
    """How many processors this process may use: by its affinity, and by its container's quota."""
    try:
        allowed = len(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # not every system knows affinities
        allowed = os.cpu_count() or 1
    quota = min(_quotas(), default=float(allowed))
    return max(1, min(allowed, int(quota), LARGEST))


def _from_environment() -> int | None:
    text = os.environ.get(VARIABLE, "").strip()
    if text:
        if not (text.isascii() and text.isdigit() and 1 <= int(text) <= LARGEST):
            raise ValueError(
                f"the environment variable {VARIABLE} is a number from 1 to {LARGEST}, not {text!r}"
            )
        return int(text)
    # OpenMP takes a list, a number for each level of nesting; what is wrong with it is its affair.
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if first.isascii() and first.isdigit() and int(first) >= 1:
        return min(int(first), LARGEST)
    return None


# ------------------------------------------------------------------------------------ control groups


def _quotas(
    root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")
) -> Iterator[float]:
    """The processors' time a second that each control group around this process allows."""
    for group in _groups(root, own):
        try:
            # version 2: "200000 100000", or "max 100000"; version 1: -1 where there is no limit
            both = _content(group / "cpu.max")
            if both is not None:
                quota, period = both.split()
            else:
                quota, period = (
                    _content(group / f"cpu.cfs_{name}_us") or "" for name in ("quota", "period")
                )
            if quota != "max" and int(quota) > 0:
                yield int(quota) / int(period)
        except (OSError, ValueError, ZeroDivisionError):
            continue


def _content(path: Path) -> str | None:
    """A file's text; None where there is no file."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return None


def _groups(root: Path, own: Path) -> Iterator[Path]:
    """The folders of the control groups that this process is in, innermost first."""
    try:
        lines = own.read_text("utf-8").splitlines()
    except (OSError, ValueError):
        return
    for line in lines:  # "0::/user.slice", or in version 1 "4:cpu,cpuacct:/docker/..."
        _, controllers, name = line.split(":", 2)
        if not controllers:
            top = root
        elif "cpu" in controllers.split(","):
            top = root / controllers
        else:
            continue
        group = top / name.lstrip("/")
        # A container may see its group as the root, under a name that is not there.
        while group != top and top in group.parents:
            yield group
            group = group.parent
        yield top
