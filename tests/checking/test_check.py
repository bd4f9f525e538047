"""What `lg.check` says of claims, right and wrong."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path

import pytest

import loopgrad as lg
from loopgrad.checking.findings import Finding
from loopgrad.simplify.numbers import evaluate
from tests.effort import FULL

CORPUS = Path(__file__).parents[1] / "programs" / "corpus.loops"
DIGITS = Path(lg.__file__).parent / "examples" / "digits.loops"

SOFTMAX = """\
softmax(s[B,J]) -> p[B,J]:
    for b, j:  Z[b]   += exp(s[b,j])
    for b, j:  p[b,j] += exp(s[b,j]) / Z[b]
"""
SHORT = """\
softmax.backward(p[B,J], p.grad[B,J]) -> s.grad[B,J]:
    for b, j:  e[b]        -= p[b,j] * p.grad[b,j]
    for b, j:  s.grad[b,j] += p[b,j] * (p.grad[b,j] + e[b])
"""
LITERAL = """\
softmax.backward(s[B,J], Z[B], p.grad[B,J]) -> s.grad[B,J]:
    for b, j:  s.grad[b,j] += p.grad[b,j] * exp(s[b,j]) / Z[b]
    for b, j:  Z.grad[b]   -= p.grad[b,j] * exp(s[b,j]) / Z[b]**2
    for b, j:  s.grad[b,j] += Z.grad[b] * exp(s[b,j])
"""
AFFINE = """\
affine(x[B,I], param W[J,I], param c[J]) batch B -> y[B,J]:
    for b, j:     y[b,j] += c[j]
    for b, j, i:  y[b,j] += W[j,i] * x[b,i]
"""
AFFINE_RIGHT = """\
affine.backward(x[B,I], W[J,I], y.grad[B,J]) -> x.grad[B,I], W.grad[J,I], c.grad[J]:
    for b, j, i:  W.grad[j,i] += y.grad[b,j] * x[b,i] / B
    for b, j, i:  x.grad[b,i] += y.grad[b,j] * W[j,i]
    for b, j:     c.grad[j]   += y.grad[b,j] / B
