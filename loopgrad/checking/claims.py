"""Reading a claim: its text, what is sound of it, and the mistakes of notation that it holds.

A line with a mistake is read as something near that can be read (`repairs`), or else left out, so that
the rest is judged as well; what the line should have been then follows from what is missing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from loopgrad.analysis.infer import infer
from loopgrad.checking.findings import Finding
from loopgrad.checking.notation import finding_of
from loopgrad.checking.repairs import repairs, target
from loopgrad.diagnostics import Diagnostic, ProgramError, Source, Span
from loopgrad.frontend.lexer import Line, Report, lines
from loopgrad.frontend.library import read_programs
from loopgrad.frontend.parser import parse
from loopgrad.ir.nodes import Program
from loopgrad.pipeline import verify

ROUNDS = 8  # of reading on
MOST_REPAIRS = 60  # ways to read one line

NO_TENSOR = re.compile(r"there is no tensor `([^`]+)`")
NOT_COMPUTED = re.compile(r"no statement computes the (?:result|`local`) `([^`]+)`")


@dataclass(frozen=True)
class Stretch:
    """A statement's text (of a block its first line), from `start` to `end`."""

    start: int
    end: int


@dataclass(frozen=True)
class Repair:
    """A line read otherwise than it stands: its number among the findings, and as what.

    finding: -1 where the line is faulty only because another could not be read. text: None where it
    is left out. target: the tensor that it writes.
    """

    finding: int
    text: str | None
    target: str | None


@dataclass(frozen=True)
class Lendable:
    """What a claim may be lent for the time of its judging: `Z[B]`, by name; integers `int w[B]`."""

    declarations: Mapping[str, str]

    def stub(self, name: str) -> str | None:
        """A statement that adds nothing to the tensor."""
        declared = self.declarations.get(name)
        if declared is None:
            return None
        rank = declared.count(",") + 1 if "[" in declared else 0
        indices = ", ".join(f"stub{k}" for k in range(rank))
        element = f"{name}[{indices}]" if rank else name
        value = "min= 0" if declared.startswith("int ") else "+= 0.0"
        return f"for {indices}:  {element} {value}" if rank else f"{element} {value}"


@dataclass(frozen=True)
class Claim:
    """A claim's text, and the program that it is, or that is left of it; None if nothing is.

    stretches: its statements by where they start. With the number of the finding: repaired, the
    statements that are read otherwise; faulty, those that are read as they stand but break a rule;
    lent, tensors that it reads and has not; added, tensors that it does not compute and ought to.
    """

    source: Source
    program: Program | None
    findings: tuple[Finding, ...] = ()
    stretches: Mapping[int, Stretch] = field(default_factory=dict)
    repaired: Mapping[int, Repair] = field(default_factory=dict)
    faulty: Mapping[int, int] = field(default_factory=dict)
    lent: Mapping[str, int] = field(default_factory=dict)
    added: Mapping[str, int] = field(default_factory=dict)

    def start(self, span: Span | None) -> int | None:
        """Where the statement at the span of the program starts in the text; None if in none."""
        if span is None or span.source.name != self.source.name:
            return None
        return _statement_at(span, self.source, self.stretches)

    def span(self, span: Span | None) -> Span | None:
        """A place of the program in the claim's own text, where repaired lines are as they were."""
        start = self.start(span)
        if span is None or start is None:
            return span if span is None or span.source == self.source else None
        if start in self.repaired:
            return self.stretch_span(start)
        offset = self.source.line_starts[span.line - 1] + span.column - 1
        return Span(self.source, offset, offset + span.end - span.start)

    def around(self, start: int) -> int | None:
        """Where the innermost block around a statement starts; None for one in no block."""
        depth = self.depth(start)
        outer = [s for s in self.stretches if s < start and self.depth(s) < depth]
        return max(outer, default=None)

    def depth(self, start: int) -> int:
        """How far the statement is indented."""
        return start - self.source.line_starts[self.source.line_of(start) - 1]

    def stretch_span(self, start: int) -> Span:
        stretch = self.stretches[start]
        return Span(self.source, stretch.start, stretch.end)


