"""The rules for expressions: tokens -> nodes, with every name resolved on the way.

conditional  a if c else b
binary       or and not < <= == + - * / // % ** (by precedence)
operand      -x, not c, numbers, names, x[b,j], exp(x), sum[i](...), (...)
"""

from __future__ import annotations

import math
import re
from typing import NoReturn

from loopgrad.frontend import mistakes
from loopgrad.frontend.cursor import Mistake, place, shown
from loopgrad.frontend.lexer import Token
from loopgrad.frontend.ranges import Ranges
from loopgrad.frontend.symbols import Place, counted
from loopgrad.ir import operations
from loopgrad.ir.limits import DEEPEST_EXPRESSION, LARGEST_INTEGER, MOST_AXES, depth
from loopgrad.ir.nodes import Apply, Compare, Conditional, Expression, Number, Read, Reduce
from loopgrad.ir.operations import COMPARISONS, FUNCTIONS, OPERATIONS, REDUCTION_NAMES, RESERVED
from loopgrad.ir.walk import ZERO

DEEPEST_NESTING = 2 * DEEPEST_EXPRESSION  # of the parser's calls: brackets count too

_PRECEDENCE: dict[str, int] = {
    row.name: row.precedence
    for row in OPERATIONS.values()
    if row.precedence is not None and row.arity == 2
} | dict.fromkeys(COMPARISONS, operations.COMPARISON)
# What follows the digits in `1_000`, `0x1f`, `1.5.2`.
_FOREIGN_NUMBER = re.compile(r"_*\d|[xXbBoO][0-9a-fA-F]+$|\.")


