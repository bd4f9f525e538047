"""`analyze`: what a program costs, from the program alone, as formulas in its extents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from loopgrad.analysis.facts import Facts
from loopgrad.analysis.infer import infer
from loopgrad.analysis.linear_recurrences import Linear, Recurrence, blocks_of, recurrences
from loopgrad.analysis.polynomial import subtract
from loopgrad.cost.chains import chain
from loopgrad.cost.counting import Counting
from loopgrad.cost.evaluating import number_of
from loopgrad.cost.levels import Levels, levels
from loopgrad.cost.lines import lines_of
from loopgrad.cost.polys import assuming, is_never_negative, value_at
from loopgrad.cost.span import Chain, Span, span
from loopgrad.cost.symbols import Symbols
from loopgrad.cost.traffic import Traffic
from loopgrad.cost.work import work
from loopgrad.diagnostics import listing, suggestion
from loopgrad.ir.nodes import Extent, Program
from loopgrad.ir.printer import show_expression

REAL = {"float32": 4, "float64": 8}
NAMES = (
    "work",
    "span",
    "sequential_span",
    "parallelism",
    "bytes",
    "literal_bytes",
    "intensity",
    "memory",
)


@dataclass(frozen=True)
class Carried:
    """A recurrence: its tensors, whether it is linear in its state, and the words that say why, or not.

    `reads`: the chain of reads from an element to one of a former turn.
    """

    tensors: tuple[str, ...]
    linear: bool
    why: str
    reads: str


class Values(Mapping[str, Any]):
    """The numbers that an analysis comes to at given sizes: `.work`, or `["work"]`."""

    def __init__(self, numbers: Mapping[str, Any]):
        self._numbers = dict(numbers)

    def __getitem__(self, name: str) -> Any:
        return self._numbers[name]

    def __iter__(self) -> Any:
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_numbers"][name]
        except KeyError:
            raise AttributeError(name) from None

    def __repr__(self) -> str:
        return ", ".join(f"{name} = {_shown(number)}" for name, number in self.items())


@dataclass(frozen=True, eq=False)
class Analysis:
    """What a program costs. The formulas are SymPy's, in symbols named as the extents.

    work: operations. span: the longest chain of operations each of which reads the one before, with
    recurrences that are linear in their state computed by parallel scans; `sequential_span` is that of the
    program's own graph, without scans. parallelism: work / span. bytes: each input read once and each
    result written once; `literal_bytes`: what the loops read and write as they stand. intensity: work /
    bytes. memory: the most bytes that are held at once. docs/cost.md says what counts.

    `exact` has the names of the formulas that are exact; the others are upper bounds, and `reasons` says
    of some why. `recurrences`: what is carried from turn to turn, and whether a scan computes it.
    """

    program: Program
    work: Any
    span: Any
    sequential_span: Any
    parallelism: Any
    bytes: Any
    literal_bytes: Any
    intensity: Any
    memory: Any
    exact: frozenset[str]
    reasons: tuple[str, ...]
    recurrences: tuple[Carried, ...]
    _facts: Facts = field(repr=False)
    _span: Span = field(repr=False)
    _sequential: Span = field(repr=False)

    def at(self, **sizes: int) -> Values:
        """The numbers at these sizes. Extents in dotted or primed names: `**{"J'": 64}`.

        Constants that are not given have their defaults. An extent such as J' that is not given is J.
        Raises TypeError for a name that is none, or a size that is no integer of 0 or more; ValueError for
        an extent that is not given.
        """
        values = self.sizes(sizes)
        counted = ("work", "bytes", "literal_bytes", "memory")
        numbers = {name: number_of(getattr(self, name), values) for name in counted}
        sequential, parallel = (
            _longest(one, values) if one.chains else numbers["work"]
            for one in (self._sequential, self._span)
        )
        if _is_empty(self._facts, values) and numbers["work"] < SMALL:
            sequential = levels(self._facts, values).span
        numbers["sequential_span"], numbers["span"] = sequential, min(parallel, sequential)
        for name, below in (("parallelism", "span"), ("intensity", "bytes")):
            numbers[name] = numbers["work"] / numbers[below] if numbers[below] else 0.0
        return Values({name: numbers[name] for name in NAMES})

    def sizes(self, given: Mapping[str, int]) -> dict[str, int | float]:
        """The values of all extents and constants, from those that are given."""
        return sizes_of(self._facts, given)

    def levels(self, **sizes: int) -> Levels:
        """How many operations of the program's graph stand at which depth, at these sizes."""
        return levels(self._facts, self.sizes(sizes))

    def lines(self) -> list[tuple[str, str, bool]]:
        """Name, formula and exactness of each cost, in order."""
        found = [(name, str(getattr(self, name)), name in self.exact) for name in NAMES]
        if self.sequential_span == self.span:
            found = [line for line in found if line[0] != "sequential_span"]
        return found

    def __str__(self) -> str:
        width = max(len(name) for name, _, _ in self.lines())
        lines = [
            f"{name.replace('_', ' '):{width}}  {'' if exact else 'at most '}{text}"
            for name, text, exact in self.lines()
            if name not in ("parallelism", "intensity")
        ]
        for one in self.recurrences:
            lines.append(f"{one.reads}: {one.why}" if one.reads else one.why)
        return "\n".join([f"{self.program.name}:", *(f"    {line}" for line in lines)])

    __repr__ = __str__

    def _repr_latex_(self) -> str:
        import sympy

        rows = []
        for name, _, exact in self.lines():
            sign = "=" if exact else r"\le"
            formula = sympy.latex(getattr(self, name))
            rows.append(rf"\text{{{name.replace('_', ' ')}}} &{sign} {formula}")
        body = " \\\\\n".join(rows)
        return f"$$\\begin{{aligned}}\n{body}\n\\end{{aligned}}$$"