"""

# ------------------------------------------------------------------------------------------ right

RIGHT = {
    "the literal backward": (SOFTMAX, LITERAL),
    "the short one": (SOFTMAX, SHORT),
    "other names of indices and extents": (
        SOFTMAX,
        "g(p[N,K], p.grad[N,K]) -> s.grad[N,K]:\n    for n, k:  dot[n] += p[n,k] * p.grad[n,k]\n"
        "    for n, k:  s.grad[n,k] = p[n,k] * (p.grad[n,k] - dot[n])",
    ),
    "as an equation": (
        SOFTMAX,
        "g(p[B,J], p.grad[B,J]) -> s.grad[B,J]:\n"
        "    s.grad[b,j] = p[b,j] * (p.grad[b,j] - sum[k](p[b,k] * p.grad[b,k]))",
    ),
    "recomputed under the forward's names": (
        SOFTMAX,
        "g(s[B,J], p.grad[B,J]) -> s.grad[B,J]:\n    for b, j:  Z[b] += exp(s[b,j])\n"
        "    for b, j:  p[b,j] = exp(s[b,j]) / Z[b]\n    for b, j:  e[b] += p[b,j] * p.grad[b,j]\n"
        "    for b, j:  s.grad[b,j] += p[b,j] * p.grad[b,j]\n    for b, j:  s.grad[b,j] -= p[b,j] * e[b]",
    ),
    "averaged over the batch": (AFFINE, AFFINE_RIGHT),
    "averaged in the end, param and batch left out": (
        AFFINE,
        "g(x[B,I], y.grad[B,J]) -> W.grad[J,I]:\n    for b, j, i:  w[j,i] += y.grad[b,j] * x[b,i]\n"
        "    for j, i:  W.grad[j,i] = w[j,i] / B",
    ),
    "another convention at a kink": (
        "f(x[N]) -> y[N]:\n    for n:  y[n] = relu(x[n])",
        "g(x[N], y.grad[N]) -> x.grad[N]:\n    for n:  x.grad[n] += y.grad[n]   if x[n] >= 0",
    ),
    "every winner of a maximum": (
        "f(x[B,N]) -> m[B]:\n    for b, n:  m[b] max= x[b,n]",
        "g(x[B,N], m[B], m.grad[B]) -> x.grad[B,N]:\n    for b, n:  x.grad[b,n] += m.grad[b]   if x[b,n] == m[b]",
    ),
    "a recurrence": (
        "f(x[T], w) -> h[T]:\n    for t:\n        h[t] = x[t] + (w * h[t-1] if t > 0 else 0)",
        "g(h[T], w, h.grad[T]) -> x.grad[T], w.grad:\n    for t descending:\n"
        "        d[t] = h.grad[t] + (w * d[t+1] if t < T-1 else 0)\n        x.grad[t] = d[t]\n"
        "        w.grad += d[t] * h[t-1]   if t > 0",
    ),
    "a gather, its gradient a scatter": (
        "f(E[V,K], int w[T]) -> y[T,K]:\n    for t, k:  y[t,k] = E[w[t],k]",
        "g(int w[T], y.grad[T,K], size V) -> E.grad[V,K]:\n    for t, k:  E.grad[w[t],k] += y.grad[t,k]",
    ),
    "the same as a comparison, its extent named otherwise": (
        "f(E[V,K], int w[T]) -> y[T,K]:\n    for t, k:  y[t,k] = E[w[t],k]",
        "g(int w[S], y.grad[S,K], size R) -> E.grad[R,K]:\n    for r, s, k:  E.grad[r,k] += y.grad[s,k]   if r == w[s]",
    ),
    "a product, by the others": (
        "f(x[3]) -> y:\n    for n:  y *= x[n]",
        "g(x[3], y.grad) -> x.grad[3]:\n    x.grad[0] = y.grad * x[1] * x[2]\n"
        "    x.grad[1] = y.grad * x[0] * x[2]\n    x.grad[2] = y.grad * x[0] * x[1]",
    ),
    "a constant of its own": (
        "f(x[N]) -> y[N]:\n    for n:  y[n] = x[n] / 4",
        "g(y.grad[N], quarter = 0.25) -> x.grad[N]:\n    for n:  x.grad[n] = quarter * y.grad[n]",
    ),
    "a rewriting": (
        SOFTMAX,
        "g(s[B,J]) -> p[B,J]:\n    for b, j:  m[b] max= s[b,j]\n    for b, j:  q[b] += exp(s[b,j] - m[b])\n"
        "    for b, j:  p[b,j] = exp(s[b,j] - m[b]) / q[b]",
    ),
    "a rewriting with other results": (SOFTMAX, "g(s[B,J]) -> Z[B]:\n    Z[b] = sum[k](exp(s[b,k]))"),
    "the gradient of a computed tensor": (
        SOFTMAX,
        "g(s[B,J], Z[B], p.grad[B,J]) -> Z.grad[B]:\n    for b, j:  Z.grad[b] -= p.grad[b,j] * exp(s[b,j]) / Z[b]**2",
    ),
    "extents that are equal by the forward's loops": (
        "f(W[J,K], h[J]) -> y[J]:\n    for j, k:  y[j] += W[j,k] * h[k]",
        "g(W[J,J], y.grad[J]) -> h.grad[J]:\n    for j, k:  h.grad[k] += W[j,k] * y.grad[j]",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RIGHT)
def test_right_claims_are_right(name: str) -> None:
    forward, claimed = RIGHT[name]
    answer = lg.check(forward, claimed)
    assert answer, str(answer)
    assert answer.findings == () and answer.mended is None
    assert str(answer).startswith(f"right, {answer.method}")


def test_programs_and_texts_are_the_same() -> None:
    forward, claimed = lg.program(SOFTMAX), lg.program(LITERAL)
    assert lg.check(forward, claimed).method == "proved"
    assert lg.check(forward, forward.backward()).method == "proved"
    assert lg.check(forward, forward.backward(recompute=True))
    assert lg.check(SOFTMAX, forward.backward().simplify()).method == "proved"
    assert lg.check(SOFTMAX, f"{SOFTMAX}\n{SHORT}")


def test_a_network_that_is_computed_again_is_proved() -> None:
    """The claim reads biases and labels, which the literal backward does not."""
    forward = lg.load(DIGITS).mlp_classifier
    claimed = forward.backward(recompute=True)
    assert {i.name for i in claimed.inputs} > {i.name for i in forward.inputs}
    assert lg.check(forward, str(claimed)).method == "proved"


def test_what_is_not_given_is_named() -> None:
    answer = lg.check(
        AFFINE, "g(W[J,I], y.grad[B,J]) -> x.grad[B,I]:\n    x.grad[b,i] = W[J,i] * y.grad[b,J]"
    )
    assert answer and answer.judged == ("x.grad",) and answer.not_given == ("W.grad", "c.grad")
    assert str(answer).endswith("not given: `W.grad` and `c.grad`")


def test_a_statement_that_reads_two_tensors_too_early_is_moved_once() -> None:
    forward = "f(x[N], y[N]) -> z[N]:\n    for n:  z[n] += x[n] * y[n]\n"
    claim = (
        "g(x[N], y[N], z.grad[N]) -> x.grad[N]:\n"
        "    for n:  x.grad[n] += a[n] + b[n]\n"
        "    for n:  a[n] += z.grad[n] * y[n] / 2\n"
        "    for n:  b[n] += z.grad[n] * y[n] / 2\n"
    )
    answer = lg.check(forward, claim)
    (finding,) = answer.findings
    assert (finding.kind, finding.line, finding.how) == ("read before complete", 2, "move")
    assert answer.mended is not None and lg.check(forward, answer.mended)


def test_of_what_is_asked_for_nothing_is_given() -> None:
    product = "mul(x[N], y[N]) -> z[N]:\n    z[n] = x[n] * y[n]\n"
    claim = "g(y[N], z.grad[N]) -> x.grad[N]:\n    for n:  x.grad[n] += z.grad[n] * y[n]\n"
    answer = lg.check(product, claim, wrt="y")
    (finding,) = answer.findings
    assert finding.kind == "missing gradient"
    assert finding.right == "for n:  y.grad[n] += z.grad[n] * x[n]"


def test_wrt_says_what_has_to_be_given() -> None:
    assert lg.check(AFFINE, AFFINE_RIGHT, wrt=["W", "c"])
    assert lg.check(AFFINE, AFFINE_RIGHT.replace("* W[j,i]", ""), wrt=("W", "c")), (
        "others are not judged"
    )
    part = "g(x[B,I], y.grad[B,J]) -> W.grad[J,I]:\n    for b, j, i:  W.grad[j,i] += y.grad[b,j] * x[b,i] / B\n"
    assert lg.check(AFFINE, part, wrt="W")
    answer = lg.check(AFFINE, part, wrt=["W", "c"])
    [finding] = answer.findings
    assert (finding.kind, finding.line) == ("missing gradient", 1)
    assert finding.right == "for b, j:  c.grad[j] += y.grad[b,j] / B"
    assert answer.not_given == ("x.grad",)
    assert answer.mended is not None and lg.check(AFFINE, answer.mended, wrt=["W", "c"])
    with pytest.raises(
        ValueError, match="wrt: `w` is no input that has a gradient; did you mean `W`"
    ):
        lg.check(AFFINE, part, wrt="w")


# ------------------------------------------------------------------------------------------ wrong


def fault(forward: str, claimed: str, **more: object) -> Finding:
    """The one finding of a claim, whose mend mends."""
    answer = lg.check(forward, claimed, **more)  # type: ignore[arg-type]
    assert not answer
    [finding] = answer.findings
    assert answer.mended is not None, str(answer)
    assert lg.check(forward, answer.mended, **more), answer.mended  # type: ignore[arg-type]
    return finding


WRONG = {
    # change of a right claim -> line, column, kind, a part of the message
    "sign of an update": (LITERAL, "Z.grad[b]   -=", "Z.grad[b]   +=", (3, 28, "sign", "right is `-=`")),
    "transposed": (AFFINE_RIGHT, "* W[j,i]", "* W[i,j]", (3, 48, "transposed", "`W` is transposed")),
    "missing 1/B": (AFFINE_RIGHT, "x[b,i] / B", "x[b,i]", (2, 34, "missing factor", "too large by the factor B")),
    "too large": (AFFINE_RIGHT, "+= y.grad[b,j] * W", "+= 2 * y.grad[b,j] * W", (3, 34, "superfluous factor", "too large by the factor 2")),
    "a power": (LITERAL, "Z[b]**2", "Z[b]", (3, 31, "wrong power", "Z[b]**2")),
    "a function": (LITERAL, "Z.grad[b] * exp(s[b,j])", "Z.grad[b] * s[b,j]", (4, 43, "wrong function", "exp(s[b,j])")),
    "a tensor": (SHORT, "e[b]        -= p[b,j] * p.grad[b,j]", "e[b]        -= p[b,j] * p[b,j]", (2, 31, "wrong tensor", "p.grad[b,j]")),
    "a factor too much": (AFFINE_RIGHT, "+= y.grad[b,j] / B", "+= y.grad[b,j] / B / I", (4, 52, "superfluous factor", "`I` is too much")),
    "a subscript": (SHORT, "+ e[b])", "+ e[0])", (3, 57, "wrong subscript", "e[b]")),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_claims(name: str) -> None:
    claimed, right, wrong, (line, column, kind, message) = WRONG[name]
    forward = SOFTMAX if claimed in (LITERAL, SHORT) else AFFINE
    assert claimed.count(right) == 1
    finding = fault(forward, claimed.replace(right, wrong))
    assert (finding.line, finding.column, finding.kind) == (line, column, kind), str(finding)
    assert message in finding.message
    assert finding.right is not None
    example = finding.counterexample
    assert example is not None and example.claimed != example.right


def test_what_stands_in_the_place_is_right() -> None:
    """`.right`, put in the place of the statement, makes the claim right."""
    wrong = LITERAL.replace("-= p.grad[b,j]", "+= p.grad[b,j]")
    [finding] = lg.check(SOFTMAX, wrong).findings
    assert finding.how == "replace" and finding.line is not None
    lines = wrong.splitlines()
    lines[finding.line - 1] = f"    {finding.right}"
    assert lg.check(SOFTMAX, "\n".join(lines))


def test_a_missing_term() -> None:
    lines = LITERAL.splitlines(keepends=True)
    finding = fault(SOFTMAX, "".join(lines[:3]))
    assert finding.kind == "missing term" and finding.how == "insert after"
    assert finding.right == "for b, j:  s.grad[b,j] += Z.grad[b] * exp(s[b,j])"


def test_a_missing_term_with_what_it_needs() -> None:
    finding = fault(SOFTMAX, "".join(LITERAL.splitlines(keepends=True)[:2]))
    assert finding.kind == "missing term" and finding.right is not None
    assert finding.right.splitlines() == [
        "for b, j:  Z.grad[b]   -= p.grad[b,j] * exp(s[b,j]) / Z[b]**2",
        "for b, j:  s.grad[b,j] += Z.grad[b] * exp(s[b,j])",
    ]


def test_a_term_too_much() -> None:
    twice = LITERAL + LITERAL.splitlines()[3] + "\n"
    finding = fault(SOFTMAX, twice)
    assert finding.kind == "superfluous term" and finding.how == "delete"
    assert "the same as another statement" in finding.message


def test_two_faults_are_both_found() -> None:
    wrong = LITERAL.replace("Z[b]**2", "Z[b]").replace("+= Z.grad[b]", "-= Z.grad[b]")
    answer = lg.check(SOFTMAX, wrong)
    assert [(f.line, f.kind) for f in answer.findings] == [(3, "wrong power"), (4, "sign")]
    assert answer.mended is not None and lg.check(SOFTMAX, answer.mended)


def test_square_extents_hide_nothing() -> None:
    forward = "f(W[J,J], x[J]) -> y[J]:\n    for j, i:  y[j] += W[j,i] * x[i]"
    right = (
        "g(W[J,J], x[J], y.grad[J]) -> W.grad[J,J]:\n    for j, i:  W.grad[j,i] += y.grad[j] * x[i]"
    )
    assert lg.check(forward, right)
    finding = fault(forward, right.replace("W.grad[j,i]", "W.grad[i,j]"))
    assert finding.kind == "transposed" and finding.counterexample is not None
    assert finding.counterexample.sizes == {"J": 2}


def test_equal_extents_of_the_claim_alone_are_wrong() -> None:
    wrong = AFFINE_RIGHT.replace("W[J,I], y.grad", "W[J,J], y.grad")
    finding = fault(AFFINE, wrong)
    assert (finding.kind, finding.line, finding.column) == ("wrong extent", 1, 25)
    assert "are one here, `J`: `I`, axis 1 of `W`, and `J`, axis 0 of `W`" in finding.message
    assert finding.right == "W[J,I]"


def test_a_division_by_zero_where_the_right_one_has_none() -> None:
    forward = "f(x[N]) -> y:\n    for n:  y *= x[n]"
    claimed = "g(x[N], y, y.grad) -> x.grad[N]:\n    for n:  x.grad[n] += y.grad * y / x[n]"
    answer = lg.check(forward, claimed)
    [finding] = answer.findings
    assert finding.kind == "undefined" and finding.line == 2
    assert answer.mended is not None and lg.check(forward, answer.mended)


# --------------------------------------------------------------------------------------- notation


def test_an_unbound_index_is_a_finding() -> None:
    finding = fault(SOFTMAX, LITERAL.replace("exp(s[b,j]) / Z[b]**2", "exp(s[b,k]) / Z[b]**2"))
    assert (finding.kind, finding.line, finding.column) == ("unbound index", 3, 53)
    assert finding.right == "for b, j:  Z.grad[b] -= p.grad[b,j] * exp(s[b,j]) / Z[b]**2"


def test_a_mistake_of_notation_and_one_of_meaning() -> None:
    wrong = LITERAL.replace("exp(s[b,j]) / Z[b]**2", "exp(s[b,k]) / Z[b]**2").replace(
        "+= Z.grad", "-= Z.grad"
    )
    answer = lg.check(SOFTMAX, wrong)
    assert [(f.line, f.kind) for f in answer.findings] == [(3, "unbound index"), (4, "sign")]
    assert answer.mended is not None and lg.check(SOFTMAX, answer.mended)


def test_a_tensor_that_is_not_in_the_header() -> None:
    answer = lg.check(SOFTMAX, LITERAL.replace("(s[B,J], Z[B],", "(s[B,J],"))
    assert {f.kind for f in answer.findings} == {"unknown name"}
    assert answer.findings[0].right == "Z[B]" and answer.findings[0].how == "input"
    assert answer.mended is not None and lg.check(SOFTMAX, answer.mended)


@pytest.mark.parametrize(
    "text, kind, line",
    [
        ("softmax.backward(p[B,J] -> s.grad[B,J]:\n    s.grad[b,j] = p[b,j]", "notation", 1),
        ("g(p[B,J], p.grad[B,J]) -> s.grad[B,J]:\n    s.grad[b,j] = p[b,j] ** * 2", "notation", 2),
        ("g(p[B,J], p.grad[B,J]) -> s.grad[B,J]:\n    for b, j:  s.grad[b,j] += p[b]", "wrong rank", 2),
        ("g(q[B,J], p.grad[B,J]) -> s.grad[B,J]:\n    for b, j:  s.grad[b,j] += q[b,j]", "unknown name", 1),
        ("g(p[B,J], p.grad[B,J]) -> ds[B,J]:\n    for b, j:  ds[b,j] += p[b,j]", "unknown name", 1),
        ("g(p[J], p.grad[B,J]) -> s.grad[B,J]:\n    for b, j:  s.grad[b,j] += p[j]", "wrong rank", 1),
        ("g(int p[B,J], p.grad[B,J]) -> s.grad[B,J]:\n    for b, j:  s.grad[b,j] += p[b,j]", "wrong tensor", 1),
        ("", "notation", 1),
    ],
)  # fmt: skip
def test_mistakes_are_findings(text: str, kind: str, line: int) -> None:
    answer = lg.check(SOFTMAX, text)
    assert not answer and (answer.findings[0].kind, answer.findings[0].line) == (kind, line)


def test_a_broken_forward_is_an_error() -> None:
    with pytest.raises(lg.ProgramError):
        lg.check(SOFTMAX.replace("exp(s[b,j]) /", "exp(s[b,k]) /"), SHORT)
    with pytest.raises(TypeError):
        lg.check(SOFTMAX, 3)  # type: ignore[arg-type]


# ----------------------------------------------------------------------------------------- answers


def test_answers_are_data() -> None:
    answer = lg.check(SOFTMAX, LITERAL.replace("-= p.grad", "+= p.grad"))
    with pytest.raises(dataclasses.FrozenInstanceError):
        answer.method = "proved"  # type: ignore[misc]
    found = json.loads(json.dumps(answer.to_json()))
    assert set(found) == {"right", "method", "reason", "judged", "not_given", "findings", "mended"}
    assert set(found["findings"][0]) == {"kind", "message", "line", "column", "end_column", "right", "how", "note", "counterexample"}  # fmt: skip
    assert found["right"] is False and found["judged"] == ["s.grad"]


def test_how_a_finding_reads() -> None:
    answer = lg.check(SOFTMAX, LITERAL.replace("-= p.grad", "+= p.grad"))
    assert str(answer).splitlines()[:6] == [
        "error: the sign is wrong: `+=`, and right is `-=`",
        " --> <claimed>:3:28",
        "  |",
        "3 |     for b, j:  Z.grad[b]   += p.grad[b,j] * exp(s[b,j]) / Z[b]**2",
        "  |                            ^^",
        "   = help: right is `for b, j:  Z.grad[b] -= p.grad[b,j] * exp(s[b,j]) / Z[b]**2`",
    ]
    assert "`s.grad[0,0]` is" in str(answer).splitlines()[6]


def test_the_same_every_time() -> None:
    wrong = LITERAL.replace("Z[b]**2", "Z[b]")
    assert str(lg.check(SOFTMAX, wrong)) == str(lg.check(SOFTMAX, wrong))


# ------------------------------------------------------------------------------------------- order

RECURRENCE = "f(x[T], w) -> h[T]:\n    for t:\n        h[t] = x[t] + (w * h[t-1] if t > 0 else 0)"
BACK_IN_TIME = """\
g(h[T], w, h.grad[T]) -> x.grad[T], w.grad:
    for t descending:
        d[t] = h.grad[t] + (w * d[t+1] if t < T-1 else 0)
        x.grad[t] = d[t]
        w.grad += d[t] * h[t-1]   if t > 0
