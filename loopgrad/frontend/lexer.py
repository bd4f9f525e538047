"""Characters -> logical lines of tokens.

One compiled pattern finds the tokens. Lines are handed out one at a time, so that memory is bounded
by the longest program, not by the text. A line that holds a mistake is marked `broken`: the parser
leaves it alone, and goes on with the next.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from loopgrad.diagnostics import Diagnostic, ProgramError, Source, Span
from loopgrad.frontend.mistakes import CHARACTERS
from loopgrad.ir.limits import LONGEST_NAME

MOST_DIAGNOSTICS = 50
MOST_CHARACTERS_REFUSED = 10  # on one line


class Token(NamedTuple):
    """A word of the notation. `kind`: "name", "number", "operator" or "end" (of the line).

    A name's text is normalised (NFKC), as Python does with its identifiers.
    """

    kind: str
    text: str
    start: int
    end: int


class Comment(NamedTuple):
    """A line with nothing but a comment; `text` follows the `#`."""

    text: str
    indent: str
    after_blank: bool


@dataclass(slots=True)
class Line:
    """A statement or header with the comments that belong to it.

    `tokens` ends with an "end" token. Newlines inside brackets do not end a line, nor those around
    the results of a header: before or after `->`, and after a `,` behind it.
    """

    indent: str = ""
    tokens: list[Token] = field(default_factory=list)
    above: list[Comment] = field(default_factory=list)
    behind: str | None = None
    after_blank: bool = False
    broken: bool = False
    refused: int = 0  # characters that have no meaning


class Report:
    """The mistakes found in one source so far."""

    def __init__(self, source: Source):
        self.source = source
        self.diagnostics: dict[tuple[int, int], Diagnostic] = {}
        self.others: list[Diagnostic] = []
        self.left_out = 0
        self.refused: set[str] = set()  # words of the notation that were taken for names

    @property
    def count(self) -> int:
        return len(self.diagnostics) + self.left_out

    def span(self, start: int, end: int) -> Span:
        return Span(self.source, start, end)

    def add(
        self,
        found: str,
        start: int,
        end: int,
        help: str | None = None,
        notes: tuple[tuple[Span | None, str], ...] = (),
    ) -> None:
        """One mistake a place: the first one found there explains the others."""
        if (start, end) in self.diagnostics:
            return
        if len(self.diagnostics) >= MOST_DIAGNOSTICS:
            self.left_out += 1
            return
        span = self.span(start, end)
        self.diagnostics[start, end] = Diagnostic(found, span, help, notes)

    def add_all(self, diagnostics: Iterable[Diagnostic]) -> None:
        """What later passes found; it may lie in other texts, or nowhere."""
        for diagnostic in diagnostics:
            if diagnostic not in self.others:
                self.others.append(diagnostic)

    def raise_if_any(self) -> None:
        found = [*self.diagnostics.values(), *self.others]
        if not found:
            return
        found.sort(key=lambda d: d.span.start if d.span else -1)
        if self.left_out:
            found.append(Diagnostic(f"and {self.left_out} more mistakes"))
        raise ProgramError(found)


_LETTER = r"(?:[A-Za-z_]|[^\x00-\x7f])"
_SEGMENT = rf"{_LETTER}(?:[A-Za-z0-9_]|[^\x00-\x7f])*+'*+"
NAME = rf"{_SEGMENT}(?:\.{_SEGMENT})*+"
_ASSIGNMENT = r"(?:[-+*]=|(?:max|min)=(?!=))"

_TOKEN = re.compile(
    rf"""[ \t]*+(?:
      ( (?:max|min)=(?!=) | -> | \*\*=? | //=? | [-+*/%&|]= | !?==?=? | <[=>]? | >=? | :=?
        | && | \|\| | [-+*/%()\[\],;{{}}&|^~!@?] )
    | ( {NAME} )
    | ( (?:[0-9]++(?:\.[0-9]*+)?+|\.[0-9]++)(?:[eE][-+]?[0-9]++)?+ )
    | ( [^\r\n\#] | \r(?!\n) )
    | ( \r?\n )
    | ( \#[^\n]*+ )
    | ( \Z ) )""",
    re.VERBOSE | re.DOTALL,
)
_OPERATOR, _NAMED, _NUMBER, _BAD, _NEWLINE, _COMMENT = range(1, 7)

# A line inside brackets that can only be a new statement or header: a bracket above was forgotten.
_NEW_LINE = re.compile(
    rf"""[ \t]*+(?: (?:for|local)[ \t]
      | {NAME} \[[^\n=]*\] [ \t]*+ (?:{_ASSIGNMENT}|=(?!=))
      | {NAME} [ \t]*+ {_ASSIGNMENT}
      | {NAME} \([^\n]*-> )""",
    re.VERBOSE,
)
_UNINDENTED = re.compile(_LETTER)
_ARROW = re.compile(r"[ \t]*+->")
# Where results are expected, so can `p = f(x)`; in brackets that is an argument with its default.
_SETTING = re.compile(rf"[ \t]*+{NAME} [ \t]*+ =(?!=)", re.VERBOSE)
_BRACKETS = frozenset("()[]{}")

_OPENERS = {")": "(", "]": "[", "}": "{"}
_CLOSERS = {"(": ")", "[": "]", "{": "}"}


def lines(source: Source, report: Report) -> Iterator[Line]:
    """The logical lines of a text, in order; the last one has no tokens, only comments above.

    Mistakes in characters and brackets go to `report`. Never raises for bad text.
    """
    return _Scanner(source, report).lines()


class _Scanner:
    """Goes through a text, with the line begun and the brackets open at its place."""

    def __init__(self, source: Source, report: Report):
        self.text = source.text
        self.report = report
        self.line_start = 0  # of the line of the text, not of the logical one
        self.line = Line()
        self.brackets: list[Token] = []
        self.inner: list[Comment] = []  # comments inside brackets
        self.blank = False  # was the line of the text before this one empty?

    def lines(self) -> Iterator[Line]:
        text, match, position = self.text, _TOKEN.match, 0
        while True:
            found = match(text, position)
            assert found is not None and found.lastindex is not None
            kind = found.lastindex
            start, position = found.span(kind)
            if kind <= _BAD:
                tokens = self.line.tokens
                if not tokens:
                    self.begin(start)
                if kind == _OPERATOR:
                    token = Token("operator", found[kind], start, position)
                    tokens.append(token)
                    if token.text in _BRACKETS:
                        self.bracket(token)
                elif kind == _NAMED:
                    position = self.name(found[kind], start)
                elif kind == _NUMBER:
                    tokens.append(Token("number", found[kind], start, position))
                else:
                    position = self.refuse_character(start)
            elif kind == _COMMENT:
                self.comment(text[start + 1 : position].rstrip(), start)
            elif kind == _NEWLINE:
                if not self.goes_on(position):
                    yield from self.finish(start)
                self.line_start = position
            else:
                yield from self.finish(start)
                self.line.tokens.append(Token("end", "", start, start))
                yield self.line
                return

    def begin(self, start: int) -> None:
        if not self.line.broken:
            self.line.indent = self.text[self.line_start : start]
            self.line.after_blank, self.blank = self.blank, False

    def comment(self, said: str, start: int) -> None:
        if self.brackets or self.awaits_result():
            self.inner.append(Comment(said, "", False))
        elif self.line.tokens or self.line.broken:
            self.line.behind = said
        else:
            indent = self.text[self.line_start : start]
            self.line.above.append(Comment(said, indent, self.blank))
            self.blank = False

    # ------------------------------------------------------------------------------ lines

    def goes_on(self, position: int) -> bool:
        """Does the logical line go on behind the newline: is a bracket open, or a header unended?

        Not where what follows can only be a new statement or header: then something was forgotten.
        """
        if self.brackets:
            if _NEW_LINE.match(self.text, position):
                return False
            return not (self.line.indent and _UNINDENTED.match(self.text, position))
        if self.line.tokens and _ARROW.match(self.text, position):
            if self.line.behind is not None:
                self.inner.append(Comment(self.line.behind, "", False))
                self.line.behind = None
            return True
        return self.awaits_result() and not (
            _NEW_LINE.match(self.text, position) or _SETTING.match(self.text, position)
        )

    def awaits_result(self) -> bool:
        """Is the line a header that has not named all its results: does it end in `->` or `,`?"""
        tokens = self.line.tokens
        if not tokens or tokens[-1].text not in ("->", ","):
            return False
        return any(token.text == "->" for token in tokens)

    def finish(self, end: int) -> Iterator[Line]:
        """The end of a logical line, if one was begun."""
        line = self.line
        if self.brackets:
            line.broken = True
            self.refuse_unclosed(self.brackets[-1])
            self.brackets = []
        if line.tokens or line.broken:
            if self.awaits_result():  # empty lines may follow: the place is behind the last word
                end = line.tokens[-1].end
            line.tokens.append(Token("end", "", end, end))
            line.above += self.inner
            self.inner = []
            yield line
            self.line = Line()
        elif not self.text[self.line_start : end].strip():
            self.blank = True

    # ------------------------------------------------------------------------------ names

    def name(self, name: str, start: int) -> int:
        """Takes in a name; where it ends."""
        if not name.isascii():
            name = name[: _valid_prefix(name)]
        end = start + len(name)
        if not name:
            return self.refuse_character(start)
        if not name.isascii():
            name = unicodedata.normalize("NFKC", name)
        self.line.tokens.append(Token("name", name, start, end))
        if len(name) > LONGEST_NAME:
            self.line.broken = True
            self.report.add(
                f"a name of {len(name)} characters", start, end, f"it has at most {LONGEST_NAME}"
            )
        return end

    def refuse_character(self, start: int) -> int:
        """Reports a character; where to go on."""
        character = self.text[start]
        shown = character if character.isprintable() else f"U+{ord(character):04X}"
        help = CHARACTERS.get(character)
        if help is None:
            is_space = unicodedata.category(character) == "Zs"
            help = "write an ordinary space" if is_space else "leave it out"
        self.line.broken = True
        self.report.add(
            f"the character `{shown}` has no meaning here",
            start,
            start + 1,
            help,
        )
        self.line.refused += 1
        if self.line.refused < MOST_CHARACTERS_REFUSED:
            return start + 1
        end = self.text.find("\n", start)  # this is no program: leave the line
        return len(self.text) if end < 0 else end

    # ------------------------------------------------------------------------------ brackets

    def bracket(self, token: Token) -> None:
        if token.text in _CLOSERS:
            self.brackets.append(token)
            return
        wanted = _OPENERS[token.text]
        if self.brackets and self.brackets[-1].text == wanted:
            self.brackets.pop()
            return
        self.line.broken = True
        if not self.brackets:
            self.report.add(
                f"`{token.text}` closes nothing",
                token.start,
                token.end,
                f"leave it out, or open it with `{wanted}`",
            )
            return
        opener = self.brackets[-1]
        is_open = any(b.text == wanted for b in self.brackets)
        self.report.add(
            f"`{token.text}` stands where `{opener.text}` has to be closed",
            token.start,
            token.end,
            f"write `{_CLOSERS[opener.text]}` {'before it' if is_open else 'instead'}",
            ((self.report.span(opener.start, opener.end), f"`{opener.text}` is opened here"),),
        )
        while is_open and self.brackets[-1].text != wanted:
            self.brackets.pop()
        self.brackets.pop()

    def refuse_unclosed(self, opener: Token) -> None:
        self.report.add(
            f"`{opener.text}` is never closed",
            opener.start,
            opener.end,
            f"close it with `{_CLOSERS[opener.text]}`",
        )


def _valid_prefix(name: str) -> int:
    """How many characters of `name` make a name: the pattern lets every non-ASCII one pass."""
    letters = 0  # of the present segment
    for i, character in enumerate(name):
        if character == ".":
            letters = 0
        elif character != "'":
            if not ("a" + character if letters else character).isidentifier():
                return i - 1 if i and name[i - 1] == "." else i
            letters += 1
    return len(name)