SMALL = 1_000_000  # operations of a graph that is counted level by level to have one number


def analyze(program: Program, dtype: str = "float32") -> Analysis:
    """What the program costs, from the program alone: work, span, bytes and memory, as SymPy formulas.

    dtype: "float32" or "float64", for bytes. A backward program is a program.

    Raises TypeError for what is no program, ValueError for another dtype.

    >>> import loopgrad as lg
    >>> cost = lg.analyze(lg.lib.softmax)
    >>> cost.work, cost.span
    (5*B*J, ceil(log2(J)) + 4)
    >>> cost.at(B=64, J=1000).span
    14
    >>> lg.analyze(lg.lib.linear_recurrence).span
    2*ceil(log2(T)) + 1
    """
    if not isinstance(program, Program):
        raise TypeError(f"program: a loopgrad program is needed, got {type(program).__name__}")
    if dtype not in REAL:
        raise ValueError(f"dtype: {dtype!r} is neither {' nor '.join(map(repr, REAL))}")
    facts = infer(program)
    lines = lines_of(facts)
    constants = {c.name: c.value for c in facts.program.constants}
    symbols = Symbols(facts.extents, constants)
    known = [e for t in facts.tensors.values() for e in t.extents]
    counting = Counting(symbols, known)
    total, bounds = work(lines, counting)
    positive = frozenset(n for n, v in constants.items() if isinstance(v, int) and v >= 1)
    found = [r for b in blocks_of(facts.program.statements) for r in recurrences(facts, b)]
    linear = [r for r in found if isinstance(r, Linear)]
    sequential = span(facts, lines, positive)
    parallel = span(facts, lines, positive, linear) if linear else sequential
    traffic = Traffic(facts, counting, REAL[dtype])
    spans = [
        _formula(one, symbols, positive) if one.chains else total for one in (parallel, sequential)
    ]
    if linear and not _is_useful(parallel, sequential, facts):
        parallel, spans = sequential, [spans[1], spans[1]]
    moved, literal = traffic.compulsory(), traffic.literal(lines)
    exact = {"bytes", "memory"}
    if not bounds:
        exact |= {"work", "literal_bytes", "intensity"}
    if sequential.exact:
        exact |= {"sequential_span"}
        if parallel is sequential:
            exact |= {"span"} | ({"parallelism"} if not bounds else set())
    return Analysis(
        program,
        total,
        spans[0],
        spans[1],
        total / spans[0] if spans[0] != 0 else symbols.sympy.Integer(0),
        moved,
        literal,
        total / moved if moved != 0 else symbols.sympy.Integer(0),
        traffic.peak(),
        frozenset(exact),
        tuple(dict.fromkeys((*bounds, *sequential.reasons))),
        tuple(_carried(r) for r in found),
        facts,
        parallel,
        sequential,
    )


def _carried(found: Recurrence) -> Carried:
    if not isinstance(found, Linear):
        return Carried(found.tensors, False, f"not linear, {found.reason}", chain(found))
    step = found.steps[0]
    coefficient = found.coefficient
    if coefficient is not None:
        at = next(t.source for t in step.terms)
        words = (
            f"linear in {show_expression(at)}, with the coefficient {show_expression(coefficient)}"
        )
    else:
        states = listing([s.target.tensor for s in found.steps]).replace("`", "")
        words = f"linear in {states}, whose elements mix"
    return Carried(found.tensors, True, words, chain(found))


def _formula(found: Span, symbols: Symbols, positive: frozenset[str]) -> Any:
    """The largest chain, each where it exists."""
    sympy = symbols.sympy
    always: list[Chain] = []
    sometimes: list[Chain] = []
    for one in found.chains:
        harmless = not one.needs or _is_harmless(one, found.chains, positive)
        (always if harmless else sometimes).append(one)

    def formula_of(one: Chain) -> Any:
        return symbols.formula(one.length)

    shortest = sympy.Max(0, *map(formula_of, always))
    if len(sometimes) == 1 and all(_is_longer(sometimes[0], one, positive) for one in always):
        return sympy.Piecewise(
            (formula_of(sometimes[0]), _where(sometimes[0], symbols)), (shortest, True)
        )
    parts = [
        sympy.Piecewise((formula_of(one), _where(one, symbols)), (0, True)) for one in sometimes
    ]
    return sympy.Max(shortest, *parts, evaluate=False) if parts else shortest


