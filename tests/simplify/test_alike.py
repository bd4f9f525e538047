"""What programs have in common is computed once, and is what each of them would compute alone."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import localcontext
from typing import Any

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.simplify.certifying.certificate import certify
from loopgrad.simplify.certifying.sampling import Inputs, World, draw_constants
from loopgrad.simplify.numbers.alike import Alike
from loopgrad.simplify.numbers.decimals import CONTEXT
from loopgrad.simplify.numbers.evaluate import Reached, Setting, Tensor, computed, prepared
from loopgrad.simplify.numbers.fields import fields
from loopgrad.simplify.numbers.integer_arithmetic import Undefined
from loopgrad.simplify.numbers.lines import Lines, Numbers
from loopgrad.simplify.numbers.spaces import Space, worlds
from loopgrad.stable import stabilize
from tests.effort import by_name

WORLDS = (World("signed"), World("unit"))
SIZES = (3, 4, 2, 5)


def setting(program: lg.Program) -> Setting:
    facts = prepared(program).facts
    rng = np.random.default_rng(5)
    extents = {name: SIZES[n % len(SIZES)] for n, name in enumerate(facts.extents)}
    constants = draw_constants([facts], rng, given=True)
    lines, inputs = Lines(fields(2, 1)), dict[str, Tensor]()
    for i in facts.program.inputs:
        inputs[i.name] = Inputs([facts]).in_worlds(
            i.name, 0, [extents], constants, lines, rng, WORLDS, 0, inputs
        )
    return Setting(extents, constants, inputs)


def run(
    program: lg.Program,
    at: Setting,
    alike: Alike | None = None,
    space: Space | None = None,
) -> tuple[Mapping[str, Tensor], Reached]:
    reached = Reached()
    given = {i.name: at.inputs[i.name] for i in program.inputs}
    own = Setting(at.extents, at.constants, given)
    with localcontext(CONTEXT), np.errstate(all="ignore"):
        lines = Lines(fields(2, 1))
        space = space or worlds(len(WORLDS))
        return computed(prepared(program), own, lines, space, reached, alike), reached


def text(tensor: Tensor) -> Any:
    """All of it, as text: no number is not equal to itself."""
    if not isinstance(tensor, Numbers):
        return tensor.tolist()
    assert tensor.residues is not None and tensor.reals is not None
    return tensor.residues.tolist(), [str(x) for x in tensor.reals.flat]


def check(first: lg.Program, second: lg.Program) -> Alike:
    """The second is run behind the first, and alone."""
    at = setting(first)
    alike, space = Alike(), worlds(len(WORLDS))
    run(first, at, alike, space)
    kept = {number: text(made.tensor) for number, made in alike.kept.items()}
    together, reached = run(second, at, alike, space)
    alone, expected = run(second, at)
    assert {n: text(t) for n, t in together.items()} == {n: text(t) for n, t in alone.items()}
    assert reached == expected
    assert all(text(alike.kept[number].tensor) == before for number, before in kept.items())
    return alike


@pytest.mark.parametrize("name", by_name(sorted(lg.lib), 12))
def test_a_program_behind_its_stable_form(name: str) -> None:
    program = lg.lib[name]
    assert isinstance(program, lg.Program)
    try:
        run(program, setting(program))
    except Exception:
        pytest.skip("does not run at these sizes")
    stable = stabilize(program)
    check(program, stable)
    check(stable, program)


ATTENTION = """f(q[T,D], k[T,D], int doc[T]) -> y[T]:
    for t, u <= t, d:  s[t,u] += q[t,d] * k[u,d]   if doc[t] == doc[u]
    for t, u <= t:     y[t]   += {}   if doc[t] == doc[u]"""


def test_what_is_alike_is_computed_once() -> None:
    first, second = (lg.program(ATTENTION.format(e)) for e in ("exp(s[t,u])", "s[t,u]**2"))
    assert len(check(first, second).kept) == 3  # s, and y twice


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("for n:  a[n] += x[n]\n    for n:  y[n] += a[n]", "for n:  a[n] -= x[n]\n    for n:  y[n] += a[n]"),
        ("for n:  a[n] += x[n]\n    for n:  y[n] += a[n]", "for n:  a[n] = 2 * x[n]\n    for n:  y[n] += a[n]"),
        ("for n:  a[n] += x[n]\n    for n:  y[n] += a[n]",
         "for n:  a[n] += x[n]\n    for n, m <= n:  a[n] += x[m]\n    for n:  y[n] += a[n]"),
        ("for n:  b[n] = x[n]\n    for n:  a[n] += b[n]\n    for n:  y[n] += a[n]",
         "for n:  b[n] = -x[n]\n    for n:  a[n] += b[n]\n    for n:  y[n] += a[n]"),
        ("for n:\n        y[n] = x[n] + (y[n-1] if n > 0 else 0)",
         "for n:\n        y[n] = x[n] + (y[n-1] if n > 1 else 0)"),
        ("for n:  y[n] += x[n]", "for t < 3:\n        for n:  y[n] += x[n]"),
        ("for n:  y[n] += x[n]   if x[n] > 0", "for n:  y[n] += x[n]   if x[n] > 0.5"),
        ("for n:  y[n] += x[n]   if n > 0", "for n:  y[n] += x[n]   if n > 1"),
        ("for n < N-1:  y[n] += x[n+1]", "for n < N-1:  y[n] += x[n]"),
        ("for n, m < n:  y[n] max= x[m]", "for n, m < n:  y[n] min= x[m]"),
    ],
)  # fmt: skip
def test_what_is_not_alike_is_not_taken(first: str, second: str) -> None:
    check(*(lg.program(f"f(x[N]) -> y[N]:\n    {body}") for body in (first, second)))


def test_a_tensor_is_not_there_before_it_is_computed() -> None:
    writes = "for n < 1:  a[n] += x[n]", "for 1 <= n < N:  a[n] += x[n]"
    reads = "for n:  y[n] += a[k[n]]"
    first, second = (
        lg.program("f(x[N], int k[N]) -> y[N]:\n    " + "\n    ".join(lines))
        for lines in ((*writes, reads), (writes[0], reads, writes[1]))
    )
    at, alike, space = setting(first), Alike(), worlds(len(WORLDS))
    at = Setting(at.extents, at.constants, {**at.inputs, "k": np.ones((2, 3), np.int64)})
    run(first, at, alike, space)
    with pytest.raises(Undefined):
        run(second, at, alike, space)


def test_iterations_hang_on_the_tensors_that_a_guard_reads() -> None:
    """Two of one space, with other integers and other floats under the same names."""
    guarded = lg.program(
        "f(x[N], int k[N]) -> y[N]:\n    for n, m < k[n]:  y[n] += x[n] + m   if x[n] > 0.5\n"
        "    for n:  y[k[n] // 9] += x[n]   if k[n] > 0"
    )
    at, space = setting(guarded), worlds(len(WORLDS))
    for turn in range(3):
        k = (np.arange(6).reshape(2, 3) + turn) % 3 if turn else np.zeros((2, 3), np.int64)
        x = at.inputs["x"]
        assert isinstance(x, Numbers)
        changed = Setting(at.extents, at.constants, {"x": x[::-1] if turn else x, "k": k})
        found, reached = run(guarded, changed, None, space)
        alone, expected = run(guarded, changed)
        assert text(found["y"]) == text(alone["y"]) and reached == expected


def test_sizes_and_constants_tell_iterations_apart() -> None:
    program = lg.program(
        "f(x[N], width = 2, size M) -> y[N]:\n    for n, m < M * width:  y[n] += x[n] * m"
    )
    at, alike, space = setting(program), Alike(), worlds(len(WORLDS))
    for size, width in ((1, 2), (2, 2), (2, 3)):
        own = Setting({**at.extents, "M": size}, {"width": width}, at.inputs)
        assert text(run(program, own, alike, space)[0]["y"]) == text(run(program, own)[0]["y"])


def test_a_gradient_that_is_zero_shows_as_much_as_there_is_to_see() -> None:
    """`seen` is compared alone: trials in which its gradient is 0 count."""
    text = """f(x[N], seen[N], y.grad[N]) -> x.grad[N], seen.grad[N]:
    for n:  x.grad[n]    += {}   if seen[n] > 0
    for n:  seen.grad[n] = {}"""
    first = lg.program(text.format("2 * x[n] * y.grad[n]", "0.0"))
    same = lg.program(text.format("x[n] * y.grad[n] + y.grad[n] * x[n]", "x[n] - x[n]"))
    other = lg.program(text.format("2 * x[n] * y.grad[n]", "x[n] * 1e-9"))
    assert 3 <= certify(first, same).trials < 12
    assert certify(first, other).kind == "differ"