"""


def test_a_block_that_runs_the_wrong_way() -> None:
    finding = fault(RECURRENCE, BACK_IN_TIME.replace(" descending", ""))
    assert (finding.kind, finding.line) == ("read before complete", 3)
    assert (finding.how, finding.right) == ("replace block", "for t descending:")


def test_a_recurrence_on_one_line() -> None:
    claimed = BACK_IN_TIME.replace("for t descending:\n        d[t] =", "for t:  d[t] =").replace(
        "        x.grad[t]", "    for t:  x.grad[t]"
    )
    claimed = claimed.replace("        w.grad +=", "    for t:  w.grad +=")
    finding = fault(RECURRENCE, claimed)
    assert (finding.kind, finding.line, finding.how) == ("read before complete", 2, "replace")
    assert finding.right is not None and finding.right.startswith("for t descending:\n    d[t] =")


def test_statements_in_the_wrong_order() -> None:
    first, *others = LITERAL.splitlines(keepends=True)
    finding = fault(SOFTMAX, "".join([first, others[0], others[2], others[1]]))
    assert (finding.kind, finding.line, finding.how) == ("read before complete", 3, "move")
    assert finding.note == "to behind line 4"


def test_order_and_another_fault() -> None:
    first, *others = LITERAL.splitlines(keepends=True)
    claimed = "".join([first, others[0], others[2], others[1].replace("**2", "")])
    answer = lg.check(SOFTMAX, claimed)
    assert [(f.line, f.kind) for f in answer.findings] == [
        (3, "read before complete"),
        (4, "wrong power"),
    ]
    assert answer.mended is not None and lg.check(SOFTMAX, answer.mended)


# ----------------------------------------------------------------------------- own temporaries

CENTRED = """\
squash(x[B,J], param c[J]) batch B -> y[B,J]:
    for b, j:  m[b]   += x[b,j] / J
    for b, j:  y[b,j] += tanh(x[b,j] - m[b] + c[j])
