"""Vector loops that begin where a vector of memory does.

    for j vector:  y[b,j] = 2 * x[b,j]

NumPy's arrays begin at any multiple of 16 bytes, and so do rows of odd lengths. Vectors that lie across two
lines of memory are loaded and stored in two parts, and a store takes several times as long. So the loop
runs a head first, as its rest, under a mask: up to where a vector of y begins. What is left begins there.

One array is chosen: that with most of the traffic, where stores count more than loads. Arrays of one call
mostly begin alike; rows of scratch memory begin at a line, so a loop that has much to do with them has no
head. Nor has one that computes something slow, which hides what memory takes, but for stores past the
caches, or one that adds up along its index: in which lane an element is added must not hang on where
arrays happen to lie.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from loopgrad.backends.llvm.fused.accesses import behind
from loopgrad.backends.llvm.fused.fetching import LINE
from loopgrad.backends.llvm.fused.sizes import size
from loopgrad.backends.llvm.fused.vectors import Vectors
from loopgrad.backends.llvm.writing.scratch import BYTES
from loopgrad.backends.llvm.writing.text import I64
from loopgrad.ir import walk
from loopgrad.ir.nodes import Read, Reduction
from loopgrad.schedule.tree import Over, Step

ALIKE = 16  # bytes: arrays begin at multiples of them anyway
STORED = 2  # loads that a store counts as
MORE = 2  # times as much traffic as with scratch memory, of which vectors no longer are aligned behind a head
FEWEST = 4  # lines of memory of a row that is worth a head
# Where a loop reads what one before it has just written to scratch memory: a load waits for two stores.
FEWEST_READ_BACK = 8
# Where it computes something slow, which hides all that memory takes but what stores past the caches save.
FEWEST_SLOW = 32


def first(
    vectors: Vectors, loop: Over, lower: str, upper: str, lanes: int, past: Collection[str]
) -> str | None:
    """The value of the index from which on vectors are aligned; None where the loop has no head.

    past: tensors that the loop may store past the caches, which has to be to aligned addresses.
    Emits it where the body of `vectors` stands, before the loop, which runs.
    """
    access = _chosen(vectors, loop, lanes, past)
    if access is None:
        return None
    body, kind = vectors.body, vectors.frame.storage(access.tensor).kind
    address = address_of(vectors, access, lower)
    missing = body.value(f"sub i64 0, {address}")
    missing = body.value(f"and i64 {missing}, {BYTES[kind] * lanes - 1}")
    missing = body.value(f"lshr i64 {missing}, {BYTES[kind].bit_length() - 1}")
    length = body.value(f"sub nsw i64 {upper}, {lower}")
    fewest = _fewest(vectors, loop) * LINE // BYTES[kind]
    long = body.value(f"icmp sge i64 {length}, {fewest}")
    return body.select(long, I64, body.value(f"add nsw i64 {lower}, {missing}"), lower)


def address_of(vectors: Vectors, access: Read, index: str) -> str:
    """Of the element of an access's row at a value of the loop's index, as an integer."""
    body, kind = vectors.body, vectors.frame.storage(access.tensor).kind
    place = behind(body, kind, vectors.rows[access][0], index)
    return body.value(f"ptrtoint {body.module.pointer(kind)} {place} to i64")


def _chosen(vectors: Vectors, loop: Over, lanes: int, past: Collection[str]) -> Read | None:
    steps = [node for node in loop.body if isinstance(node, Step)]
    if len(steps) < len(loop.body) or not all(_is_apart(vectors, loop, step) for step in steps):
        return None
    stored = (step.statement.target for step in steps if step.statement.target.tensor in past)
    streamed = next(stored, None)
    narrow = lanes * BYTES[vectors.real_type] <= ALIKE
    if streamed is not None or narrow or _is_slow(steps):
        return streamed
    traffic = _traffic(vectors, steps)
    given = {access: count for access, count in traffic.items() if not _is_own(vectors, access)}
    own = traffic.total() - sum(given.values())
    if sum(given.values()) < MORE * own or not given:
        return None
    return max(given, key=lambda access: given[access])


def _is_apart(vectors: Vectors, loop: Over, step: Step) -> bool:
    """Has each value of the index an element of its own, so that none is added up from several lanes?"""
    target = step.statement.target
    if vectors.frame.storage(target.tensor).register:
        return any(loop.index in walk.indices_of(s) for s in target.subscripts)
    return target in vectors.rows


def _traffic(vectors: Vectors, steps: Collection[Step]) -> Counter[Read]:
    """What the accesses of a body count whose elements lie side by side, in the order of the steps."""
    loaded: dict[Read, None] = {}
    stored: dict[Read, None] = {}
    for step in steps:
        statement, target = step.statement, step.statement.target
        reads = list(walk.statement_reads(statement))
        if statement.reduction is not Reduction.SET and not step.first:
            reads.append(target)
        loaded |= {read: None for read in reads if read not in stored}
        stored[target] = None
    counts = Counter(dict.fromkeys(stored, STORED))
    counts.update(loaded.keys())
    return Counter({access: n for access, n in counts.items() if _is_in_a_row(vectors, access)})


def _is_in_a_row(vectors: Vectors, access: Read) -> bool:
    kind = vectors.frame.storage(access.tensor).kind
    return kind == vectors.real_type and vectors.rows.get(access, ("", 0))[1] == 1


def _is_own(vectors: Vectors, access: Read) -> bool:
    """Is it in scratch memory?"""
    frame = vectors.frame
    return access.tensor in frame.buffers or frame.tensors[access.tensor].role == "temporary"


def _fewest(vectors: Vectors, loop: Over) -> int:
    """Lines of memory of a row that is worth a head."""
    steps = [node for node in loop.body if isinstance(node, Step)]
    reads = (read for step in steps for read in walk.statement_reads(step.statement))
    if _is_slow(steps):
        return FEWEST_SLOW
    back = any(_is_own(vectors, read) and _is_in_a_row(vectors, read) for read in reads)
    return FEWEST_READ_BACK if back else FEWEST


def _is_slow(steps: Collection[Step]) -> bool:
    return any(size(step.statement.value)[1] for step in steps)
