"""Why a simplified program is equal: for each tensor a chain of equalities, each with its rule."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from loopgrad.ir.nodes import Accumulate, Apply, Expression, Number, Range, Read, Reduction
from loopgrad.ir.printer import show_expression, show_statements
from loopgrad.ir.walk import summands, without_bounds
from loopgrad.simplify.telling.rules import Mark, Rule

LONGEST = 116  # of a line that is one
Words = tuple[str | Expression, ...]  # a sentence, with formulas in it
Lines = Literal["fields and reals", "reals", ""]


@dataclass(frozen=True)
class Step:
    """`target = before` is `target = after`, by `rule`, the words with formulas that `says` has.

    applied: the rows of the table of rules. exact: true of floating-point numbers, bit for bit; else of
    real numbers, up to rounding. certified: the lines of numbers on which before and after were
    computed and found equal, at random sizes and inputs ("" for a step that was not checked).
    """

    target: Read
    before: Expression
    after: Expression
    says: Words
    applied: tuple[Rule, ...] = ()
    exact: bool = False
    certified: Lines = ""

    @property
    def rule(self) -> str:
        return plain(self.says)

    @property
    def mark(self) -> Mark:
        return "exact" if self.exact else "reals"

    @property
    def statements(self) -> tuple[Accumulate, Accumulate]:
        """The statement before, and after: `T = before`, `T = after`."""
        old, new = (Accumulate(self.target, Reduction.SET, e) for e in (self.before, self.after))
        return old, new

    def __str__(self) -> str:
        target = show_expression(self.target)
        pad = " " * len(target)
        return f"{target} = {lines_of(self.before, pad)}\n{self._line(pad)}"

    def _line(self, pad: str) -> str:
        mark = "; exact" if self.exact else ""
        return f"{pad}     ({self.rule}{mark})\n{pad} = {lines_of(self.after, pad)}"


def plain(words: Words) -> str:
    return "".join(w if isinstance(w, str) else show(w) for w in words)


def show(expression: Expression) -> str:
    return show_expression(without_bounds(expression))


def lines_of(expression: Expression, pad: str) -> str:
    """The formula behind `pad = `; a long sum with each term on a line of its own."""
    whole = show(expression)
    terms = summands(expression)
    if len(pad) + len(whole) <= LONGEST or len(terms) == 1:
        return whole
    shown = [show_operand(without_bounds(term), minus) for minus, term in terms]
    shown[0] = shown[0].removeprefix("+ ")
    return f"\n{pad}   ".join(shown)


def show_operand(term: Expression, minus: bool) -> str:
    """A term with the sign before it, as it stands in a sum."""
    zero = Apply("-" if minus else "+", (Number(0), term))
    return show_expression(zero).removeprefix("0 ")


@dataclass(frozen=True)
class Chain:
    """The steps of one tensor, and the statements that compute it in the end.

    ranges: for which indices the lines hold, those of blocks around included; extents: an array over
    them has these. whole: the tensor has no other part; of a part the first and last line alone
    are compared. certified: how its first line was found to be what the literal program computes, and
    the last what the statements do.
    """

    target: Read
    start: Expression
    steps: tuple[Step, ...]
    statements: tuple[Accumulate, ...]
    ranges: tuple[Range, ...] = ()
    extents: tuple[Expression, ...] = ()
    whole: bool = True
    certified: Lines = ""

    @property
    def end(self) -> Expression:
        return self.steps[-1].after if self.steps else self.start

    def __str__(self) -> str:
        target = show_expression(self.target)
        pad = " " * len(target)
        lines = [f"{target} = {lines_of(self.start, pad)}"]
        lines += [step._line(pad) for step in self.steps]
        lines += [f"    {line}" for line in show_statements(self.shown)]
        return "\n".join(lines)

    @property
    def shown(self) -> tuple[Accumulate, ...]:
        """The statements without the bounds of their loops."""
        return tuple(
            replace(s, ranges=tuple(Range(r.index) for r in s.ranges)) for s in self.statements
        )


@dataclass(frozen=True)
class Derivation:
    """The chains of all tensors that the simplified program computes; `steps` has them in a row.

    >>> import loopgrad as lg
    >>> derivation = lg.lib.tanh_layer.backward().simplify().derivation
    >>> print(derivation.steps[0])
    x.grad[b,j] = y.grad[b,j] * (1 - tanh(x[b,j])**2)
                    (tanh(x[b,j]) = y[b,j], by the definition of y)
                = y.grad[b,j] - y[b,j]**2 * y.grad[b,j]
    >>> derivation.steps[0].certified
    'fields and reals'
    """

    chains: tuple[Chain, ...] = ()

    @property
    def steps(self) -> tuple[Step, ...]:
        return tuple(step for chain in self.chains for step in chain.steps)

    @property
    def certified(self) -> bool:
        """Was every line found equal to the one before it?"""
        return all(c.certified and all(s.certified for s in c.steps) for c in self.chains)

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)

    def __str__(self) -> str:
        return "\n\n".join(map(str, self.chains))

    def to(self, notation: str) -> str:
        """As "text", or as "latex", which a document that loads `amsmath` takes.

        Raises ValueError for another notation.
        """
        if notation == "text":
            return str(self)
        if notation == "latex":
            from loopgrad.printers.derivations import latex

            return latex(self)
        raise ValueError(f'no notation {notation!r} for a derivation: there are "text", "latex"')

    def _repr_latex_(self) -> str:
        from loopgrad.printers.derivations import notebook

        return notebook(self)
