"""A program as operations on whole arrays, in Python source, for libraries of arrays.

    for b, j:  Z[b]   += exp(s[b,j])              Z = xp.sum(xp.exp(s), (1,))
    for b, j:  p[b,j] += exp(s[b,j]) / Z[b]       p = xp.exp(s) / Z[:, None]

Each statement is one expression over its loops, an axis a loop: a product that is summed is an `einsum`, a
block over time a scan whose step is written the same way. `xp` is a namespace of `namespaces.py`.
Nothing is checked: the source is for calls that are known to be right. `NoContender` says what
has no such form.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from loopgrad.analysis.facts import Facts, Safety
from loopgrad.analysis.types import element_type
from loopgrad.ir.nodes import (
    Accumulate,
    Apply,
    Block,
    Compare,
    Conditional,
    Constant,
    Expression,
    Extent,
    Index,
    Number,
    Range,
    Read,
    Reduction,
    Statement,
)
from loopgrad.ir.operations import OPERATIONS, ElementType, Typing
from loopgrad.ir.printer import show_expression
from loopgrad.ir.walk import (
    ZERO,
    all_statements,
    indices_of,
    reads,
    statement_expressions,
    statement_reads,
)
from loopgrad.peers.literal import starting_reductions
from loopgrad.peers.problem import NoContender
from loopgrad.printers.identifiers import Identifiers

INDENT = "    "
LETTERS = "abcdefghijklmnopqrstuvwxyz"

STARTS = {Reduction.MULTIPLY: "1", Reduction.MAXIMUM: "-xp.inf", Reduction.MINIMUM: "xp.inf"}
INTEGER_STARTS = STARTS | {Reduction.MAXIMUM: "xp.least", Reduction.MINIMUM: "xp.greatest"}
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


@dataclass(frozen=True)
class Piece:
    """The text of an array, an axis for each of `indices`; a scalar has none."""

    text: str
    indices: tuple[str, ...] = ()


@dataclass
class Loops:
    """The loops around an expression, in the order of its arrays' axes."""

    number: int  # of the statement
    order: tuple[str, ...] = ()
    bounds: dict[str, tuple[str, str]] = field(default_factory=dict)
    ranges: dict[str, Range] = field(default_factory=dict)
    all_run: bool = True  # no condition keeps an iteration from running


@dataclass
class Step:
    """The block that is being written: its index, and each tensor that it writes slice by slice."""

    index: str
    axes: dict[str, int]  # by tensor, where the block's index stands
    lags: dict[tuple[str, int], str]  # earlier slices that are read, by tensor and distance
    kept: list[str] = field(default_factory=list)  # tensors of which somebody else reads the slices


