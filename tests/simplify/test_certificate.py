"""Every real change of a program is caught, and no right rewriting of it."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.ir.nodes import Accumulate, Apply, Block, Statement
from loopgrad.ir.walk import reads
from loopgrad.simplify.certifying.certificate import Certifier, certify
from loopgrad.simplify.certifying.sampling import turn
from loopgrad.simplify.certifying.trials import Draw, pairing
from loopgrad.simplify.certifying.verdicts import Verdict
from loopgrad.simplify.numbers import evaluate
from tests.effort import EFFORT, FULL
from tests.simplify.mutations import mutations
from tests.simplify.running import interpreted, trial

ROOT = Path(__file__).parents[2]
CORPUS = lg.load(ROOT / "tests" / "programs" / "corpus.loops")

SOFTMAX = lg.lib.softmax
BATCHNORM = lg.lib.batchnorm


def verdict(before: str, after: str) -> Verdict:
    return certify(lg.program(before), lg.program(after))


# ---------------------------------------------------------------------------- right rewritings

RIGHT = {
    "softmax, shifted by the largest": (
        "f(s[B,J]) -> p[B,J]:\n    p[b,j] = exp(s[b,j]) / sum[i](exp(s[b,i]))",
        "f(s[B,J]) -> p[B,J]:\n    m[b] = max[j](s[b,j])\n    for b, j:  Z[b] += exp(s[b,j] - m[b])\n"
        "    for b, j:  p[b,j] = exp(s[b,j] - m[b]) / Z[b]",
    ),
    "log-softmax": (
        "f(s[J]) -> l[J]:\n    l[j] = log(softmax[j](s[j]))",
        "f(s[J]) -> l[J]:\n    l[j] = s[j] - logsumexp[i](s[i])",
    ),
    "variance, in one pass": (
        "f(x[B,J]) -> v[J]:\n    m[j] = mean[b](x[b,j])\n    v[j] = mean[b]((x[b,j] - m[j])**2)",
        "f(x[B,J]) -> v[J]:\n    v[j] = mean[b](x[b,j]**2) - mean[b](x[b,j])**2",
    ),
    "batch norm, scaled before it is centred": (
        "f(x[B]) -> y[B]:\n    m = mean[b](x[b])\n    v = mean[b]((x[b] - m)**2)\n    y[b] = (x[b] - m) / sqrt(v)",
        "f(x[B]) -> y[B]:\n    m = mean[b](x[b])\n    v = sum[b](x[b]**2) / B - m**2\n    y[b] = x[b] * rsqrt(v) - m * v**-0.5",
    ),
    "sums in another order": (
        "f(x[N,D], W[D,E]) -> y:\n    for n, d, e:  y += x[n,d] * W[d,e]",
        "f(x[N,D], W[D,E]) -> y:\n    for e, d:  w[d] += W[d,e]\n    for d, n:  s[d] += x[n,d]\n    for d:  y += s[d] * w[d]",
    ),
    "a triangle twice and its diagonal": (
        "f(x[N]) -> y:\n    s = sum[n](x[n])\n    y = s**2",
        "f(x[N]) -> y:\n    for n, m < n:  y += 2 * x[n] * x[m]\n    for n:  y += x[n]**2",
    ),
    "re-indexed": (
        "f(x[X], w[D]) -> y[X-D+1]:\n    for i, d:  y[i] += w[d] * x[i+d]",
        "f(x[X], w[D]) -> y[X-D+1]:\n    for i < X - D + 1, i <= k < i + D:  y[i] += w[k-i] * x[k]",
    ),
    "sigmoid as tanh": ("f(x[N]) -> y[N]:\n    y[n] = sigmoid(x[n])", "f(x[N]) -> y[N]:\n    y[n] = (tanh(x[n]/2) + 1) / 2"),
    "softplus, stable": (
        "f(x[N]) -> y[N]:\n    y[n] = log(1 + exp(x[n]))",
        "f(x[N]) -> y[N]:\n    y[n] = max(x[n], 0) + log1p(exp(-abs(x[n])))",
    ),
    "the root of a square": ("f(x[N]) -> y[N]:\n    y[n] = sqrt(x[n]**2)", "f(x[N]) -> y[N]:\n    y[n] = abs(x[n])"),
    "maxima associate": ("f(a, b, c) -> m:\n    m = max(a, max(b, c))", "f(a, b, c) -> m:\n    m = max(max(a, b), c)"),
    "exp is monotone": ("f(a, b) -> m:\n    m = max(exp(a), exp(b))", "f(a, b) -> m:\n    m = exp(max(a, b))"),
    "relu by a guard": ("f(x[N]) -> y[N]:\n    y[n] = relu(x[n])", "f(x[N]) -> y[N]:\n    for n:  y[n] += x[n]   if x[n] > 0"),
    "Pythagoras": ("f(x[N]) -> y[N]:\n    y[n] = sin(x[n])**2 + cos(x[n])**2", "f(x[N]) -> y[N]:\n    for n:  y[n] = x[n] - x[n] + 1.0"),
    "a recurrence, unrolled into a sum": (
        "f(x[T]) -> y:\n    for t:\n        h[t] = (h[t-1] if t > 0 else 0) + x[t]\n    y = h[T-1]",
        "f(x[T]) -> y:\n    for t:  y += x[t]",
    ),
    "masked by -inf": (
        "f(s[J], bool m[J]) -> p[J]:\n    for j:  a[j] = s[j] if m[j] else -inf\n    for j:  Z += exp(a[j])\n    for j:  p[j] = exp(a[j]) / (1 + Z)",
        "f(s[J], bool m[J]) -> p[J]:\n    for j:  Z += exp(s[j])   if m[j]\n    for j:  p[j] += exp(s[j]) / (1 + Z)   if m[j]",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RIGHT)
def test_right_rewritings_agree(name: str) -> None:
    before, after = RIGHT[name]
    for first, second in ((before, after), (after, before)):
        found = verdict(first, second)
        assert found.kind == "agree", found
    # Where exact arithmetic could not speak, it says so.
    assert (found.lines == "reals") == (name in ("the root of a square", "Pythagoras"))


BACKWARDS = {
    "softmax": (
        SOFTMAX,
        """softmax.backward(p[B,J], p.grad[B,J]) -> s.grad[B,J]:
            for b, j:  e[b]        -= p[b,j] * p.grad[b,j]
            for b, j:  s.grad[b,j] += p[b,j] * (p.grad[b,j] + e[b])""",
    ),
    "softmax by its maximum": (
        lg.lib.stable_softmax,
        """stable_softmax.backward(p[B,J], p.grad[B,J]) -> s.grad[B,J]:
            for b, j:  e[b]        -= p[b,j] * p.grad[b,j]
            for b, j:  s.grad[b,j] += p[b,j] * (p.grad[b,j] + e[b])""",
    ),
    "batch norm": (
        BATCHNORM,
        """batchnorm.backward(x'[B,J], s[J], x'.grad[B,J]) -> x.grad[B,J]:
            for b, j:  c[j] += x'.grad[b,j] / B
            for b, j:  e[j] += x'.grad[b,j] * x'[b,j] / (B - 1)
            for b, j:  x.grad[b,j] += (x'.grad[b,j] - c[j] - x'[b,j] * e[j]) / sqrt(s[j])""",
    ),
    "tanh": (
        "f(x[N]) -> y[N]:\n    for n:  y[n] = tanh(x[n])",
        "f.backward(y[N], y.grad[N]) -> x.grad[N]:\n    for n:  x.grad[n] += y.grad[n] * (1 - y[n]**2)",
    ),
    "sigmoid": (
        "f(x[N]) -> y[N]:\n    for n:  y[n] = sigmoid(x[n])",
        "f.backward(y[N], y.grad[N]) -> x.grad[N]:\n    for n:  x.grad[n] += y.grad[n] * (1 - y[n]) * y[n]",
    ),
}


def pair(name: str) -> tuple[lg.Program, lg.Program, lg.Program]:
    forward, text = BACKWARDS[name]
    program = lg.program(forward) if isinstance(forward, str) else forward
    return program, program.backward(), lg.program(text)


@pytest.mark.parametrize("name", BACKWARDS)
def test_backwards_by_the_results_agree_with_the_literal_ones(name: str) -> None:
    forward, literal, short = pair(name)
    found = certify(literal, short, forward)
    assert found.kind == "agree" and found.lines == "both"
    assert found.known["s.grad" if "softmax" in name else "x.grad"] > 20


@pytest.mark.parametrize("name", BACKWARDS)
def test_without_the_forward_its_tensors_are_any(name: str) -> None:
    _, literal, short = pair(name)
    assert certify(lg.program(str(literal)), short).kind == "differ"


@pytest.mark.parametrize("name", BACKWARDS)
def test_faults_in_the_short_form_are_caught(name: str) -> None:
    forward, literal, short = pair(name)
    count = 0
    for what, wrong in mutations(short):
        found = certified(literal, wrong, forward)
        if found is not None:
            count += 1
            assert found.kind == "differ", f"{what}\n{wrong}"
    assert count >= 4


# ---------------------------------------------------------------------------- mutated programs


def certified(
    before: lg.Program, after: lg.Program, forward: lg.Program | None = None
) -> Verdict | None:
    """None where the mutated program is none at all."""
    try:
        return certify(before, after, forward)
    except (lg.ProgramError, ValueError):
        return None


MUTATED = {
    **{name: getattr(CORPUS, name) for name in dir(CORPUS)},
    **{name: getattr(lg.lib, name) for name in "softmax batchnorm layer_norm ugrnn_cell gru_cell mlp log_softmax swish".split()},
}  # fmt: skip
MUTATED = {name: p for name, p in MUTATED.items() if isinstance(p, lg.Program)}


TRIED = 10_000 if FULL else 4 * EFFORT  # mutations of each


@pytest.mark.parametrize("name", MUTATED)
def test_mutated_backwards_are_caught(name: str) -> None:
    """What is not caught changes nothing: the reference finds the same numbers."""
    forward = MUTATED[name]
    literal = forward.backward()
    all_of_them = list(mutations(literal))
    caught = 0
    for what, wrong in random.Random(name).sample(all_of_them, min(TRIED, len(all_of_them))):
        found = certified(literal, wrong, forward)
        if found is None:
            continue
        if found.kind == "differ":
            assert found.counterexample is not None
            caught += 1
        else:
            assert numerically_equal(literal, wrong, forward), f"{what}\n{wrong}"
    assert caught, "no mutation was a change"


# Of random matrices few have a Cholesky factor: where the literal program is no number, the other may be any.
@pytest.mark.parametrize("name", sorted(MUTATED.keys() - {"cholesky"}))
def test_a_division_by_a_seed_is_caught(name: str) -> None:
    """It changes nothing but where the seed is zero."""
    literal = MUTATED[name].backward()
    seeds = {i.name for i in literal.inputs if i.name.endswith(".grad")}

    def divided(statement: Statement) -> Statement:
        if isinstance(statement, Block):
            return replace(statement, body=tuple(map(divided, statement.body)))
        assert isinstance(statement, Accumulate)
        found = [r for r in reads(statement.value) if r.tensor in seeds]
        if not found:
            return statement
        return replace(
            statement, value=Apply("/", (Apply("*", (statement.value, found[0])), found[0]))
        )

    wrong = replace(literal, statements=tuple(map(divided, literal.statements)))
    assert wrong != literal
    assert certify(literal, wrong, MUTATED[name]).kind == "differ"


def test_one_program_compared_with_many() -> None:
    literal = BATCHNORM.backward()
    certifier = Certifier(literal, BATCHNORM)
    short = lg.program(BACKWARDS["batch norm"][1])
    for other in (literal, short, *(wrong for _, wrong in mutations(short)), short):
        try:
            found = certifier.compare(other)
        except (lg.ProgramError, ValueError):
            continue
        assert (found.kind, found.known) == (certify(literal, other, BATCHNORM).kind, found.known)
        assert str(found.counterexample) == str(certify(literal, other, BATCHNORM).counterexample)


def test_sizes_at_which_the_second_does_not_run_refute_it() -> None:
    """Subscripts out of range show in a trial of residues alone; the example has numbers."""
    literal = lg.lib.depthwise_conv2d.backward()
    swapped = lg.program(str(literal).replace("y.grad[b,c,m,n] * k", "y.grad[b,c,n,m] * k"))
    found = certify(literal, swapped, lg.lib.depthwise_conv2d)
    assert found.kind == "differ" and found.counterexample is not None


def test_exponentials_deeper_than_the_chain_go_by_the_reals() -> None:
    deep = "f(x0) -> x9:\n" + "".join(f"    x{k + 1} = tanh(x{k})\n" for k in range(9))
    literal = lg.program(deep).backward()
    found = certify(literal, literal.simplify())
    assert found.kind == "agree" and found.lines == "reals" and found.trials < 8
    wrong = next(w for what, w in mutations(literal) if what == "power off by one")
    assert certify(literal, wrong).kind == "differ"


def numerically_equal(p: lg.Program, q: lg.Program, forward: lg.Program) -> bool:
    runs = pairing(p, q, forward)
    for number, kind in enumerate(("signed", "unit", "large")):
        of = trial(runs, number, kind)
        if of is not None:
            first, second = interpreted(p, 0, of), interpreted(q, 1, of)
            for name, value in first.items():
                finite = np.isfinite(value)
                if not np.allclose(value[finite], second[name][finite], rtol=1e-9, atol=1e-9):
                    return False
    return True


WRONG = {
    "transposed, of equal extents": (
        "f(W[J,J], x[J]) -> y[J]:\n    for j, i:  y[j] += W[j,i] * x[i]",
        "f(W[J,J], x[J]) -> y[J]:\n    for j, i:  y[j] += W[i,j] * x[i]",
    ),
    "right only where two extents are equal": (
        "f(W[J,K], x[K]) -> y[J]:\n    for j, k:  y[j] += W[j,k] * x[k]",
        "f(W[J,K], x[K]) -> y[J]:\n    for j, k:  y[j] += W[k,j] * x[k]",
    ),
    "no number at one size": (
        "f(x[B,J]) -> y:\n    for b, j:  y += x[b,j]",
        "f(x[B,J]) -> y:\n    for b, j:  y += x[b,j] * (B - 2) / (B - 2)",
    ),
    "a factor 1/B lost": ("f(x[B]) -> y:\n    for b:  y += x[b] / B", "f(x[B]) -> y:\n    for b:  y += x[b]"),
    "B - 1 for B": ("f(x[B]) -> y:\n    for b:  y += x[b] / B", "f(x[B]) -> y:\n    for b:  y += x[b] / (B - 1 + 1e-9)"),
    "a difference that 20 digits do not show": ("f(x) -> y:\n    y = x", "f(x) -> y:\n    y = x + 1e-25 * x**2"),
    "right for the default of a constant alone": ("f(x, k = 2) -> y:\n    y = k * x", "f(x, k = 2) -> y:\n    y = (k - 2) * 0 + 2 * x"),
    "right for positive numbers alone": ("f(x) -> y:\n    y = abs(x)", "f(x) -> y:\n    y = x"),
    "right between 0 and 1 alone": ("f(x) -> y:\n    y = x", "f(x) -> y:\n    y = min(max(x, 0.0), 1.0)"),
    "undefined at 0": ("f(x, w) -> y:\n    y = x * w", "f(x, w) -> y:\n    y = x * w**2 / w"),
    "the first of the winners for the last": (
        "f(x[N]) -> i:\n    for n:  m max= relu(x[n])\n    for n:  i min= n   if relu(x[n]) == m",
        "f(x[N]) -> i:\n    for n:  m max= relu(x[n])\n    for n:  i max= n   if relu(x[n]) == m",
    ),
    "one step too few": (
        "f(x[T]) -> y:\n    for t:\n        h[t] = (tanh(h[t-1]) if t > 0 else 0) + x[t]\n    y = h[T-1]",
        "f(x[T]) -> y:\n    for t:\n        h[t] = (tanh(h[t-1]) if t > 1 else 0) + x[t]\n    y = h[T-1]",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_rewritings_differ(name: str) -> None:
    found = verdict(*WRONG[name])
    assert found.kind == "differ" and not found
    example = found.counterexample
    assert example is not None and example.before != example.after


def test_a_counterexample_is_a_call_that_can_be_made() -> None:
    before, after = map(lg.program, WRONG["transposed, of equal extents"])
    example = certify(before, after).counterexample
    assert example is not None and example.sizes == {"J": 2} and example.result == "y"
    assert before(**example.inputs)[example.element] == pytest.approx(example.before)
    assert after(**example.inputs)[example.element] == pytest.approx(example.after)
    assert str(example).startswith("`y[")


def test_a_rewriting_may_be_defined_at_more_inputs() -> None:
    literal, short = "f(x, w) -> y:\n    y = x * w / w", "f(x, w) -> y:\n    y = x * 1.0 + 0 * w"
    assert verdict(literal, short).kind == "agree"
    assert verdict(short, literal).kind == "differ"
    assert certify(lg.program(literal), lg.program(short), symmetric=True).kind == "differ"
    assert certify(lg.program(short), lg.program(literal), kinks=False).kind == "agree"


def test_no_numbers_no_verdict() -> None:
    nowhere = "f(x[N]) -> y[N]:\n    for n:  y[n] = log(-1 - x[n]**2)"
    found = verdict(nowhere, nowhere)
    assert (
        found.kind == "undecided"
        and "no inputs were found on which `y` is a number" in found.reason
    )


def test_the_same_every_time() -> None:
    before, after = map(lg.program, WRONG["transposed, of equal extents"])
    first, second = certify(before, after), certify(before, after)
    assert str(first.counterexample) == str(second.counterexample)


@pytest.mark.parametrize(
    "after, message",
    [
        ("f(x[N]) -> z[N]:\n    z[n] = x[n]", "returns `y`, and `f` returns `z`"),
        ("f(x[N,M]) -> y[N]:\n    y[n] = x[n,M]", "`x` has 1 axis in `f` and 2 axes in `f`"),
        ("f(int x[N]) -> y[N]:\n    y[n] = x[n] / 2", "`x` is float in `f` and int in `f`"),
    ],
)
def test_what_cannot_be_compared(after: str, message: str) -> None:
    with pytest.raises(ValueError, match="compare") as caught:
        verdict("f(x[N]) -> y[N]:\n    y[n] = x[n]", after)
    assert message in str(caught.value)


# --------------------------------------------------------------------------------------- ties

RELU, PRODUCT, ROOT, PEAK = (
    lg.program(text)
    for text in (
        "f(x[N]) -> y[N]:\n    for n:  y[n] = relu(x[n])",
        "f(x[N]) -> y:\n    for n:  y *= x[n]",
        "f(x[N]) -> y[N]:\n    for n:  y[n] = sqrt(x[n])",
        "f(s[B,N]) -> m[B]:\n    for b, n:  m[b] max= s[b,n]",
    )
)
AT_TIES = {
    "relu with 1 at 0": (RELU, "f(x[N], y.grad[N]) -> x.grad[N]:\n    for n:  x.grad[n] += y.grad[n]   if x[n] >= 0", True),
    "a root with 0 at 0": (ROOT, "f(y[N], y.grad[N]) -> x.grad[N]:\n    for n:  x.grad[n] += y.grad[n] / (2 * y[n])   if y[n] > 0", True),
    "every winner of a maximum": (
        PEAK,
        "f(s[B,N], m[B], m.grad[B]) -> s.grad[B,N]:\n    for b, n:  s.grad[b,n] += m.grad[b]   if s[b,n] == m[b]",
        True,
    ),
    "a product divided by its factors": (PRODUCT, "f(x[N], y, y.grad) -> x.grad[N]:\n    for n:  x.grad[n] += y.grad * y / x[n]", False),
}  # fmt: skip


@pytest.mark.parametrize("name", AT_TIES)
def test_ties_and_kinks_of_the_forward_may_be_passed_over(name: str) -> None:
    forward, text, right = AT_TIES[name]
    literal, claimed = forward.backward(), lg.program(text)
    assert certify(literal, claimed, forward).kind == "differ"
    assert certify(literal, claimed, forward, ties=False).kind == ("agree" if right else "differ")


def test_infinities_that_leave_out_are_no_ties() -> None:
    masked = lg.program("f(s[N], bool m[N]) -> p:\n    for n:  p max= s[n] if m[n] else -inf")
    doubled = lg.program("f(s[N], bool m[N]) -> p:\n    for n:  p max= 2 * s[n] if m[n] else -inf")
    assert certify(masked, doubled, ties=False).kind == "differ"


def test_what_would_run_for_too_long_is_left_undecided(monkeypatch: pytest.MonkeyPatch) -> None:
    if not FULL:  # the limit counts, whatever it is
        monkeypatch.setattr(evaluate, "MOST_STEPS", evaluate.MOST_STEPS // 5)
    blocks = "".join(f"{'    ' * (d + 1)}for i{d} < 9:\n" for d in range(12))
    deep = f"f(x) -> y:\n{blocks}{'    ' * 13}y += x"
    wide = "f(x) -> y:\n    for i < 9**9:  t[i] = x\n    y = t[3]"
    for text in (deep, wide):
        found = certify(lg.program("f(x) -> y:\n    y = x"), lg.program(text))
        assert found.kind == "undecided" and "too many steps" in found.reason, text


def test_a_fault_that_shows_beside_the_defaults_and_on_one_side_alone_is_caught() -> None:
    text = "f(x[N], a = 1.0) -> y[N]:\n    for n:  y[n] += x[n] if x[n] {} 0 else {} * x[n]"
    for order in "<", ">":
        right, wrong = (lg.program(text.format(order, factor)) for factor in ("a", "(1 + 0 * a)"))
        verdict = certify(right, wrong, ties=False)
        assert verdict.kind == "differ" and verdict.counterexample is not None
        assert verdict.counterexample.constants["a"] != 1


def test_constants_are_moved_in_worlds_of_every_kind() -> None:
    for kinds in 3, 4:
        assert len({(turn(n, kinds), Draw(n, ()).with_defaults) for n in range(16)}) == 2 * kinds


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("* p * x", "* 2 * x"), ("(p - 1)", "1"), ("(1 / p - 1)", "(-0.5)"), ("/ p ", "/ 2 ")],
)
def test_constants_are_moved_where_a_power_of_them_is_a_number(right: str, wrong: str) -> None:
    pool = lg.lib.global_power_pool
    text = str(pool.backward())
    assert right in text
    claimed = text.replace(right, wrong, 1)
    assert certify(pool.backward(), lg.program(claimed)).kind == "differ"
    assert not lg.check(pool, claimed)
