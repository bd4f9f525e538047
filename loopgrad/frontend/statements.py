"""The rule for statements: `[for INDICES:]  TARGET OP EXPRESSION  [if CONDITION]`."""

from __future__ import annotations

from typing import NoReturn

from loopgrad.diagnostics import listing
from loopgrad.frontend import mistakes
from loopgrad.frontend.calls import Calls
from loopgrad.frontend.cursor import shown
from loopgrad.frontend.lexer import Token
from loopgrad.ir.nodes import (
    Accumulate,
    Block,
    Call,
    Comments,
    Expression,
    Range,
    Read,
    Reduction,
    Statement,
)

OPERATORS: dict[str, Reduction] = {row.value: row for row in Reduction}


class Statements(Calls):
    """Reads the lines of a program's body."""

    def statement(self, tokens: list[Token], comments: Comments) -> Statement:
        """The statement of a line; of a block the first line only, without a body.

        Its indices stay in `bound`, which the caller restores. Raises Mistake where the line cannot
        be read; less is reported, and the statement returned.
        """
        self.start(tokens)
        self.bound = dict(self.bound)
        first = self.token
        self.refuse_foreign_word()
        ranges: tuple[Range, ...] | None = None
        if self.accept("for"):
            ranges = self.ranges(":")
            self.for_text = self.report.source.text[first.start : self.tokens[self.at - 1].end]
            self.colon()
            if self.token.kind == "end":
                return Block(ranges, (), self.span_since(first.start), comments)
        else:
            self.free = {}
        targets = [self.target()]
        while self.accept(","):
            targets.append(self.target())
        operator = self.operator(targets[-1])
        if self.calls():
            callee, arguments, keywords = self.call(targets)
            self.check_takes(operator)
            return Call(
                tuple(targets),
                callee,
                arguments,
                keywords,
                self.all_ranges(ranges),
                self.span_since(first.start),
                comments,
            )
        if len(targets) > 1:
            self.fail(
                f"{len(targets)} targets, and no call that gives each a value",
                self.token,
                "write a statement for each",
            )
        value = self.value_and_guard()
        return Accumulate(
            targets[0],
            OPERATORS[operator.text],
            value,
            self.all_ranges(ranges),
            self.guard,
            self.span_since(first.start),
            comments,
        )

    def value_and_guard(self) -> Expression:
        first = self.at
        self.may_guard = True
        value = self.conditional()
        if self.token.kind != "end":
            self.no_operator("expected an operator or the end of the line")
        self.shallow(first, value, self.guard)
        return value

    def all_ranges(self, written: tuple[Range, ...] | None) -> tuple[Range, ...]:
        """Those written; where there is no `for`, one for each free index, as they appear."""
        if written is not None:
            return written
        free = self.free or {}
        for name, at in free.items():
            if name in self.reduced:
                self.wrong(
                    f"`{name}` is an index of the statement, and of a reduction in it",
                    at,
                    f"take another name in one of them, such as `{name}'`",
                    (self.reduced[name], "of a reduction here"),
                )
        return tuple(Range(name, span=self.report.span(*at)) for name, at in free.items())

    # ------------------------------------------------------------------------------ parts

    def refuse_foreign_word(self) -> None:
        token, behind = self.token, self.ahead()
        is_target = behind.text in OPERATORS or behind.text in ("[", ",")
        if token.text in mistakes.WORDS and not is_target:
            self.fail(f"a line cannot begin with `{token.text}`", token, mistakes.WORDS[token.text])
        if token.kind != "name":
            self.fail(
                f"expected a statement, found {shown(token)}",
                token,
                "a statement begins with `for`, or with the tensor that it writes",
            )

    def colon(self) -> None:
        token = self.token
        if self.accept(":"):
            return
        if token.text == "if":
            help = "a condition stands at the end of each statement"
        elif token.kind == "end" or token.kind == "name":
            help = f"write `{self.for_text}:`"
        else:
            help = "indices are parted by `,` and followed by `:`, as in `for b, 1 <= t < T:`"
        self.fail(f"expected `:` after the indices of `for`, found {shown(token)}", token, help)

    def target(self) -> Read:
        token = self.token
        if token.text == "for":
            self.fail("a second `for` in one line", token, "name all indices in one: `for b, j:`")
        if token.kind != "name":
            found = f"expected the tensor that the statement writes, found {shown(token)}"
            self.fail(found, token)
        self.refuse_reserved(token, "the name of a tensor")
        self.at += 1
        subscripts: tuple[Expression, ...] = ()
        if self.token.text == "[":
            subscripts = self.subscripts(token)
            if self.token.text == "[":
                self.no_operator("expected an operator after the target")
        self.check_target(token)
        return Read(token.text, subscripts, self.span_since(token.start))

    def check_target(self, token: Token) -> None:
        """May the name be written?"""
        text = token.text
        tensor = self.symbols.tensors.get(text)
        other = f"write another tensor, such as `{text}'`"
        if tensor is not None and tensor.role == "input":
            self.wrong(
                f"`{text}` is an input, and inputs are never written",
                token,
                other,
                (tensor.place, f"`{text}` is an input here"),
            )
        elif tensor is not None:
            self.check_declared_above(tensor, token)
        elif known := self.symbols.kind_of(text):
            self.wrong(
                f"`{text}` is {known[0]}, and cannot be written",
                token,
                other,
                (known[1], f"`{text}` is {known[0]} here"),
            )
        if text in self.bound:
            self.wrong(
                f"`{text}` is an index, and cannot be written",
                token,
                other,
                (self.bound[text], "bound here"),
            )

    def operator(self, target: Read) -> Token:
        token = self.token
        if token.text not in OPERATORS:
            self.refuse_operator(token, target)
        return self.take()

    def refuse_operator(self, token: Token, target: Read) -> NoReturn:
        written = target.span.text if target.span else target.tensor
        if token.text in ("+", "-", "*", "max", "min") and self.ahead().text == "=":
            self.fail(f"`{token.text} =` stands apart", token, f"write `{token.text}=`")
        if token.text in mistakes.ASSIGNMENTS:
            help = mistakes.ASSIGNMENTS[token.text].format(target=written)
            self.fail(f"`{token.text}` is not the operator of a statement", token, help)
        help = f"as in `{written} += ...`"
        if token.text == "(":
            help = f"subscripts stand in square brackets: `{target.tensor}[...]`"
        elif token.text == ":":
            help = f"indices follow `for`: `for {written}:`"
        self.fail(
            f"expected {listing(list(OPERATORS), 'or')} after the target, found {shown(token)}",
            token,
            help,
        )

    def check_takes(self, operator: Token) -> None:
        if operator.text != "=":
            self.wrong(
                f"a call's results are taken with `=`, not `{operator.text}`",
                operator,
                "call it into a tensor of its own, and update with that in a second statement",
            )
