"""Derivations: every line certified, marks that hold bit for bit, and lines that do not hold left out."""

from __future__ import annotations

from dataclasses import replace
from decimal import localcontext
from pathlib import Path

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.ir.nodes import Apply, Extent, Index, Number, Range, Read, Reduce
from loopgrad.ir.walk import ZERO, computed_tensors
from loopgrad.simplify.certifying.sampling import World
from loopgrad.simplify.certifying.trials import Draw
from loopgrad.simplify.numbers.decimals import CONTEXT
from loopgrad.simplify.numbers.evaluate import Tensor
from loopgrad.simplify.numbers.lines import Numbers
from loopgrad.simplify.telling.bits import Stored, same_bits
from loopgrad.simplify.telling.derivation import Derivation
from loopgrad.simplify.telling.rules import BY_NAME, RULES
from loopgrad.simplify.telling.steps import LAST, _Check, certified
from tests.effort import by_name, sample

WRITTEN = Path(__file__).parents[1] / "programs"
CORPUS, REFERENCES = (lg.load(WRITTEN / f"{n}.loops") for n in ("corpus", "references"))
PROGRAMS = {
    f"{where}.{name}": program
    for where, module in (("lib", lg.lib), ("corpus", CORPUS), ("references", REFERENCES))
    for name in dir(module)
    if isinstance(program := getattr(module, name), lg.Program)
}


def derivations(name: str) -> list[tuple[lg.Program, lg.Program, Derivation]]:
    """Of the program and of its backward, where simplifying changes them."""
    found = []
    for program in (PROGRAMS[name], None):
        try:
            literal = PROGRAMS[name].backward() if program is None else program
        except ValueError:
            continue
        simplified = literal.simplify()
        if simplified != literal:
            found.append((literal, simplified, simplified.derivation))
    return found


# Of the library one in fifteen, of the others one in four.
LIBRARY = by_name([n for n in sorted(PROGRAMS) if n.startswith("lib.")], 36)
TOLD = list(LIBRARY)
TOLD += sample([n for n in sorted(PROGRAMS) if not n.startswith("lib.")], 9)


@pytest.mark.parametrize("name", TOLD)
def test_every_line_is_certified(name: str) -> None:
    for _, simplified, derivation in derivations(name):
        assert derivation.certified
        for chain in derivation.chains:
            here = chain.start
            for step in chain.steps:
                assert step.before == here and step.after != here
                assert step.rule and step.applied
                assert set(step.applied) <= set(RULES)
                assert step.certified in ("fields and reals", "reals")
                here = step.after
            assert chain.certified
        assert simplified.derivation is derivation  # told once


def computed(program: lg.Program, given: dict[str, np.ndarray], sizes: dict[str, int]) -> dict:
    """All that the program computes, run literally in float64."""
    names = computed_tensors(infer(program).program)
    kernel = lg.compile(program.returning(*names), "interpret")
    known = {s.name: sizes[s.name] for s in program.sizes}
    made = kernel(*[given[i.name] for i in program.inputs], **known)
    return dict(zip(names, made if isinstance(made, tuple) else (made,), strict=True))


def as_floats(tensor: Tensor) -> np.ndarray:
    return np.asarray(tensor.reals[0], float) if isinstance(tensor, Numbers) else tensor[0]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", LIBRARY)
def test_what_is_marked_exact_holds_bit_for_bit(name: str) -> None:
    for literal, simplified, derivation in derivations(name):
        if not any(step.exact for step in derivation):
            continue
        forward = literal.primal
        check = _Check(derivation, literal, simplified, forward)
        with localcontext(CONTEXT):
            trial = check.pairing.trial(Draw(0, (World("signed"),)))
        assert trial is not None
        sizes = {k: v for extents in trial.extents for k, v in extents.items()}
        given = {n: as_floats(t) for n, t in trial.inputs.items()}
        if forward is not None:
            given |= computed(forward, given, sizes)
        after = computed(simplified, given, sizes)
        given |= computed(literal, given, sizes)
        given = {**after, **{LAST + n: v for n, v in after.items()}, **given}
        made = lg.compile(check.program, "interpret")(
            *[given[i.name] for i in check.program.inputs],
            **{s.name: sizes[s.name] for s in check.program.sizes},
        )
        values = dict(zip([r.name for r in check.program.results], made, strict=True))
        for number, chain in enumerate(derivation.chains):
            for at, step in enumerate(chain.steps):
                if step.exact:
                    pair = [values[f"line {number} {k}"] for k in (at, at + 1)]
                    assert np.array_equal(*pair, equal_nan=True), str(step)


