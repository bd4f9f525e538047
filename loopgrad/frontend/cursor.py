"""Going through the tokens of one line, and saying what is wrong with them."""

from __future__ import annotations

from typing import NoReturn

from loopgrad.diagnostics import Span
from loopgrad.frontend.lexer import Report, Token
from loopgrad.frontend.symbols import Place, Symbols
from loopgrad.ir.limits import DEEPEST_EXPRESSION, SPLIT
from loopgrad.ir.nodes import Expression
from loopgrad.ir.operations import RESERVED


class Mistake(Exception):
    """The line cannot be read further; the report says why."""


class Cursor:
    """A place in the tokens of one line, and what is known of names there.

    `bound` holds the indices in force. `free` collects the unknown names, which are indices where a
    statement has no `for`; it is None where unknown names are mistakes.
    """

    def __init__(self, report: Report, symbols: Symbols):
        self.report = report
        self.symbols = symbols
        self.bound: dict[str, Place] = {}
        self.start([])

    def start(self, tokens: list[Token]) -> None:
        """Goes to the beginning of another line."""
        self.tokens = tokens
        self.at = 0
        self.free: dict[str, Place] | None = None
        self.reduced: dict[str, Place] = {}  # indices of the line's reductions
        self.normalises = False  # reading the indices of a `softmax`
        self.unknown: set[str] = set()  # names reported already
        self.for_text = ""  # `for b, j`, once it is read
        self.depth = 0  # of nested calls of `binary`
        self.guard: Expression | None = None
        self.may_guard = False  # is this outside all brackets of a statement's value?

    # ------------------------------------------------------------------------------ tokens

    @property
    def token(self) -> Token:
        return self.tokens[self.at]

    def ahead(self, distance: int = 1) -> Token:
        """A token behind the present one; the end of the line where there are fewer."""
        return self.tokens[min(self.at + distance, len(self.tokens) - 1)]

    def take(self) -> Token:
        token = self.tokens[self.at]
        if token.kind != "end":
            self.at += 1
        return token

    def accept(self, text: str) -> bool:
        if self.tokens[self.at].text == text:
            self.at += 1
            return True
        return False

    def expect(self, text: str, why: str, help: str | None = None) -> Token:
        token = self.tokens[self.at]
        if token.text != text:
            self.fail(f"expected `{text}` {why}, found {shown(token)}", token, help)
        self.at += 1
        return token

    def name(self, what: str) -> Token:
        """A name that is free to stand for something."""
        token = self.tokens[self.at]
        if token.kind != "name":
            self.fail(f"expected {what}, found {shown(token)}", token)
        self.refuse_reserved(token, what)
        self.at += 1
        return token

    def refuse_reserved(self, token: Token, what: str) -> None:
        if token.text in self.report.refused:
            raise Mistake  # told where it came first
        if token.text in RESERVED:
            self.report.refused.add(token.text)
            self.fail(
                f"`{token.text}` cannot be {what}: the notation uses the word",
                token,
                f"take another name, such as `{token.text}_`",
            )

    def since(self, start: int) -> Place:
        """From `start` to the end of the token read last."""
        return Place(start, self.tokens[self.at - 1].end)

    def span_since(self, start: int) -> Span:
        return Span(self.report.source, start, self.tokens[self.at - 1].end)

    # ------------------------------------------------------------------------------ mistakes

    def wrong(
        self,
        found: str,
        at: Token | Place,
        help: str | None = None,
        note: tuple[Place, str] | None = None,
    ) -> None:
        """Reports a mistake that the rest of the line can be read in spite of."""
        notes = ((self.report.span(*note[0]), note[1]),) if note else ()
        self.report.add(found, at.start, at.end, help, notes)

    def fail(
        self,
        found: str,
        at: Token | Place,
        help: str | None = None,
        note: tuple[Place, str] | None = None,
    ) -> NoReturn:
        """Reports a mistake behind which the line means nothing."""
        self.wrong(found, at, help, note)
        raise Mistake

    def too_deep(self, at: Token | Place) -> NoReturn:
        self.fail(
            f"an expression of more than {DEEPEST_EXPRESSION} operations inside each other",
            at,
            SPLIT,
        )

    def line_too_deep(self) -> None:
        """Reports a line that Python's own limit on nested calls stopped."""
        self.wrong(
            "an expression nested too deeply",
            Place(self.tokens[0].start, self.tokens[-1].end),
            SPLIT,
        )

    # What the rules of one file need of the next one's.

    def conditional(self) -> Expression:
        raise NotImplementedError

    def binary(self, level: int) -> Expression:
        raise NotImplementedError


def place(at: Token | Span) -> Place:
    return Place(at.start, at.end)


def shown(token: Token) -> str:
    if token.kind == "end":
        return "the end of the line"
    text = token.text if len(token.text) <= 40 else token.text[:40] + "..."
    return f"`{text}`"
