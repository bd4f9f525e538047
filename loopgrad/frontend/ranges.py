"""The rule for ranges: `b`, `t < n`, `1 <= t <= T-1`, `u <= t`, each perhaps `descending`."""

from __future__ import annotations

from typing import NoReturn

from loopgrad.frontend.cursor import place, shown
from loopgrad.frontend.lexer import Token
from loopgrad.frontend.resolver import Resolver
from loopgrad.frontend.symbols import counted
from loopgrad.ir import operations
from loopgrad.ir.limits import MOST_INDICES
from loopgrad.ir.nodes import Expression, Range
from loopgrad.ir.operations import RESERVED
from loopgrad.ir.walk import ZERO, plus_one

_LESS = ("<", "<=")
_EXAMPLE = "write `t`, `t < n` or `1 <= t < n`"


class Ranges(Resolver):
    """Reads lists of ranges, and binds their indices."""

    def ranges(self, closing: str) -> tuple[Range, ...]:
        """A list of ranges; `closing`, which has to follow, is left to the caller."""
        first = self.token
        found = [self.range()]
        while self.accept(","):
            if self.token.text == closing:
                self.fail("expected an index after `,`", self.token, "leave the `,` out")
            found.append(self.range())
        if len(found) > MOST_INDICES:
            self.fail(
                counted(len(found), "index"),
                self.since(first.start),
                f"at most {MOST_INDICES} stand in one place",
            )
        return tuple(found)

    def range(self) -> Range:
        first = self.token
        self.refuse_foreign_range()
        lower: Expression | None = None
        upper: Expression | None = None
        if not self.index_comes_first():
            lower = self.bound_expression()
            operator = self.token
            if operator.text not in _LESS:
                self.not_a_range(operator)
            self.at += 1
            if operator.text == "<":
                lower = plus_one(lower)
        index = self.name("an index")
        operator = self.token
        if operator.text in _LESS:
            self.at += 1
            upper = self.bound_expression()
            if operator.text == "<=":
                upper = plus_one(upper)
            lower = ZERO if lower is None else lower
        elif operator.text in (">", ">=", "==", "!=", "=", "in"):
            self.not_a_range(operator)
        descending = self.accept("descending")
        self.bind(index)
        return Range(index.text, lower, upper, descending, self.span_since(first.start))

    def index_comes_first(self) -> bool:
        """Is this `t < n`, not `n <= t`? Of two names, the index is the one not known yet."""
        token, behind = self.token, self.ahead()
        if token.kind != "name" or token.text in ("inf", "pi"):
            return False
        if behind.text not in _LESS:
            return behind.text not in ("[", "(", "+", "-", "*", "/", "//", "%", "**")
        third, fourth = self.ahead(2), self.ahead(3)
        if third.kind != "name" or third.text in RESERVED:
            return True
        if fourth.text in _LESS:
            return False
        ends = fourth.kind == "end" or fourth.text in (",", ":", "]", "descending")
        return not (ends and self.is_known(token.text) and not self.is_known(third.text))

    def is_known(self, name: str) -> bool:
        return name in self.bound or name in (self.free or ()) or bool(self.symbols.kind_of(name))

    def bound_expression(self) -> Expression:
        before, self.may_guard = self.may_guard, False
        expression = self.binary(operations.SUM)
        self.may_guard = before
        return expression

    def bind(self, token: Token) -> None:
        """From here on, the index stands for its values."""
        name = token.text
        if name in self.bound and self.normalises:
            return
        if name in self.bound:
            self.wrong(
                f"the index `{name}` is bound twice",
                token,
                f"take another name, such as `{name}'`",
                (self.bound[name], "bound here already"),
            )
        elif known := self.symbols.kind_of(name):
            other = name.lower() if name.lower() != name else name + "'"
            self.wrong(
                f"`{name}` is {known[0]} and cannot be an index too",
                token,
                f"take another name, such as `{other}`",
                (known[1], f"`{name}` is {known[0]} here"),
            )
        self.bound[name] = place(token)

    # ------------------------------------------------------------------------------ mistakes

    def refuse_foreign_range(self) -> None:
        """`i in range(n)`, `i = 0; ...`, `(i, j)`"""
        token, behind = self.token, self.ahead()
        if token.kind == "end" or token.text == ":":
            self.fail(
                f"expected an index, found {shown(token)}",
                token,
                "write `for i:`, or `for i < N:`",
            )
        if token.text == "(" and behind.kind == "name" and self.ahead(2).text in (",", "="):
            self.fail("indices stand without brackets", token, f"write `{behind.text}`")
        if token.kind == "name" and behind.text in ("in", "="):
            self.fail(
                f"`{token.text} {behind.text}` does not begin a range",
                behind,
                f"write `{self.range_meant(token)}`",
            )

    def range_meant(self, index: Token) -> str:
        """The range that `i in range(...)` means, if it can be told from the tokens."""
        name, text = index.text, self.report.source.text
        general = f"for {name}:` or `for {name} < N:"
        if self.ahead(2).text != "range" or self.ahead(3).text != "(":
            return general
        first = self.at + 4
        nesting, commas = 1, []
        for i in range(first, min(first + 60, len(self.tokens))):
            token = self.tokens[i]
            nesting += {"(": 1, "[": 1, ")": -1, "]": -1}.get(token.text, 0)
            if token.text == "," and nesting == 1:
                commas.append(i)
            if nesting == 0:
                ends = [first, *(c + 1 for c in commas)], [*commas, i]
                if any(a >= b for a, b in zip(*ends, strict=True)):
                    return general
                parts = [
                    text[self.tokens[a].start : self.tokens[b - 1].end]
                    for a, b in zip(*ends, strict=True)
                ]
                if len(parts) == 1:
                    return f"for {name} < {parts[0]}:"
                return f"for {parts[0]} <= {name} < {parts[1]}:" if len(parts) == 2 else general
        return general

    def not_a_range(self, operator: Token) -> NoReturn:
        help = _EXAMPLE
        if operator.text in (">", ">="):
            help = "write the smaller side first: `1 <= t`, `1 <= t < T`"
        elif operator.text == "if":
            help = "a condition stands at the end of a statement"
        self.fail(f"expected a range, found {shown(operator)} in it", operator, help)
