"""Arrays from files and the command line, and back: .npy, .npz, numbers as text."""

from __future__ import annotations

import ast
import contextlib
import io
import os
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopgrad.commands.mistakes import Mistake
from loopgrad.commands.sources import STANDARD_INPUT
from loopgrad.diagnostics import listing

TEXT_ENDINGS = (".txt", ".csv", ".tsv", ".dat")


def value(text: str, rank: int) -> Any:
    """What stands behind `name=`: a number, a list of numbers, or the array in a file.

    `file.npz:key` names an array of an archive; `-` reads numbers from standard input. A table of
    text has rows and columns; where `rank` is 1, a single row or column is a list.
    """
    for convert in (int, float):
        with contextlib.suppress(ValueError):
            return convert(text)
    if text in ("true", "false", "True", "False"):
        return text.lower() == "true"
    if text.startswith("["):
        return _listed(text)
    if text == STANDARD_INPUT:
        return _table(sys.stdin.read(), "standard input", rank)
    return load(text, rank)


def _listed(text: str) -> NDArray[Any]:
    try:
        numbers = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise Mistake(f"`{_short(text)}` is no list of numbers") from None
    try:
        array = np.array(numbers)
    except (ValueError, TypeError, OverflowError):
        array = np.array(None)
    if array.dtype.kind not in "biuf":
        raise Mistake(f"`{_short(text)}` is no rectangular list of numbers")
    return array.astype(np.float64) if array.size == 0 else array


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."


def load(file: str, rank: int) -> NDArray[Any]:
    """The array in a file (of rank `rank`, if it is text). Raises Mistake, saying what the file is not."""
    path, _, key = file.rpartition(":")
    if not path or Path(file).exists() or not Path(path).exists():
        path, key = file, ""
    try:
        data = Path(path).read_bytes()
    except (OSError, ValueError) as error:
        reason = "there is no such file" if isinstance(error, FileNotFoundError) else str(error)
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
            reason = (error.strerror or str(error)).lower()
        raise Mistake(f"cannot read `{path}`: {reason}") from None
    if data.startswith(b"PK") or path.endswith(".npz"):
        return _from_archive(path, data, key)
    if data.startswith(b"\x93NUMPY") or path.endswith(".npy"):
        return _from_npy(path, data)
    try:
        return _table(data.decode("utf-8"), f"`{path}`", rank)
    except UnicodeDecodeError:
        raise Mistake(f"`{path}` is neither .npy, nor .npz, nor text with numbers") from None


def _from_npy(name: str, data: bytes) -> NDArray[Any]:
    try:
        array = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    except Exception as error:  # NumPy's reader has no single error of its own
        raise Mistake(f"`{name}` is no array that NumPy can read: {error}") from None
    if array.dtype.kind not in "biuf":
        raise Mistake(f"`{name}` holds {array.dtype}, and numbers are needed")
    found: NDArray[Any] = array
    return found


def _from_archive(path: str, data: bytes, key: str) -> NDArray[Any]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = [n.removesuffix(".npy") for n in archive.namelist() if n.endswith(".npy")]
            if not key and len(names) == 1:
                key = names[0]
            if key in names:
                return _from_npy(f"{path}:{key}", archive.read(f"{key}.npy"))
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise Mistake(f"`{path}` is no .npz archive that can be read: {error}") from None
    if not names:
        raise Mistake(f"`{path}` holds no arrays")
    example = f"say which, as in {path}:{names[0]}" if not key else f"and no `{key}`"
    raise Mistake(f"`{path}` holds {listing(names)}: {example}")


def _table(text: str, name: str, rank: int) -> NDArray[Any]:
    """Rows of numbers, separated by spaces or commas; whole numbers where all are."""
    if not text.strip():
        raise Mistake(f"{name} holds no numbers")
    rows = text.replace(",", " ").replace("\t", " ").splitlines()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # an empty file is only warned of
            table = np.loadtxt(rows, dtype=np.float64, ndmin=2)
    except (ValueError, UserWarning) as error:
        message = str(error).split("\n")[0]
        raise Mistake(f"{name} holds no table of numbers: {message}") from None
    array: NDArray[Any] = table
    if rank < 2 and 1 in array.shape:
        array = array.reshape(-1) if rank else array.reshape(array.shape if array.size > 1 else ())
    if array.size and not any(c in text for c in ".enEN") and np.all(np.abs(array) < 2**53):
        return array.astype(np.int64)
    return array


# ------------------------------------------------------------------------------------------ output


def save(file: str, results: Mapping[str, NDArray[Any]]) -> None:
    """Writes .npz with every result by its name, or .npy, .txt or .csv with the only one."""
    ending = Path(file).suffix.lower()
    if ending == ".npz":
        data = _archive(results)
    elif ending != ".npy" and ending not in TEXT_ENDINGS:
        raise Mistake(f"`{file}` has to end in .npz, .npy, .txt or .csv")
    elif len(results) > 1:
        raise Mistake(f"there are {len(results)} results: write them to an .npz, not to `{file}`")
    else:
        (array,) = results.values()
        data = _npy(array) if ending == ".npy" else _text(file, array)
    _write(Path(file), data)


def _archive(results: Mapping[str, NDArray[Any]]) -> bytes:
    # Not `np.savez`: it takes names as keywords, and a result may be named `file`.
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, array in results.items():
            archive.writestr(f"{name}.npy", _npy(array))
    return stream.getvalue()


def _npy(array: NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.asanyarray(array), allow_pickle=False)
    return stream.getvalue()


def _text(file: str, array: NDArray[Any]) -> bytes:
    if array.ndim > 2:
        raise Mistake(f"text holds two axes at most, and the result has {array.ndim}: use .npy")
    stream = io.StringIO()
    separator = "," if file.lower().endswith(".csv") else " "
    form = "%d" if array.dtype.kind in "iu" else "%.17g"
    np.savetxt(stream, np.atleast_1d(array), fmt=form, delimiter=separator)
    return stream.getvalue().encode()


def _write(path: Path, data: bytes) -> None:
    """Writes beside the file, then renames: there is never half a file of that name."""
    try:
        if path.exists() and not path.is_file():  # /dev/stdout, a pipe
            path.write_bytes(data)
            return
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(data)
            mask = os.umask(0)
            os.umask(mask)
            os.chmod(temporary, 0o666 & ~mask)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
    except OSError as error:
        raise Mistake(f"cannot write `{path}`: {(error.strerror or str(error)).lower()}") from None


MANY = 100  # elements, beyond which a summary says more


def describe(name: str, array: NDArray[Any]) -> str:
    """A result for people: all of a small array, the size and range of a large one."""
    array = np.asarray(array)
    shape = "[" + ",".join(map(str, array.shape)) + "]" if array.ndim else ""
    head = f"{name}{shape} {array.dtype}"
    if array.size == 0:
        return f"{head}: no elements"
    if array.ndim == 0:
        return f"{head}: {array.item()!r}"
    if array.size <= MANY:
        body = np.array2string(array, max_line_width=100, separator=", ")
        return f"{head}:\n{body}"
    with np.errstate(all="ignore"):
        low, high, mean = array.min(), array.max(), array.mean()
    return f"{head}: {low:.6g} to {high:.6g}, mean {mean:.6g}"
