"""A program as operations on whole arrays, in Python source, for libraries of arrays.

    for b, j:  Z[b]   += exp(s[b,j])              Z = xp.sum(xp.exp(s), (1,))
    for b, j:  p[b,j] += exp(s[b,j]) / Z[b]       p = xp.exp(s) / Z[:, None]

Each statement is one expression over its loops, an axis a loop: a product that is summed is an `einsum`, a
block over time a scan whose step is written the same way. `xp` is a namespace of `namespaces.py`.
Nothing is checked: the source is for calls that are known to be right. `NoContender` says what
has no such form.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from loopgrad.ir.nodes import (
    Accumulate,
    Apply,
    Block,
    Compare,
    Expression,
    Index,
    Range,
    Read,
    Reduction,
    Statement,
)
from loopgrad.ir.printer import show_expression
from loopgrad.ir.walk import (
    all_statements,
    indices_of,
    reads,
    statement_expressions,
    statement_reads,
)
from loopgrad.peers.array_expressions import ArrayExpressions
from loopgrad.peers.pieces import (
    Loops,
    Piece,
    Step,
    aligned,
    closed,
    distance_of,
    hangs,
    permuted,
    slice_at,
    tuple_of,
    union_of,
)
from loopgrad.peers.problem import NoContender

INDENT = "    "
LETTERS = "abcdefghijklmnopqrstuvwxyz"

REDUCERS = {
    Reduction.ADD: "sum",
    Reduction.SUBTRACT: "sum",
    Reduction.MULTIPLY: "prod",
    Reduction.MAXIMUM: "amax",
    Reduction.MINIMUM: "amin",
}
JOINS = {
    Reduction.ADD: "{0} + {1}",
    Reduction.SUBTRACT: "{0} - {1}",
    Reduction.MULTIPLY: "{0} * {1}",
    Reduction.MAXIMUM: "xp.maximum({0}, {1})",
    Reduction.MINIMUM: "xp.minimum({0}, {1})",
    Reduction.SET: "{1}",
}


class Arrays(ArrayExpressions):
    """The source of `function(xp, inputs..., extents..., constants...)`, which returns the results."""

    def source(self, name: str = "function") -> str:
        """Raises NoContender, saying why, for a program that has no such form."""
        arguments = ", ".join(["xp", *(self.names.of(kind, a) for kind, a in self.arguments)])
        lines = [f"def {name}({arguments}):"]
        for statement in self.facts.program.statements:
            lines += [INDENT + line for line in self._statement(statement)]
        for result in self.facts.program.results:
            if result.name not in self.known:
                lines.append(f"{INDENT}{self._name(result.name)} = {self._start(result.name)}")
        results = ", ".join(self._name(r.name) for r in self.facts.program.results)
        return "\n".join([*lines, f"{INDENT}return ({results},)"]) + "\n"

    # ---------------------------------------------------------------------------------- statements

    def _statement(self, statement: Statement) -> Iterator[str]:
        match statement:
            case Block():
                yield from self._block(statement)
            case Accumulate():
                yield from self._accumulate(statement)

    def _accumulate(self, s: Accumulate) -> Iterator[str]:
        loops = self._loops(s)
        mask = self._mask(s, loops)
        subscripts = self._sliced(s.target.tensor, s.target.subscripts)
        kept = {n for sub in subscripts for n in indices_of(sub)}
        wanted = tuple(i for i in loops.order if i in kept)
        value = self._reduced(s, loops, mask, wanted)
        name = s.target.tensor
        if mask is not None and s.reduction is Reduction.SET:
            value = self._masked(mask, value, Piece("0"), loops)
            if name in self.known:
                raise NoContender(f"`{name}` is set under a condition after it has values")
        target = self._name(name)
        if self._is_whole(subscripts, name, loops):
            order = [wanted.index(sub.name) for sub in subscripts if isinstance(sub, Index)]
            text = permuted(self._expanded(value, wanted, loops), order)
            if name not in self.known:
                text = f"-{closed(text)}" if s.reduction is Reduction.SUBTRACT else text
                yield f"{target} = {text}"
            else:
                yield f"{target} = {JOINS[s.reduction].format(target, closed(text))}"
        else:
            if name not in self.known:
                yield f"{target} = {self._start(name)}"
            places = ", ".join(aligned(self._piece(sub, loops), wanted) for sub in subscripts)
            text = self._expanded(value, wanted, loops)
            yield f'{target} = xp.put({target}, ({places},), {text}, "{s.reduction.value}")'
        self.known.add(name)

    def _reduced(
        self, s: Accumulate, loops: Loops, mask: Piece | None, wanted: tuple[str, ...]
    ) -> Piece:
        """The value with the indices that the target lacks reduced away."""
        reduced = tuple(i for i in loops.order if i not in wanted)
        if s.reduction is Reduction.SET or not reduced:
            value = self._value(s, loops)
            hides = mask is not None and s.reduction is not Reduction.SET
            return self._masked(mask, value, self._identity(s), loops) if hides else value
        after = mask is not None and not set(mask.indices) & set(reduced)
        within = None if after else mask
        factors = _factors(s.value) if s.reduction in (Reduction.ADD, Reduction.SUBTRACT) else []
        if len(factors) > 1:
            value = self._einsum(factors, loops, within, wanted)
        else:
            value = self._value(s, loops)
            if within is not None:
                value = self._masked(within, value, self._identity(s), loops)
            value = self._over(value, REDUCERS[s.reduction], reduced, loops)
        return self._masked(mask, value, self._identity(s), loops) if after else value

    def _over(self, value: Piece, reducer: str, reduced: tuple[str, ...], loops: Loops) -> Piece:
        axes = tuple(k for k, i in enumerate(value.indices) if i in reduced)
        left = tuple(i for i in value.indices if i not in reduced)
        absent = [i for i in reduced if i not in value.indices]
        text = f"xp.{reducer}({value.text}, {axes})" if axes else value.text
        if absent and reducer in ("sum", "prod"):
            sign = "*" if reducer == "sum" else "**"
            times = " * ".join(f"({self._length(i, loops)})" for i in absent)
            text = f"({text} {sign} ({times}))"
        return Piece(text, left)

    def _einsum(
        self,
        factors: Sequence[tuple[bool, Expression]],
        loops: Loops,
        mask: Piece | None,
        wanted: tuple[str, ...],
    ) -> Piece:
        """The sum of a product: factors multiply or (marked) divide."""
        pieces = [
            Piece(f"1 / {closed(p.text)}", p.indices) if divides else p
            for divides, e in factors
            for p in [self._real(e, loops)]
        ]
        scalars = [p for p in pieces if not p.indices]
        arrays = [p for p in pieces if p.indices]
        if mask is not None:
            if not arrays:
                arrays = [Piece("1")]
            # The factor that the mask widens least takes it, and those that it hides from.
            grows = [len({*p.indices, *mask.indices}) - len(p.indices) for p in arrays]
            least = grows.index(min(grows))
            for k, p in enumerate(arrays):
                if k == least or (grows[k] == 0 and not p.text.isidentifier()):
                    arrays[k] = self._masked(mask, p, Piece("0"), loops)
        summed = {i for p in arrays for i in p.indices}
        absent = [i for i in loops.order if i not in wanted and i not in summed]
        scalars += [Piece(f"({self._length(i, loops)})") for i in absent]
        left = tuple(i for i in wanted if i in summed)
        if len(arrays) == 1:
            (one,) = arrays
            gone = tuple(i for i in one.indices if i not in left)
            value = self._over(one, "sum", gone, loops)
        elif arrays:
            letter = dict(zip(loops.order, LETTERS, strict=False))
            inputs = ",".join("".join(letter[i] for i in p.indices) for p in arrays)
            spec = f"{inputs}->{''.join(letter[i] for i in left)}"
            value = Piece(f'xp.einsum("{spec}", {", ".join(p.text for p in arrays)})', left)
        else:
            value = Piece("1")
        text = " * ".join([*(closed(p.text) for p in scalars), value.text])
        return Piece(text, value.indices)

    def _identity(self, s: Accumulate) -> Piece:
        return Piece(self._identity_of(s.target.tensor, s.reduction))

    def _masked(self, mask: Piece | None, value: Piece, other: Piece, loops: Loops) -> Piece:
        if mask is None:
            return value
        union = union_of((mask, value, other), loops)
        parts = [aligned(p, union) for p in (mask, value, other)]
        return Piece(f"xp.where({', '.join(parts)})", union)

    def _mask(self, s: Accumulate, loops: Loops) -> Piece | None:
        """The guard, and the bounds of ranges that are no rectangle."""
        conditions = [] if s.guard is None else [self._piece(s.guard, loops)]
        for i, r in loops.ranges.items():
            assert r.lower is not None and r.upper is not None
            if hangs(r.lower):
                conditions.append(self._piece(Compare(("<=",), (r.lower, Index(i))), loops))
            if hangs(r.upper):
                conditions.append(self._piece(Compare(("<",), (Index(i), r.upper)), loops))
        if not conditions:
            return None
        union = union_of(conditions, loops)
        text = aligned(conditions[0], union)
        for condition in conditions[1:]:
            text = f"xp.both({text}, {aligned(condition, union)})"
        return Piece(text, union)

    # --------------------------------------------------------------------------------------- loops

    def _loops(self, s: Accumulate) -> Loops:
        loops = Loops(self.numbers[id(s)], tuple(r.index for r in s.ranges))
        loops.ranges = {r.index: r for r in s.ranges}
        loops.all_run = s.guard is None
        for r in s.ranges:
            assert r.lower is not None and r.upper is not None
            lower, upper = "0", ""
            if not hangs(r.lower):
                lower = self._integer(r.lower)
            if hangs(r.upper):
                upper = self._integer(self._axis_of(r.index, s))
                loops.all_run = False
            else:
                upper = self._integer(r.upper)
            loops.bounds[r.index] = (lower, upper)
        return loops

    def _axis_of(self, index: str, s: Accumulate) -> Expression:
        """The extent of an axis that the index alone subscripts."""
        for read in (s.target, *(r for e in statement_expressions(s) for r in reads(e))):
            for axis, subscript in enumerate(read.subscripts):
                if isinstance(subscript, Index) and subscript.name == index:
                    return self.facts.tensors[read.tensor].extents[axis]
        raise NoContender(f"the range of `{index}` is no rectangle")

    # -------------------------------------------------------------------------------------- blocks

    def _block(self, block: Block) -> Iterator[str]:
        if self.step is not None or len(block.ranges) != 1:
            raise NoContender("it has blocks in blocks")
        (r,) = block.ranges
        assert r.lower is not None and r.upper is not None
        if hangs(r.lower) or hangs(r.upper):
            raise NoContender(f"the range of `{r.index}` hangs on data")
        written = _written(block)
        step = self._prepared(block, r, written)
        step.kept = [
            name for name in step.axes if name in self.known or self._is_read_outside(name, block)
        ]
        before = frozenset(self.known)
        for name in written:
            if name not in self.known and (name in step.kept or name not in step.axes):
                yield f"{self._name(name)} = {self._start(name)}"
        lower, upper = self._integer(r.lower), self._integer(r.upper)
        first, back = (f"{upper} - 1", "+") if r.descending else (lower, "-")
        totals = [self._name(name) for name in written if name not in step.axes]
        starts = list(totals)
        for name, lag in step.lags:
            axis = step.axes[name]
            extent = self._integer(self.facts.tensors[name].extents[axis])
            place = f"xp.within({first} {back} {lag}, {extent})"
            known = name in before
            starts.append(
                slice_at(self._name(name), axis, place) if known else self._first(name, step)
            )
        outer = {name: self._name(name) for name in step.axes}
        function = self.names.fresh("step")
        yield f"def {function}({self.names.of('index', r.index)}, carried):"
        yield from (INDENT + line for line in self._body(block, step, totals, outer))
        direction = ", descending=True" if r.descending else ""
        given = f"{lower}, {upper}, {tuple_of(starts)}{direction}"
        yield f"carried, stacked = xp.scan({function}, {given})"
        for k, total in enumerate(totals):
            yield f"{total} = carried[{k}]"
        for k, name in enumerate(step.kept):
            place = f"{step.axes[name]}, {lower}, stacked[{k}]"
            yield f"{outer[name]} = xp.place({outer[name]}, {place})"
        self.known |= set(written)

    def _is_read_outside(self, name: str, block: Block) -> bool:
        program = self.facts.program
        others = all_statements(s for s in program.statements if s is not block)
        return any(r.name == name for r in program.results) or any(
            read.tensor == name for s in others for read in statement_reads(s)
        )

    def _first(self, tensor: str, step: Step) -> str:
        """A slice of it from before its first."""
        self.step = step
        text = self._start(tensor)
        self.step = None
        return text

    def _prepared(self, block: Block, r: Range, written: Sequence[str]) -> Step:
        """Where time stands in each tensor that is written, and which earlier slices are read."""
        axes: dict[str, int | None] = {}
        for s in block.body:
            assert isinstance(s, Accumulate)
            name, axis = s.target.tensor, _time_axis(s.target, r.index)
            if axes.setdefault(name, axis) != axis:
                raise NoContender(f"`{name}` is written at several times of a step")
        step = Step(r.index, {n: axis for n, axis in axes.items() if axis is not None}, {})
        for s in block.body:
            for read in statement_reads(s):
                if read.tensor in step.axes:
                    lag = self._lag(read, step.axes[read.tensor], r)
                    for k in range(1, lag + 1):
                        if (read.tensor, k) not in step.lags:
                            label = f"{self._name(read.tensor)}_{k}"
                            step.lags[read.tensor, k] = self.names.fresh(label)
                elif read.tensor in written:
                    raise NoContender(f"`{read.tensor}` is read while it is summed over time")
        return step

    def _lag(self, read: Read, axis: int, r: Range) -> int:
        """How many steps ago the slice was made that is read."""
        distance = distance_of(read.subscripts[axis], r.index)
        lag = None if distance is None else distance if r.descending else -distance
        if lag is None or lag < 0:
            raise NoContender(f"`{read.tensor}` is read at another time")
        return lag

    def _body(
        self, block: Block, step: Step, totals: Sequence[str], outer: Mapping[str, str]
    ) -> Iterator[str]:
        """The statements of one step, on the slices at its time."""
        time = self.names.of("index", step.index)
        carried = [*totals, *step.lags.values()]
        if carried:
            yield f"{tuple_of(carried)} = carried"
        before, self.known = self.known, self.known | set(_written(block))
        self.step = step
        for name, axis in step.axes.items():
            if name in before:
                yield f"{self._name(name)} = {slice_at(outer[name], axis, time)}"
            else:
                self.known = self.known - {name}
        for s in block.body:
            yield from self._statement(s)
        now = [self._name(name) if k == 1 else step.lags[name, k - 1] for name, k in step.lags]
        slices = [self._name(name) for name in step.kept]
        yield f"return {tuple_of([*totals, *now])}, {tuple_of(slices)}"
        self.step, self.known = None, before


def _factors(e: Expression, divides: bool = False) -> list[tuple[bool, Expression]]:
    """The factors of a product, each with whether it divides."""
    match e:
        case Apply("*", (left, right)):
            return _factors(left, divides) + _factors(right, divides)
        case Apply("/", (left, right)):
            return _factors(left, divides) + _factors(right, not divides)
    return [(divides, e)]


def _written(block: Block) -> list[str]:
    names: dict[str, None] = {}
    for s in block.body:
        if not isinstance(s, Accumulate):
            raise NoContender("it has blocks in blocks")
        names.setdefault(s.target.tensor)
    return list(names)


def _time_axis(target: Read, time: str) -> int | None:
    """The axis that time alone subscripts; None where the target has no time."""
    axes = [k for k, s in enumerate(target.subscripts) if time in indices_of(s)]
    if not axes:
        return None
    if len(axes) > 1 or target.subscripts[axes[0]] != Index(time):
        raise NoContender(f"`{show_expression(target)}` is written at another time")
    return axes[0]
