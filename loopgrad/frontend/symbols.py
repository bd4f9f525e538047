"""What each name of a program stands for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from loopgrad.diagnostics import suggestion


class Place(NamedTuple):
    """A stretch of the text."""

    start: int
    end: int


@dataclass(slots=True)
class Tensor:
    """A tensor's number of axes (None where it is not known) and the place that says so."""

    name: str
    role: str  # "input", "result", "local" or "computed"
    rank: int | None
    place: Place


_ROLES = {
    "input": "an input",
    "result": "a result",
    "local": "a computed tensor",
    "computed": "a computed tensor",
}


@dataclass(slots=True)
class Symbols:
    """The names of one program, each in one of three tables.

    `unsure` where a part of the program that may define names could not be read: unknown names are
    then no mistakes.
    """

    tensors: dict[str, Tensor] = field(default_factory=dict)
    extents: dict[str, Place] = field(default_factory=dict)
    constants: dict[str, Place] = field(default_factory=dict)
    unsure: bool = False

    def kind_of(self, name: str) -> tuple[str, Place] | None:
        """What the name is, in words, and where that is said; None for an unknown one."""
        if tensor := self.tensors.get(name):
            return _ROLES[tensor.role], tensor.place
        if name in self.extents:
            return "an extent", self.extents[name]
        if name in self.constants:
            return "a constant", self.constants[name]
        return None

    def all_names(self) -> Iterator[str]:
        yield from self.tensors
        yield from self.extents
        yield from self.constants


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """The help for a name that may be a typo; None where no known one is like it."""
    close = suggestion(name, known)
    return f"did you mean `{close}`?" if close else None


def counted(number: int, thing: str) -> str:
    """`1 axis`, `2 axes`, `no axes`."""
    plural = {"axis": "axes", "index": "indices"}.get(thing, thing + "s")
    return f"{number or 'no'} {thing if number == 1 else plural}"