def read_claim(
    claimed: Program | str,
    shown: str = "<claimed>",
    name: str | None = None,
    lendable: Callable[[], Lendable] | None = None,
) -> Claim:
    """The claim of a program or a text; `name` is that of a text's program, by default its last.

    lendable: what it may be lent where it reads what it has not. Raises LookupError where a text
    without mistakes has no program of that name.
    """
    if isinstance(claimed, Program):
        return _of_program(claimed)
    source = Source(claimed.removeprefix("\ufeff"), shown)
    try:
        programs = read_programs(source.text, shown)
    except ProgramError as error:
        lend = Lendable({}) if lendable is None else lendable()
        return _Reading(source, name, lend, error.diagnostics).claim()
    return Claim(source, chosen(programs, name), (), _stretches(source, name))


def chosen(programs: Sequence[Program], name: str | None) -> Program:
    """The program of that name, or the last. Raises LookupError where there is none."""
    if name is None and programs:
        return programs[-1]
    for program in programs:
        if program.name == name:
            return program
    raise LookupError(name)


def names_in(text: str) -> list[str]:
    """The names of the programs of a text, past its mistakes."""
    return [line.tokens[0].text for line, is_header in _lines(Source(text)) if is_header]


def _of_program(program: Program) -> Claim:
    """By the text that it was read from, where that still says the program; else by its own."""
    verify(program, warn=False)
    if program.span is not None:
        source = program.span.source
        try:
            for candidate in parse(source.text, source.name):
                if candidate == program:
                    stretches = _stretches(source, program.name)
                    return Claim(source, verify(candidate, warn=False), (), stretches)
        except ProgramError:
            pass
    return read_claim(f"{program}\n", f"<{program.name}>")


# ------------------------------------------------------------------------------------- mistakes