class Expressions(Ranges):
    """Reads expressions."""

    def conditional(self) -> Expression:
        """`a if c else b`, or anything tighter. A condition without `else` is the statement's."""
        start = self.token.start
        then = self.binary(operations.OR)
        if self.token.text != "if":
            return then
        word = self.take()
        condition = self.binary(operations.OR)
        if self.accept("else"):
            otherwise = self.conditional()
            return Conditional(condition, then, otherwise, self.span_since(start))
        if not self.may_guard or self.guard is not None:
            self.fail(
                "a conditional without `else`",
                word,
                "write `a if condition else b`; a condition of the whole statement "
                "stands at its end, outside brackets",
            )
        if self.accept("if"):  # the guard is itself a conditional
            inner = self.binary(operations.OR)
            self.expect(
                "else", "in the conditional", "a statement has one condition: join by `and`"
            )
            condition = Conditional(inner, condition, self.conditional(), condition.span)
        self.guard = condition
        return then

    def binary(self, level: int) -> Expression:
        """Operators of precedence `level` and tighter; equal ones from left to right."""
        self.depth += 1
        if self.depth > DEEPEST_NESTING:
            self.too_deep(self.token)
        tokens, span = self.tokens, self.report.span
        start = tokens[self.at].start
        left = self.operand(level)
        length = 0
        while True:
            operator = tokens[self.at].text
            precedence = _PRECEDENCE.get(operator)
            if precedence is None or precedence < level:
                break
            length += 1
            if length > DEEPEST_EXPRESSION:
                self.too_deep(self.since(start))
            if precedence == operations.COMPARISON:
                left = self.comparison(left, start)
                continue
            self.at += 1
            # A power's exponent may have a sign, and is a power itself.
            tighter = operations.UNARY if precedence == operations.POWER else precedence + 1
            right = self.binary(tighter)
            left = Apply(operator, (left, right), span(start, tokens[self.at - 1].end))
        self.depth -= 1
        return left

    def comparison(self, first: Expression, start: int) -> Compare:
        operators, operands = [], [first]
        while (operator := self.token.text) in COMPARISONS:
            self.at += 1
            operators.append(operator)
            operands.append(self.binary(operations.SUM))
            if len(operands) > DEEPEST_EXPRESSION:
                self.too_deep(self.since(start))
        return Compare(tuple(operators), tuple(operands), self.span_since(start))

    def operand(self, level: int) -> Expression:
        token = self.tokens[self.at]
        if token.kind == "name":
            return self.named(token, level)
        if token.kind == "number":
            self.at += 1
            return Number(self.value(token), self.report.span(token.start, token.end))
        if token.text == "-":
            self.at += 1
            inner = self.binary(operations.UNARY)
            return Apply("neg", (inner,), self.span_since(token.start))
        if token.text == "(":
            self.at += 1
            inner = self.bracketed()
            self.close(")", "after the expression")
            return inner
        return self.no_operand(token)

    def bracketed(self) -> Expression:
        """An expression inside brackets, where no guard can stand."""
        before, self.may_guard = self.may_guard, False
        expression = self.conditional()
        self.may_guard = before
        return expression

    def shallow(self, first: int, *expressions: Expression | None) -> None:
        """Refuses trees, read from the token `first` on, that are too deep for the passes."""
        if self.at - first > DEEPEST_EXPRESSION and any(
            e is not None and depth(e) > DEEPEST_EXPRESSION for e in expressions
        ):
            self.too_deep(self.since(self.tokens[first].start))

    def close(self, bracket: str, why: str, help: str | None = None) -> None:
        if not self.accept(bracket):
            self.no_operator(f"expected `{bracket}` {why}", help)

    # ------------------------------------------------------------------------------ names

    def named(self, token: Token, level: int) -> Expression:
        """What begins with a name: a read, a function, a reduction, an index, `pi`, ..."""
        text, follows = token.text, self.tokens[self.at + 1].text
        if text in REDUCTION_NAMES and follows == "[" and (text in RESERVED or self.reduces()):
            return self.reduce(token)
        if text not in RESERVED:
            if follows == "[":
                return self.read(token)
            if follows == "(":
                return self.refuse_call(token)
            self.at += 1
            return self.bare(token)
        if text in FUNCTIONS and (follows == "(" or text not in REDUCTION_NAMES):
            return self.function(token)
        if text == "pi":
            self.at += 1
            return Apply("pi", (), self.span_since(token.start))
        if text == "inf":
            self.at += 1
            return Number(math.inf, self.span_since(token.start))
        if text == "not":
            if level > operations.NOT:
                self.fail("`not` needs brackets here", token, "write `(not ...)`")
            self.at += 1
            inner = self.binary(operations.NOT)
            return Apply("not", (inner,), self.span_since(token.start))
        if text in REDUCTION_NAMES:
            self.fail(
                f"`{text}` has to name the indices that it runs over",
                token,
                f"write `{text}[i](...)`",
            )
        return self.no_operand(token)

    def reduces(self) -> bool:
        """Does `(` follow the brackets? Else `softmax[j]` is an element of a tensor."""
        nesting = 0
        for i in range(self.at + 1, len(self.tokens) - 1):
            nesting += {"[": 1, "]": -1}.get(self.tokens[i].text, 0)
            if nesting == 0:
                return self.tokens[i + 1].text == "("
        return False

    def read(self, token: Token) -> Read:
        """`x[b,j]`"""
        self.at += 1
        subscripts = self.subscripts(token)
        if self.token.text != "[":  # `x[i][j]` is reported as such
            self.check_read(token, len(subscripts))
        return Read(token.text, subscripts, self.span_since(token.start))

    def subscripts(self, name: Token) -> tuple[Expression, ...]:
        """What stands in the brackets behind a name."""
        opened = self.take()
        if self.token.text == "]":
            self.fail(
                f"there is nothing in the brackets of `{name.text}`",
                opened,
                f"a scalar stands without brackets: `{name.text}`",
            )
        found = [self.subscript(name)]
        while self.accept(","):
            found.append(self.subscript(name))
        self.close("]", f"after the subscripts of `{name.text}`")
        if len(found) > MOST_AXES:
            self.fail(
                f"`{name.text}` has {len(found)} axes",
                self.since(name.start),
                f"a tensor has at most {MOST_AXES}",
            )
        return tuple(found)

    def subscript(self, name: Token) -> Expression:
        if self.token.text == ":":
            self.fail(
                "`:` does not stand for an axis",
                self.token,
                f"write an index, and bind it: `for i: ... {name.text}[i]`",
            )
        return self.bracketed()

    # ------------------------------------------------------------------------------ functions

    def function(self, token: Token) -> Expression:
        """`exp(x)`, `max(a, b)`"""
        name, arity = token.text, OPERATIONS[token.text].arity
        self.at += 1
        if not self.accept("("):
            self.fail(
                f"expected `(` after the function `{name}`, found {shown(self.token)}",
                self.token,
                f"write `{name}({', '.join('uv'[:arity])})`",
            )
        operands: list[Expression] = []
        if not self.accept(")"):
            operands.append(self.bracketed())
            while self.accept(","):
                operands.append(self.bracketed())
            self.close(")", f"after the operands of `{name}`")
        if len(operands) != arity:
            self.wrong_count(name, operands, self.since(token.start))
            return operands[0] if operands else ZERO
        return Apply(name, tuple(operands), self.span_since(token.start))

    def wrong_count(self, name: str, operands: list[Expression], at: Place) -> None:
        arity = OPERATIONS[name].arity
        help = f"write `{name}({', '.join('uv'[:arity])})`"
        if arity == 2 and len(operands) == 1:
            help = f"over an index it is `{name}[i](...)`; of two values, `{name}(u, v)`"
        elif arity == 2 and len(operands) > 2:
            nested, *others = [o.span.text if o.span else "..." for o in operands]
            for text in others[:10]:
                nested = f"{name}({nested}, {text})"
            if len(nested) <= 100 and len(others) <= 10:
                help = f"write `{nested}`"
        found = f"`{name}` takes {counted(arity, 'operand')}, here it has {len(operands)}"
        self.wrong(found, at, help)

    def refuse_call(self, token: Token) -> NoReturn:
        """`f(...)` inside an expression, where `f` is no function of the notation."""
        raise Mistake

    def reduce(self, token: Token) -> Expression:
        """`sum[i, u <= t](...)`"""
        if token.text in self.report.refused and not self.has_body():
            raise Mistake  # a read of what was refused as a name
        self.at += 1
        opened = self.take()
        if self.token.text == "]":
            self.fail(f"`{token.text}[]` names no index", opened, f"write `{token.text}[i](...)`")
        outer, self.bound = self.bound, dict(self.bound)
        # `softmax` normalises along an index of the statement's own loops, and binds none.
        self.normalises = token.text == "softmax"
        ranges = self.ranges("]")
        self.normalises = False
        self.close("]", f"after the indices of `{token.text}`")
        for r in ranges:
            if r.span and token.text != "softmax":
                self.reduced.setdefault(r.index, place(r.span))
            elif r.span and self.free is not None and r.index not in outer:
                self.free.setdefault(r.index, place(r.span))
        self.expect(
            "(", f"after `{token.text}[...]`", f"write `{token.text}[i](...)`, with brackets"
        )
        body = self.bracketed()
        self.close(")", f"after what `{token.text}` runs over")
        self.bound = outer
        return Reduce(token.text, ranges, body, self.span_since(token.start))

    def has_body(self) -> bool:
        """Does `(` follow the brackets that the reduction at hand opens?"""
        depth = 0
        for i in range(self.at + 1, len(self.tokens) - 1):
            depth += {"[": 1, "]": -1}.get(self.tokens[i].text, 0)
            if depth == 0:
                return self.tokens[i + 1].text == "("
        return False

    # ------------------------------------------------------------------------------ numbers

    def value(self, token: Token) -> int | float:
        text = token.text
        if text.isdigit():
            digits = text.lstrip("0") or "0"
            if len(digits) <= 19 and int(digits) <= LARGEST_INTEGER:
                return int(digits)
            self.wrong(
                "an integer that does not fit 64 bits",
                token,
                f"the largest is {LARGEST_INTEGER}; a floating number has a point or an exponent: "
                "`1e20`",
            )
            return 0
        value = float(text)
        if math.isinf(value):
            self.wrong(
                "a number too large for a float64", token, "write `inf` where infinity is meant"
            )
            return 0.0
        if value == 0 and text.lower().partition("e")[0].strip("0."):
            self.wrong("a number too small for a float64", token, "write `0.0` where zero is meant")
        return value

    # ------------------------------------------------------------------------------ mistakes

    def no_operand(self, token: Token) -> NoReturn:
        """Something stands where an expression has to begin."""
        before = self.tokens[self.at - 1] if self.at else token
        text = before.text
        help = mistakes.OPERATORS.get(token.text)
        if token.text == "+":
            joined = text == "=" and before.end == token.start
            help = "write `+=`" if joined else "a number needs no `+` before it"
        elif token.text == "*" and text == "*":
            help = "a power is written `**`, without a space"
        elif token.text == "=":
            help = f"write `{text}=`, without a space" if text in ("<", ">", "=", "!") else help
        behind = f" after {shown(before)}" if self.at else ""
        self.fail(f"expected an expression{behind}, found {shown(token)}", token, help)

    def no_operator(self, expected: str, help: str | None = None) -> NoReturn:
        """Something stands behind an expression that cannot go on with it."""
        token, before = self.token, self.tokens[self.at - 1]
        if token.text in mistakes.OPERATORS:
            help = mistakes.OPERATORS[token.text]
        elif before.kind == "number" and before.end == token.start and token.kind != "operator":
            help = f"a product is written `{shown(before)[1:-1]} * {shown(token)[1:-1]}`"
            if _FOREIGN_NUMBER.match(token.text):
                help = "numbers are written as `1000`, `0.5` or `1e-5`"
        elif token.text == "[":
            help = f"all subscripts stand in one pair of brackets: `{self.merged()}`"
        elif token.text == "(" or (token.kind != "end" and token.text[0].isalnum()):
            if token.text not in RESERVED or token.text in FUNCTIONS:
                help = help or "a product is written with `*`"
        elif token.text.endswith("=") and token.text not in COMPARISONS:
            help = "a statement has one operator, behind its target"
        self.fail(f"{expected}, found {shown(token)}", token, help)

    def merged(self) -> str:
        """`x[i,j]` for the `x[i][j]` whose second bracket is the present token."""
        first, last = self.at - 1, self.at
        nesting = 0
        while first > 0:
            nesting += {"]": 1, "[": -1}.get(self.tokens[first].text, 0)
            if nesting == 0:
                break
            first -= 1
        while self.tokens[last].kind != "end":
            nesting += {"[": 1, "]": -1}.get(self.tokens[last].text, 0)
            if nesting == 0 and self.tokens[last + 1].text != "[":
                break
            last += 1
        start = self.tokens[max(first - 1, 0)].start
        text = self.report.source.text[start : self.tokens[last].end].replace("][", ",")
        return text if len(text) <= 60 else "x[i,j]"
