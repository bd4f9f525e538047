"""What the names in expressions stand for, and the mistakes that are made with them."""

from __future__ import annotations

from loopgrad.frontend import mistakes
from loopgrad.frontend.cursor import Cursor
from loopgrad.frontend.lexer import Token
from loopgrad.frontend.symbols import Place, Tensor, counted, did_you_mean
from loopgrad.ir.nodes import Constant, Expression, Extent, Index, Read


class Resolver(Cursor):
    """Finds the meaning of names: tensors, extents, constants, indices."""

    def bare(self, token: Token) -> Expression:
        """A name without brackets."""
        text = token.text
        span = self.report.span(token.start, token.end)
        symbols = self.symbols
        if text in self.bound:
            return Index(text, span)
        if text in symbols.extents:
            return Extent(text, span)
        if text in symbols.constants:
            return Constant(text, span)
        if tensor := symbols.tensors.get(text):
            if tensor.rank:
                self.refuse_whole(tensor, token)
            self.check_declared_above(tensor, token)
            return Read(text, (), span)
        if self.free is None or text in mistakes.NAMES:
            self.unbound(token)
        else:
            self.free.setdefault(text, Place(token.start, token.end))
        return Index(text, span)

    def refuse_whole(self, tensor: Tensor, token: Token) -> None:
        assert tensor.rank
        self.wrong(
            f"`{token.text}` has {counted(tensor.rank, 'axis')} and stands without subscripts",
            token,
            f"write an element of it, `{token.text}[{', '.join(['...'] * tensor.rank)}]`",
            (tensor.place, "its axes are these"),
        )

    def unbound(self, token: Token) -> None:
        """Reports a name that stands for nothing; once a line."""
        text = token.text
        if self.symbols.unsure or text in self.unknown:
            return
        self.unknown.add(text)
        later = any(t.text == text for t in self.tokens[self.at : self.end_of_ranges()])
        if self.for_text:
            help = f"bind it: `{self.for_text}, {text}:`"
        elif later:
            help = f"bind `{text}` first: it stands further right in this `for`"
        else:
            help = f"a `for` around this one binds it, or the header: `size {text}`"
        meant = did_you_mean(text, [*self.bound, *self.symbols.all_names()])
        if text in mistakes.NAMES:
            help = mistakes.NAMES[text]
        elif meant and not later:
            help = f"{meant} Otherwise {help}"
        self.wrong(
            f"`{text}` is neither an index of the `for`, nor an extent, a constant or a tensor",
            token,
            help,
        )

    def end_of_ranges(self) -> int:
        """Where the `:` of the line's `for` stands."""
        for i, token in enumerate(self.tokens):
            if token.text == ":":
                return i
        return 0

    def check_read(self, token: Token, rank: int) -> None:
        """Is `token`, with `rank` subscripts, a tensor with so many axes?"""
        text, symbols = token.text, self.symbols
        at = self.since(token.start)
        if tensor := symbols.tensors.get(text):
            self.check_rank(tensor, rank, at)
            self.check_declared_above(tensor, token)
        elif known := symbols.kind_of(text):
            note = (known[1], f"`{text}` is {known[0]} here")
            self.wrong(f"`{text}` is {known[0]}, which has no subscripts", at, None, note)
        elif text in self.bound:
            note = (self.bound[text], "bound here")
            self.wrong(f"`{text}` is an index, which has no subscripts", at, None, note)
        elif not symbols.unsure and text not in self.unknown:
            self.unknown.add(text)
            self.wrong(
                f"there is no tensor `{text}`",
                token,
                did_you_mean(text, symbols.tensors)
                or "an input stands in the header; any other tensor is computed by a statement",
            )

    def check_rank(self, tensor: Tensor, rank: int, at: Place) -> None:
        if tensor.rank is None or tensor.rank == rank:
            return
        has = counted(tensor.rank, "axis")
        self.wrong(
            f"`{tensor.name}` has {has}, here it has {counted(rank, 'subscript')}",
            at,
            f"give it {counted(tensor.rank, 'subscript')}"
            if tensor.rank
            else f"write `{tensor.name}`, without brackets",
            (tensor.place, f"`{tensor.name}` has {has} here"),
        )

    def check_declared_above(self, tensor: Tensor, token: Token) -> None:
        if tensor.role == "local" and tensor.place.start > token.start:
            self.wrong(
                f"`{token.text}` is used before its `local`",
                token,
                "put the `local` line right below the header",
                (tensor.place, "declared here"),
            )
