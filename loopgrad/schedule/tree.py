"""The trees of a scheduled program: statements under marked loops, and where each tensor lives.

    for b parallel:
        for j vector:  m[b]   max= s[b,j]
        for j vector:  e[b,j]  = exp(s[b,j] - m[b]);  Z[b] += e[b,j]
        for j vector:  p[b,j]  = e[b,j] / Z[b]

is one `Fused` phase: an `Over` whose body holds three more, each with its `Step`s. Code generation
(`backends/llvm`) walks it without decisions of its own; whatever can be decided is decided here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias, TypeGuard

from loopgrad.ir import walk
from loopgrad.ir.nodes import Accumulate, Apply, Expression, Index, Number, Read, Reduction
from loopgrad.ir.operations import ElementType
from loopgrad.schedule.recurrences.linear import Linear

ZERO = Number(0)


class Mark(Enum):
    """How a loop's iterations run; the value is the word that `explain` prints.

    PARALLEL: each thread takes a contiguous part of them, the same for the same number of threads.
        Where the body is nothing but another such loop, of the pairs of both indices. Where blocks of a
        further index are marked behind what is packed for them, of these (`shared_blocks`).
    VECTOR: several at once, one in each lane of a register; the last ones under a mask.
    PICKED: in order, but those alone that `picks` says, which are found first, some hundred at a time.
    SCAN: in order, but several at once as `linear` says; where that would lose what the order keeps,
        one by one. The first runs by itself.
    """

    SEQUENTIAL = ""
    PARALLEL = "parallel"
    VECTOR = "vector"
    PICKED = "picked"
    SCAN = "scan"


class Shares(Enum):
    """How a loop's values are shared out: as many for each thread, or as much work, where that grows with the
    index (`u <= t`). The value is what `explain` prints.
    """

    EVEN = ""
    GROWING = "by growing work"


class Grid(Enum):
    """What blocks that threads share are of a grid of threads, one within the other; the value is what
    `explain` prints.

    ROWS, COLUMNS: of what products write. SUMS: parts of their sums.
    """

    NONE = ""
    ROWS = "as rows"
    COLUMNS = "as columns"
    SUMS = "as sums"


class Scope(Enum):
    """Where a tensor's elements are.

    REGISTER: in registers. All uses are in one iteration of the loops that enclose them.
    ROW: in memory of the thread's own, used again by each iteration of the loops outside.
    PARTIAL: each thread has its own copy, which starts at the identity; after the phase they are
        combined, in the order of the threads, into the tensor's own memory.
    SPLIT: in the tensor's own memory for the thread that begins a row, which is an iteration of the loops
        whose blocks threads share (`shared_blocks`). One that goes on with a row has a copy of that; after
        the phase the copies are added, in the order of the threads.
    SUMMED: in the tensor's own memory for the threads that have the first part of a sum (`Grid.SUMS`); those
        of another have a copy, and after the phase these are added, in their order.
    PROGRAM: in memory that all phases of a call share.
    """

    REGISTER = "register"
    ROW = "row"
    PARTIAL = "partial"
    SPLIT = "split"
    SUMMED = "summed"
    PROGRAM = "memory"


class Made(Enum):
    """Who makes a pack ready; the value is what `explain` prints behind the word `pack`.

    OWN: each thread, in memory of its own.
    TOGETHER: where it is large (`Pack.large`), all threads of the phase, each a part, in the tensor of its
        name, which all phases of a call share. Such packs have a phase of their own.
    BEFORE: such a phase before, where it is large; else each thread, in memory of its own.
    """

    OWN = ""
    TOGETHER = " parallel, where large"
    BEFORE = ", where small"


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis that a buffer keeps: the subscript at `position` less `origin`, below `extent`."""

    position: int
    extent: Expression
    origin: Expression = ZERO


@dataclass(frozen=True, slots=True)
class Buffer:
    """The memory of a computed tensor within a phase, in C order of the axes that are left.

    `lanes`: of a REGISTER buffer, whether it holds an element for each lane of the vector loop
    around it, or one for all. `first`: of a PARTIAL buffer, whether what the threads computed is
    stored in the tensor's own memory; otherwise it is combined with what that holds. `rows`: of a
    SPLIT one, the other axes, each with the index of a loop that is its subscript in every use; `axes` are
    those of a row.
    """

    tensor: str
    element: ElementType
    scope: Scope
    axes: tuple[Axis, ...] = ()
    lanes: bool = False
    first: bool = False
    rows: tuple[tuple[int, str], ...] = ()

    @property
    def is_one_row(self) -> bool:
        """Is it a row of a thread's own, of which there is one, so that nothing follows on it?"""
        return self.scope is Scope.ROW and len(self.axes) == 1

    @property
    def own(self) -> str:
        """The name of the memory that each thread has, or each but the first."""
        return f"{self.tensor}.row" if self.scope is Scope.SPLIT else self.tensor

    @property
    def further(self) -> bool:
        """Does the first thread have none, as it adds up in the tensor's own memory?"""
        return self.scope in (Scope.PARTIAL, Scope.SPLIT, Scope.SUMMED)


