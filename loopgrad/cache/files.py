"""A private folder of small files, shared by processes: read if whole and ours, else as if absent.

Nothing here raises: whatever is wrong with the folder or a file, the answer is that there is nothing, and
the caller makes it anew. What is read is executed, so that it has to be this user's own: the folder and
its files belong to the user, nobody else can write them, and each file holds a checksum of its name and its
contents. The checksum finds damage, the permissions keep others out.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from loopgrad import forks

FORMAT = b"loopgrad 1\n"  # what a file begins with; another number for another layout
DIGEST_BYTES = 32
SUFFIX = ".loopgrad"  # of our files: no others are ever touched
LARGEST = 2**27  # bytes in the folder; beyond, those not used for longest are deleted
BLOCK = 4096  # what a file takes at least
LEAST = 0.75  # of which so much is left
SWEEP_EVERY = LARGEST // 16  # bytes written by this process between two looks at the size
FRESH = 3600.0  # seconds for which a file counts as just used, and a draft as being written

# "hit", "miss", "stored", "refused", each with the kind of file: for tests and the curious.
counts: Counter[str] = Counter()

_lock = threading.RLock()
forks.hold("cache", _lock)
# Since the last look at the size. By chance at first: of many short processes some have to look.
_written = SWEEP_EVERY * os.urandom(1)[0] // 256


def folder() -> Path | None:
    """Where the files are; None where nothing is to be kept. It need not exist.

    `LOOPGRAD_CACHE=0` or an empty `LOOPGRAD_CACHE_DIR` turns the cache off.
    """
    get = os.environ.get
    if get("LOOPGRAD_CACHE") == "0":
        return None
    chosen = get("LOOPGRAD_CACHE_DIR")
    if chosen is not None:
        return _chosen(chosen, get("HOME"))
    home = os.path.expanduser("~")
    local = get("LOCALAPPDATA") or home
    return _folder(get("XDG_CACHE_HOME", ""), home, local, sys.platform)


@lru_cache(maxsize=1)
def _chosen(name: str, _home: str | None) -> Path | None:
    return Path(os.path.expanduser(name)) if name else None


@lru_cache(maxsize=1)
def _folder(shared: str, home: str, local: str, platform: str) -> Path | None:
    if os.path.isabs(shared):
        return Path(shared, "loopgrad")
    if not os.path.isabs(home):
        return None
    if platform == "win32":
        return Path(local, "loopgrad", "Cache")
    if platform == "darwin":
        return Path(home, "Library", "Caches", "loopgrad")
    return Path(home, ".cache", "loopgrad")


def read(kind: str, key: str) -> bytes | None:
    """The contents kept under the key, None where there are none that can be trusted."""
    where = folder()
    contents = None
    if where is not None and _is_ours(where):
        contents = _read(os.fspath(where), _name(kind, key))
    counts[f"{'miss' if contents is None else 'hit'} {kind}"] += 1
    return contents


def write(kind: str, key: str, contents: bytes) -> None:
    """Keeps the contents, if it can. Others see the whole file or none."""
    where = folder()
    if where is None:
        return
    try:
        where.mkdir(0o700, parents=True, exist_ok=True)
        if not _is_ours(where):
            counts[f"refused {kind}"] += 1
            return
        name = _name(kind, key)
        _replace(where, name, FORMAT + _digest(name, contents) + contents)
    except OSError:
        counts[f"refused {kind}"] += 1
        return
    counts[f"stored {kind}"] += 1
    _sweep_if_due(where, max(len(contents), BLOCK))


def _name(kind: str, key: str) -> str:
    return f"{kind}-{key}{SUFFIX}"


def _read(where: str, name: str) -> bytes | None:
    try:
        data = _private_bytes(os.path.join(where, name))
    except OSError:
        return None
    if data is None:
        return None
    start = len(FORMAT) + DIGEST_BYTES
    digest, contents = data[len(FORMAT) : start], data[start:]
    if data[: len(FORMAT)] != FORMAT or digest != _digest(name, contents):
        return None
    return contents


def _private_bytes(path: str) -> bytes | None:
    """A file's bytes; None if anybody else may have written them. Marks it as used."""
    # A link would lead out of the folder; a pipe would make us wait.
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    descriptor = os.open(path, flags | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0))
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or not _is_private(status):
            return None
        if time.time() - status.st_mtime > FRESH:
            with contextlib.suppress(OSError):  # of a folder that cannot be written
                os.utime(path)
        return file.read()


def _is_ours(where: Path) -> bool:
    try:
        status = os.stat(where)
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and _is_private(status)


def _is_private(status: os.stat_result) -> bool:
    """Does it belong to this user, and can nobody else write it?"""
    if not hasattr(os, "geteuid"):
        return True  # Windows: the folder of the user's settings is the user's alone
    return status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _digest(name: str, contents: bytes) -> bytes:
    found = hashlib.blake2b(name.encode() + b"\0", digest_size=DIGEST_BYTES)
    found.update(contents)
    return found.digest()


def _replace(where: Path, name: str, data: bytes) -> None:
    import tempfile  # takes longer to load than to use, and is not needed to read

    descriptor, draft = tempfile.mkstemp(prefix=".draft-", suffix=SUFFIX, dir=where)  # mode 0600
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
        os.replace(draft, where / name)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(draft)
        raise


# ------------------------------------------------------------------------------------------ size


def _sweep_if_due(where: Path, size: int) -> None:
    global _written
    with _lock:
        _written += size
        if _written < SWEEP_EVERY:
            return
        _written = 0
    sweep(where)


def sweep(where: Path) -> None:
    """Deletes drafts that nobody finished and, where the folder is too large, the files least used."""
    now = time.time()
    files = sorted(_files(where))
    total = sum(size for _, size, _ in files)
    goal = LARGEST * LEAST if total > LARGEST else total
    for used, size, path in files:
        forgotten = os.path.basename(path).startswith(".draft-") and now - used > FRESH
        if total > goal or forgotten:
            with contextlib.suppress(OSError):
                os.unlink(path)
                total -= size


def _files(where: Path) -> Iterator[tuple[float, int, str]]:
    """When each was last used, its size and its path."""
    with contextlib.suppress(OSError), os.scandir(where) as entries:
        for entry in (e for e in entries if e.name.endswith(SUFFIX)):
            with contextlib.suppress(OSError):
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(status.st_mode):
                    yield status.st_mtime, max(status.st_size, BLOCK), entry.path
