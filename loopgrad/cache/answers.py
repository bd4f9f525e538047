"""A function's answer from the disk, where an earlier process has left it there.

What is asked about and what is answered are the records of `ir`, `analysis.facts` and `diagnostics`, whole,
with the places in a text that they come from. They are pickled; reading lets nothing pass but those records.
"""

from __future__ import annotations

import importlib
import io
import pickle
from collections.abc import Callable
from typing import Any, TypeVar

from loopgrad.cache import files, keys

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
    if files.folder() is None:
        return make()
    key = keys.key(keys.program_version(), kind, pickle.dumps(given, PROTOCOL))
    contents = files.read(kind, key)
    if contents is not None:
        try:
            answer: Answer = _Records(io.BytesIO(contents)).load()
            return answer
        except Exception:  # whole, but not what this version writes: as good as none
            files.counts[f"unreadable {kind}"] += 1
    answer = make()
    files.write(kind, key, pickle.dumps(answer, PROTOCOL))
    return answer


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