"""
CENTRED_RIGHT = """\
squash.backward(y[B,J], y.grad[B,J]) -> x.grad[B,J], c.grad[J]:
    for b, j:  a[b,j]      += y.grad[b,j] * (1 - y[b,j]**2)
    for b, j:  e[b]        += a[b,j] / J
    for b, j:  x.grad[b,j] += a[b,j] - e[b]
    for b, j:  c.grad[j]   += a[b,j] / B
"""
IN_TEMPORARIES = {
    "in the first": [("(1 - y[b,j]**2)", "(1 - y[b,j])**2", 2)],
    "in the second": [("a[b,j] / J", "a[b,j] / B", 3)],
    "in two": [("(1 - y[b,j]**2)", "(1 + y[b,j]**2)", 2), ("a[b,j] / B", "a[b,j] / J", 5)],
    "in three": [("y[b,j]**2", "y[b,j]**3", 2), ("a[b,j] / J", "a[b,j] / B", 3), ("a[b,j] / B", "a[b,j]", 5)],
}  # fmt: skip


@pytest.mark.parametrize("name", IN_TEMPORARIES)
def test_faults_in_temporaries_that_the_forward_does_not_know(name: str) -> None:
    assert lg.check(CENTRED, CENTRED_RIGHT).method == "proved"
    lines = CENTRED_RIGHT.splitlines()
    for right, wrong, line in IN_TEMPORARIES[name]:
        assert right in lines[line - 1]
        lines[line - 1] = lines[line - 1].replace(right, wrong)
    answer = lg.check(CENTRED, "\n".join(lines))
    assert [f.line for f in answer.findings] == [line for _, _, line in IN_TEMPORARIES[name]]
    assert answer.mended is not None and lg.check(CENTRED, answer.mended)


def test_equations_and_calls_are_judged_too() -> None:
    forward = "f(W[J,I], x[B,I]) -> y[B,J]:\n    y[b,j] = tanh(W[j,I] * x[b,I])"
    right = (
        "g(W[J,I], x[B,I], y[B,J], y.grad[B,J]) -> W.grad[J,I], x.grad[B,I]:\n"
        "    d[b,j] = y.grad[b,j] * (1 - y[b,j]**2)\n    W.grad[j,i] = d[B,j] * x[B,i]\n"
        "    x.grad[b,i] = W[J,i] * d[b,J]"
    )
    assert lg.check(forward, right)
    finding = fault(forward, right.replace("= d[B,j] * x[B,i]", "= d[B,j] * x[B,i] / B"))
    assert finding.line == 3
    assert lg.check("f(s[B,J]) -> p[B,J]:\n    p = softmax(s)", SHORT)


# ----------------------------------------------------------------------------------------- hostile


def deep_blocks() -> str:
    lines = [f"{'    ' * (d + 1)}for i{d} < 3:" for d in range(20)]
    return "g(x, y.grad) -> x.grad:\n" + "\n".join([*lines, f"{'    ' * 21}x.grad += y.grad * x"])


HOSTILE = {
    "blocks inside blocks": deep_blocks(),
    "a range without end": "g(x, y.grad) -> x.grad:\n    for i < 9**9:  x.grad += y.grad * x",
    "a tensor too large": "g(x, y.grad) -> x.grad:\n    for i < 9**7, j < 9**7:  t[i,j] = x\n    x.grad = t[0,0]",
    "many terms": "g(x, y.grad) -> x.grad:\n    x.grad = " + " + ".join(["y.grad * x**3"] * 60),
    "many statements": "g(x, y.grad) -> x.grad:\n" + "    x.grad += x * y.grad\n" * 120,
    "many mistakes": "g(x, y.grad) -> x.grad:\n" + "    x.grad += q * )\n" * 120,
    "deep brackets": "g(x, y.grad) -> x.grad:\n    x.grad = " + "(" * 90 + "x" + ")" * 90,
    "no text at all": "\x00\x01",
    "a huge power": "g(x, y.grad) -> x.grad:\n    x.grad = y.grad * x**999999999",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_claims_end(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = 20
    if name == "blocks inside blocks" and not FULL:  # runs to the limit, again and again
        monkeypatch.setattr(evaluate, "MOST_STEPS", evaluate.MOST_STEPS // 4)
        seconds = 8
    start = time.process_time()
    answer = lg.check("f(x) -> y:\n    y = x**2", HOSTILE[name])
    assert not answer
    str(answer)
    assert time.process_time() - start < seconds


def test_where_no_small_change_helps_the_derived_statements_are_shown() -> None:
    claimed = BACK_IN_TIME.replace("(w * d[t+1] if t < T-1 else 0)", "(w * d[t-1] if t > 0 else 0)")
    answer = lg.check(RECURRENCE, claimed)
    assert answer.findings[0].kind == "read before complete" and answer.findings[0].line == 3
    assert [f.kind for f in answer.findings[1:]] == ["wrong value", "wrong tensor"]
    assert answer.mended is not None and lg.check(RECURRENCE, answer.mended)


def test_forward_and_backward_in_one() -> None:
    fused = (
        "fused(s[B,J], p.grad[B,J]) -> p[B,J], s.grad[B,J]:\n    for b, j:  Z[b] += exp(s[b,j])\n"
        "    for b, j:  p[b,j] += exp(s[b,j]) / Z[b]\n    for b, j:  e[b] += p[b,j] * p.grad[b,j]\n"
        "    for b, j:  s.grad[b,j] += p[b,j] * (p.grad[b,j] - e[b])"
    )
    assert lg.check(SOFTMAX, fused).judged == ("p", "s.grad")
    finding = fault(SOFTMAX, fused.replace("/ Z[b]", "* Z[b]"))
    assert finding.line == 3 and finding.kind == "wrong operation"


def test_integer_results_are_judged() -> None:
    forward = "f(x[N]) -> i:\n    for n:  m max= x[n]\n    for n:  i min= n   if x[n] == m"
    assert lg.check(forward, forward.replace("m max=", "a max=").replace("== m", ">= a"))
    assert not lg.check(forward, forward.replace("min= n", "min= n + 1"))


def test_programs_made_by_python_functions() -> None:
    @lg.program
    def double(x: N):  # type: ignore[no-untyped-def, name-defined]  # noqa: F821
        y, n = lg.tensor(), lg.index("n")
        y[n] += 2 * x[n]
        return y

    assert lg.check(double, double.backward()).method == "proved"
    finding = lg.check("f(x[N]) -> y[N]:\n    y[n] = 3 * x[n]", double).findings[0]
    assert finding.line == 2 and finding.right == "for n:  y[n] += 3 * x[n]"


def test_terms_missing_beside_one_that_is_right() -> None:
    """What is there stays; the simplified form of layer normalisation with two of its terms lost."""
    forward = lg.lib.layer_norm
    claimed = """\
