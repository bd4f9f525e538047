"""Where rows that one nest uses lie."""

from __future__ import annotations

import pytest

from loopgrad.analysis.facts import TensorFacts
from loopgrad.ir.nodes import Accumulate, Extent, Index, Number, Read, Reduction
from loopgrad.ir.operations import ElementType
from loopgrad.schedule.loops.buffers import buffers_of
from loopgrad.schedule.loops.phases import Tree
from loopgrad.schedule.tree import Axis, Blocks, Mark, Node, Over, Step, block_from, block_to

B, J = Extent("B"), Extent("J")
AT = (Index("b"), Index("j"))
HERE = block_from("b"), block_to("b")


def _rows(target: str, value: str) -> Node:
    """`target[b,j] = value[b,j]` for the rows of the block at hand."""
    step = Step(Accumulate(Read(target, AT), Reduction.SET, Read(value, AT)))
    return Over("b", *HERE, (Over("j", Number(0), J, (step,), Mark.VECTOR),))


@pytest.mark.parametrize("again", [False, True])
def test_rows_of_a_block_are_whole_where_its_index_is_in_blocks_within(again: bool) -> None:
    """There `b.from` is another, and the rows of the block around would be looked for behind it."""
    made, used = _rows("d", "x"), _rows("y", "d")
    if again:
        used = Blocks("b", *HERE, 48, (used,))
    around = Blocks("b", Number(0), B, None, (made, used), Mark.PARALLEL)
    roles = {"x": "input", "d": "temporary", "y": "result"}
    tensors = {n: TensorFacts(n, role, (B, J), ElementType.FLOAT) for n, role in roles.items()}
    ((buffer,),) = buffers_of([Tree((around,))], tensors, frozenset({"y"}))
    assert buffer.axes == (Axis(0, B) if again else Axis(0, B, block_from("b")), Axis(1, J))