def test_what_is_exact_and_what_is_not() -> None:
    x, y, n = Read("x", (Index("n"),)), Read("y", (Index("n"),)), Index("n")
    known = {"y": Stored(("n",), Apply("tanh", (x,)))}
    total = [Reduce("sum", (Range(i, ZERO, Extent("N")),), Read("x", (Index(i),))) for i in "ij"]
    exact = [
        (Apply("+", (x, y)), Apply("+", (y, x))),
        (Apply("*", (x, Number(1))), x),
        (Apply("-", (x, y)), Apply("neg", (Apply("-", (y, x)),))),
        (Apply("*", (Apply("neg", (x,)), y)), Apply("neg", (Apply("*", (y, x)),))),
        (Apply("tanh", (x,)), y),
        (Read("y", (n,)), Apply("tanh", (x,))),
        (total[0], total[1]),
    ]
    assert all(same_bits(a, b, known) for a, b in exact)
    rounded = [
        (Apply("+", (x, Apply("+", (y, n)))), Apply("+", (Apply("+", (x, y)), n))),
        (Apply("*", (x, Apply("*", (y, n)))), Apply("*", (Apply("*", (x, y)), n))),
        (Apply("*", (x, Apply("+", (y, n)))), Apply("+", (Apply("*", (x, y)), Apply("*", (x, n))))),
        (Apply("/", (x, y)), Apply("*", (x, Apply("/", (Number(1), y))))),
        (Apply("-", (x, x)), Number(0)),
        (Apply("tanh", (Read("x", (Index("m"),)),)), y),
        (Apply("*", (total[0], x)), Reduce("sum", total[0].ranges, Apply("*", (x, x)))),
    ]
    assert not any(same_bits(a, b, known) for a, b in rounded)


def test_a_line_that_does_not_hold_is_left_out() -> None:
    literal = lg.lib.softmax.backward()
    simplified = literal.simplify()
    right = simplified.derivation
    (chain,) = right.chains
    for at in range(len(chain.steps) - 1):
        steps = list(chain.steps)
        wrong = Apply("*", (Number(2), steps[at].after))
        steps[at] = replace(steps[at], after=wrong, says=("a wrong rule",))
        steps[at + 1] = replace(steps[at + 1], before=wrong)
        told = replace(right, chains=(replace(chain, steps=tuple(steps)),))
        checked = certified(told, literal, simplified, lg.lib.softmax)
        assert checked.certified and len(checked) == len(right) - 1
        assert wrong not in [s.after for s in checked]
        assert checked.steps[at].rule == f"a wrong rule; {right.steps[at + 1].rule}"
        assert checked.steps[at].before == (right.steps[at].before)


def test_a_chain_that_ends_elsewhere_is_not_certified() -> None:
    literal = lg.lib.softmax.backward()
    simplified = literal.simplify()
    (chain,) = simplified.derivation.chains
    short = replace(simplified.derivation, chains=(replace(chain, start=Number(1.0), steps=()),))
    assert not certified(short, literal, simplified, lg.lib.softmax).certified


def test_the_derivation_of_what_was_not_simplified_is_empty() -> None:
    assert len(lg.lib.softmax.derivation) == 0
    assert str(lg.lib.softmax.derivation) == ""


def test_a_step_is_two_statements() -> None:
    step = lg.lib.softmax.backward().simplify().derivation.steps[0]
    old, new = step.statements
    assert (old.target, old.value, new.value) == (step.target, step.before, step.after)
    assert str(step).splitlines()[1].strip() == f"({step.rule})"
    assert step.mark == "reals" and not step.exact


def test_a_long_sum_has_a_line_for_each_term() -> None:
    chain = lg.lib.batchnorm.backward().simplify().derivation.chains[0]
    lines = str(chain).splitlines()
    assert max(map(len, lines)) <= 120
    at = lines.index("                (put in μ.grad)")
    assert lines[at + 1 : at + 5] == [
        "            = x'.grad[b,j] / sqrt(s[j])",
        "              + 2 * s.grad[j] / (B - 1) * (x[b,j] - μ[j])",
        "              - sum[b'](x'.grad[b',j]) / (B * sqrt(s[j]))",
        "              - 2 / (B * (B - 1)) * s.grad[j] * sum[b'](x[b',j] - μ[j])",
    ]


def test_another_notation() -> None:
    derivation = lg.lib.softmax.backward().simplify().derivation
    assert derivation.to("text") == str(derivation)
    with pytest.raises(ValueError, match="no notation 'python' for a derivation"):
        derivation.to("python")


def test_the_table_of_rules() -> None:
    assert len(BY_NAME) == len(RULES)
    assert {rule.mark for rule in RULES} == {"exact", "reals"}
    for rule in RULES:
        module = Path(lg.__file__).parent / "simplify" / f"{rule.source}.py"
        assert module.exists(), rule


def test_the_documents_have_the_table_of_rules() -> None:
    text = (Path(lg.__file__).parents[1] / "docs" / "simplifier.md").read_text(encoding="utf-8")
    for r in RULES:
        row = f"| {r.name} | `{r.law}` | {r.mark} | {r.condition} | `{r.source}.py` |"
        assert row in text, row
