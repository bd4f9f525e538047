"""A module's text as several, of which code is generated at the same time.

A phase is a function that the entry calls or hands to threads, and those that it calls itself. Phases know
nothing of each other: some stay with the entry, others make modules of their own, the first ones while the
text of the rest is not there yet. What they share, helpers and constants, is in each that needs it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

LEAST = 250  # lines of a module: for fewer, a thread is not worth it
ONCE = 0.5  # of the time that a line takes, for one that is not optimised

Kinds: TypeAlias = Mapping[str, Hashable]  # by names of functions

_DEFINED = re.compile(
    r"^define .*?^}\n?|^@[\w.]+ = (?!external )[^\n]*\n?", re.DOTALL | re.MULTILINE
)
_HEAD = re.compile(r"^define .*", re.MULTILINE)
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
    def is_rare(self) -> bool:
        """Is it not optimised? Then it is with the entry, where nothing is."""
        return "optnone" in self.head and not self.is_entry

    @property
    def is_alone(self) -> bool:
        """Is it in one module, but that of the entry?"""
        return not (self.is_shared or self.is_entry or self.is_rare)

    @cached_property
    def head(self) -> str:
        return self.text.partition("\n")[0]

    @cached_property
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


class Parts:
    """The parts of one module, whose text grows piece by piece; no piece is looked at twice."""

    def __init__(self) -> None:
        self._begun: list[str] = []  # functions in parts that are there already
        self._read: dict[
            str, tuple[list[_Defined], str]
        ] = {}  # piece -> what it defines; the rest of it

    def begun(self, pieces: Iterable[str], kinds: Kinds) -> str | None:
        """A part with what has come since the last one; None where that is little. kinds: of functions that
        are in no part with others."""
        found = self._found(pieces)
        if not found.may_be_cut:
            return None
        alone = [d.name for d in found.defined.values() if d.is_alone]
        new = [name for name in alone if name not in self._begun]
        own = next((kinds[name] for name in new if name in kinds), None)
        new = [name for name in new if kinds.get(name) == own]
        if own is None and _work(found.defined, new) < LEAST:
            return None
        part = found.module(new, seen=new, others=[*self._begun, *found.rare])
        self._begun += new
        return part

    def rest(self, pieces: Sequence[str], threads: int, kinds: Kinds) -> tuple[str, ...]:
        """The parts that are left when the text is whole; the first has what others ask for. threads: that
        generate code. kinds: as in `begun`."""
        found = self._found(pieces)
        if not self._begun and not found.may_be_cut:
            return ("\n".join(pieces),)
        entries = [d.name for d in found.defined.values() if d.is_entry]
        phases = [n for n in _phases(found.defined, entries) if n not in self._begun]
        plain = [name for name in phases if name not in kinds]
        groups = _groups(found.defined, [*entries, *found.rare], plain, threads)
        for kind in dict.fromkeys(kinds.values()):
            own = [name for name in phases if kinds.get(name) == kind]
            groups += [own] if own else []
        if len(groups) == 1 and not self._begun:
            return ("\n".join(pieces),)
        moved = [name for group in groups[1:] for name in group]
        return tuple(
            found.module(
                group, seen=group if i else found.rare, others=[*self._begun, *moved, *found.rare]
            )
            for i, group in enumerate(groups)
        )

    def _found(self, pieces: Iterable[str]) -> _Found:
        defined, rest = dict[str, _Defined](), list[str]()
        for piece in pieces:
            known = self._read.get(piece)
            if known is None:
                known = self._read[piece] = _read_all(piece)
            defined.update((d.name, d) for d in known[0])
            rest.append(known[1])
        return _Found(defined, "\n".join(rest))


@dataclass(frozen=True)
class _Found:
    """What a text defines, and all else in it."""

    defined: Mapping[str, _Defined]
    rest: str

    @property
    def may_be_cut(self) -> bool:
        """Variables would be there several times."""
        return not any(d.head.startswith("@") and not d.is_constant for d in self.defined.values())

    @property
    def rare(self) -> list[str]:
        """The functions that are with the entry wherever they are called."""
        return [name for name, d in self.defined.items() if d.is_rare]

    def module(self, names: Iterable[str], seen: Collection[str], others: Collection[str]) -> str:
        """Of these functions. seen: those that other modules call. others: those that are elsewhere, which
        this one may call."""
        elsewhere = set(others) - set(names)
        apart = {name: d for name, d in self.defined.items() if name not in elsewhere}
        own = _with_called(apart, names)
        called = set().union(*(self.defined[n].calls for n in own)) & elsewhere
        texts = (self.defined[n].seen if n in seen else self.defined[n].text for n in own)
        told = (self.defined[n].declaration for n in self.defined if n in called)
        return "\n".join([*told, *texts, self.rest])


def defines(part: str, name: str) -> bool:
    return re.search(rf"^define .*?@{re.escape(name)}\(", part, re.MULTILINE) is not None


def stands_alone(function: str) -> bool:
    """Is the function, a whole text, in one part, but that of the entry?"""
    return _read(function).is_alone


def runs_once(part: str) -> bool:
    """Is it long, and in nothing but functions that run once a call, of which none is optimised?"""
    heads = _HEAD.findall(part)
    return part.count("\n") >= LEAST and all("optnone" in head for head in heads)


def _read_all(piece: str) -> tuple[list[_Defined], str]:
    """What is defined, and all else."""
    if piece.startswith("define ") and piece.find("\n}") == len(piece) - 3:
        return [_read(piece)], ""  # a function, as each is that is a piece of a module
    return [_read(text) for text in _DEFINED.findall(piece)], _DEFINED.sub("", piece)


def _read(text: str) -> _Defined:
    names = _NAME.findall(text)
    return _Defined(names[0], text, frozenset(names[1:]))


def _phases(defined: Mapping[str, _Defined], entries: Iterable[str]) -> list[str]:
    """The functions that the entries call, if through what is shared or rare."""
    found: dict[str, None] = {}
    todo = [name for e in entries for name in defined[e].calls]
    seen = set[str]()
    while todo:
        name = todo.pop()
        if name in seen or name not in defined or defined[name].is_entry:
            continue
        seen.add(name)
        if defined[name].is_shared or defined[name].is_rare:
            todo += defined[name].calls
        else:
            found[name] = None
    return [name for name in defined if name in found]


def _groups(
    defined: Mapping[str, _Defined], entries: list[str], phases: Sequence[str], threads: int
) -> list[list[str]]:
    """The entries, and what else is in their module; and the phases of other modules. There are no more of
    these than twice as many as threads, so that who is ready takes the next."""
    work = {phase: _work(defined, [phase]) for phase in phases}
    groups, small, of_small = [], [*entries], sum(defined[e].work for e in entries)
    enough = max(LEAST, (sum(work.values()) + of_small) / (2 * threads))
    for phase in sorted(phases, key=lambda p: -work[p]):
        if work[phase] >= enough or of_small >= enough:
            groups.append([phase])
        else:
            small.append(phase)
            of_small += work[phase]
    while groups and of_small < LEAST:
        more = groups.pop()
        small += more
        of_small += sum(work[phase] for phase in more)
    return [small, *_together(groups, work, enough)]


def _together(
    groups: Iterable[list[str]], work: Mapping[str, float], enough: float
) -> list[list[str]]:
    """The same, of which none but the last is short."""
    found: list[list[str]] = []
    for group in groups:
        if found and sum(work[phase] for phase in found[-1]) < enough:
            found[-1] += group
        else:
            found.append([*group])
    if len(found) > 1 and sum(work[phase] for phase in found[-1]) < LEAST:
        last = found.pop()
        found[-1] += last
    return found


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
