"""Problem 0: entropy, cross entropy and divergence."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import numpy as np

from loopgrad.ir.nodes import Program
from loopgrad.problems.answers import Evidence, Part, Worked
from loopgrad.problems.differences import check
from loopgrad.problems.distributions import pairs, to_digits
from loopgrad.simplify.equality import equal
from loopgrad.simplify.telling.identities import identity

ROUNDING = 1e-12  # relative to the cross entropy: sums of up to 100 rounded terms
SMALLEST = 3  # of each kind and length of pairs, whose gap is computed again
SIZES = {"N": 6}
WHY = (
    "Training minimises H(P,Q) = H(P) + KL(P,Q) over the model Q alone: H(P) is a floor that no model\n"
    "gets under, and what the loss lies above it is the divergence of the model from the population.\n"
    "As KL(P,Q) is 0 only at Q = P, where the gradient Q - P of the scores is 0 too, a model that\n"
    "reaches the floor is the population's distribution, and the loss says how far it is from that."
)


def solve(programs: Mapping[str, Program]) -> Worked:
    names = ("entropy", "cross_entropy", "kl")
    return Worked(
        "Problem 0. Information theory",
        tuple(programs[name] for name in names),
        (
            conventions(programs),
            *itself(programs),
            *in_parts(programs),
            inequality(programs),
            *gibbs(programs),
            *gradient(programs),
            Part("Why this matters when a model is trained to minimise cross entropy", WHY),
        ),
        {"loss": check(programs["loss"], SIZES, positive=("P",))},
    )


# ------------------------------------------------------------------------------------- identities


def conventions(programs: Mapping[str, Program]) -> Evidence:
    entropy, cross, kl = (programs[n] for n in ("entropy", "cross_entropy", "kl"))
    P, Q = np.array([0.5, 0.5, 0.0]), np.array([1.0, 0.0, 0.0])
    values = {
        "H(P)": (entropy(P), np.log(2)),
        "H(Q)": (entropy(Q), 0.0),
        "H(Q,P)": (cross(Q, P), np.log(2)),
        "H(P,Q)": (cross(P, Q), np.inf),
        "KL(P,Q)": (kl(P, Q), np.inf),
    }
    lines = [f"P = {P}, Q = {Q}"]
    lines += [f"{name:8} {float(value):.6f}" for name, (value, _) in values.items()]
    passed = all(np.isclose(value, expected) for value, expected in values.values())
    claim = "Where a probability is 0: 0 ln 0 = 0, and +inf where Q misses mass of P"
    return Evidence(claim, tuple(lines), bool(passed))


def itself(programs: Mapping[str, Program]) -> tuple[Part | Evidence, ...]:
    with_itself, entropy = programs["with_itself"], programs["entropy"]
    answer = equal(with_itself, entropy)
    return (
        Part("Show that H(P,P) = H(P): the loops of the left side, unfolded", with_itself.unfold()),
        Evidence("They are those of the entropy", (answer.verdict,), answer.verdict == "proved"),
    )


def in_parts(programs: Mapping[str, Program]) -> tuple[Part | Evidence, ...]:
    """H(P,Q) = H(P) + KL(P,Q)."""
    whole, cross = programs["in_parts"], programs["cross_entropy"]
    return (
        Part("H(P) + KL(P,Q) as a program", whole),
        *equality("Show that it is H(P,Q)", whole, cross),
    )


def equality(question: str, p: Program, q: Program) -> tuple[Part | Evidence, ...]:
    derivation, answer = identity(p, q), equal(p, q)
    if derivation is None:
        return (Evidence(question, ("no derivation was found",), False),)
    lines = [f"{step.rule}: {step.certified or 'not certified'}" for step in derivation]
    lines.append(f"the two programs: {answer.verdict}")
    passed = derivation.certified and answer.verdict == "proved"
    claim = "Each step, on random inputs of random sizes, agrees in"
    return Part(question, derivation), Evidence(claim, tuple(lines), passed)


# ------------------------------------------------------------------------------------- inequality


def inequality(programs: Mapping[str, Program]) -> Evidence:
    """The gap of many pairs; the smallest of each kind again, to 50 digits."""
    entropy, cross = (programs[n].batched("B") for n in ("entropy", "cross_entropy"))
    counts: dict[str, int] = {}
    least: dict[str, Decimal] = {}
    passed = True
    for kind, P, Q in pairs():
        h, whole = entropy(P), cross(P, Q)
        gap = whole - h
        passed &= bool(np.all(gap >= -ROUNDING * (1 + whole)))
        counts[kind] = counts.get(kind, 0) + len(gap)
        for row in np.argsort(gap / (1 + h), kind="stable")[:SMALLEST]:
            exact = to_digits(programs["gap"], P[row], Q[row])
            least[kind] = min(exact, least.get(kind, exact))
    passed &= all(gap >= 0 for gap in least.values())
    passed &= least["Q = P"] == 0 and least["Q misses mass of P"].is_infinite()
    lines = [f"{k:20} {n:5,} pairs, smallest gap {float(least[k]):.1e}" for k, n in counts.items()]
    claim = (
        f"H(P,Q) >= H(P) on {sum(counts.values()):,} pairs of distributions; "
        "the smallest gaps H(P,Q) - H(P), to 50 digits"
    )
    return Evidence(claim, tuple(lines), passed)


def gibbs(programs: Mapping[str, Program]) -> tuple[Part | Evidence, ...]:
    """Why KL is not negative: the logarithm lies under its tangent."""
    tangent = programs["tangent"]
    return (
        Part(
            "The argument (Gibbs): ln x <= x - 1. The derivative of the difference, derived",
            tangent.backward().simplify(),
        ),
        under_tangent(tangent),
        *equality(
            "So -KL(P,Q), the sum of P ln(Q/P), is at most that of P (Q/P - 1), which is",
            programs["bound"],
            programs["masses"],
        ),
        last_step(programs),
    )


def under_tangent(tangent: Program) -> Evidence:
    x = np.concatenate([10.0 ** np.linspace(-300, 300, 6001), 1 + np.linspace(-0.5, 0.5, 1001)])
    distance, slope = tangent.batched("B"), tangent.backward().batched("B", ["x", "y.grad"])
    y, derivative = distance(x), slope(x, np.ones_like(x))
    falls, rises = bool(np.all(derivative[x < 1] < 0)), bool(np.all(derivative[x > 1] > 0))
    at_one = float(tangent(1.0))
    lines = (
        f"x - 1 - ln x falls below 1: {falls}, rises above 1: {rises}, at 1 it is {at_one}",
        f"its smallest value at {len(x):,} x from 1e-300 to 1e+300: {y.min()}",
    )
    passed = falls and rises and at_one == 0 and bool(y.min() >= 0)
    return Evidence("Its least value is at x = 1", lines, passed)


def last_step(programs: Mapping[str, Program]) -> Evidence:
    """KL >= P's mass - Q's mass where P has some >= 0, on the same pairs."""
    kl, masses = (programs[n].batched("B") for n in ("kl", "masses"))
    least, slack, count = np.inf, np.inf, 0
    for _, P, Q in pairs():
        divergence, difference = kl(P, Q), -masses(P, Q)
        least = min(least, float(difference.min()))
        finite = np.isfinite(divergence)
        above = (divergence - difference)[finite] / (1 + divergence[finite])
        slack = min(slack, float(above.min(initial=np.inf)))
        count += len(P)
    lines = (
        "KL(P,Q) >= sum of P - sum of Q, over the n with P > 0; Q's whole mass is 1, P's is 1 there:",
        f"on {count:,} pairs KL(P,Q) minus the right side is at least {slack:.0e},",
        f"and the right side at least {least:.0e} (0 up to rounding)",
    )
    passed = least >= -ROUNDING and slack >= -ROUNDING
    return Evidence("Both masses are 1, so KL(P,Q) >= 0, and H(P,Q) >= H(P)", lines, passed)


# --------------------------------------------------------------------------------------- gradient


def gradient(programs: Mapping[str, Program]) -> tuple[Part | Evidence, ...]:
    loss, distribution = programs["loss"], programs["loss_of_distribution"]
    derived = distribution.backward("s").simplify()
    return (
        Part("The loss of a model Q = softmax(s)", loss),
        Part(
            "Its gradient by the scores, for any P, in which P is summed",
            loss.backward("s").simplify(),
        ),
        Part(
            "P is a distribution, so that the sum is 1. Said in the notation: P is weights divided by "
            "their sum",
            distribution,
        ),
        Part("Show that its gradient by the scores is softmax(s) - P", derived.derivation),
        Part("So the gradient is", derived),
        as_claimed(derived, programs["pull"]),
        at_minimum(programs, derived),
    )


def as_claimed(derived: Program, claimed: Program) -> Evidence:
    verdict = equal(derived, claimed).verdict
    claim = "It is H.grad * (Q[n] - P[n])"
    return Evidence(claim, (verdict,), verdict == "proved")


def at_minimum(programs: Mapping[str, Program], derived: Program) -> Evidence:
    """The gradient is Q - P, is that of the guarded loss too, and vanishes where Q = P."""
    rng = np.random.default_rng(0)
    backward = programs["loss"].backward("s", recompute=True)
    forward = programs["loss_of_distribution"].returning("P", "Q")
    largest = nearest = 0.0
    for kind, rows, _ in pairs():
        for P in rows[::60]:
            s = rng.normal(size=P.shape)
            own, Q = forward(P, s)
            found = derived(**{"P": own, "Q": Q, "H.grad": 1.0})
            guarded = backward(**{"P": P, "s": s, "H.grad": 1.0})
            largest = max(largest, float(np.max(np.abs(found - guarded))))
            if kind == "random":
                own, Q = forward(P, np.log(P))
                at = derived(**{"P": own, "Q": Q, "H.grad": 1.0})
                nearest = max(nearest, float(np.max(np.abs(at))))
    lines = (
        f"it differs from that of the loss with its guard by at most {largest:.0e},",
        f"and at s = ln P, where softmax(s) = P, it is at most {nearest:.0e}",
    )
    passed = largest <= ROUNDING and nearest <= ROUNDING
    return Evidence("The same numbers, and zero at Q = P", lines, passed)
