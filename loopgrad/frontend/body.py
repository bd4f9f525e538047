"""From the lines of one program to the program: its names first, then its statements."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TypeAlias

from loopgrad.frontend.calls import Callables
from loopgrad.frontend.cursor import Mistake, place
from loopgrad.frontend.headers import Header, Headers
from loopgrad.frontend.lexer import Line, Report, Token
from loopgrad.frontend.sound import sound_part
from loopgrad.frontend.statements import OPERATORS, Statements
from loopgrad.frontend.symbols import Place, Symbols, Tensor
from loopgrad.frontend.whole import check_whole
from loopgrad.ir.limits import DEEPEST_BLOCK, MOST_STATEMENTS
from loopgrad.ir.nodes import NO_COMMENTS, Block, Comments, Local, Program, Statement
from loopgrad.ir.operations import RESERVED


def read_program(
    lines: list[Line], report: Report, programs: Callables
) -> tuple[Program | None, Program | None]:
    """The program of the lines, its header first; or None, a report of the mistakes, and what is
    sound of it all the same, if anything is."""
    before = set(report.diagnostics)
    program = _Reader(lines, report, programs).program()
    start, end = lines[0].tokens[0].start, lines[-1].tokens[-1].end
    mistakes = [
        d for at, d in report.diagnostics.items() if at not in before or start <= at[0] <= end
    ]
    if not mistakes and not report.left_out and not any(line.broken for line in lines):
        return program, None
    hopeless = program is None or report.left_out or lines[0].broken
    return None, None if hopeless or program is None else sound_part(program, mistakes)


class _Reader:
    """Reads the lines of one program."""

    def __init__(self, lines: list[Line], report: Report, programs: Callables):
        self.report = report
        self.programs = programs
        self.symbols = Symbols()
        self.first = lines[0]
        self.headless = is_statement(lines[0])
        self.lines = lines if self.headless else lines[1:]
        self.next = 0
        self.indents: list[str] = []  # of the bodies around the present line
        self.reported_indents: set[str] = set()

    def program(self) -> Program | None:
        header = self.header()
        if len(self.lines) > MOST_STATEMENTS:
            at = self.lines[MOST_STATEMENTS].tokens[0]
            self.report.add(
                f"a program of {len(self.lines):,} lines; it has at most {MOST_STATEMENTS:,}",
                at.start,
                at.end,
                "say the same in loops, or spread it over several programs",
            )
            return None
        locals_ = self.declare()
        self.reader = Statements(self.report, self.symbols, self.programs, header.name)
        statements: tuple[Statement, ...] = ()
        if self.lines:
            statements = tuple(self.body(self.lines[0].indent))
        program = Program(
            header.name,
            header.arguments,
            header.results,
            statements,
            tuple(locals_),
            header.batch,
            self.report.span(*header.place),
            comments_of(self.first),
        )
        check_whole(program, self.symbols, self.written, self.reader)
        return program

    def header(self) -> Header:
        if self.headless or self.first.broken:
            self.symbols.unsure = True
        if self.headless:
            return Header("", place(self.first.tokens[0]))
        if self.first.broken:
            return Header(self.first.tokens[0].text, place(self.first.tokens[0]))
        return Headers(self.report, self.symbols).header(self.first.tokens)

    # ------------------------------------------------------------------------------ names

    def declare(self) -> list[Local]:
        """Enters what the lines below the header name: locals first, then targets."""
        headers = Headers(self.report, self.symbols)
        locals_: list[Local] = []
        for line in self.lines:
            if line.tokens[0].text == "local":
                self.symbols.unsure |= line.broken
                if not line.broken:
                    locals_ += headers.locals(line.tokens)
        self.written: set[str] = set()
        for line in self.lines:
            if line.tokens[0].text != "local":
                self.declare_targets(line)
        return locals_

    def declare_targets(self, line: Line) -> None:
        """Enters the tensors that a line writes, without reading the line in full.

        So a tensor is known though the one statement that computes it holds a mistake.
        """
        tokens = line.tokens
        at = operator_at(tokens)
        if at is None and opens_block(line):
            return
        found = list(_targets(tokens, at)) if at is not None else _likely_target(tokens)
        self.symbols.unsure |= not found
        ranks = self.ranks_of_results(tokens, at)
        for i, (token, rank, end) in enumerate(reversed(found)):
            self.written.add(token.text)
            if token.text in RESERVED or self.symbols.kind_of(token.text):
                continue
            if rank == 0 and any(t.text == token.text for t in tokens[: tokens.index(token)]):
                continue  # an index, written by mistake
            if ranks is not None and rank == 0:
                rank = ranks[i] if i < len(ranks) else None
            where = Place(token.start, end)
            self.symbols.tensors[token.text] = Tensor(token.text, "computed", rank, where)

    def ranks_of_results(self, tokens: list[Token], at: int | None) -> list[int] | None:
        """The numbers of axes that a call gives to its targets; None where none is called."""
        if at is None or at + 2 >= len(tokens) or tokens[at + 2].text != "(":
            return None
        name = tokens[at + 1]
        if name.kind != "name" or name.text in RESERVED:
            return None
        callee = self.programs.find(name.text)
        return [len(r.extents) for r in callee.results] if callee else []

    # ------------------------------------------------------------------------------ statements

    def body(self, indent: str) -> list[Statement]:
        """The statements of one indentation, from the next line on."""
        self.indents.append(indent)
        found: list[Statement] = []
        while self.next < len(self.lines):
            line = self.lines[self.next]
            if line.indent != indent:
                if line.indent in self.indents:
                    break
                self.refuse_indent(line, indent)
            self.next += 1
            if line.tokens[0].text == "local":
                continue
            outside = self.reader.bound
            statement = self.statement(line)
            if isinstance(statement, Block):
                statement = replace(statement, body=tuple(self.block(line)))
            elif statement is None and self.deeper_follows(line):
                # The first line of a block that cannot be read: the rest may name its indices.
                unsure, self.symbols.unsure = self.symbols.unsure, True
                self.block(line)
                self.symbols.unsure = unsure
            self.reader.bound = outside
            if statement is not None:
                found.append(statement)
        self.indents.pop()
        return found

    def statement(self, line: Line) -> Statement | None:
        """The statement of a line; None where it cannot be read."""
        if line.broken:
            return None
        try:
            return self.reader.statement(line.tokens, comments_of(line))
        except Mistake:
            return None
        except RecursionError:
            self.reader.line_too_deep()
            return None

    def block(self, line: Line) -> list[Statement]:
        """The statements below the first line of a block."""
        at = line.tokens[0].start, line.tokens[-1].end
        if not self.deeper_follows(line):
            help = "put its statements below it, indented further"
            self.report.add("a `for` with no statements", *at, help)
        elif len(self.indents) > DEEPEST_BLOCK:
            help = "name several indices in one `for`"
            self.report.add(f"blocks inside more than {DEEPEST_BLOCK} others", *at, help)
            while self.deeper_follows(line):
                self.next += 1
        else:
            return self.body(self.lines[self.next].indent)
        return []

    def deeper_follows(self, line: Line) -> bool:
        if self.next == len(self.lines):
            return False
        indent = self.lines[self.next].indent
        return len(indent) > len(line.indent) and indent.startswith(line.indent)

    def refuse_indent(self, line: Line, indent: str) -> None:
        """Reports an indentation that does not fit, once; the line is read where it stands."""
        if line.indent in self.reported_indents:
            return
        self.reported_indents.add(line.indent)
        first = line.tokens[0]
        help = "give all statements of a program, or of a block, the same indentation"
        if "\t" in line.indent + indent and not line.indent.startswith(indent):
            found = "tabs and spaces are mixed in the indentation"
            help = "indent with spaces alone, or with tabs alone"
        elif line.indent.startswith(indent):
            found = "this line is indented further than the one above it"
        else:
            found = "this line's indentation is that of no line above"
        self.report.add(found, first.start, first.end, help)


def comments_of(line: Line) -> Comments:
    if not line.above and line.behind is None:
        return NO_COMMENTS
    return Comments(tuple(c.text for c in line.above), line.behind)


# ------------------------------------------------------------------- lines, before they are read


def is_statement(line: Line) -> bool:
    """Does a line that is not indented look like a statement, not like a header?"""
    first = line.tokens[0]
    if first.text in ("for", "local"):
        return True
    if len(line.tokens) > 1 and line.tokens[1].text == "(":
        return False
    return operator_at(line.tokens) is not None


def opens_block(line: Line) -> bool:
    return line.tokens[0].text == "for" and len(line.tokens) > 2 and line.tokens[-2].text == ":"


def operator_at(tokens: list[Token]) -> int | None:
    """Where the operator of a statement, or what is taken for one, stands outside brackets."""
    nesting = 0
    mistaken = None
    for i, token in enumerate(tokens):
        if token.kind != "operator":
            continue
        text = token.text
        if text in ("(", "["):
            nesting += 1
        elif text in (")", "]"):
            nesting -= 1
        elif nesting <= 0:
            if text in OPERATORS:
                return i
            if text == "->":
                return mistaken
            if text in ("==", "/=", ":=", "//=", "%=", "**=") and mistaken is None:
                mistaken = i
    return mistaken


# A target: its name, the number of its subscripts, if that is known, and where it ends.
_Target: TypeAlias = tuple[Token, int | None, int]


def _likely_target(tokens: list[Token]) -> list[_Target]:
    """The target of a line whose operator is missing, or lost in brackets that do not match."""
    first = 0
    if tokens[0].text == "for":
        first = next((i + 1 for i, token in enumerate(tokens) if token.text == ":"), 0)
    token, behind = tokens[first], tokens[min(first + 1, len(tokens) - 1)]
    if token.kind != "name" or token.text in RESERVED or behind.text != "[":
        return []
    return [(token, None, token.end)]


def _targets(tokens: list[Token], at: int) -> Iterator[_Target]:
    """The targets before the operator at `at`, last first."""
    i = at - 1
    while i >= 0 and tokens[i].text in ("+", "-", "*", "max", "min"):  # of `+ =`
        i -= 1
    while i >= 0:
        rank, end = 0, tokens[i].end
        if tokens[i].text == "]":
            i, rank = _matching(tokens, i)
        before = tokens[i - 1].text if i > 0 else ""
        if i < 0 or tokens[i].kind != "name" or before == "for":
            return
        yield tokens[i], rank, end
        if before != ",":
            return
        i -= 2


def _matching(tokens: list[Token], i: int) -> tuple[int, int]:
    """The place before the bracket that `]` at `i` closes, and the number of subscripts inside."""
    nesting, commas = 0, 0
    while i >= 0:
        text = tokens[i].text
        if text in (")", "]"):
            nesting += 1
        elif text in ("(", "["):
            nesting -= 1
            if nesting == 0:
                break
        elif text == "," and nesting == 1:
            commas += 1
        i -= 1
    return i - 1, commas + 1
