"""What both modes of differentiation ask about a program first: who depends on whom, and names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

from loopgrad.analysis.facts import Facts
from loopgrad.analysis.infer import infer
from loopgrad.analysis.types import element_type
from loopgrad.diagnostics import Diagnostic, ProgramError, listing, suggestion
from loopgrad.grad.partials import differentiable_reads
from loopgrad.ir.nodes import (
    Accumulate,
    Block,
    Expression,
    Input,
    Program,
    Range,
    Read,
    Result,
    Statement,
)
from loopgrad.ir.operations import ElementType
from loopgrad.ir.walk import (
    fresh_name,
    names_in,
    rebuild_range,
)

Path = tuple[int, ...]


@dataclass(frozen=True)
class Leaf:
    """An accumulate with the blocks around it, outermost first, and the way there by positions."""

    path: Path
    blocks: tuple[Block, ...]
    statement: Accumulate

    @cached_property
    def ranges(self) -> tuple[Range, ...]:
        """All loops around the update, as those of one statement that has no order."""
        around = (*(r for b in self.blocks for r in b.ranges), *self.statement.ranges)
        return tuple(Range(r.index, r.lower, r.upper) for r in around)

    @property
    def target(self) -> Read:
        return self.statement.target


def leaves(statements: Sequence[Statement]) -> Iterator[Leaf]:
    def inside(body: Sequence[Statement], path: Path, blocks: tuple[Block, ...]) -> Iterator[Leaf]:
        for position, statement in enumerate(body):
            match statement:
                case Accumulate():
                    yield Leaf((*path, position), blocks, statement)
                case Block():
                    yield from inside(statement.body, (*path, position), (*blocks, statement))

    return inside(statements, (), ())


@dataclass(frozen=True)
class Primal:
    """The program to differentiate, with nothing left out, and what is asked of it."""

    given: Program
    facts: Facts
    wanted: tuple[Input, ...]

    @property
    def program(self) -> Program:
        return self.facts.program

    @cached_property
    def elements(self) -> dict[str, ElementType]:
        return {t.name: t.element for t in self.facts.tensors.values()}

    def is_floating(self, tensor: str) -> bool:
        return self.elements.get(tensor) is ElementType.FLOAT

    def is_integer(self, expression: Expression) -> bool:
        kind = element_type(expression, self.elements, self.facts.constants)
        return kind is not ElementType.FLOAT

    def extents(self, tensor: str) -> tuple[Expression, ...]:
        return self.facts.tensors[tensor].extents

    @cached_property
    def results(self) -> tuple[Result, ...]:
        """The floating results: those that have a gradient."""
        return tuple(r for r in self.program.results if self.is_floating(r.name))

    @cached_property
    def leaves(self) -> tuple[Leaf, ...]:
        return tuple(leaves(self.program.statements))

    @cached_property
    def leaves_of(self) -> dict[str, tuple[Leaf, ...]]:
        """The statements that update each computed tensor, in program order."""
        found: dict[str, tuple[Leaf, ...]] = {}
        for leaf in self.leaves:
            name = leaf.target.tensor
            found[name] = (*found.get(name, ()), leaf)
        return found

    @cached_property
    def sources(self) -> dict[str, set[str]]:
        """The floating tensors that each floating computed tensor depends on, directly."""
        found: dict[str, set[str]] = {}
        for leaf in self.leaves:
            if self.is_floating(leaf.target.tensor):
                reads = {read.tensor for read in differentiable_reads(leaf.statement.value)}
                found.setdefault(leaf.target.tensor, set()).update(filter(self.is_floating, reads))
        return found

    @cached_property
    def varied(self) -> frozenset[str]:
        """What depends on a wanted input, those inputs included."""
        uses: dict[str, set[str]] = {}
        for target, sources in self.sources.items():
            for source in sources:
                uses.setdefault(source, set()).add(target)
        return reachable((i.name for i in self.wanted), uses)

    @cached_property
    def useful(self) -> frozenset[str]:
        """What a floating result depends on, the results included."""
        return reachable((r.name for r in self.results), self.sources)


def reachable(start: Iterable[str], edges: Mapping[str, set[str]]) -> frozenset[str]:
    found: set[str] = set()
    stack = list(start)
    while stack:
        name = stack.pop()
        if name not in found:
            found.add(name)
            stack.extend(edges.get(name, ()))
    return frozenset(found)


def primal(program: Program, wrt: str | Sequence[str] | None) -> Primal:
    """The program inferred, and the inputs `wrt` looked up.

    Raises ValueError for a name that is no differentiable input, ProgramError where there is
    nothing to differentiate.
    """
    facts = infer(program)
    found = Primal(program, facts, _wanted(facts.program, wrt))
    if not found.results:
        raise ProgramError(
            f"`{program.name}` has no floating result, so there is nothing to differentiate: "
            f"{listing([r.name for r in program.results])} holds integers"
        )
    return found


def _wanted(program: Program, wrt: str | Sequence[str] | None) -> tuple[Input, ...]:
    differentiable = [i for i in program.inputs if i.differentiable]
    if not differentiable:
        raise ValueError(
            f"`{program.name}` has no floating input, so there is nothing to differentiate by"
        )
    if wrt is None:
        return tuple(differentiable)
    if not isinstance(wrt, str | Sequence):
        raise TypeError(f"wrt takes a name, or a sequence of names, and got {wrt!r}")
    names = [wrt] if isinstance(wrt, str) else list(wrt)
    known = [i.name for i in differentiable]
    if not names:
        raise ValueError(f"wrt names no input; `{program.name}` has {listing(known)}")
    for name in names:
        if name not in known:
            raise ValueError(_why_not(program, name, known))
    return tuple(i for i in differentiable if i.name in names)


def _why_not(program: Program, name: object, known: list[str]) -> str:
    if not isinstance(name, str):
        return f"wrt takes names of inputs, and got {name!r}; `{program.name}` has {listing(known)}"
    others = {
        **{i.name: f"an `{i.kind}` input" for i in program.inputs},
        **{c.name: "a constant" for c in program.constants},
        **{s.name: "a size" for s in program.sizes},
    }
    if name in others:
        found = f"wrt: `{name}` is {others[name]} of `{program.name}`, which has no gradient"
        return f"{found}; {listing(known, 'or')} has one"
    close = suggestion(name, known)
    meant = f"did you mean `{close}`?" if close else f"it has {listing(known)}"
    return f"wrt: `{program.name}` has no input `{name}`; {meant}"


@contextmanager
def within_depth(program: Program) -> Iterator[None]:
    """Refuses expressions nested so deeply that no pass can walk them."""
    try:
        yield
    except RecursionError:
        raise ProgramError(
            Diagnostic(
                f"the derivative of `{program.name}` is nested too deeply",
                help="give parts of its expressions names, in statements of their own",
            )
        ) from None


# ------------------------------------------------------------------------------------------- names


class Names:
    """Names for new tensors and indices that differ from all that a program uses."""

    def __init__(self, program: Program):
        self.taken = names_in(program)

    def fresh(self, wanted: str) -> str:
        name = fresh_name(wanted, self.taken)
        self.taken.add(name)
        return name

    def primed(self, wanted: str) -> str:
        """`wanted'`, with as many primes as it takes."""
        name = wanted + "'"
        while name in self.taken:
            name += "'"
        self.taken.add(name)
        return name


# ------------------------------------------------------------------------------------------- loops


def flipped(ranges: tuple[Range, ...]) -> tuple[Range, ...]:
    """The same loops, running the other way."""
    return tuple(Range(r.index, r.lower, r.upper, not r.descending) for r in ranges)


def mapped_ranges(
    ranges: Iterable[Range], change: Callable[[Expression], Expression]
) -> tuple[Range, ...]:
    return tuple(rebuild_range(r, change) for r in ranges)