class Arrays:
    """The source of `function(xp, inputs..., extents..., constants...)`, which returns the results."""

    def __init__(self, facts: Facts, safety: Safety):
        self.facts, self.safety = facts, safety
        self.names = Identifiers()
        self.names.fresh("xp")
        self.elements = {t.name: t.element for t in facts.tensors.values()}
        self.starts = starting_reductions(facts.program.statements)
        self.arguments = (
            [("tensor", i.name) for i in facts.program.inputs]
            + [("extent", name) for name in facts.extents]
            + [("constant", name) for name in facts.constants]
        )
        self.known: set[str] = {i.name for i in facts.program.inputs}
        self.step: Step | None = None
        # `Safety` counts statements; equal ones are told apart by their identity.
        self.numbers = {id(s): k for k, s in enumerate(all_statements(facts.program.statements))}

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
            text = _permuted(self._expanded(value, wanted, loops), order)
            if name not in self.known:
                text = f"-{_closed(text)}" if s.reduction is Reduction.SUBTRACT else text
                yield f"{target} = {text}"
            else:
                yield f"{target} = {JOINS[s.reduction].format(target, _closed(text))}"
        else:
            if name not in self.known:
                yield f"{target} = {self._start(name)}"
            places = ", ".join(_aligned(self._piece(sub, loops), wanted) for sub in subscripts)
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
            Piece(f"1 / {_closed(p.text)}", p.indices) if divides else p
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
        text = " * ".join([*(_closed(p.text) for p in scalars), value.text])
        return Piece(text, value.indices)

    def _identity(self, s: Accumulate) -> Piece:
        return Piece(self._identity_of(s.target.tensor, s.reduction))

    def _identity_of(self, tensor: str, reduction: Reduction) -> str:
        whole = self.elements[tensor] is not ElementType.FLOAT
        return (INTEGER_STARTS if whole else STARTS).get(reduction, "0")

    def _masked(self, mask: Piece | None, value: Piece, other: Piece, loops: Loops) -> Piece:
        if mask is None:
            return value
        union = _union((mask, value, other), loops)
        parts = [_aligned(p, union) for p in (mask, value, other)]
        return Piece(f"xp.where({', '.join(parts)})", union)

    def _mask(self, s: Accumulate, loops: Loops) -> Piece | None:
        """The guard, and the bounds of ranges that are no rectangle."""
        conditions = [] if s.guard is None else [self._piece(s.guard, loops)]
        for i, r in loops.ranges.items():
            assert r.lower is not None and r.upper is not None
            if _hangs(r.lower):
                conditions.append(self._piece(Compare(("<=",), (r.lower, Index(i))), loops))
            if _hangs(r.upper):
                conditions.append(self._piece(Compare(("<",), (Index(i), r.upper)), loops))
        if not conditions:
            return None
        union = _union(conditions, loops)
        text = _aligned(conditions[0], union)
        for condition in conditions[1:]:
            text = f"xp.both({text}, {_aligned(condition, union)})"
        return Piece(text, union)

    # --------------------------------------------------------------------------------------- loops

    def _loops(self, s: Accumulate) -> Loops:
        loops = Loops(self.numbers[id(s)], tuple(r.index for r in s.ranges))
        loops.ranges = {r.index: r for r in s.ranges}
        loops.all_run = s.guard is None
        for r in s.ranges:
            assert r.lower is not None and r.upper is not None
            lower, upper = "0", ""
            if not _hangs(r.lower):
                lower = self._integer(r.lower)
            if _hangs(r.upper):
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

    def _length(self, index: str, loops: Loops) -> str:
        lower, upper = loops.bounds[index]
        return upper if lower == "0" else f"{upper} - {_closed(lower)}"

    def _integer(self, e: Expression) -> str:
        """The text of a bound or an extent, in extents and constants."""
        return self._piece(e, Loops(-1)).text

    # -------------------------------------------------------------------------------------- blocks

    def _block(self, block: Block) -> Iterator[str]:
        if self.step is not None or len(block.ranges) != 1:
            raise NoContender("it has blocks in blocks")
        (r,) = block.ranges
        assert r.lower is not None and r.upper is not None
        if _hangs(r.lower) or _hangs(r.upper):
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
            starts.append(_at(self._name(name), axis, place) if known else self._first(name, step))
        outer = {name: self._name(name) for name in step.axes}
        function = self.names.fresh("step")
        yield f"def {function}({self.names.of('index', r.index)}, carried):"
        yield from (INDENT + line for line in self._body(block, step, totals, outer))
        direction = ", descending=True" if r.descending else ""
        given = f"{lower}, {upper}, {_tuple(starts)}{direction}"
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
        distance = _distance(read.subscripts[axis], r.index)
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
            yield f"{_tuple(carried)} = carried"
        before, self.known = self.known, self.known | set(_written(block))
        self.step = step
        for name, axis in step.axes.items():
            if name in before:
                yield f"{self._name(name)} = {_at(outer[name], axis, time)}"
            else:
                self.known = self.known - {name}
        for s in block.body:
            yield from self._statement(s)
        now = [self._name(name) if k == 1 else step.lags[name, k - 1] for name, k in step.lags]
        slices = [self._name(name) for name in step.kept]
        yield f"return {_tuple([*totals, *now])}, {_tuple(slices)}"
        self.step, self.known = None, before

    # --------------------------------------------------------------------------------- tensors

    def _name(self, tensor: str) -> str:
        """Of the tensor; in a step, of its slice at the time."""
        if self.step is not None and tensor in self.step.axes:
            return self.names.of("slice", f"{tensor}_now")
        return self.names.of("tensor", tensor)

    def _sliced(self, tensor: str, axes: Sequence[Expression]) -> tuple[Expression, ...]:
        """Subscripts or extents of it; in a step, without those of time."""
        if self.step is None or tensor not in self.step.axes:
            return tuple(axes)
        time = self.step.axes[tensor]
        return tuple(e for axis, e in enumerate(axes) if axis != time)

    def _extents(self, tensor: str) -> tuple[Expression, ...]:
        return self._sliced(tensor, self.facts.tensors[tensor].extents)

    def _start(self, tensor: str) -> str:
        """The tensor before anything is written: full of its identity."""
        shape = _tuple([self._integer(e) for e in self._extents(tensor)])
        start = self._identity_of(tensor, self.starts.get(tensor, Reduction.ADD))
        whole = self.elements[tensor] is not ElementType.FLOAT
        return f"xp.{'integers' if whole else 'full'}({shape}, {start})"

    def _is_whole(self, subscripts: Sequence[Expression], tensor: str, loops: Loops) -> bool:
        """Whether they run over the whole tensor, each index over an axis."""
        names = [s.name for s in subscripts if isinstance(s, Index)]
        return len(names) == len(subscripts) == len({*names} & {*loops.order}) and all(
            self._spans(s, extent, loops)
            for s, extent in zip(subscripts, self._extents(tensor), strict=True)
        )

    def _spans(self, subscript: Expression, extent: Expression, loops: Loops) -> bool:
        if not isinstance(subscript, Index) or subscript.name not in loops.bounds:
            return False
        return loops.bounds[subscript.name] == ("0", self._integer(extent))

    # --------------------------------------------------------------------------------- expressions

    def _type(self, e: Expression) -> ElementType:
        return element_type(e, self.elements, self.facts.constants)

    def _value(self, s: Accumulate, loops: Loops) -> Piece:
        whole = self.elements[s.target.tensor] is not ElementType.FLOAT
        return self._piece(s.value, loops) if whole else self._real(s.value, loops)

    def _real(self, e: Expression, loops: Loops) -> Piece:
        """As real numbers: integers of a library would not turn into them by themselves."""
        piece = self._piece(e, loops)
        if self._type(e) is ElementType.FLOAT or not piece.indices:
            return piece
        return Piece(f"xp.real({piece.text})", piece.indices)

    def _piece(self, e: Expression, loops: Loops) -> Piece:
        match e:
            case Number(value):
                return Piece("xp.inf" if value == float("inf") else str(value))
            case Index(name) if name in loops.bounds:
                lower, upper = loops.bounds[name]
                return Piece(f"xp.arange({lower}, {upper})", (name,))
            case Index(name):
                return Piece(self.names.of("index", name))
            case Extent(name):
                return Piece(self.names.of("extent", name))
            case Constant(name):
                return Piece(self.names.of("constant", name))
            case Read():
                return self._read(e, loops)
            case Compare(operators, operands):
                return self._compare(operators, operands, loops)
            case Conditional(condition, then, otherwise):
                some = replace(loops, all_run=False)
                parts = [self._piece(condition, loops), *self._alike((then, otherwise), some)]
                return self._call("xp.where", parts, loops)
            case Apply(operation, operands):
                return self._apply(operation, operands, loops)
        raise AssertionError(f"{e} is unfolded before printing")

    def _alike(self, operands: Sequence[Expression], loops: Loops) -> list[Piece]:
        real = any(self._type(o) is ElementType.FLOAT for o in operands)
        return [self._real(o, loops) if real else self._piece(o, loops) for o in operands]

    def _compare(
        self, operators: Sequence[str], operands: Sequence[Expression], loops: Loops
    ) -> Piece:
        parts = self._alike(operands, loops)
        union = _union(parts, loops)
        texts = [_closed(_aligned(p, union)) for p in parts]
        pairs = [f"{a} {o} {b}" for o, a, b in zip(operators, texts, texts[1:], strict=False)]
        text = pairs[0]
        for pair in pairs[1:]:
            text = f"xp.both({text}, {pair})"
        return Piece(text, union)

    def _apply(self, operation: str, operands: Sequence[Expression], loops: Loops) -> Piece:
        row = OPERATIONS[operation]
        parts = self._alike(operands, loops)
        if operation in ("and", "or"):  # lazy: the first decides whether the second counts
            parts[1:] = self._alike(operands[1:], replace(loops, all_run=False))
        if row.typing is Typing.FLOAT:
            parts = [self._real(o, loops) for o in operands]
        match operation:
            case "and" | "or":
                return self._call("xp.both" if operation == "and" else "xp.either", parts, loops)
            case "not":
                return self._call("xp.neither", parts, loops)
            case "neg":
                return Piece(f"-{_closed(parts[0].text)}", parts[0].indices)
            case "max" | "min":
                return self._call(f"xp.{operation}imum", parts, loops)
            case "pi":
                return Piece("xp.pi")
        if row.precedence is None:
            return self._call(f"xp.{operation}", parts, loops)
        union = _union(parts, loops)
        left, right = (_closed(_aligned(p, union)) for p in parts)
        return Piece(f"{left} {operation} {right}", union)

    def _call(self, function: str, parts: Sequence[Piece], loops: Loops) -> Piece:
        union = _union(parts, loops)
        return Piece(f"{function}({', '.join(_aligned(p, union) for p in parts)})", union)

    def _read(self, read: Read, loops: Loops) -> Piece:
        name, subscripts = self._name(read.tensor), self._sliced(read.tensor, read.subscripts)
        if self.step is not None and read.tensor in self.step.axes:
            time = read.subscripts[self.step.axes[read.tensor]]
            lag = abs(_distance(time, self.step.index) or 0)
            name = self.step.lags[read.tensor, lag] if lag else name
        elif read.tensor not in self.known:
            name = self._start(read.tensor)  # complete from the start: nothing ever writes it
        extents = self._extents(read.tensor)
        in_range = loops.all_run or (loops.number, read) in self.safety.in_range
        parts = [
            self._subscript(s, extent, in_range, loops)
            for s, extent in zip(subscripts, extents, strict=True)
        ]
        found = [index for _, index in parts if index]
        if any(text is None for text, _ in parts) or len(set(found)) < len(found):
            return self._gathered(name, subscripts, extents, loops)
        texts = [str(text) for text, _ in parts]
        while texts and texts[-1] == ":":
            texts.pop()
        text = f"{name}[{', '.join(texts)}]" if texts else name
        order = sorted(found, key=loops.order.index)
        return Piece(_permuted(text, [found.index(i) for i in order]), tuple(order))

    def _subscript(
        self, s: Expression, extent: Expression, in_range: bool, loops: Loops
    ) -> tuple[str | None, str | None]:
        """Its text between brackets, and the index whose axis that leaves; no text for a gather."""
        if self._spans(s, extent, loops):
            assert isinstance(s, Index)
            return ":", s.name
        inside = [i for i in indices_of(s) if i in loops.bounds]
        if not inside:
            if any(True for _ in reads(s)):
                return None, None
            text = self._piece(s, loops).text
            return (text if in_range else f"xp.within({text}, {self._integer(extent)})"), None
        # Under a condition what is proved holds where that holds alone, and a slice would be of all.
        offset = _offset(s, inside[0]) if len(inside) == 1 and loops.all_run else None
        if offset is None or any(True for _ in reads(s)):
            return None, None
        shift = self._piece(offset, loops).text
        if self.step is not None and self.step.index in indices_of(offset):
            return None, None  # a traced number cannot bound a slice
        bounds = [
            b if shift == "0" else f"{_closed(b)} + {_closed(shift)}"
            for b in loops.bounds[inside[0]]
        ]
        return ":".join(bounds), inside[0]

    def _gathered(
        self,
        name: str,
        subscripts: Sequence[Expression],
        extents: Sequence[Expression],
        loops: Loops,
    ) -> Piece:
        union = _union([self._piece(s, loops) for s in subscripts], loops)
        texts = self._places(subscripts, extents, union, loops)
        return Piece(f"xp.take({name}, {_tuple(texts)})", union)

    def _places(
        self,
        subscripts: Sequence[Expression],
        extents: Sequence[Expression],
        union: tuple[str, ...],
        loops: Loops,
    ) -> list[str]:
        """The subscripts as arrays; moved into range where a condition keeps others from mattering."""
        texts = [_aligned(self._piece(s, loops), union) for s in subscripts]
        if loops.all_run:
            return texts
        pairs = zip(texts, extents, strict=True)
        return [f"xp.within({text}, {self._integer(e)})" for text, e in pairs]

    def _expanded(self, value: Piece, wanted: tuple[str, ...], loops: Loops) -> str:
        """The value with an axis for each index that is wanted."""
        if value.indices == wanted:
            return value.text if wanted else f"xp.scalar({value.text})"
        shape = _tuple([self._length(i, loops) for i in wanted])
        return f"xp.expand({_aligned(value, wanted)}, {shape})"


