"""A text of programs in canonical form, with all its comments: what `loopgrad fmt` writes."""

from __future__ import annotations

from dataclasses import dataclass, field

from loopgrad.diagnostics import Source
from loopgrad.frontend.lexer import Comment, Line, Report, lines
from loopgrad.frontend.parser import grouped, parse
from loopgrad.ir.nodes import Program
from loopgrad.ir.printer import INDENT, show_one
from loopgrad.ir.walk import all_statements


def format_text(text: str, name: str = "<text>") -> str:
    """The text in canonical form; programs and comments stay what they are.

    One blank line stands between programs, and before a comment that had one. Formatting twice
    changes nothing more. Raises ProgramError where the text holds a mistake.

    >>> print(format_text("f( x[N] )->y: # sum\\n  y+=x[ n ]"), end="")
    f(x[N]) -> y:  # sum
        for n:  y += x[n]
    """
    programs = parse(text, name)
    source = Source(text.removeprefix("\ufeff"), name)
    found = list(lines(source, Report(source)))
    groups = list(grouped(found, Report(source)))
    page = _Page()
    for program, group in zip(programs, groups, strict=True):
        page.program(program, group)
    page.end(found[-1])
    formatted = "".join(f"{line}\n" for line in page.lines)
    if parse(formatted, name) != programs:
        raise RuntimeError(f"formatting would change {name}: please report this fault of loopgrad")
    return formatted


@dataclass
class _Page:
    """The lines written so far. `bodies` holds the indentation, in the text and on the page, of
    the header and of each body around the line written last."""

    lines: list[str] = field(default_factory=list)
    bodies: list[tuple[str, str]] = field(default_factory=list)

    def program(self, program: Program, group: list[Line]) -> None:
        header, *rest = group
        shown = show_one(program).split("\n")
        statements = len(list(all_statements(program.statements)))
        declared = 1 if program.locals else 0
        heads = len(shown) - statements - declared
        self.heading(header)
        behind = _behind(header.behind)
        self.lines += [*shown[: heads - 1], shown[heads - 1] + behind]
        self.bodies = [(header.indent, "")]
        locals_ = [line for line in rest if line.tokens[0].text == "local"]
        if locals_:
            self.locals(locals_, shown[heads])
        others = [line for line in rest if line.tokens[0].text != "local"]
        for line, text in zip(others, shown[heads + declared :], strict=True):
            self.statement(line, text)

    def heading(self, header: Line) -> None:
        """What stands above a header: the end of the program before it, a blank line, comments."""
        comments = self.inside_bodies(header.above, header.indent)
        if self.lines:
            self.lines.append("")
        for i, comment in enumerate(comments):
            if i and comment.after_blank:
                self.lines.append("")
            self.lines.append(f"#{comment.text}")
        if comments and header.after_blank:
            self.lines.append("")

    def locals(self, declared: list[Line], text: str) -> None:
        """The one line that declares what all `local` lines of the program do."""
        for line in declared:
            self.comments(line.above, INDENT)
        behind = [line.behind for line in declared if line.behind is not None]
        self.lines += [f"{INDENT}#{said}" for said in behind[:-1]]
        self.lines.append(text + _behind(behind[-1] if behind else None))

    def statement(self, line: Line, text: str) -> None:
        indent = text[: len(text) - len(text.lstrip(" "))]
        comments = self.inside_bodies(line.above, line.indent)
        self.comments(comments, indent)
        while len(self.bodies[-1][0]) >= len(line.indent):
            self.bodies.pop()
        self.bodies.append((line.indent, indent))
        self.lines.append(text + _behind(line.behind))

    def inside_bodies(self, comments: list[Comment], indent: str) -> list[Comment]:
        """Writes the comments that end a body deeper than the next line; gives back the others."""
        for i, comment in enumerate(comments):
            body = [b for b in self.bodies if len(indent) < len(b[0]) <= len(comment.indent)]
            if not body:
                return comments[i:]
            self.comments([comment], body[-1][1])
        return []

    def comments(self, comments: list[Comment], indent: str) -> None:
        for comment in comments:
            at_start = self.lines and self.lines[-1].split("#")[0].rstrip().endswith(":")
            if comment.after_blank and not at_start:
                self.lines.append("")
            self.lines.append(f"{indent}#{comment.text}")

    def end(self, last: Line) -> None:
        """The comments behind the last program."""
        comments = self.inside_bodies(last.above, self.bodies[0][0] if self.bodies else "")
        for i, comment in enumerate(comments):
            if self.lines and (comment.after_blank or i == 0):
                self.lines.append("")
            self.lines.append(f"#{comment.text}")


def _behind(said: str | None) -> str:
    return "" if said is None else f"  #{said}"
