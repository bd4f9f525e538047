"""Checkpoints: the arrays of a training and what they belong to, in one file that is whole or absent.

A file is NumPy's `.npz`, read without pickle. It is written beside its place, forced to the disk, and
moved there in one step, so that at any moment there is the old one or the new one, never a part of one.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import tempfile
import time
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FORMAT = 1
ABOUT = "about.json"
FORGOTTEN = 3600.0  # seconds after which a draft has nobody who still writes it

Array = NDArray[Any]


class CheckpointError(ValueError):
    """A checkpoint that cannot be read, or is another's; the message is for the user."""


@dataclass(frozen=True)
class Checkpoint:
    """kind: which example it is of. settings: what has to be the same to go on from it.

    data: a fingerprint of what was trained on. step: how many are done. by: what else decides about
    the last bits, such as the number of threads.
    """

    kind: str
    settings: Mapping[str, Any]
    data: str
    step: int
    arrays: Mapping[str, Array]
    by: Mapping[str, Any] = field(default_factory=dict)


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Writes the file, replacing one of that name. Raises OSError, and then leaves the old one."""
    contents = _encoded(checkpoint)
    path = Path(os.path.realpath(path))  # a link stays, what it leads to is replaced
    _sweep(path)
    descriptor, draft = tempfile.mkstemp(prefix=_draft_of(path), dir=path.parent)
    try:
        with open(descriptor, "wb") as file:
            file.write(contents)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(draft)
        raise
    _sync_folder(path.parent)


def load(path: Path, kind: str) -> Checkpoint:
    """What was saved. Raises CheckpointError, which says what the file is instead."""
    try:
        contents = path.read_bytes()
    except FileNotFoundError:
        raise CheckpointError(f"there is no checkpoint {path}") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from None
    about, arrays = _decoded(path, contents)
    if about["kind"] != kind:
        raise CheckpointError(f"{path} is a checkpoint of `{about['kind']}`, not of `{kind}`")
    return Checkpoint(kind, about["settings"], about["data"], about["step"], arrays, about["by"])


# --------------------------------------------------------------------------------------- contents


def _encoded(checkpoint: Checkpoint) -> bytes:
    arrays = {name: np.ascontiguousarray(array) for name, array in checkpoint.arrays.items()}
    about = {
        "format": FORMAT,
        "kind": checkpoint.kind,
        "settings": dict(checkpoint.settings),
        "data": checkpoint.data,
        "step": checkpoint.step,
        "by": dict(checkpoint.by),
    }
    about["digest"] = _digest(about, arrays)
    text = np.frombuffer(json.dumps(about).encode(), np.uint8)
    file = io.BytesIO()
    members: dict[str, Any] = {ABOUT: text, **arrays}
    np.savez(file, **members)
    return file.getvalue()


def _decoded(path: Path, contents: bytes) -> tuple[dict[str, Any], dict[str, Array]]:
    try:
        with np.load(io.BytesIO(contents), allow_pickle=False) as file:
            found = {name: file[name] for name in file.files}
        about = json.loads(found.pop(ABOUT).tobytes())
        written = about.pop("digest")
        version = about["format"]
    except (ValueError, KeyError, TypeError, AttributeError, OSError, EOFError) as error:
        raise CheckpointError(f"{path} is no checkpoint, or a damaged one: {error}") from None
    except (zipfile.BadZipFile, NotImplementedError, MemoryError, OverflowError) as error:
        raise CheckpointError(f"{path} is no checkpoint, or a damaged one: {error}") from None
    if version != FORMAT:
        raise CheckpointError(
            f"{path} has format {version}; this version of loopgrad reads {FORMAT}"
        )
    if written != _digest(about, found):
        raise CheckpointError(f"{path} is damaged: its contents do not fit its checksum")
    return about, found


def _digest(about: Mapping[str, Any], arrays: Mapping[str, Array]) -> str:
    found = hashlib.blake2b(json.dumps(about, sort_keys=True).encode(), digest_size=32)
    for name, array in sorted(arrays.items()):
        found.update(f"{name} {array.dtype.str} {array.shape}".encode())
        found.update(array.tobytes())
    return found.hexdigest()


# ------------------------------------------------------------------------------------------ files


def _draft_of(path: Path) -> str:
    return f".{path.name}.draft-"


def _sweep(path: Path) -> None:
    """Deletes the drafts of writers that were killed."""
    for draft in path.parent.glob(f"{_escaped(_draft_of(path))}*"):
        with contextlib.suppress(OSError):
            if time.time() - draft.stat().st_mtime > FORGOTTEN:
                draft.unlink()


def _escaped(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def _sync_folder(folder: Path) -> None:
    """Makes the move last through a loss of power, where the system has that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