class _Reading:
    """Reads on past mistakes."""

    def __init__(
        self, source: Source, name: str | None, lend: Lendable, mistakes: Sequence[Diagnostic]
    ):
        self.source, self.name, self.lend = source, name, lend
        self.mistakes = mistakes
        self.findings = tuple(finding_of(d) for d in mistakes)
        self.stretches = _stretches(source, name)
        self.repaired: dict[int, Repair] = {}
        self.lent: dict[str, int] = {}
        self.added: dict[str, int] = {}

    def claim(self) -> Claim:
        program: Program | None = None
        for _ in range(ROUNDS):
            try:
                program = self.read()
                break
            except LookupError:
                break
            except ProgramError as error:
                before = set(self.repaired)
                dealt_with = [self.dealt_with(mistake, before) for mistake in error.diagnostics]
                if not all(dealt_with):
                    break
        faulty: dict[int, int] = {}
        for number, mistake in enumerate(self.mistakes):
            start = _statement_at(mistake.span, self.source, self.stretches)
            if start is not None and start not in self.repaired:
                faulty.setdefault(start, number)
            elif start is None and not self._in_header(mistake):
                program = None
        return Claim(
            self.source,
            program,
            self.findings,
            self.stretches,
            self.repaired,
            faulty,
            self.lent,
            self.added,
        )

    def _in_header(self, mistake: Diagnostic) -> bool:
        """Is it the one mistake of a header that is dealt with, a result that is not computed?"""
        return bool(NOT_COMPUTED.search(mistake.found))

    def dealt_with(self, mistake: Diagnostic, before: Container[int]) -> bool:
        """Makes the text one in which the mistake does not stand; whether that is possible.

        before: the statements that were read otherwise before this one was found.
        """
        number = self.number(mistake)
        if match := NOT_COMPUTED.search(mistake.found):
            if self.lend.stub(match[1]) is None or match[1] in self.added:
                return False
            self.added[match[1]] = number
            return True
        match = NO_TENSOR.search(mistake.found)
        if match and match[1] in self.lend.declarations:
            self.lent.setdefault(match[1], number)
            return True
        start = _statement_at(mistake.span, self.source, self.stretches)
        if start is None or mistake.span is None:
            return False
        known = self.repaired.get(start)
        if known is not None and start not in before:
            return True  # another mistake of the same statement
        stretch = self.stretches[start]
        line = self.source.text[stretch.start : stretch.end]
        text = None
        if known is None and number >= 0:
            at = _offset(mistake.span, self.source) - stretch.start
            text = self.repair(start, line, at, at + mistake.span.end - mistake.span.start)
        elif known is not None and known.text is None:
            return False
        number = number if known is None else known.finding
        self.repaired[start] = Repair(number, text, target(line))
        return True

    def number(self, mistake: Diagnostic) -> int:
        """Of the finding at that place, or else of the first in the statement; -1 if there is none."""
        start = _statement_at(mistake.span, self.source, self.stretches)
        places = [_statement_at(m.span, self.source, self.stretches) for m in self.mistakes]
        said = [finding.message == mistake.found for finding in self.findings]
        here = [start is not None and place == start for place in places]
        for likely in (map(all, zip(said, here, strict=True)), said, here):
            number = next((n for n, fits in enumerate(likely) if fits), -1)
            if number >= 0:
                return number
        return -1

    def repair(self, start: int, line: str, at: int, end: int) -> str | None:
        """The first way to read the line in which it holds no mistake."""
        own = target(line) not in self.lend.declarations
        for count, text in enumerate(repairs(line, at, end, self.source.text, own)):
            if count > MOST_REPAIRS:
                break
            try:
                self.read({**self.repaired, start: Repair(-1, text, None)})
            except ProgramError as error:
                if any(
                    _statement_at(d.span, self.source, self.stretches) == start
                    for d in error.diagnostics
                ):
                    continue
            except LookupError:
                continue
            return text
        return None

    def read(self, repaired: Mapping[int, Repair] | None = None) -> Program:
        """The program of the text as it has been made so far; its lines keep their numbers."""
        text, repaired = self.source.text, self.repaired if repaired is None else repaired
        if self.added and self.stretches:
            end = max(s.end for s in self.stretches.values())
            line = text.rfind("\n", 0, min(self.stretches)) + 1
            indent = text[line : min(self.stretches)]
            stubs = [self.lend.stub(name) for name in self.added]
            text = text[:end] + "".join(f"\n{indent}{stub}" for stub in stubs) + text[end:]
        for start in sorted(repaired, reverse=True):
            stretch = self.stretches[start]
            breaks = "\n" * text.count("\n", stretch.start, stretch.end)
            text = (
                text[: stretch.start] + (repaired[start].text or "") + breaks + text[stretch.end :]
            )
        if self.lent:
            header = opening(self.source, self.name)
            rest = text[header:].lstrip()
            declared = ", ".join(self.lend.declarations[name] for name in self.lent)
            text = text[:header] + declared + ("" if rest.startswith(")") else ", ") + text[header:]
        program = chosen(parse(text, self.source.name), self.name)
        infer(program)
        return program


def _offset(span: Span, source: Source) -> int:
    return source.line_starts[span.line - 1] + span.column - 1


def _statement_at(
    span: Span | None, source: Source, stretches: Mapping[int, Stretch]
) -> int | None:
    """Where the statement at the place starts; None for a header."""
    if span is None:
        return None
    for stretch in stretches.values():
        first, last = source.line_of(stretch.start), source.line_of(stretch.end - 1)
        if first <= span.line <= last:
            return stretch.start
    return None


def _stretches(source: Source, name: str | None) -> dict[int, Stretch]:
    """The statements of the program of that name, or of the last, by where they start."""
    found: dict[int, Stretch] = {}
    here = ""
    for line, is_header in _lines(source):
        start, end = line.tokens[0].start, line.tokens[-2].end
        if is_header:
            here = line.tokens[0].text
            if name is None or here == name:
                found = {}
        elif name is None or here == name:
            found[start] = Stretch(start, end)
    return found


def opening(source: Source, name: str | None) -> int:
    """The place behind the bracket that opens the arguments of the program."""
    place = 0
    for line, is_header in _lines(source):
        if is_header and (name is None or line.tokens[0].text == name):
            place = line.tokens[0].start
    return source.text.find("(", place) + 1


def _lines(source: Source) -> Iterator[tuple[Line, bool]]:
    """The lines, and whether each is a header."""
    report = Report(source)
    margin: str | None = None
    for line in lines(source, report):
        if len(line.tokens) >= 2:
            margin = line.indent if margin is None else margin
            yield line, line.indent == margin