@dataclass(frozen=True, slots=True)
class Step:
    """One execution of a statement, at the indices of the loops around it (its own ranges are empty).

    `first`: nothing has been written to the element: the value is stored, not combined. Where the
    loop directly around it reduces (its index is not in the target), that is true of the loop as a
    whole, which is the only one that reduces: the loop starts from the identity. Where a guard fails, the
    identity is stored.
    `unproved`: reads, or the target, whose subscripts have to be checked; where one is out of range
    nothing is read or written, and the phase fails. So it does for those that are none of the
    statement's own, which stand for an access elsewhere.
    """

    statement: Accumulate
    first: bool = False
    unproved: tuple[Read, ...] = ()


@dataclass(frozen=True, slots=True)
class Picks:
    """Those iterations whose row, which data tell, is in the block at hand of the index `rows`: blocks that
    threads share of `count` rows.

    Of a row that does not exist the nearest one counts, so that some block finds that there is none.
    """

    row: Expression
    rows: str
    count: Expression


@dataclass(frozen=True, slots=True)
class Over:
    """`for lower <= index < upper`, with a mark, around its body.

    `linear`: of a scan, whose body is one step, what that is but for the first value of the index.
    `picks`: of a PICKED loop, which iterations there are.
    """

    index: str
    lower: Expression
    upper: Expression
    body: tuple[Node, ...]
    mark: Mark = Mark.SEQUENTIAL
    descending: bool = False
    linear: Linear | None = None
    picks: Picks | None = None


@dataclass(frozen=True, slots=True)
class Blocks:
    """An index in blocks: the body runs with `block_from(index)` and `block_to(index)` as integers.

    `size`: a number, or a formula in extents and constants that is 1 at least. None, with PARALLEL: a
    block is what one thread gets, and each thread runs the body once (if its block is not empty).
    Blocks of one index nest: the inner ones cut up the outer one, and their own numbers hold inside
    of them. `shares`: of parallel blocks; of those of a size first and last by turns, where work grows.
    `unit`: how many values of the index stay together where a block is what one thread gets within a loop.
    `grid`: of those that are what one thread gets, with such ones inside, or around.
    """

    index: str
    lower: Expression
    upper: Expression
    size: int | Expression | None
    body: tuple[Node, ...]
    mark: Mark = Mark.SEQUENTIAL
    shares: Shares = Shares.EVEN
    unit: int = 1
    grid: Grid = Grid.NONE

    @property
    def counted(self) -> int | Expression:
        """How many values threads that share the index count as one."""
        return self.unit if self.size is None else self.size


@dataclass(frozen=True, slots=True)
class Dimension:
    """One of a product's three: an index (or several that count as one) and the values it takes."""

    index: str
    lower: Expression
    upper: Expression


@dataclass(frozen=True, slots=True)
class Border:
    """A right side is known to be zero where the subscript is not at least `lower` and below `upper`."""

    subscript: Expression
    lower: Expression
    upper: Expression


# An element of each side, in what an update makes of a pair.
LEFT_OF_PAIR, RIGHT_OF_PAIR = Read("left of pair", ()), Read("right of pair", ())


@dataclass(frozen=True, slots=True)
class Update:
    """What a pair of elements does to an element of the target: `target reduction= value`, where the value is
    of `LEFT_OF_PAIR` and `RIGHT_OF_PAIR`.
    """

    reduction: Reduction
    value: Expression

    def of(self, left: Expression, right: Expression) -> Expression:
        """The value of these two."""
        return _with_pair(self.value, left, right)


def _with_pair(value: Expression, left: Expression, right: Expression) -> Expression:
    match value:
        case Read():
            return {LEFT_OF_PAIR: left, RIGHT_OF_PAIR: right}.get(value, value)
    return walk.rebuild(value, lambda e: _with_pair(e, left, right))


@dataclass(frozen=True, slots=True)
class Product:
    """`target[..m..n..] += left[..m..k..] * right[..k..n..]`, by the micro-kernel.

    Each of m, n and k is one index or several, outermost first, over what their dimensions say; the
    indices of the loops around select the matrices of a batch. `left` and `right` are a read, or a
    product of reads and of what is cheap to compute, which is evaluated as it is packed. The last of
    `n` is alone the target's last subscript. `first` as for a step: the sum over all of k is stored.
    `negative` subtracts. It runs only where `guard`, which hangs on the loops around alone, holds.
    `packed` names the `Pack` that has made the right side ready; without one
    the product packs for itself. `borders`: what may be left out, where there is a row or column of zeros.
    `update`: what is done instead of adding `left * right`, where it is something else. `runs_apart`: few
    columns at a time lie side by side on the right.
    """

    target: Read
    left: Expression
    right: Expression
    m: tuple[Dimension, ...]
    n: tuple[Dimension, ...]
    k: tuple[Dimension, ...]
    first: bool = False
    negative: bool = False
    packed: str | None = None
    guard: Expression | None = None
    borders: tuple[Border, ...] = ()
    update: Update | None = None
    runs_apart: bool = False

    @property
    def value(self) -> Expression:
        """What is accumulated for each value of k."""
        if self.update is None:
            return walk.apply("*", self.left, self.right)
        return self.update.of(self.left, self.right)

    @property
    def reduction(self) -> Reduction:
        """How."""
        if self.update is not None and self.update.reduction is not Reduction.ADD:
            return self.update.reduction
        return Reduction.SUBTRACT if self.negative else Reduction.ADD


