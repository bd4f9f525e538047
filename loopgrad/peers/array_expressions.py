"""Expressions and tensors of a program as texts of arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from loopgrad.analysis.facts import Facts, Safety
from loopgrad.analysis.types import element_type
from loopgrad.ir.nodes import (
    Accumulate,
    Apply,
    Compare,
    Conditional,
    Constant,
    Expression,
    Extent,
    Index,
    Number,
    Read,
    Reduction,
)
from loopgrad.ir.operations import OPERATIONS, ElementType, Typing
from loopgrad.ir.walk import all_statements, indices_of, reads, reductions_of
from loopgrad.peers.pieces import (
    Loops,
    Piece,
    Step,
    aligned,
    closed,
    distance_of,
    offset_of,
    permuted,
    tuple_of,
    union_of,
)
from loopgrad.printers.identifiers import Identifiers

STARTS = {Reduction.MULTIPLY: "1", Reduction.MAXIMUM: "-xp.inf", Reduction.MINIMUM: "xp.inf"}
INTEGER_STARTS = STARTS | {Reduction.MAXIMUM: "xp.least", Reduction.MINIMUM: "xp.greatest"}


class ArrayExpressions:
    """What statements and blocks are made of. `step` is the block that is being written."""

    def __init__(self, facts: Facts, safety: Safety):
        self.facts, self.safety = facts, safety
        self.names = Identifiers()
        self.names.fresh("xp")
        self.elements = {t.name: t.element for t in facts.tensors.values()}
        self.starts = reductions_of(facts.program.statements)
        self.arguments = (
            [("tensor", i.name) for i in facts.program.inputs]
            + [("extent", name) for name in facts.extents]
            + [("constant", name) for name in facts.constants]
        )
        self.known: set[str] = {i.name for i in facts.program.inputs}
        self.step: Step | None = None
        # `Safety` counts statements; equal ones are told apart by their identity.
        self.numbers = {id(s): k for k, s in enumerate(all_statements(facts.program.statements))}

    def _length(self, index: str, loops: Loops) -> str:
        lower, upper = loops.bounds[index]
        return upper if lower == "0" else f"{upper} - {closed(lower)}"

    def _integer(self, e: Expression) -> str:
        """The text of a bound or an extent, in extents and constants."""
        return self._piece(e, Loops(-1)).text

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

    def _identity_of(self, tensor: str, reduction: Reduction) -> str:
        whole = self.elements[tensor] is not ElementType.FLOAT
        return (INTEGER_STARTS if whole else STARTS).get(reduction, "0")

    def _start(self, tensor: str) -> str:
        """The tensor before anything is written: full of its identity."""
        shape = tuple_of([self._integer(e) for e in self._extents(tensor)])
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
        union = union_of(parts, loops)
        texts = [closed(aligned(p, union)) for p in parts]
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
                return Piece(f"-{closed(parts[0].text)}", parts[0].indices)
            case "max" | "min":
                return self._call(f"xp.{operation}imum", parts, loops)
            case "pi":
                return Piece("xp.pi")
        if row.precedence is None:
            return self._call(f"xp.{operation}", parts, loops)
        union = union_of(parts, loops)
        left, right = (closed(aligned(p, union)) for p in parts)
        return Piece(f"{left} {operation} {right}", union)

    def _call(self, function: str, parts: Sequence[Piece], loops: Loops) -> Piece:
        union = union_of(parts, loops)
        return Piece(f"{function}({', '.join(aligned(p, union) for p in parts)})", union)

    def _read(self, read: Read, loops: Loops) -> Piece:
        name, subscripts = self._name(read.tensor), self._sliced(read.tensor, read.subscripts)
        if self.step is not None and read.tensor in self.step.axes:
            time = read.subscripts[self.step.axes[read.tensor]]
            lag = abs(distance_of(time, self.step.index) or 0)
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
        return Piece(permuted(text, [found.index(i) for i in order]), tuple(order))

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
        offset = offset_of(s, inside[0]) if len(inside) == 1 and loops.all_run else None
        if offset is None or any(True for _ in reads(s)):
            return None, None
        shift = self._piece(offset, loops).text
        if self.step is not None and self.step.index in indices_of(offset):
            return None, None  # a traced number cannot bound a slice
        bounds = [
            b if shift == "0" else f"{closed(b)} + {closed(shift)}" for b in loops.bounds[inside[0]]
        ]
        return ":".join(bounds), inside[0]

    def _gathered(
        self,
        name: str,
        subscripts: Sequence[Expression],
        extents: Sequence[Expression],
        loops: Loops,
    ) -> Piece:
        union = union_of([self._piece(s, loops) for s in subscripts], loops)
        texts = self._places(subscripts, extents, union, loops)
        return Piece(f"xp.take({name}, {tuple_of(texts)})", union)

    def _places(
        self,
        subscripts: Sequence[Expression],
        extents: Sequence[Expression],
        union: tuple[str, ...],
        loops: Loops,
    ) -> list[str]:
        """The subscripts as arrays; moved into range where a condition keeps others from mattering."""
        texts = [aligned(self._piece(s, loops), union) for s in subscripts]
        if loops.all_run:
            return texts
        pairs = zip(texts, extents, strict=True)
        return [f"xp.within({text}, {self._integer(e)})" for text, e in pairs]

    def _expanded(self, value: Piece, wanted: tuple[str, ...], loops: Loops) -> str:
        """The value with an axis for each index that is wanted."""
        if value.indices == wanted:
            return value.text if wanted else f"xp.scalar({value.text})"
        shape = tuple_of([self._length(i, loops) for i in wanted])
        return f"xp.expand({aligned(value, wanted)}, {shape})"
