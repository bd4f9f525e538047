"""The rule for calls: `p, Z = callee(s, x[t,B,K], eps=1e-3)`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NoReturn

from loopgrad.diagnostics import listing
from loopgrad.frontend import mistakes
from loopgrad.frontend.cursor import Mistake, place
from loopgrad.frontend.expressions import Expressions
from loopgrad.frontend.lexer import Report, Token
from loopgrad.frontend.symbols import Place, Symbols, counted, did_you_mean
from loopgrad.ir.nodes import Expression, Input, Program, Read
from loopgrad.ir.operations import FUNCTIONS, REDUCTION_NAMES, RESERVED


@dataclass
class Callables:
    """The programs that a text may call. None stands for one that holds mistakes itself."""

    above: dict[str, Program | None] = field(default_factory=dict)
    headers: frozenset[str] = frozenset()  # what the programs of the text are called, all of them
    library: Mapping[str, Program] = field(default_factory=dict)

    def find(self, name: str) -> Program | None:
        if name in self.above or name in self.headers:
            return self.above.get(name)
        return self.library.get(name)

    def all_names(self) -> list[str]:
        return [*self.above, *self.library]


@dataclass(frozen=True, slots=True)
class Argument:
    """What a call gives; by name, or by position where `name` is None."""

    name: Token | None
    value: Expression
    place: Place


class Calls(Expressions):
    """Reads calls."""

    def __init__(self, report: Report, symbols: Symbols, programs: Callables, program: str):
        super().__init__(report, symbols)
        self.programs = programs
        self.program = program

    def calls(self) -> bool:
        """Is what follows a call, up to the end of the line or a guard?"""
        token = self.token
        if token.kind != "name" or token.text in RESERVED or self.ahead().text != "(":
            return False
        nesting = 0
        for i in range(self.at + 1, len(self.tokens) - 1):
            nesting += {"(": 1, ")": -1}.get(self.tokens[i].text, 0)
            if nesting == 0:
                behind = self.tokens[i + 1]
                return behind.kind == "end" or behind.text == "if"
        return True

    def call(
        self, targets: list[Read]
    ) -> tuple[Program, tuple[Expression, ...], tuple[tuple[str, Expression], ...]]:
        """The callee, its inputs in order, and its constants and sizes by name."""
        name = self.take()
        callee = self.callee(name)
        self.check_targets(targets, callee, name)
        self.at += 1
        arguments = self.call_arguments(callee)
        if self.token.text == "if":
            self.fail(
                "a call has no condition",
                self.token,
                "call it always, and give the condition to what reads its result",
            )
        return callee, *self.in_order(callee, name, arguments)

    def callee(self, name: Token) -> Program:
        """The program that is called. Raises Mistake where it is unknown or holds mistakes."""
        found = self.programs.find(name.text)
        if found is None:
            if name.text in self.programs.above and name.text != self.program:
                raise Mistake  # its own mistakes are reported
            self.refuse_unknown(name)
        return found

    def check_targets(self, targets: list[Read], callee: Program, name: Token) -> None:
        if len(targets) != len(callee.results):
            self.wrong(
                f"`{callee.name}` returns {counted(len(callee.results), 'result')}, "
                f"here it has {counted(len(targets), 'target')}",
                name,
                f"its results are {listing([r.name for r in callee.results])}",
            )
        seen: set[str] = set()
        for target, result in zip(targets, callee.results, strict=False):
            assert target.span is not None
            at = place(target.span)
            tensor = self.symbols.tensors.get(target.tensor)
            if target.tensor in seen:
                self.wrong(
                    f"`{target.tensor}` is a target twice", at, "give each result its own tensor"
                )
            elif tensor and not target.subscripts and tensor.rank != len(result.extents):
                self.check_whole(tensor.rank, target, at, len(result.extents), "returns", callee)
            seen.add(target.tensor)

    def check_whole(
        self, rank: int | None, read: Read, at: Place, axes: int, does: str, callee: Program
    ) -> None:
        if rank is not None and rank != axes:
            self.wrong(
                f"`{read.tensor}` has {counted(rank, 'axis')}, "
                f"`{callee.name}` {does} {counted(axes, 'axis')} here",
                at,
                "a slice is written with an index, and the extents of the axes that it keeps: "
                f"`{read.tensor}[t,B]`"
                if rank > axes
                else None,
                (self.symbols.tensors[read.tensor].place, f"`{read.tensor}`"),
            )

    # ------------------------------------------------------------------------------ arguments

    def call_arguments(self, callee: Program) -> list[Argument]:
        found: list[Argument] = []
        while not self.accept(")"):
            start = self.token.start
            name = None
            if self.token.kind == "name" and self.ahead().text == "=":
                name = self.take()
                self.at += 1
            value = self.argument()
            at = self.since(start)
            if name is None and found and found[-1].name is not None:
                self.wrong(
                    "an argument by position stands behind one by name",
                    at,
                    "arguments by position come first",
                )
            found.append(Argument(name, value, at))
            if not self.accept(","):
                self.close(")", f"after the arguments of `{callee.name}`")
                break
        return found

    def argument(self) -> Expression:
        """A whole tensor, or an expression."""
        token = self.token
        if token.text in self.symbols.tensors and self.ahead().text in (",", ")"):
            self.at += 1
            return Read(token.text, (), self.span_since(token.start))
        first = self.at
        expression = self.bracketed()
        self.shallow(first, expression)
        return expression

    def in_order(
        self, callee: Program, name: Token, arguments: list[Argument]
    ) -> tuple[tuple[Expression, ...], tuple[tuple[str, Expression], ...]]:
        """The inputs in the order of the callee's header; its constants and sizes by name."""
        inputs = [i.name for i in callee.inputs]
        names = [a.name for a in callee.arguments]
        given: dict[str, Argument] = {}
        positional = [a for a in arguments if a.name is None]
        given.update(zip(inputs, positional, strict=False))
        if len(positional) > len(inputs):
            self.refuse_more(callee, positional)
        for argument in arguments:
            token = argument.name
            if token is None:
                continue
            if token.text not in names:
                self.wrong(
                    f"`{callee.name}` has no argument `{token.text}`",
                    token,
                    did_you_mean(token.text, names) or f"its arguments are {listing(names)}",
                )
            elif token.text in given:
                self.wrong(f"`{token.text}` is given twice", token, "give it once")
            else:
                given[token.text] = argument
        missing = [n for n in [*inputs, *(s.name for s in callee.sizes)] if n not in given]
        if missing:
            self.fail(
                f"`{callee.name}` is called without {listing(missing)}",
                name,
                f"its arguments are {listing(names)}; sizes are given by name",
            )
        for i in callee.inputs:
            self.check_argument(given[i.name], i, callee)
        keywords = [(n, a.value) for n, a in given.items() if n not in inputs]
        return tuple(given[i].value for i in inputs), tuple(keywords)

    def refuse_more(self, callee: Program, positional: list[Argument]) -> None:
        inputs = [i.name for i in callee.inputs]
        others = [a.name for a in callee.arguments if not isinstance(a, Input)]
        help = f"its inputs are {listing(inputs)}" if inputs else "leave it out"
        if others:
            help = f"{listing(others)} by name, as in `{others[0]}=...`"
        self.wrong(
            f"`{callee.name}` takes {counted(len(inputs), 'input')}, "
            f"here it is given {len(positional)}",
            positional[len(inputs)].place,
            help,
        )

    def check_argument(self, argument: Argument, wanted: Input, callee: Program) -> None:
        value, axes = argument.value, len(wanted.extents)
        if not isinstance(value, Read):
            if axes:
                self.wrong(
                    f"`{callee.name}` takes a tensor with {counted(axes, 'axis')} "
                    f"as `{wanted.name}`",
                    argument.place,
                    "compute it into a tensor, in a statement of its own",
                )
        elif not value.subscripts:
            tensor = self.symbols.tensors.get(value.tensor)
            rank = tensor.rank if tensor else None
            self.check_whole(
                rank, value, argument.place, axes, f"takes `{wanted.name}` with", callee
            )

    # ------------------------------------------------------------------------------ mistakes

    def refuse_call(self, token: Token) -> NoReturn:
        text = token.text
        if self.programs.find(text) is None:
            self.refuse_unknown(token)
        temporary = f"{text.rpartition('.')[2][0]}'"
        self.fail(
            f"the call of `{text}` stands inside an expression",
            token,
            f"give it a line of its own above, such as `{temporary} = {text}(...)`, and read "
            f"`{temporary}` here",
        )

    def refuse_unknown(self, token: Token) -> NoReturn:
        text = token.text
        last = text.rpartition(".")[2]
        if text == self.program:
            found = f"`{text}` calls itself"
            help = "a recurrence is a block: `for t:`, with its statements below it, indented"
        elif text in self.programs.headers:
            found = f"`{text}` is defined below"
            help = "a program calls those above it: put it further up"
        elif text in self.symbols.tensors:
            found = f"`{text}` is a tensor: its subscripts stand in square brackets"
            help = self.with_square_brackets(token)
        elif "." in text and (last in FUNCTIONS or last in REDUCTION_NAMES):
            found = f"there is no function `{text}`"
            help = f"write `{last}(...)`" if last in FUNCTIONS else f"write `{last}[i](...)`"
        else:
            found = f"there is no function or program `{text}`"
            known = [*FUNCTIONS, *self.programs.all_names()]
            help = (
                mistakes.FUNCTIONS.get(last)
                or did_you_mean(text, known)
                or "a program that is called stands above, or in the standard library"
            )
        self.fail(found, token, help)

    def with_square_brackets(self, token: Token) -> str:
        """The help for `x(b, j)`."""
        if not self.symbols.tensors[token.text].rank:
            return f"write `{token.text}`: it is a scalar"
        first = next(i for i, t in enumerate(self.tokens) if t is token)
        nesting = 0
        for i in range(first + 1, min(first + 30, len(self.tokens))):
            nesting += {"(": 1, ")": -1}.get(self.tokens[i].text, 0)
            if nesting == 0:
                inside = self.report.source.text[self.tokens[first + 1].end : self.tokens[i].start]
                return f"write `{token.text}[{inside}]`"
        return f"write `{token.text}[...]`"
