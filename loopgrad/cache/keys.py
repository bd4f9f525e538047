"""Names for what an answer depends on: a digest of all of it, this program's own source included."""

from __future__ import annotations

import hashlib
import os
import sys
from functools import cache
from typing import TypeAlias

import numpy as np

import loopgrad

DIGEST_BYTES = 32

# Parts of loopgrad, none of whose code has a hand in an answer: what they do is done with answers.
WITHOUT_ANSWERS = frozenset(
    "checking commands cost edf examples exporting peers printers problems".split()
)
_PASSED_OVER = WITHOUT_ANSWERS | {"__pycache__", "jax", "torch"}  # the last two are in `interop`
_SOURCES = (".py", ".loops", ".ll")

_Mark: TypeAlias = tuple[str, int, int, int]  # of a file: its path, size, and two times


def key(*parts: str | bytes) -> str:
    """A name for the parts, in hexadecimal; other parts have another name."""
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


@cache
def program_version() -> str:
    """What stands for loopgrad itself, Python and NumPy: an answer of another version is no answer.

    Each source file that answers may come from, with its size and times: a checkout under work is a new
    version with every edit.
    Of an installed package, whose files nobody edits, its folders and the installer's list do.
    """
    parts = [loopgrad.__version__, sys.version, np.__version__, str(object.__basicsize__)]
    root = os.path.dirname(loopgrad.__file__)
    return key(*parts, repr(_installed(root) or _files(root) or _archive(root)))


def _installed(root: str) -> list[_Mark]:
    """The installer's list and the folders; nothing where there is no such list beside the package."""
    folder = os.path.dirname(root)
    record = os.path.join(folder, f"loopgrad-{loopgrad.__version__}.dist-info", "RECORD")
    try:
        return [_mark(record, os.stat(record)), *(_mark(f, os.stat(f)) for f in _folders(root))]
    except OSError:
        return []


def _files(root: str) -> list[_Mark]:
    """Those of the source that answers come from, by name; nothing where the package is no folder."""
    found: list[_Mark] = []
    folders = [root] if os.path.isdir(root) else []
    for folder in folders:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name
                if name.endswith(_SOURCES):
                    found.append(_mark(entry.path, entry.stat()))
                elif "." not in name and name not in _PASSED_OVER and entry.is_dir():
                    folders.append(entry.path)
    return sorted(found)


def _archive(path: str) -> list[_Mark]:
    """The file that the package is read from."""
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return [_mark(path, os.stat(path))]


def _folders(root: str) -> list[str]:
    """The package's, itself first."""
    found = [root]
    for folder in found:
        with os.scandir(folder) as entries:
            found += sorted(e.path for e in entries if e.is_dir() and e.name != "__pycache__")
    return found


def _mark(path: str, status: os.stat_result) -> _Mark:
    return path, status.st_size, status.st_mtime_ns, status.st_ctime_ns