@dataclass(frozen=True, slots=True)
class Pack:
    """The right side of products, made ready once for all of them. `large`: a condition in extents and
    constants, of those that threads make TOGETHER.
    """

    name: str
    right: Expression
    n: tuple[Dimension, ...]
    k: tuple[Dimension, ...]
    made: Made = Made.OWN
    large: Expression = ZERO

    @property
    def own(self) -> str:
        """The name of the memory in which a thread makes it for itself."""
        return self.name if self.made is Made.OWN else f"{self.name}.own"


def read_by(node: Product | Pack) -> Iterator[Read]:
    """What it reads: its sides, and data that say how far its indices go."""
    if isinstance(node, Product):
        yield from walk.reads(node.left)
        sides = node.m, node.n, node.k
    else:
        sides = (), node.n, node.k
    yield from walk.reads(node.right)
    for side in sides:
        for d in side:
            yield from (*walk.reads(d.lower), *walk.reads(d.upper))


PANEL = 64  # columns of a pack from one place where a product may begin to the next, on any machine


def panel(column: Expression, first: Expression) -> Expression:
    """Where the panel begins that the column is in, of those that begin with the first one."""
    number = walk.apply("//", walk.apply("-", column, first), Number(PANEL))
    return walk.apply("+", first, walk.apply("*", number, Number(PANEL)))


def is_panel(column: Expression, first: Expression) -> bool:
    """Does a panel begin there?"""
    match column:
        case Apply("+", (start, Apply("*", (_, Number(value))))):
            return start == first and value == PANEL
        case Apply("*", (_, Number(value))):
            return first == ZERO and value == PANEL
    return column == first


Node: TypeAlias = Step | Over | Blocks | Product | Pack


@dataclass(frozen=True, slots=True)
class Fused:
    """A phase: trees that run one after the other, and the buffers of what they compute.

    A tensor without a buffer here is in memory as it is: an input, a result, or of scope PROGRAM.
    Where a loop is parallel, it is the only node of `body`; where a pack is made TOGETHER, all are such.
    `work` estimates a call's duration, in nanoseconds of one thread, as an integer expression in extents:
    small work stays on one thread.
    """

    body: tuple[Node, ...]
    buffers: tuple[Buffer, ...] = ()
    work: Expression = ZERO


BEGIN, END = ".from", ".to"


def block_from(index: str) -> Index:
    """The first value of the index in the block at hand."""
    return Index(index + BEGIN)


def block_to(index: str) -> Index:
    """The value behind the last of the index in the block at hand."""
    return Index(index + END)


def is_block(lower: Expression, upper: Expression) -> TypeGuard[Index]:
    """Are these the bounds of a block, of whatever index?"""
    if not isinstance(lower, Index):
        return False
    index = lower.name.removesuffix(BEGIN)
    return (lower, upper) == (block_from(index), block_to(index))


def steps(nodes: tuple[Node, ...]) -> Iterator[Step | Product]:
    """All steps and products, in order."""
    for node in nodes:
        match node:
            case Step() | Product():
                yield node
            case Over() | Blocks():
                yield from steps(node.body)


def loops(nodes: tuple[Node, ...]) -> Iterator[Over | Blocks]:
    """All loops, outer ones first."""
    for node in nodes:
        if isinstance(node, Over | Blocks):
            yield node
            yield from loops(node.body)


def collapsed(loop: Over) -> Over | Blocks | None:
    """The second of two parallel loops of which threads take pairs; of blocks, which are of a size."""
    match loop:
        case Over(_, _, _, (Over() | Blocks() as inner,), Mark.PARALLEL):
            paired = isinstance(inner, Over) or inner.size is not None
            return inner if paired and inner.mark is Mark.PARALLEL else None
    return None


def shared_blocks(loop: Over) -> Blocks | None:
    """The blocks, behind what is packed for them, that threads share within one parallel loop or two.

    Each thread has a contiguous part of all blocks, counted through the values of the loops around.
    """
    inner = collapsed(loop)
    if loop.mark is not Mark.PARALLEL or isinstance(inner, Blocks):
        return None
    match (inner or loop).body:
        case (*_, Blocks(mark=Mark.PARALLEL) as blocks):
            return blocks
    return None


def is_parallel(node: Node) -> bool:
    """Do threads share what the node of a phase's body does?"""
    match node:
        case Over(mark=mark) | Blocks(mark=mark):
            return mark is Mark.PARALLEL
        case Pack(made=made):
            return made is Made.TOGETHER
    return False


def packs(nodes: Iterable[Node]) -> Iterator[Pack]:
    """All of them, in order."""
    for node in nodes:
        match node:
            case Pack():
                yield node
            case Over() | Blocks():
                yield from packs(node.body)
