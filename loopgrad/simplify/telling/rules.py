"""The rules by which `simplify` rewrites, one a row: what each says, and of which numbers it is true.

Marks (docs/simplifier.md defines them in full):

    exact   the rewritten program gives the same bits, run literally in floating point
    reals   both are equal as real numbers; in floating point up to rounding
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Mark = Literal["exact", "reals"]


@dataclass(frozen=True)
class Rule:
    """A rule: its law, its mark, what has to hold for it, and the module that applies it."""

    name: str
    law: str
    mark: Mark
    condition: str
    source: str


RULES = (
    Rule("rename", "indices, temporaries: any names", "exact", "none is captured", "algebra/normal_form"),
    Rule("commute", "a + b = b + a, a * b = b * a", "exact", "two operands", "algebra/normal_form"),
    Rule("unit", "a * 1 = a, a + 0 = a, a - b = a + (-b), (-a) * b = -(a * b)", "exact", "", "algebra/sums"),
    Rule("drop", "a statement that no result needs, or that adds 0", "exact", "", "searching/search"),
    Rule("read", "f(x) = T, where T = f(x) is what the forward does", "exact", "", "reading/relations"),
    Rule("put in", "T = its statements, as a sum", "reals", "T is complete", "searching/search"),
    Rule("distribute", "a * (b + c) = a * b + a * c; sums in any order", "reals", "", "algebra/sums"),
    Rule("collect", "equal terms are one, terms that cancel are none", "reals", "", "algebra/sums"),
    Rule(
        "pull out",
        "sum[j](a * b[j]) = a * sum[j](b[j])",
        "reals",
        "j is not in a",
        "writing/extraction",
    ),
    Rule("count", "sum[j](1) = J", "reals", "J is not negative", "algebra/sums"),
    Rule("delta", "sum[j](f[j] * (j == e)) = f[e]", "reals", "e is in range", "algebra/terms"),
    Rule("powers", "a**r * a**s = a**(r + s)", "reals", "both sides are numbers", "algebra/functions"),
    Rule("exp", "exp(a) * exp(b) = exp(a + b), exp(log(a)) = a", "reals", "a > 0", "algebra/functions"),
    Rule("log", "log(a * b) = log(a) + log(b)", "reals", "a > 0, by its form or a guard", "reading/logs"),
    Rule("odd", "tanh(-a) = -tanh(a), sigmoid(-a) = 1 - sigmoid(a)", "reals", "", "algebra/functions"),
    Rule(
        "definition",
        "T = e, solved for a part of e",
        "reals",
        "divides by what the forward divides by, by sizes and exponentials alone",
        "reading/relations",
    ),
    Rule(
        "difference",
        "x = (x - m) + m",
        "reals",
        "x - m is a factor of the forward",
        "reading/relations",
    ),
    Rule(
        "fold",
        "sum[j](e), a * b or a + b = T, where T is that sum or product",
        "reals",
        "as for definitions",
        "reading/relations",
    ),
    Rule(
        "theorem",
        "sum[j](p) = 1: a sum's definition, written with the relations and solved",
        "reals",
        "as for definitions; at sizes from 1",
        "reading/relations",
    ),
    Rule("root", "sqrt(a**2) = a", "reals", "a >= 0 by its definition", "searching/rewrite"),
    Rule("cancel", "a / (a + r) = 1 - r / (a + r)", "reals", "the forward has it", "searching/rewrite"),
    Rule(
        "support",
        "T * e = T * e if c else 0, where T is 0 unless c",
        "reals",
        "e is a number where c does not hold",
        "searching/rewrite",
    ),
    Rule(
        "rescale",
        "e = c * T is kept in the place of T",
        "reals",
        "c is in every use",
        "searching/rescaling",
    ),
    Rule("name", "a sum that hangs on fewer indices is a temporary", "reals", "", "writing/extraction"),
    Rule(
        "contract",
        "sum[j,k](a[j] * b[j,k] * c[k]) = sum[j](a[j] * sum[k](b[j,k] * c[k]))",
        "reals",
        "k is not in a",
        "algebra/contraction",
    ),
    Rule(
        "share",
        "an expression that several places compute is a temporary",
        "exact",
        "",
        "searching/sharing",
    ),
    Rule("factor", "a * b + a * c = a * (b + c)", "reals", "", "writing/expressions"),
)  # fmt: skip

BY_NAME = {rule.name: rule for rule in RULES}
