"""A function's answer from the disk, where an earlier process has left it there.

What is asked about and what is answered are the records of `ir`, `analysis.facts` and `diagnostics`, whole,
with the places in a text that they come from, and programs with what is known of them. They are pickled;
reading lets nothing pass but those records. What is large, and seldom asked for, is a pickle within the
pickle, which is read when it is asked for. Small records are written as calls of their classes: they are read
three times as fast as with the state that `dataclasses` gives them.
"""

from __future__ import annotations

import contextlib
import copyreg
import importlib
import io
import pickle
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from dataclasses import fields as fields_of
from typing import Any, TypeVar

from loopgrad.cache import files, keys
from loopgrad.diagnostics import Source
from loopgrad.ir.deferred import PACKED, Deferred
from loopgrad.ir.memo import FINAL
from loopgrad.ir.nodes import Program

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

ORIGIN = "_origin"  # on a program: a name for it, where it is an answer
PROOFS = (  # what was found out about a program: answers of `once_per_program`
    "_loopgrad.frontend.unfold.unfold",
    "_loopgrad.analysis.infer.infer",
    "_loopgrad.analysis.validity.validate",
)
NEW = "_new"  # on a program: it is an answer that this process has made
KNOWN = (FINAL, ORIGIN, *PROOFS)  # what goes along with a program


def kept(
    kind: str,
    given: Any,
    make: Callable[[], Answer],
    worth: Callable[[Answer], bool] = lambda _: True,
) -> Answer:
    """`make()`, or the answer that it once gave to what is spelled alike.

    kind: names the function. given: all that its answer depends on, beside loopgrad itself.
    worth: whether an answer may be kept.
    """
    key = _key(kind, given)
    if key is None:
        return _as_new(make())
    contents = files.read(kind, key)
    if contents is not None:
        try:
            found: Answer = read(contents)
            return found
        except Exception:  # whole, but not what this version writes: as good as none
            files.counts[f"unreadable {kind}"] += 1
    answer = _as_new(make())
    _name(answer, key)
    if worth(answer):
        with contextlib.suppress(RecursionError):
            files.write(kind, key, written(answer))
    return answer


def _key(kind: str, given: Any) -> str | None:
    """Where the answer is kept; None for nowhere."""
    if files.folder() is None:
        return None
    try:
        return keys.key(keys.program_version(), kind, spelled(given))
    except RecursionError:  # nested too deeply
        return None


def name_by_contents(program: Program) -> None:
    """Names a program that is going to be part of an answer, so that what is kept of it until then, and what
    another process looks for, has one name."""
    if files.folder() is not None:
        with contextlib.suppress(RecursionError):
            name = keys.key(keys.program_version(), ORIGIN, spelled(program))
            program.__dict__.setdefault(ORIGIN, name)


def is_new(program: Program) -> bool:
    """Is it an answer that no earlier process has given?"""
    return NEW in program.__dict__


def _name(answer: object, key: str) -> None:
    """Programs that are answers are named by what was asked, which is shorter than they are."""
    for number, program in _programs(answer):
        program.__dict__.setdefault(ORIGIN, f"{key}.{number}")


def _as_new(answer: Answer) -> Answer:
    for _, program in _programs(answer):
        program.__dict__[NEW] = True
    return answer


def _programs(answer: object) -> Iterator[tuple[int, Program]]:
    for number, part in enumerate(answer if isinstance(answer, tuple) else (answer,)):
        if isinstance(part, Program):
            yield number, part


def read(contents: bytes) -> Any:
    """A pickle of records. Raises UnpicklingError, and others, for anything else."""
    return _Records(io.BytesIO(contents)).load()


def written(answer: Any) -> bytes:
    """What `read` reads."""
    into = io.BytesIO()
    _Writer(into, PROTOCOL).dump(answer)
    return into.getvalue()


@dataclass(frozen=True)
class Packed:
    """Fields of a record, and the texts that they point into, which the pickle around them holds."""

    contents: bytes
    sources: tuple[Source, ...]

    def __call__(self) -> Mapping[str, Any]:
        """The fields, by name."""
        found: Mapping[str, Any] = _Records(io.BytesIO(self.contents), self.sources).load()
        return found


def packed(fields: Mapping[str, Any]) -> Packed:
    """What gives these fields."""
    into = io.BytesIO()
    sources: list[Source] = []
    _Writer(into, PROTOCOL, sources).dump(fields)
    return Packed(into.getvalue(), tuple(sources))


def spelled(value: Any) -> bytes:
    """The value as bytes: the same for values that are equal, their places included."""
    into = io.BytesIO()
    speller = _Speller(into, PROTOCOL)
    # What is shared is written as if it were not: that is no property of a value.
    speller.fast = True
    speller.dump(value)
    return into.getvalue()


class _Writer(pickle.Pickler):
    """sources: the texts that are left to the pickle around this one; None for none."""

    def __init__(self, into: io.BytesIO, protocol: int, sources: list[Source] | None = None):
        super().__init__(into, protocol)
        self._sources = sources

    def persistent_id(self, value: Any) -> int | None:
        if self._sources is None or type(value) is not Source:
            return None
        if value not in self._sources:
            self._sources.append(value)
        return self._sources.index(value)

    def reducer_override(self, value: Any) -> Any:
        if not isinstance(value, Deferred):
            return _as_call(value)
        field = type(value).deferred
        state = {field: getattr(value, field)}
        given = vars(value).items()
        state |= {name: part for name, part in given if name[0] != "_" or name in KNOWN}
        state[PACKED] = packed({field: state.pop(field)})
        return copyreg.__newobj__, (type(value),), state  # type: ignore[attr-defined]


_slots: dict[type, tuple[str, ...]] = {}


def _as_call(value: Any) -> Any:
    """A small record as its class, to be called with its fields; any other value as it is usual."""
    kind = type(value)
    names = _slots.get(kind)
    if names is None:  # fields are all that a record has that has slots
        small = {"__slots__", "__dataclass_fields__"} <= vars(kind).keys()
        names = _slots[kind] = tuple(f.name for f in fields_of(kind)) if small else ()
    return (kind, tuple([getattr(value, name) for name in names])) if names else NotImplemented


class _Speller(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, Source):  # each place in it would hold it all
            return str, (keys.key(value.name, value.text),)
        if isinstance(value, Program) and ORIGIN in value.__dict__:
            return str, (value.__dict__[ORIGIN],)
        return _as_call(value)


class _Records(pickle.Unpickler):
    """Reads records alone: a pickle may otherwise call any function there is."""

    def __init__(self, contents: io.BytesIO, sources: tuple[Source, ...] = ()):
        super().__init__(contents)
        self._sources = sources

    def persistent_load(self, number: int) -> Source:
        return self._sources[number]

    def find_class(self, module: str, name: str) -> Any:
        if module in RECORDS:
            found = getattr(sys.modules.get(module) or importlib.import_module(module), name)
            if isinstance(found, type):
                return found
        elif module == "builtins" and name in PLAIN:
            return super().find_class(module, name)
        elif (module, name) == (__name__, Packed.__name__):
            return Packed
        raise pickle.UnpicklingError(f"{module}.{name} is no record of a program")