def _where(one: Chain, symbols: Symbols) -> Any:
    """The condition under which the chain exists."""
    return symbols.sympy.And(*(symbols.sympy.Ge(symbols.formula(n), 0) for n in one.needs))


def _is_longer(one: Chain, other: Chain, positive: frozenset[str]) -> bool:
    """Whether that is evident where the first exists."""
    return is_never_negative(assuming(subtract(one.length, other.length), one.needs), positive)


def _is_harmless(one: Chain, chains: Sequence[Chain], positive: frozenset[str]) -> bool:
    """Whether the chain may be said to exist always: where it does not, another is as long."""
    if len(one.needs) != 1:
        return False
    [need] = one.needs
    least = -need.get((), 0)
    names = [m for m in need if m]
    if len(need) != 2 or len(names) != 1 or need[names[0]] != 1 or not 1 < least <= 8:
        return False
    [atom] = names[0] if len(names[0]) == 1 else [None]
    if not isinstance(atom, Extent):
        return False
    for value in range(1, int(least)):
        at = {(): value}
        own = _with(one.length, atom, at)
        others = [_with(o.length, atom, at) for o in chains if not o.needs]
        if not any(is_never_negative(subtract(other, own), positive) for other in others):
            return False
    return True


def _with(f: Any, atom: Extent, value: Any) -> Any:
    """The formula at one size of an extent, within rounds of sums too."""
    from loopgrad.analysis.polynomial import add, constant
    from loopgrad.cost.polys import Log, log, times

    total: Any = {}
    for monomial, coefficient in f.items():
        product: Any = constant(1)
        for a in monomial:
            if a == atom:
                product = times(product, value)
            elif isinstance(a, Log):
                product = times(product, log(_with(a.formula, atom, value)))
            else:
                product = times(product, {(a,): 1})
        total = add(total, {m: c * coefficient for m, c in product.items()})
    return total


def _is_useful(parallel: Span, sequential: Span, facts: Facts) -> bool:
    """Whether scans make the program shorter where it is long."""
    if not (parallel.chains and sequential.chains):
        return bool(parallel.chains)
    sizes: dict[str, int | float] = dict.fromkeys(facts.extents, 1 << 20)
    sizes |= {c.name: c.value for c in facts.program.constants}
    try:
        return _longest(parallel, sizes) < _longest(sequential, sizes)
    except ValueError:
        return True


def _longest(found: Span, sizes: Mapping[str, int | float]) -> int:
    values = {n: int(v) for n, v in sizes.items()}
    lengths = [
        value_at(one.length, values)
        for one in found.chains
        if all(value_at(need, values) >= 0 for need in one.needs)
    ]
    return int(max(lengths, default=0))


def _is_empty(facts: Facts, sizes: Mapping[str, int | float]) -> bool:
    """Whether a tensor has no elements at these sizes: formulas take extents to be 1 or more."""
    from loopgrad.backends.formulas import evaluate

    extents = {e for t in facts.tensors.values() for e in t.extents}
    return any(int(sizes[n]) < 1 for n in facts.extents) or any(
        evaluate(e, sizes) < 1 for e in extents
    )


def sizes_of(facts: Facts, given: Mapping[str, int]) -> dict[str, int | float]:
    """The values of all extents and constants of a program, from those that are given; see `Analysis.at`."""
    from loopgrad.backends.formulas import evaluate

    constants: dict[str, int | float] = {c.name: c.value for c in facts.program.constants}
    sizes = dict(constants)
    name = facts.program.name
    for extent, value in given.items():
        if extent not in facts.extents and extent not in constants:
            meant = suggestion(extent, facts.extents)
            there = listing(list(facts.extents)) or "none"
            hint = f"did you mean `{meant}`?" if meant else f"there are {there}"
            raise TypeError(f"{name} has no extent `{extent}`: {hint}")
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not (whole or (extent in constants and isinstance(value, float))):
            raise TypeError(f"{extent}: a size is an integer, got {value!r}")
        if extent not in constants and value < 0:
            raise ValueError(f"{extent}: a size is 0 or more, got {value}")
        sizes[extent] = value
    for extent in facts.extents:
        if extent in sizes:
            continue
        if extent.rstrip("'") in sizes:
            sizes[extent] = sizes[extent.rstrip("'")]
        elif extent in facts.defined:
            try:
                sizes[extent] = evaluate(facts.defined[extent], sizes)
            except KeyError:
                raise ValueError(f"{name}: `{extent}` is not given") from None
        else:
            raise ValueError(f"{name}: `{extent}` is not given")
    return sizes


def _shown(number: Any) -> str:
    return f"{number:,}" if isinstance(number, int) else f"{number:,.4g}"
