"""Names of the notation as Python identifiers: `s.grad` -> `s_grad`, `x'` -> `x_prime`."""

from __future__ import annotations

import builtins
import keyword
import unicodedata

# What the printed function itself says; a name of the program that is one of these gets a `_`.
TAKEN = frozenset(
    {*keyword.kwlist, *keyword.softkwlist, *dir(builtins)}
    | {"np", "math", "dtype", "statement"}
    | {"at", "done", "begin", "floor", "power", "sigmoid", "softplus", "erf"}
)


class Identifiers:
    """A legal and distinct identifier for each (kind, name), given out on first use.

    Kinds keep apart what the notation keeps apart: a tensor and an index of one name.
    """

    def __init__(self) -> None:
        self._of: dict[tuple[str, str], str] = {}
        self._used: set[str] = set(TAKEN)

    def of(self, kind: str, name: str) -> str:
        if (kind, name) not in self._of:
            self._of[kind, name] = self.fresh(legal(name))
        return self._of[kind, name]

    def fresh(self, wanted: str) -> str:
        """`wanted`, with as many `_` behind it as make it a name that nothing else has."""
        while wanted in self._used:
            wanted += "_"
        self._used.add(wanted)
        return wanted

    def renamed(self, kind: str) -> list[tuple[str, str]]:
        """The (name, identifier) pairs of that kind that differ."""
        return [(n, i) for (k, n), i in self._of.items() if k == kind and n != i]


def legal(name: str) -> str:
    """The name as Python would see it (NFKC), dots and primes spelled with letters."""
    text = name.replace(".", "_").replace("'", "_prime")
    text = unicodedata.normalize("NFKC", text)
    text = "".join(c if ("_" + c).isidentifier() else "_" for c in text)
    return text if text.isidentifier() else "_" + text
