"""Why a simplified program is equal: for each tensor a chain of equalities, each with its rule."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from loopgrad.ir.nodes import Accumulate, Apply, Expression, Range, Read, Reduce, Reduction
from loopgrad.ir.printer import show_expression, show_statements
from loopgrad.ir.walk import reads as expression_reads
from loopgrad.simplify import normal_form as nf
from loopgrad.simplify.normal_form import Poly
from loopgrad.simplify.relations import AtomRelation, SumRelation
from loopgrad.simplify.rewrite import Rule
from loopgrad.simplify.search import Candidate
from loopgrad.simplify.writing import Writer, invented

MOST_STEPS = 60  # of one tensor


@dataclass(frozen=True)
class Step:
    """`target = before` is `target = after`, by `rule`.

    exact: true of floating-point numbers as well; else of real numbers, up to rounding.
    """

    target: Read
    before: Expression
    after: Expression
    rule: str
    exact: bool = False


@dataclass(frozen=True)
class Chain:
    """The steps of one tensor, and the statements that compute it in the end."""

    target: Read
    start: Expression
    steps: tuple[Step, ...]
    statements: tuple[Accumulate, ...]

    def __str__(self) -> str:
        target = show_expression(self.target)
        pad = " " * len(target)
        lines = [f"{target} = {show_expression(self.start)}"]
        for step in self.steps:
            lines.append(f"{pad}     ({step.rule})")
            lines.append(f"{pad} = {show_expression(step.after)}")
        lines += [f"    {line}" for line in _aligned(self.statements)]
        return "\n".join(lines)


def _aligned(statements: tuple[Accumulate, ...]) -> list[str]:
    return show_statements(
        replace(s, ranges=tuple(Range(r.index) for r in s.ranges)) for s in statements
    )


@dataclass(frozen=True)
class Derivation:
    """The chains of all tensors that the simplified program computes; `steps` has them in a row."""

    chains: tuple[Chain, ...] = ()

    @property
    def steps(self) -> tuple[Step, ...]:
        return tuple(step for chain in self.chains for step in chain.steps)

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)

    def __str__(self) -> str:
        return "\n\n".join(map(str, self.chains))


def derive(winner: Candidate) -> Derivation:
    """The chains that lead from the literal sums to the statements of the winner."""
    teller = _Teller(winner)
    chains = []
    for tensor in winner.work.own.definitions:
        if tensor in winner.rescaled:
            chains.append(teller.rescaled(tensor))
        elif tensor in teller.made and tensor in winner.work.reduced:
            chains.append(teller.chain(tensor))
    return Derivation(tuple(chains))


class _Teller:
    def __init__(self, winner: Candidate):
        self.winner, self.work = winner, winner.work
        self.made: dict[str, list[Accumulate]] = {}
        for statement in winner.statements:
            if isinstance(statement, Accumulate):
                self.made.setdefault(statement.target.tensor, []).append(statement)

    def chain(self, tensor: str) -> Chain:
        definition = self.work.own.definitions[tensor]
        assert definition.poly is not None
        target = Read(tensor, tuple(map(nf.as_expression, definition.indices)))
        current, steps = definition.poly, list[Step]()
        self.writer = self._writer({i: i for i in definition.indices})
        start = self._literal(tensor)

        def reach(poly: Poly, rule: str) -> None:
            nonlocal current
            if poly.key != current.key:
                before = steps[-1].after if steps else start
                steps.append(Step(target, before, self.show(poly), rule))
                current = poly

        for name in self._put_in(tensor):
            reach(self._with(current, name), f"put in {name}")
        for _ in range(MOST_STEPS):
            last = current
            for rule in self.work.algebra.rules:
                following = self._everywhere(current, rule)
                if following.key != current.key:
                    reach(following, self.says(rule))
            if current is last:
                break
        reach(self.work.form(tensor, self.winner.kept), "collect")
        statements = self._with_temporaries(tensor)
        named = [s.target.tensor for s in statements if s.target.tensor != tensor]
        if named:
            written = self.made[tensor]
            if len(written) == 1 and not self._sums(written[0], definition.indices):
                value = written[0].value
                if written[0].reduction.value == "-=":
                    value = Apply("neg", (value,))
                rule = f"name {', '.join(dict.fromkeys(named))}; factor"
                before = steps[-1].after if steps else start
                steps.append(Step(target, before, value, rule))
        return Chain(target, start, tuple(steps), tuple(statements))

    def rescaled(self, tensor: str) -> Chain:
        """The chain of a tensor that takes the place of another times a factor."""
        found = self.winner.rescaled[tensor]
        definition = self.work.own.definitions[tensor]
        assert definition.poly is not None
        self.writer = self._writer({i: i for i in definition.indices})
        target = Read(found.name, tuple(map(nf.as_expression, definition.indices)))
        own = nf.of_atom(nf.read(tensor, definition.indices))
        start = self.show(nf.times(found.factor, own))
        literal = self.show(nf.times(found.factor, definition.poly))
        form = self.work.form(tensor, self.winner.kept)
        whole = self.show(self.work.algebra.reduce(nf.times(found.factor, form)))
        steps = (
            Step(target, start, literal, f"put in {tensor}"),
            Step(target, literal, whole, "by the definitions of the forward"),
        )
        return Chain(target, start, steps, tuple(self.made[found.name]))

    def _literal(self, tensor: str) -> Expression:
        """The tensor's statements as one sum, as they were written where that can be said."""
        definition = self.work.own.definitions[tensor]
        assert definition.poly is not None
        whole: Expression | None = None
        for statement in self.work.own.statements[tensor]:
            subscripts = tuple(map(nf.as_expression, definition.indices))
            if statement.guard is not None or statement.target.subscripts != subscripts:
                return self.show(definition.poly)
            inner = [r.index for r in statement.ranges if r.index not in definition.indices]
            value = statement.value
            if inner:
                value = Reduce("sum", tuple(map(Range, inner)), value)
            minus = statement.reduction is Reduction.SUBTRACT
            if whole is None:
                whole = Apply("neg", (value,)) if minus else value
            else:
                whole = Apply("-" if minus else "+", (whole, value))
        assert whole is not None
        return whole

    def show(self, poly: Poly) -> Expression:
        return self.writer.expression(poly)

    def _put_in(self, tensor: str) -> list[str]:
        """What is put into the tensor, directly or not, the last computed first."""
        outside = set(self.work.candidates) - self.winner.kept
        found: set[str] = set()
        stack = [tensor]
        while stack:
            poly = self.work.own.definitions[stack.pop()].poly
            for name in sorted((poly.tensors if poly is not None else frozenset()) & outside):
                if name not in found:
                    found.add(name)
                    stack.append(name)
        order = list(self.work.own.definitions)
        return sorted(found, key=order.index, reverse=True)

    def _with(self, poly: Poly, name: str) -> Poly:
        definition = self.work.own.definitions[name]
        assert definition.poly is not None
        value = definition.poly

        def change(atom: nf.Atom) -> Poly | None:
            if atom.kind != "read" or atom.name != name:
                return None
            return value.renamed(dict(zip(definition.indices, atom.parts, strict=True)))  # type: ignore[arg-type]

        return nf.map_atoms(poly, change)

    def says(self, rule: Rule) -> str:
        """A rule in words: the equality, and whose definition it is."""
        left: Expression
        match rule:
            case AtomRelation():
                names = self._named(rule.pattern.free)
                if not rule.source:
                    return f"collect in {show_expression(self._difference(rule, names))}"
                left = self._writer(names).atom(rule.pattern)
                if rule.pattern.kind == "sum":
                    left = self._writer(names).expression(rule.pattern.parts[0])  # type: ignore[arg-type]
            case SumRelation():
                names = self._named(rule.variables)
                inside = nf.product((), dict(rule.atoms))
                ranges: dict[str, str] = {}
                for index, extent in rule.bound:
                    taken = {*names.values(), *ranges.values()}
                    choices = self.winner.extraction.index_names.get(extent, [])
                    free = [n for n in choices if n not in taken]
                    ranges[index] = free[0] if free else invented(extent, taken)
                value = self._writer({**names, **ranges}).expression(inside)
                left = Reduce("sum", tuple(map(Range, ranges.values())), value)
            case _:
                return rule
        right = self._writer(names).expression(rule.value)
        shown = f"{show_expression(left)} = {show_expression(right)}"
        return f"{shown}, by the definition of {rule.source}"

    def _difference(self, rule: AtomRelation, names: dict[str, str]) -> Expression:
        found = next(a for t, _ in rule.value.terms for a, _ in t.atoms if a.kind == "sum")
        return self._writer(names).atom(found)

    def _writer(self, names: dict[str, str]) -> Writer:
        extraction = self.winner.extraction
        return Writer(names, extraction.order, extraction.index_names, plain=True)

    def _named(self, indices: frozenset[str]) -> dict[str, str]:
        """Names of a reader for the pattern's indices: those of the programs where there are some."""
        names: dict[str, str] = {}
        pool = [n for same in self.winner.extraction.index_names.values() for n in same]
        for index in sorted(indices):
            if index[0] in "#$":
                taken = {*names.values(), *indices}
                names[index] = next((n for n in pool if n not in taken), index)
            else:
                names[index] = index
        return names

    def _everywhere(self, poly: Poly, rule: Rule) -> Poly:
        for _ in range(MOST_STEPS):
            following = self.work.algebra.step(poly, rule)
            if following.key == poly.key:
                break
            poly = following
        return poly

    def _with_temporaries(self, tensor: str) -> list[Accumulate]:
        """The tensor's statements, those of the temporaries that it reads before them."""
        found: list[Accumulate] = []
        names = {t.name for t in self.winner.extraction.temporaries}
        wanted, own = {tensor}, set(self.work.own.definitions)
        for statement in reversed(self.winner.statements):
            assert isinstance(statement, Accumulate)
            if statement.target.tensor in wanted:
                found.append(statement)
                reads = {r.tensor for r in expression_reads(statement.value)}
                wanted |= (reads & names) - own
        return found[::-1]

    @staticmethod
    def _sums(statement: Accumulate, indices: tuple[str, ...]) -> bool:
        return len(statement.ranges) > len(indices)
