"""Sides of products that are no plain matrix are computed first, a block at a time.

    a gather                E[w[b],k] * W[j,k]
    several factors         (g[b,j] * s[b,j]) * x[b,i]
    padding                 (x[b,i+p-1,c] if 0 <= i+p-1 < X else 0.0) * w[p,c,o]

becomes loops that fill a dense matrix in memory of the thread's own, and a product that reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from loopgrad.analysis.facts import TensorFacts
from loopgrad.backends.llvm.fused.frame import Frame
from loopgrad.backends.llvm.products.loops import as_loops
from loopgrad.backends.llvm.products.ranges import Known, count_at_most, inside, within
from loopgrad.backends.llvm.products.sides import Side, ordered, side
from loopgrad.ir import walk
from loopgrad.ir.nodes import Accumulate, Expression, Index, Number, Read, Reduction
from loopgrad.ir.operations import ElementType
from loopgrad.schedule.tree import (
    Axis,
    Blocks,
    Buffer,
    Dimension,
    Made,
    Mark,
    Node,
    Over,
    Pack,
    Product,
    Scope,
    Step,
    block_from,
    block_to,
    is_panel,
)

# Of a side that are computed at a time; of the last index but one, where there are several.
ROWS, COLUMNS, LINES = 48, 256, 8


@dataclass(frozen=True, slots=True)
class Part:
    """What of m or n is computed at a time: a block of the first index, all of the second if any."""

    dimensions: tuple[Dimension, ...]
    size: Expression


@dataclass
class Evaluated:
    """Rewrites trees; the matrices that they fill become memory of the frame."""

    frame: Frame
    count: int = 0
    packs: dict[str, Pack] = field(default_factory=dict)

    def nodes(self, nodes: Sequence[Node], known: Known) -> tuple[Node, ...]:
        return tuple(new for node in nodes for new in self._node(node, known))

    def _node(self, node: Node, known: Known) -> Iterator[Node]:
        match node:
            case Over() | Blocks():
                yield replace(node, body=self.nodes(node.body, inside(node, known)))
            case Pack(name):
                if count_at_most((*node.n, *node.k), known) is None:
                    return  # its products do without
                self.packs[name] = node
                yield from self._pack(node, known) if node.made is Made.OWN else (node,)
            case Product():
                bounded = count_at_most((*node.n, *node.k), within(node.m, known)) is not None
                yield self._product(node, known) if bounded else as_loops(node)
            case _:
                yield node

    def _pack(self, node: Pack, known: Known) -> Iterator[Node]:
        dimensions = (*node.k, *node.n)
        found = side(node.right, [d.index for d in dimensions], self.frame)
        if found.strided:
            yield node
            return
        extents = [_extent(d, known) for d in dimensions]
        origins = [d.lower for d in dimensions]
        matrix = self._matrix(dimensions, extents, origins)
        yield _filled(matrix, found.matrix, dimensions)  # its products take the scales
        yield replace(node, right=matrix)

    def _product(self, node: Product, known: Known) -> Node:
        if node.packed is not None and not _suits(node, self.packs.get(node.packed)):
            node = replace(node, packed=None)
        if node.packed is None and not self._side(node.right, node.n, node.k).strided:
            return self._in_blocks(node, node.n, COLUMNS, known, self._with_right)
        left = self._side(node.left, node.m, node.k)
        if not left.strided or not left.contiguous:
            return self._in_blocks(node, node.m, ROWS, known, self._with_left)
        return node

    def _side(self, expression: Expression, *groups: Sequence[Dimension]) -> Side:
        return side(expression, [d.index for group in groups for d in group], self.frame)

    def _in_blocks(
        self,
        node: Product,
        group: Sequence[Dimension],
        size: int,
        known: Known,
        write: Callable[[Product, Part, Known], tuple[Node, ...]],
    ) -> Node:
        """Blocks of the last index of the group; or of the last but one, with all of the last, where memory
        can be made for that.

        Inside of loops over the others.
        """
        group = ordered(group, node.target)
        fits = count_at_most(group[-1:], within(group[:-1], known)) is not None
        whole = group[-1:] if len(group) > 1 and fits else ()
        *outer, cut = group[:-1] if whole else group
        size = LINES if whole else size
        # Not blocks of the index itself: what is kept for the rows of one around begins at that one's first.
        inner = f"{cut.index}.part"
        block = Dimension(cut.index, block_from(inner), block_to(inner))
        blocks = Blocks(inner, cut.lower, cut.upper, size, ())
        known = inside(blocks, within(outer, known))
        body = write(node, Part((block, *whole), Number(size)), known)
        result: Node = replace(blocks, body=body)
        for d in reversed(outer):
            result = Over(d.index, d.lower, d.upper, (result,))
        return result

    def _with_right(self, node: Product, part: Part, known: Known) -> tuple[Node, ...]:
        k = ordered(node.k, self._side(node.left, node.m, node.k).matrix)
        matrix = self._side_matrix(part, k, node.right, known)
        inner = replace(node, n=part.dimensions, right=matrix)
        filled = _filled(matrix, node.right, (*node.k, *part.dimensions), node.guard)
        return (filled, self._product(inner, known))

    def _with_left(self, node: Product, part: Part, known: Known) -> tuple[Node, ...]:
        k = ordered(node.k, self._side(node.right, node.n, node.k).matrix)
        matrix = self._side_matrix(part, k, node.left, known)
        inner = replace(node, m=part.dimensions, left=matrix)
        filled = _filled(matrix, node.left, (*node.k, *part.dimensions), node.guard)
        return (filled, inner)

    def _side_matrix(
        self,
        part: Part,
        k: Sequence[Dimension],
        expression: Expression,
        known: Known,
    ) -> Read:
        """Of a part of m or n, and all of k; what is contiguous in memory stays so."""
        block, *whole = part.dimensions
        extents = {d.index: _extent(d, known) for d in (*whole, *k)}
        extents[block.index] = part.size
        groups = [list(part.dimensions), list(k)]
        along = contiguous(expression, [d.index for group in groups for d in group])
        groups.sort(key=lambda group: along in [d.index for d in group])
        groups[-1].sort(key=lambda d: d.index == along)
        dimensions = [d for group in groups for d in group]
        return self._matrix(
            dimensions, [extents[d.index] for d in dimensions], [d.lower for d in dimensions]
        )

    def _matrix(
        self,
        dimensions: Sequence[Dimension],
        extents: Sequence[Expression],
        origins: Sequence[Expression],
    ) -> Read:
        name = f"side.{self.count}"
        self.count += 1
        axes = tuple(
            Axis(i, extent, origin)
            for i, (extent, origin) in enumerate(zip(extents, origins, strict=True))
        )
        facts = TensorFacts(name, "temporary", tuple(extents), ElementType.FLOAT)
        self.frame.add(facts, Buffer(name, ElementType.FLOAT, Scope.ROW, axes))
        return Read(name, tuple(Index(d.index) for d in dimensions))


def _filled(
    matrix: Read,
    value: Expression,
    dimensions: Sequence[Dimension],
    guard: Expression | None = None,
) -> Node:
    """Loops over the matrix, in its order; where the guard does not hold nobody will read it."""
    by_index = {d.index: d for d in dimensions}
    node: Node = Step(Accumulate(matrix, Reduction.SET, value, guard=guard))
    mark = Mark.VECTOR
    for subscript in reversed(matrix.subscripts):
        assert isinstance(subscript, Index)
        d = by_index[subscript.name]
        node = Over(d.index, d.lower, d.upper, (node,), mark)
        mark = Mark.SEQUENTIAL
    return node


def contiguous(expression: Expression, indices: Sequence[str]) -> str:
    """The one of the indices along which most of the reads go over memory element by element."""
    found = [
        index
        for read in walk.reads(expression)
        for index in indices
        if read.subscripts and index in walk.indices_of(read.subscripts[-1])
    ]
    return max(indices, key=lambda i: (found.count(i), indices.index(i)))


def _suits(product: Product, pack: Pack | None) -> bool:
    """Is the product's right side in what is packed: columns from a panel on, all of k or a part of it?

    Of several indices of k, and of n all but the last, the product has to have the values packed.
    """
    if pack is None:
        return False
    *outer, last = product.n
    *packed_outer, packed_last = pack.n
    if outer != packed_outer or last.index != packed_last.index:
        return False
    if not is_panel(last.lower, packed_last.lower):
        return False
    if len(product.k) == 1:
        return [d.index for d in product.k] == [d.index for d in pack.k]
    return product.k == pack.k


def _extent(d: Dimension, known: Known) -> Expression:
    count = count_at_most([d], known)
    assert count is not None
    return count
