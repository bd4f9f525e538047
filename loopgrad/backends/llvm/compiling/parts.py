"""A module's text as two, of which code is generated at the same time.

A phase is a function that the entry calls or hands to threads, and those that it calls itself. Phases know
nothing of each other: some stay with the entry, the others make the second module. What they share, helpers
and constants, is in both.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

LEAST = 250  # lines of either: for fewer, a thread is not worth it
ONCE = 0.5  # of the time that a line takes, for one that is not optimised

_DEFINED = re.compile(
    r"^define .*?^}\n?|^@[\w.]+ = (?!external )[^\n]*\n?", re.DOTALL | re.MULTILINE
)
_NAME = re.compile(r"@([\w.]+)")
_INTERNAL = "define internal "


@dataclass(frozen=True)
class _Defined:
    """A function, or a constant."""

    name: str
    text: str
    calls: frozenset[str]

    @property
    def is_constant(self) -> bool:
        return self.head.startswith(f"@{self.name} = internal constant ")

    @property
    def is_shared(self) -> bool:
        """Is it in each module that needs it?"""
        return self.is_constant or "alwaysinline" in self.head

    @property
    def is_entry(self) -> bool:
        return not self.is_constant and not self.head.startswith(_INTERNAL)

    @property
    def head(self) -> str:
        return self.text.partition("\n")[0]

    @property
    def work(self) -> float:
        """In lines of what is optimised."""
        return self.text.count("\n") * (ONCE if "optnone" in self.head else 1.0)

    @property
    def seen(self) -> str:
        """Its text, for others to call it too."""
        return self.text.replace(_INTERNAL, "define ", 1)

    @property
    def declaration(self) -> str:
        head = self.head.rpartition("{")[0]
        return head.replace(_INTERNAL, "declare ", 1).replace("define ", "declare ", 1) + "\n"


def parts(text: str) -> tuple[str, ...]:
    """The texts of two modules that together are this one; the text alone where it is short, or one phase."""
    defined = {d.name: d for d in map(_read, _DEFINED.findall(text))}
    if any(d.head.startswith("@") and not d.is_constant for d in defined.values()):
        return (text,)
    entries = [d for d in defined.values() if d.is_entry]
    second, least = _second(defined, entries)
    if least < LEAST:
        return (text,)
    rest = _DEFINED.sub("", text)
    return (
        _module(rest, defined, [e.name for e in entries], seen=(), told=second),
        _module(rest, defined, second, seen=second, told=()),
    )


def _read(text: str) -> _Defined:
    names = _NAME.findall(text)
    return _Defined(names[0], text, frozenset(names[1:]))


def _phases(defined: Mapping[str, _Defined], entries: Iterable[_Defined]) -> list[str]:
    """The functions that the entries call, if through what is shared."""
    found: dict[str, None] = {}
    todo = [name for e in entries for name in e.calls]
    seen = set[str]()
    while todo:
        name = todo.pop()
        if name in seen or name not in defined or defined[name].is_entry:
            continue
        seen.add(name)
        if defined[name].is_shared:
            todo += defined[name].calls
        else:
            found[name] = None
    return [name for name in defined if name in found]


def _second(
    defined: Mapping[str, _Defined], entries: Sequence[_Defined]
) -> tuple[list[str], float]:
    """The phases that are about as long as what is left, and the work of the shorter half. The longest phase
    that is left goes where less is."""
    work = {phase: _work(defined, [phase]) for phase in _phases(defined, entries)}
    halves = [sum(e.work for e in entries), 0.0]
    second = []
    for phase in sorted(work, key=lambda p: -work[p]):
        place = halves.index(min(halves))
        halves[place] += work[phase]
        if place:
            second.append(phase)
    return second, min(halves)


def _work(defined: Mapping[str, _Defined], names: Iterable[str]) -> float:
    return sum(defined[name].work for name in _with_called(defined, names))


def _with_called(defined: Mapping[str, _Defined], names: Iterable[str]) -> list[str]:
    """These, and all that they call, in the order of the text."""
    found, todo = set[str](), [*names]
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += defined[name].calls & defined.keys()
    return [name for name in defined if name in found]


def _module(
    rest: str,
    defined: Mapping[str, _Defined],
    names: Iterable[str],
    seen: Iterable[str],
    told: Iterable[str],
) -> str:
    """Of these functions. seen: those that the other module calls. told: those that it has, and this one
    calls."""
    apart = {name: d for name, d in defined.items() if name not in told}
    own = _with_called(apart, names)
    texts = (defined[n].seen if n in seen else defined[n].text for n in own)
    return "\n".join([*(defined[n].declaration for n in told), *texts, rest])
