"""Operations on floats, of any width: instructions, a function of our own, or the C library's.

`call(w, operation, *operands)` is every floating operation of the language on the lanes of `w`, and
`compare` its comparisons; `literal_power` is asked first about `**`. Their tables are INLINE (a few
instructions), COMPOSED and OWN (functions, made once a module and width, that LLVM inlines).

Our own (exp, log, tanh and what is made of them) have explicit fused multiply-adds and no fast-math
flags, so that every width gives the same bits, whatever way lanes go that seldom come. What the C library
does is called lane by lane; on processors without fused multiply-adds that is all of OWN.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from loopgrad.backends.llvm.mathematics import OWN
from loopgrad.backends.llvm.mathematics.exponential import looks_at_lanes
from loopgrad.backends.llvm.writing.c_functions import declare
from loopgrad.backends.llvm.writing.lanes import ORDER, Lanes
from loopgrad.backends.llvm.writing.text import Body

Function = Callable[..., str]

_NAMES = {"**": "pow"}
_BY_EXP = frozenset(["exp", "sigmoid", "softplus"])


def call(w: Lanes, operation: str, *operands: str) -> str:
    """The operation on every lane. `floor` stays a float here."""
    if operation in INLINE:
        return INLINE[operation](w, *operands)
    formula = OWN.get(operation) if w.body.module.has_fma else None
    formula = formula or COMPOSED.get(operation)
    if formula is not None:
        w.body.long_calls += 1
        return w.call(_define(w, operation, formula, len(operands)), *operands)
    name = declare(w.body, _NAMES.get(operation, operation), len(operands))
    return w.call_each(name, *operands)


def looks(w: Lanes, operation: str) -> bool:
    """Does its code look whether there is a lane that needs more than others?"""
    return operation in ("sin", "cos") or (operation in _BY_EXP and looks_at_lanes(w))


def compare(w: Lanes, operator: str, a: str, b: str) -> str:
    """`==`, `<` and the like, false where one is NaN; `!=`, true there."""
    return w.compare(ORDER[operator], a, b)


def _define(w: Lanes, operation: str, formula: Function, arity: int) -> str:
    module = w.body.module
    name = f"own_{_NAMES.get(operation, operation)}" + (f"_{w.count}" if w.count > 1 else "")
    if name not in module.functions:
        module.functions[name] = ""  # its place; functions that it calls come behind
        operands = ["%x", "%y"][:arity]
        given = ", ".join(f"{w.real} {o}" for o in operands)
        head = f"internal {w.real} @{name}({given}) alwaysinline nounwind readnone willreturn"
        inner = w.on(Body(module, name, head))
        inner.body.do(f"ret {w.real} {formula(inner, *operands)}")
        inner.body.finish()
    return name


# ---------------------------------------------------------------------------------- instructions


def extremum(w: Lanes, name: str, a: str, b: str) -> str:
    """NaN if either is NaN, as `np.maximum` and `np.minimum`."""
    if w.body.module.llvm_version >= 20:
        return w.intrinsic("maximum" if name == "max" else "minimum", a, b)
    wins = w.compare("oge" if name == "max" else "ole", a, b)
    return w.select(w.either(wins, w.compare("uno", a, a)), a, b)


def _reciprocal(w: Lanes, x: str) -> str:
    return w.divide(w.number(1.0), x)


def _relu(w: Lanes, x: str) -> str:
    zero = w.number(0.0)
    return w.select(w.compare("ole", x, zero), zero, x)


def _sign(w: Lanes, x: str) -> str:
    zero = w.number(0.0)
    below = w.select(w.compare("olt", x, zero), w.number(-1.0), x)
    return w.select(w.compare("ogt", x, zero), w.number(1.0), below)


INLINE: dict[str, Function] = {
    "+": lambda w, a, b: w.operate("+", a, b),
    "-": lambda w, a, b: w.operate("-", a, b),
    "*": lambda w, a, b: w.operate("*", a, b),
    "/": lambda w, a, b: w.operate("/", a, b),
    "pi": lambda w: w.number(math.pi),
    "neg": Lanes.negative,
    "abs": Lanes.absolute,
    "floor": lambda w, x: w.intrinsic("floor", x),
    "sqrt": Lanes.square_root,
    "rsqrt": lambda w, x: _reciprocal(w, w.square_root(x)),
    "max": lambda w, a, b: extremum(w, "max", a, b),
    "min": lambda w, a, b: extremum(w, "min", a, b),
    "relu": _relu,
    "sign": _sign,
    "stop_gradient": lambda w, x: x,
}


# ---------------------------------------------------------------------------------------- powers


def literal_power(w: Lanes, x: str, exponent: float) -> str | None:
    """`x ** exponent` without a call, for small whole exponents and halves; None for others."""
    if exponent == 0:
        return w.number(1.0)
    if exponent in (1, 2, 3, 4):
        square = x if exponent == 1 else w.multiply(x, x)
        match exponent:
            case 3:
                return w.multiply(square, x)
            case 4:
                return w.multiply(square, square)
        return square
    if exponent in (-1, -2):
        # The square of the reciprocal, not the other way: x*x would overflow before it need.
        inverse = _reciprocal(w, x)
        return inverse if exponent == -1 else w.multiply(inverse, inverse)
    if exponent in (0.5, 1.5, -0.5):
        return _half_power(w, x, exponent)
    return None


def _half_power(w: Lanes, x: str, exponent: float) -> str:
    """As `pow`, which differs from `sqrt` at -0 (+0) and at -inf (inf, or 0 to the power -0.5)."""
    root = w.add(w.square_root(x), w.number(0.0))
    if exponent == 1.5:
        root = w.add(w.multiply(x, root), w.number(0.0))
    elif exponent == -0.5:
        root = _reciprocal(w, root)
    at_minus_infinity = w.number(0.0 if exponent < 0 else math.inf)
    return w.select(w.compare("oeq", x, w.number(-math.inf)), at_minus_infinity, root)


# ------------------------------------------------------------------------------------ composed


def _sigmoid(w: Lanes, x: str) -> str:
    """1 / (1 + e) or e / (1 + e), e = exp(-|x|): no overflow, accurate in both tails."""
    one = w.number(1.0)
    e = call(w, "exp", w.negative(w.absolute(x)))
    numerator = w.select(w.compare("olt", x, w.number(0.0)), e, one)
    return w.divide(numerator, w.add(one, e))


def _softplus(w: Lanes, x: str) -> str:
    """max(x, 0) + log1p(exp(-|x|))."""
    e = call(w, "exp", w.negative(w.absolute(x)))
    return w.add(_relu(w, x), call(w, "log1p", e))


COMPOSED: dict[str, Function] = {"sigmoid": _sigmoid, "softplus": _softplus}
