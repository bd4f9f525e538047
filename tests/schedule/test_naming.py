"""Long bounds have a name in what is printed; nobody else's."""

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.ir.nodes import Accumulate, Apply, Extent, Index, Number, Read, Reduction
from loopgrad.schedule.default import optimized
from loopgrad.schedule.showing.naming import named
from loopgrad.schedule.showing.show import show
from loopgrad.schedule.tree import Over, Step

MOMENTS = """\
moments(x[B,J]) -> μ[J], v[J]:
    for b, j:  μ[j] += x[b,j] / B
    for b, j:  v[j] += (x[b,j] - μ[j])**2 / B
"""


def test_what_repeats_is_named_once_in_each_phase():
    program = lg.program(MOMENTS)
    lines = show(optimized(infer(program), validate(program))).splitlines()
    assert [line for line in lines if line.startswith("where")] == [
        "where part.count = min(32, max(1, (B+63)//64))",
        "where b.begin = B*part//part.count",
        "where b.end = b.begin+8*((B*(part+1)//part.count-b.begin)//8)",
        "where part.count = min(32, max(1, (B+63)//64))",
        "where bound2 = B*part//part.count",
        "where bound = B*(part+1)//part.count",
    ]
    assert "    for b.begin <= b < b.end in blocks of 8:" in lines
    assert not any("63" in line for line in lines if not line.startswith("where"))


def loop(index, bound, *body):
    return Over(index, Number(0), bound, body)


def test_a_name_is_nobody_elses():
    """A loop of the phase already has the name that the bound would get."""
    long = Apply("//", (Apply("+", (Extent("B"), Number(100000))), Extent("SIZE")))
    target = Read("y", (Index("i"), long, long))
    step = Step(Accumulate(target, Reduction.SET, Number(0.0)))
    names, _ = named((loop("i.count", Number(3), loop("i", long, step)),))
    assert names == [("i.count2", long)]


def test_short_or_single_bounds_stay():
    long = Apply("//", (Apply("+", (Extent("B"), Number(100000))), Extent("SIZE")))
    step = Step(Accumulate(Read("y", (Index("i"),)), Reduction.SET, Number(0.0)))
    short = Apply("//", (Extent("B"), Number(2)))
    for nodes in [(loop("i", long, step),), (loop("i", short, step),) * 9]:
        assert named(nodes) == ([], nodes)