layer_norm.backward(x[B,J], γ[J], v[B], y.grad[B,J], eps = 1e-5) -> x.grad[B,J]:
    for b, j:  e[b]        -= γ[j] / J * y.grad[b,j]
    for b, j:  x.grad[b,j] += e[b] / sqrt(v[b] + eps)
"""
    finding = fault(forward, claimed)
    assert (finding.kind, finding.line, finding.how) == ("missing term", 3, "insert after")
    assert "2 terms are missing of `x.grad`" in finding.message


def test_a_temporary_whose_line_cannot_be_read_is_no_second_fault() -> None:
    forward = """\
f(s[B,U], v[U,E]) -> y[B,E]:
    for b, u:     p[b,u] += exp(s[b,u])
    for b, u, e:  y[b,e] += p[b,u] * v[u,e]
"""
    claimed = """\
f.backward(s[B,U], v[U,E], y.grad[B,E]) -> s.grad[B,U]:
    for b, u, e:  p.grad[b,u] += y.grad[b,e]
    for b, u:     s.grad[b,u] += p.grad[b,u] * exp(s[b,u])
"""
    finding = fault(forward, claimed)
    assert finding.line == 2 and "range of index `u`" in finding.message
    assert finding.right == "for b, u, e:  p.grad[b,u] += y.grad[b,e] * v[u,e]"


def test_two_mistakes_of_notation_in_one_statement() -> None:
    forward = lg.lib.max_pool2d
    right = str(forward.backward())
    answer = lg.check(forward, right.replace("+= y.grad[b,c,m,n]", "+= y.grad[b,c,n,m]"))
    assert not answer and len({f.line for f in answer.findings}) == 1
    assert answer.mended is not None and lg.check(forward, answer.mended)


def test_a_line_that_cannot_be_read_and_is_not_missed_may_go() -> None:
    """The derived one adds nothing: the sum of what lies beside the mean is zero."""
    forward = lg.lib.batchnorm
    answer = lg.check(
        forward,
        str(forward.backward()).replace(
            "(x[b,j] - μ[j]) / (B - 1)\n    for b, j:  x.grad[b,j] += μ",
            "μ[j] / (B - 1)\n    for b, j:  x.grad[b,j] += μ",
        ),
    )
    (finding,) = answer.findings
    assert (finding.line, finding.how) == (6, "delete")
    assert answer.mended is not None and lg.check(forward, answer.mended)


def test_a_block_that_is_missing_is_put_in_whole() -> None:
    forward = lg.lib.linear_recurrence
    first = str(forward.backward()).split("    for t descending:")[0]
    answer = lg.check(forward, first)
    (block,) = {f.right for f in answer.findings}
    assert block is not None and block.count("for t descending:") == 1 and block.count("+=") == 3
    assert answer.mended is not None and lg.check(forward, answer.mended)


def test_what_a_block_does_not_compute_is_put_into_it() -> None:
    forward = lg.lib.rnn
    lines = str(forward.backward()).splitlines(keepends=True)
    answer = lg.check(forward, "".join(line for line in lines if "hp.grad[t,b,j'] " not in line))
    right = next(f.right for f in answer.findings if f.right is not None)
    assert right.startswith("for b, j, j':  hp.grad[t,b,j']")
    assert answer.mended is not None and lg.check(forward, answer.mended)


def test_a_recurrence_of_the_backward_that_is_missing_is_put_into_its_block() -> None:
    forward = lg.load(CORPUS).triangular_solve
    right = str(forward.backward())
    one = "".join(x for x in right.splitlines(keepends=True) if "x.grad'[k]  +=" not in x)
    for claimed in one, right.split("    for i descending:")[0]:
        answer = lg.check(forward, claimed)
        assert claimed != right and not answer
        assert answer.mended is not None and lg.check(forward, answer.mended)


def test_programs_that_are_tied_at_all_but_the_least_sizes_are_judged_at_ties() -> None:
    """Infinities stand for what is not there, and they are equal; one time step runs no loop."""
    forward = lg.load(CORPUS).ctc
    right = str(forward.backward())
    lost = right.replace("Z.grad[t,s] * exp(c[t,s] - n[t,s])", "Z.grad[t,s]")
    answer = lg.check(forward, lost)
    assert lost != right and not answer and answer.findings[0].kind == "missing factor"


def test_a_line_left_out_for_the_sake_of_another_stays() -> None:
    """Without the factor the range of `b` is not known, in the other statement neither."""
    forward = """\
f(x[B,I], W[H,I]) -> μ[H], v[H]:
    for b, h, i:  a[b,h] += x[b,i] * W[h,i]
    for b, h:     μ[h] += a[b,h] / B
    for b, h:     v[h] += (a[b,h] - μ[h])**2 / (B - 1)
"""
    right = str(lg.program(forward).backward())
    claimed = right.replace("+= 2 * v.grad[h] * (a[b,h] - μ[h])", "+= 2 * v.grad[h]", 1)
    answer = lg.check(forward, claimed)
    assert claimed != right and "\n" not in (answer.findings[0].right or "\n")
    assert answer.mended is not None and lg.check(forward, answer.mended)