# --------------------------------------------------------------------------------------------- helpers


def _union(parts: Iterable[Piece], loops: Loops) -> tuple[str, ...]:
    found = {i for p in parts for i in p.indices}
    return tuple(i for i in loops.order if i in found)


def _aligned(piece: Piece, wanted: tuple[str, ...]) -> str:
    """Its text, with an axis of length 1 for each index it lacks; those in front come by themselves."""
    if piece.indices == wanted or not piece.indices:
        return piece.text
    axes = [":" if i in piece.indices else "None" for i in wanted]
    while axes[0] == "None":
        axes.pop(0)
    text = piece.text if _is_closed(piece.text) else f"({piece.text})"
    return f"{text}[{', '.join(axes)}]" if "None" in axes else piece.text


def _permuted(text: str, order: Sequence[int]) -> str:
    return text if list(order) == sorted(order) else f"xp.permute({text}, {tuple(order)})"


def _is_closed(text: str) -> bool:
    """Whether an operator can stand beside it: a name, a call, something in brackets."""
    depth = 0
    for c in text:
        depth += (c in "([") - (c in ")]")
        if depth == 0 and c in " -":
            return False
    return True


def _closed(text: str) -> str:
    return text if _is_closed(text) else f"({text})"


def _tuple(texts: Sequence[str]) -> str:
    return f"({', '.join(texts)}{',' if len(texts) == 1 else ''})"


def _at(name: str, axis: int, place: str) -> str:
    return f"{name}[{', '.join([':'] * axis + [place])}]"


def _hangs(bound: Expression) -> bool:
    """On an index or on data, not on extents and constants alone."""
    return bool(indices_of(bound)) or any(True for _ in reads(bound))


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


def _distance(subscript: Expression, index: str) -> int | None:
    """c of `t + c`; None for anything else."""
    match subscript:
        case Index(name) if name == index:
            return 0
        case Apply("+", (Index(name), Number(int(c)))) if name == index:
            return c
        case Apply("-", (Index(name), Number(int(c)))) if name == index:
            return -c
    return None


def _offset(subscript: Expression, index: str) -> Expression | None:
    """What is added to the index, once; None where it is not so."""
    match subscript:
        case Index():
            return ZERO
        case Apply("+", (left, right)):
            inner, other = (left, right) if index in indices_of(left) else (right, left)
            before = _offset(inner, index)
            if before is None or index in indices_of(other):
                return None
            return other if before == ZERO else Apply("+", (before, other))
        case Apply("-", (left, right)) if index not in indices_of(right):
            before = _offset(left, index)
            return None if before is None else Apply("-", (before, right))
    return None
