"""A function's answer from the disk, where an earlier process has left it there.

What is asked about and what is answered are the records of `ir`, `analysis.facts` and `diagnostics`, whole,
with the places in a text that they come from. They are pickled; reading lets nothing pass but those records.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import pickle
from collections.abc import Callable
from typing import Any, TypeVar

from loopgrad.cache import files, keys
from loopgrad.diagnostics import Source

Answer = TypeVar("Answer")

PROTOCOL = 5
RECORDS = frozenset(
    [
        "loopgrad.ir.nodes",
        "loopgrad.ir.operations",
        "loopgrad.analysis.facts",
        "loopgrad.diagnostics",
    ]
)
PLAIN = frozenset(["frozenset", "set", "complex"])


def kept(kind: str, given: Any, make: Callable[[], Answer]) -> Answer:
    """`make()`, or the answer that it once gave to what is pickled alike.

    kind: names the function. given: all that its answer depends on, beside loopgrad itself.
    """
    key = _key(kind, given)
    if key is None:
        return make()
    contents = files.read(kind, key)
    if contents is not None:
        try:
            answer: Answer = read(contents)
            return answer
        except Exception:  # whole, but not what this version writes: as good as none
            files.counts[f"unreadable {kind}"] += 1
    answer = make()
    with contextlib.suppress(RecursionError):
        files.write(kind, key, pickle.dumps(answer, PROTOCOL))
    return answer


def _key(kind: str, given: Any) -> str | None:
    """Where the answer is kept; None for nowhere."""
    if files.folder() is None:
        return None
    try:
        return keys.key(keys.program_version(), kind, spelled(given))
    except RecursionError:  # nested too deeply
        return None


def read(contents: bytes) -> Any:
    """A pickle of records. Raises UnpicklingError, and others, for anything else."""
    return _Records(io.BytesIO(contents)).load()


def spelled(value: Any) -> bytes:
    """The value as bytes: the same for values that are equal, their places included."""
    written = io.BytesIO()
    speller = _Speller(written, PROTOCOL)
    speller.fast = (
        True  # what is shared is written as if it were not: that is no property of a value
    )
    speller.dump(value)
    return written.getvalue()


class _Speller(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, Source):  # each place in it would hold it all
            return str, (keys.key(value.name, value.text),)
        return NotImplemented


class _Records(pickle.Unpickler):
    """Reads records alone: a pickle may otherwise call any function there is."""

    def find_class(self, module: str, name: str) -> Any:
        if module in RECORDS:
            found = getattr(importlib.import_module(module), name)
            if isinstance(found, type):
                return found
        elif module == "builtins" and name in PLAIN:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} is no record of a program")
