"""Programs by name: `lg.program` on a text, `lg.load` on a file, and the standard library."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from loopgrad.cache.answers import kept
from loopgrad.diagnostics import Diagnostic, ProgramError, Source, Span, listing, suggestion
from loopgrad.ir.nodes import Comments, Program
from loopgrad.ir.printer import called_programs

if TYPE_CHECKING:
    from loopgrad.frontend.families import Family

FOLDER = Path(__file__).parent.parent / "lib"


def program(text: str) -> Program:
    """The last program of a text; it may call those above it, and the standard library's.

    Raises ProgramError, holding every mistake found, and TypeError for what is no text.

    >>> print(program("double(x[N]) -> y[N]:\\n    y[n] = 2 * x[n]"))
    double(x[N]) -> y[N]:
        for n:  y[n] = 2 * x[n]
    """
    if not isinstance(text, str):
        raise TypeError(f"a program is given as a text, not as {type(text).__name__}")
    return read_programs(text, "<text>")[-1]


def load(path: str | os.PathLike[str]) -> Module:
    """The programs of a `.loops` file, by name: `load("layers.loops").softmax`.

    Raises ProgramError for mistakes in the file, and OSError where it cannot be read.
    """
    name = os.fspath(path)
    programs = read_programs(_decoded(Path(name).read_bytes(), name), name)
    return Module(name, {p.name: p for p in programs})


def read_programs(
    text: str, name: str, library: Mapping[str, Program] | None = None
) -> tuple[Program, ...]:
    """The programs of a text, each of them found to keep the rules of the notation.

    `name` is what errors call the text; `library` holds what it may call, by default the standard library.
    Raises ProgramError, with the mistakes of all of them.
    """
    if library is not None:
        return _read(text, name, library)
    return kept("text", (text, name), lambda: _read(text, name), _silent)


def _silent(programs: tuple[Program, ...]) -> bool:
    """Is nothing said of them? Warnings are for each process."""
    from loopgrad.analysis.unused import unused

    return not any(map(unused, programs))


def _read(
    text: str, name: str, library: Mapping[str, Program] | None = None
) -> tuple[Program, ...]:
    from loopgrad.frontend.parser import read_text  # large, and not needed for what is kept
    from loopgrad.frontend.sound import in_header

    found, sound, report = read_text(text, name, library)
    broken: set[Program] = set()
    for one in found:
        if not broken.isdisjoint(called_programs(one)):
            broken.add(one)
        elif mistakes := list(_mistakes(one)):
            broken.add(one)
            report.add_all(mistakes)
    for part in sound:
        # What is said of the header may be the work of the statements that are left out.
        report.add_all(d for d in _mistakes(part, warn=False) if not in_header(d, part))
    report.raise_if_any()
    if not found:
        raise ProgramError(
            Diagnostic(
                f"{name} holds no program",
                Span(Source(text, name), 0, 0),
                "a program looks like `double(x[N]) -> y[N]:`, with statements below it, indented",
            )
        )
    return tuple(found)


def _mistakes(program: Program, warn: bool = True) -> Iterator[Diagnostic]:
    """What the passes find: those of one pass, then what later ones say of the rest, and so on."""
    from loopgrad.frontend.sound import sound_part
    from loopgrad.pipeline import verify  # stands above the ways in

    rest: Program | None = program
    while rest is not None:
        try:
            verify(rest, warn=warn)
            return
        except ProgramError as error:
            yield from error.diagnostics
            part = sound_part(rest, error.diagnostics)
            # A line such as `for t:` names no tensor: then nothing is left out.
            rest, warn = None if part == rest else part, False


def _decoded(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8", "replace")
        text = before + "\N{REPLACEMENT CHARACTER}"
        raise ProgramError(
            Diagnostic(
                f"{name} is not UTF-8: the byte 0x{data[error.start]:02x} has no meaning here",
                Span(Source(text, name), len(before), len(text)),
                "save the file as UTF-8",
            )
        ) from None


class Module(Mapping[str, Program]):
    """Programs by name: `module.softmax`, `module["softmax.backward"]`.

    Names with dots or primes are reached as items. Iteration gives the names, in the file's order.
    """

    def __init__(self, name: str, programs: Mapping[str, Program]):
        self._name = name
        self._programs = programs

    def __getitem__(self, name: str) -> Program:
        if name in self._programs:
            return self._programs[name]
        raise KeyError(self._missing(name))

    def __getattr__(self, name: str) -> Program:
        if not name.startswith("_") and name in self._programs:
            return self._programs[name]
        raise AttributeError(self._missing(name) if name[:1] != "_" else name)

    def _missing(self, name: str) -> str:
        close = suggestion(name, self._programs)
        known = listing(list(self._programs)[:12])
        more = f": did you mean `{close}`?" if close else f"; there is {known}" if known else ""
        return f"{self._name} has no program `{name}`{more}"

    def __iter__(self) -> Iterator[str]:
        return iter(self._programs)

    def __len__(self) -> int:
        return len(self._programs)

    def __contains__(self, name: object) -> bool:
        return name in self._programs

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *(n for n in self._programs if n.isidentifier())]

    def __repr__(self) -> str:
        return f"<{self._name}: {', '.join(self._programs) or 'no programs'}>"


class StandardLibrary(Mapping[str, Program]):
    """The programs of `loopgrad/lib/*.loops`; each is parsed when it is needed, without the others."""

    def __init__(self) -> None:
        self._parsed: dict[str, Program] = {}

    @cached_property
    def _texts(self) -> dict[str, str]:
        found = sorted(FOLDER.glob("*.loops"))
        return {f.name: _decoded(f.read_bytes(), f.name) for f in found}

    @cached_property
    def _files(self) -> dict[str, str]:
        """The name of each program -> the file that holds it."""
        return kept("names", "of the library", self._found)

    def _found(self) -> dict[str, str]:
        """The same, without parsing."""
        from loopgrad.frontend.families import HEADER

        return {name: file for file, text in self._texts.items() for name in HEADER.findall(text)}

    @cached_property
    def families(self) -> dict[str, Family]:
        """What each file says of itself and of its programs."""
        from loopgrad.frontend.families import read_family

        names = {Path(file).stem: text for file, text in self._texts.items()}
        return {name: read_family(name, text) for name, text in names.items()}

    def __getitem__(self, name: str) -> Program:
        if name not in self._parsed:
            file = self._files[name]
            one = kept("library", (file, name), lambda: self._read(file, name))
            self._parsed.setdefault(name, one)
        return self._parsed[name]

    def _read(self, file: str, name: str) -> Program:
        from loopgrad.frontend.families import alone, read_family
        from loopgrad.frontend.parser import parse

        text = self._texts[file]
        (one,) = parse(alone(text, name), f"loopgrad/lib/{file}", library=self)
        one.__dict__["is_library"] = True
        # What stands at the top of the file is no comment on its first program.
        one.__dict__["comments"] = Comments(
            tuple(read_family(file, text).programs[name].splitlines())
        )
        return one

    def __contains__(self, name: object) -> bool:
        return name in self._files

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


class Library(Module):
    """Layers in the notation: `lg.lib.softmax` prints, runs and differentiates.

    `lg.lib`, printed, lists the families, which are files of `loopgrad/lib`. The text above a program
    is its `description`. `docs/gallery` has all of them with their gradients.

    >>> import loopgrad as lg
    >>> print(lg.lib.softmin)
    softmin(s[B,J]) -> p[B,J]:
        for b, j:  Z[b]   += exp(-s[b,j])
        for b, j:  p[b,j] += exp(-s[b,j]) / Z[b]
    >>> lg.lib.softmin.description
    'softmax(-s)'
    """

    def __init__(self, programs: StandardLibrary):
        super().__init__("loopgrad.lib", programs)
        self._library = programs

    @property
    def families(self) -> Mapping[str, Family]:
        """By name, each with its `description` and the names of its `programs`."""
        return self._library.families

    def __repr__(self) -> str:
        lines = [f"loopgrad.lib: {len(self)} programs in {len(self.families)} families"]
        for name, family in self.families.items():
            text = f"{family.title}: {', '.join(family.programs)}"
            lines += ["", f"{name}.loops", *textwrap.wrap(text, 96, break_on_hyphens=False)]
        return "\n".join(lines)


standard_library = StandardLibrary()
lib = Library(standard_library)
