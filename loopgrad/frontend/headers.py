"""The rules for headers, `name(arguments) batch B -> results:`, and for `local` lines."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NoReturn, cast

from loopgrad.frontend import mistakes
from loopgrad.frontend.cursor import Mistake, place, shown
from loopgrad.frontend.expressions import Expressions
from loopgrad.frontend.lexer import Token
from loopgrad.frontend.symbols import Place, Tensor, did_you_mean
from loopgrad.ir.limits import LARGEST_INTEGER, MOST_ARGUMENTS
from loopgrad.ir.nodes import (
    Apply,
    Argument,
    Constant,
    Default,
    Expression,
    Extent,
    Input,
    Local,
    Number,
    Result,
    Size,
)
from loopgrad.ir.operations import ElementType

KINDS = ("param", "int", "bool", "size")


@dataclass(slots=True)
class Header:
    """What a header says, as far as it could be read."""

    name: str
    place: Place
    arguments: tuple[Argument, ...] = ()
    results: tuple[Result, ...] = ()
    batch: str | None = None


class Headers(Expressions):
    """Reads headers and `local` lines into nodes, and what they name into `symbols`."""

    in_arguments = False

    def header(self, tokens: list[Token]) -> Header:
        """The header on a line; `symbols.unsure` where a part of it cannot be read."""
        self.start(tokens)
        self.collect_constants()
        header = Header("", place(self.token))
        try:
            self.refuse_foreign_start()
            header.place = place(self.token)
            header.name = self.name("the name of a program").text
            self.expect("(", "after the program's name", f"write `{header.name}(x[N]) -> y[N]:`")
            header.arguments = self.arguments()
            header.batch = self.batch()
            self.arrow(header.name)
            header.results = self.results()
            if self.token.text != ":":
                self.no_operator("expected `:` at the end of the header", "write `:` at its end")
            self.at += 1
            self.refuse_rest()
        except Mistake:
            self.symbols.unsure = True
        except RecursionError:
            self.symbols.unsure = True
            self.line_too_deep()
        header.place = Place(header.place.start, self.tokens[max(self.at - 1, 0)].end)
        return header

    def refuse_foreign_start(self) -> None:
        word = self.token
        if word.text in mistakes.WORDS and self.ahead().kind == "name":
            self.wrong(f"`{word.text}` has no meaning here", word, mistakes.WORDS[word.text])
            self.at += 1

    def refuse_rest(self) -> None:
        if self.token.kind != "end":
            self.wrong(
                f"expected the end of the line after the header, found {shown(self.token)}",
                self.token,
                "the statements stand below the header, each on a line of its own, indented",
            )
            raise Mistake

    def collect_constants(self) -> None:
        """Notes the constants, `eps = ...`, as extents that stand before them may name them."""
        nesting = 0
        for token, behind in zip(self.tokens, self.tokens[1:], strict=False):
            if token.text in ("(", "["):
                nesting += 1
            elif token.text in (")", "]"):
                nesting -= 1
            elif token.text == "->":
                return
            elif token.kind == "name" and nesting == 1 and behind.text == "=":
                self.symbols.constants.setdefault(token.text, place(token))

    # ------------------------------------------------------------------------------ arguments

    def arguments(self) -> tuple[Argument, ...]:
        found: list[Argument] = []
        seen: dict[str, Place] = {}
        self.in_arguments = True
        while not self.accept(")"):
            first = self.at
            try:
                argument, at = self.argument()
                if argument.name in seen:
                    self.wrong(
                        f"two arguments are named `{argument.name}`",
                        at,
                        "give each a name of its own",
                        (seen[argument.name], "the first one"),
                    )
                else:
                    seen[argument.name] = at
                    found.append(argument)
                self.end_of_argument()
            except Mistake:
                self.symbols.unsure = True
                self.skip_argument(first)
            if len(found) > MOST_ARGUMENTS:
                self.fail(f"more than {MOST_ARGUMENTS} arguments", self.token, "take fewer")
            if not self.accept(","):
                self.expect(")", "after the arguments")
                break
        self.in_arguments = False
        self.check_collisions(found, seen)
        return tuple(found)

    def end_of_argument(self) -> None:
        token = self.token
        if token.text in (",", ")"):
            return
        help = None
        if token.text == "=":
            help = "only a constant has a default, and no kind or extents: `eps = 1e-5`"
        elif token.text == "[":
            help = f"all extents stand in one pair of brackets: `{self.merged()}`"
        elif token.kind == "name":
            help = "arguments are parted by `,`"
        self.fail(f"expected `,` or `)` after the argument, found {shown(token)}", token, help)

    def skip_argument(self, first: int) -> None:
        """Goes to the comma or bracket that ends the argument begun at `first`."""
        self.at = first
        nesting = 0
        while (token := self.token).kind != "end" and token.text != "->":
            if nesting == 0 and token.text in (",", ")"):
                return
            nesting = max(0, nesting + {"(": 1, "[": 1, ")": -1, "]": -1}.get(token.text, 0))
            self.at += 1
        raise Mistake

    def argument(self) -> tuple[Argument, Place]:
        """`x[B,J]`, `param W[J,I]`, `int w[B]`, `bool m[B]`, `size N`, `eps = 1e-5`"""
        start = self.token.start
        kind = self.kind()
        name = self.name("an argument")
        argument: Argument
        if kind == "size":
            if self.token.text in ("[", "="):
                found = "a size is a number that each call gives"
                self.fail(found, self.token, f"write `size {name.text}`")
            self.symbols.extents.setdefault(name.text, place(name))
            argument = Size(name.text, self.span_since(start))
        elif self.token.text == "=" and kind == "input":
            self.at += 1
            value = self.default(name)
            argument = Default(name.text, value, self.span_since(start))
        else:
            if self.token.text == ":":
                self.fail(
                    "the kind of an argument stands before its name",
                    self.token,
                    f"write `{name.text}[N]`, or `int {name.text}[N]`",
                )
            extents = self.extents(name)
            tensor = Tensor(name.text, "input", len(extents), self.since(name.start))
            self.symbols.tensors.setdefault(name.text, tensor)
            tensor_kind = cast(Literal["input", "param", "int", "bool"], kind)
            argument = Input(name.text, extents, tensor_kind, self.span_since(start))
        return argument, place(name)

    def kind(self) -> str:
        token = self.token
        if token.text in KINDS:
            self.at += 1
            return token.text
        if token.text == "*":
            self.fail("a program has a fixed list of arguments", token, "name each of them")
        if token.kind == "name" and self.ahead().kind == "name":
            self.wrong(
                f"there is no kind of argument `{token.text}`",
                token,
                mistakes.KINDS.get(token.text.lower())
                or did_you_mean(token.text, KINDS)
                or "the kinds are `param`, `int`, `bool` and `size`; without one it is floating",
            )
            self.at += 1
        return "input"

    def default(self, name: Token) -> int | float:
        first = self.token
        negative = self.accept("-")
        token = self.token
        example = f"write it out, as in `{name.text} = 0.5`"
        value: int | float
        if token.kind == "number":
            least = negative and token.text.lstrip("0") == str(LARGEST_INTEGER + 1)
            value = LARGEST_INTEGER + 1 if least else self.value(token)
        elif token.text == "inf":
            value = math.inf
        else:
            self.fail(
                f"the default of `{name.text}` has to be a number, found {shown(token)}",
                token,
                mistakes.NAMES.get(token.text, example),
            )
        self.at += 1
        if self.token.text not in (",", ")") and self.token.kind != "end":
            found = f"the default of `{name.text}` has to be a number, not a formula"
            self.fail(found, first, example)
        return -value if negative else value

    def check_collisions(self, arguments: list[Argument], seen: dict[str, Place]) -> None:
        """An argument named like an extent: `f(x[N], N)`, `f(int n, x[n])`."""
        axes = {
            extent.name: argument.name
            for argument in reversed(arguments)
            if isinstance(argument, Input)
            for extent in argument.extents
            if isinstance(extent, Extent)
        }
        for argument in arguments:
            name = argument.name
            if isinstance(argument, Size) or name not in self.symbols.extents:
                continue
            self.wrong(
                f"`{name}` is an argument and an extent",
                seen[name],
                f"leave the argument out: the shape of `{axes[name]}` gives `{name}`"
                if name in axes
                else f"write `size {name}`",
                (self.symbols.extents[name], f"`{name}` is an extent here"),
            )
            self.symbols.tensors.pop(name, None)

    def batch(self) -> str | None:
        if not self.accept("batch"):
            return None
        token = self.name("the batch extent")
        if token.text not in self.symbols.extents and not self.symbols.unsure:
            self.wrong(
                f"`{token.text}` is not the extent of an argument",
                token,
                did_you_mean(token.text, self.symbols.extents)
                or "`batch` names one of the extents in the arguments' brackets",
            )
        return token.text

    # ------------------------------------------------------------------------------ results

    def arrow(self, name: str) -> None:
        if not self.accept("->"):
            self.fail(
                f"expected `->` and the results, found {shown(self.token)}",
                self.token,
                f"say what the program returns: `{name}(...) -> y[N]:`",
            )

    def results(self) -> tuple[Result, ...]:
        found: dict[str, Result] = {}
        while True:
            start = self.token.start
            if self.token.text in KINDS:
                self.wrong(
                    f"a result has no kind `{self.token.text}`",
                    self.token,
                    "leave it out; a line `local int w[B]` makes a computed tensor an integer one",
                )
                self.at += 1
            elif self.token.text == "(":
                self.fail("results stand without brackets", self.token, "write `-> y[N], z:`")
            name = self.name("a result")
            extents = self.extents(name)
            if name.text in found:
                self.wrong(f"the result `{name.text}` is named twice", name, "name it once")
            else:
                self.declare(name, "result", len(extents))
            found.setdefault(name.text, Result(name.text, extents, self.span_since(start)))
            if not self.accept(","):
                return tuple(found.values())

    # ------------------------------------------------------------------------------ locals

    def locals(self, tokens: list[Token]) -> list[Local]:
        """`local tmp[N,D], int w[B]`; where there is a mistake, those before it."""
        self.start(tokens)
        self.at = 1
        found: list[Local] = []
        try:
            while True:
                found += self.local()
                if not self.accept(","):
                    break
            if self.token.kind != "end":
                self.fail(
                    f"expected `,` or the end of the line, found {shown(self.token)}",
                    self.token,
                    "a `local` line only declares; a statement gives the value"
                    if self.token.text == "="
                    else None,
                )
        except Mistake:
            self.symbols.unsure = True
        except RecursionError:
            self.symbols.unsure = True
            self.line_too_deep()
        return found

    def local(self) -> list[Local]:
        start = self.token.start
        integer = self.accept("int")
        if self.token.text in KINDS:
            self.fail(
                f"a computed tensor cannot be `{self.token.text}`",
                self.token,
                "write `local z[N]` or `local int w[N]`",
            )
        name = self.name("a computed tensor")
        extents = self.extents(name)
        before = self.symbols.tensors.get(name.text)
        if before and before.role == "result":
            self.check_rank(before, len(extents), self.since(name.start))
        elif not self.declare(name, "local", len(extents)):
            return []
        element = ElementType.INT if integer else ElementType.FLOAT
        return [Local(name.text, extents, element, self.span_since(start))]

    def declare(self, name: Token, role: str, rank: int) -> bool:
        """Enters a computed tensor; False, with a report, if its name is taken."""
        text = name.text
        known = self.symbols.kind_of(text)
        if known is None:
            self.symbols.tensors[text] = Tensor(text, role, rank, self.since(name.start))
            return True
        self.wrong(
            f"`{text}` is {known[0]} already",
            name,
            f"a computed tensor has a name of its own, such as `{text}'`",
            (known[1], f"`{text}` is {known[0]} here"),
        )
        return False

    # ------------------------------------------------------------------------------ extents

    def extents(self, name: Token) -> tuple[Expression, ...]:
        """The brackets of a declaration; names in them are extents, except those of constants."""
        if self.token.text != "[":
            return ()
        first = self.at
        extents = self.subscripts(name)
        self.shallow(first, *extents)
        for extent in extents:
            self.check_extent(extent)
        return extents

    def check_extent(self, extent: Expression) -> None:
        assert extent.span is not None
        match extent:
            case Number(float(value)):
                help = f"write `{value:.0f}`" if math.isfinite(value) else None
                self.wrong("an extent is an integer", place(extent.span), help)
            case Apply("neg", (Number(),)):
                self.wrong("an extent cannot be negative", place(extent.span))

    def bare(self, token: Token) -> Expression:
        """In a declaration, a name that is no constant is an extent."""
        text, span = token.text, self.report.span(token.start, token.end)
        if text in self.symbols.constants:
            return Constant(text, span)
        tensor = self.symbols.tensors.get(text)
        if tensor and not self.in_arguments:
            self.wrong(
                f"`{text}` is a tensor, and no extent",
                token,
                f"an extent that no shape gives is an argument of its own: `size {text}`",
                (tensor.place, f"`{text}` is a tensor here"),
            )
        else:
            self.symbols.extents.setdefault(text, place(token))
        return Extent(text, span)

    def check_read(self, token: Token, rank: int) -> None:
        self.fail(
            f"`{token.text}[...]` stands in an extent",
            self.since(token.start),
            "an extent is a formula of extents and constants; a size that a call gives is "
            "declared by `size N`",
        )

    def refuse_call(self, token: Token) -> NoReturn:
        help = mistakes.FUNCTIONS.get(token.text, "an extent is a formula of extents and constants")
        self.fail(f"`{token.text}` cannot be called in a header", token, help)
