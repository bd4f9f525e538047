"""Proofs against what happens: random programs, run at many sizes, every element watched."""

from __future__ import annotations

import itertools

from hypothesis import HealthCheck, example, given, settings

from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.diagnostics import ProgramError
from loopgrad.frontend.parser import parse
from loopgrad.ir.printer import show_expression
from tests.analysis.small_programs import Line, Loop, bodies, run, text_of

SIZES = [{"N": n, "M": m} for n, m in itertools.product((0, 1, 2, 4, 5), repeat=2)]
LARGER = [{"N": n, "M": m} for n, m in ((6, 7), (7, 6), (8, 8), (6, 13), (13, 6))]


@given(bodies())
@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@example(
    [Loop(("n", "0", "N"), False, [Line([], ("y", ("n",)), "=", [("y", ("n-1",), "n > 0")], None)])]
)
@example([Line([("n", "0", "N")], ("y", ("n",)), "=", [("y", ("n-1",), "n > 0")], None)])
def test_what_is_proved_never_fails_and_what_is_refused_always_does(
    body: list[Line | Loop],
) -> None:
    [program] = parse(text_of(body))
    try:
        safety = validate(program)
    except ProgramError as error:
        assert error.diagnostics
        for sizes in LARGER:
            seen = run(body, sizes)
            assert seen.disorder or seen.outside, (text_of(body), sizes, str(error))
        return
    numbered = {(n, show_expression(read, compact=True)) for n, read in safety.in_range}
    assert infer(program).program.statements
    for sizes in SIZES:
        seen = run(body, sizes)
        if not seen.outside:  # an access outside ends the run before anything after it
            assert seen.disorder <= safety.tracked, (text_of(body), sizes)
        for number, tensor, subs in seen.outside:
            shown = show_expression(_read(program, tensor, subs), compact=True)
            assert (number, shown) not in numbered, (text_of(body), sizes)


def _read(program: object, tensor: str, subs: tuple[str, ...]) -> object:
    text = f"f(x[N], w[N,M]) -> q:\n    for n < N, m < M, k < N: q += {tensor}[{','.join(subs)}]"
    if tensor in "yz":
        text = text.replace("w[N,M]", f"w[N,M], {tensor}[{'N' if tensor == 'y' else 'N,M'}]")
    [one] = parse(text)
    return one.statements[0].value  # type: ignore[union-attr]
