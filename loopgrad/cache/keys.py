"""Names for what an answer depends on: a digest of all of it, this program's own source included."""

from __future__ import annotations

import hashlib
import os
import sys
from functools import cache

import numpy as np

import loopgrad

DIGEST_BYTES = 32


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

    Each source file with its size and times: a checkout under work is a new version with every edit.
    """
    parts = [loopgrad.__version__, sys.version, np.__version__, str(object.__basicsize__)]
    return key(*parts, repr(sorted(_files(os.path.dirname(loopgrad.__file__)))))


def _files(root: str) -> list[tuple[str, int, int, int]]:
    found = []
    folders = [root]
    for folder in folders:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.endswith((".py", ".loops")):
                    s = entry.stat()
                    found.append((entry.path, s.st_size, s.st_mtime_ns, s.st_ctime_ns))
                elif "." not in entry.name and entry.name != "__pycache__":
                    folders.append(entry.path)
    return found
