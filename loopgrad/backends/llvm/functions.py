"""Operations on floats, of any width: instructions, a function of our own, or the C library's.

`call(w, operation, *operands)` is every floating operation of the language on the lanes of `w`, and
`compare` its comparisons; `literal_power` is asked first about `**`. Their tables are INLINE (a few
instructions), COMPOSED and OWN (functions, made once a module and width, that LLVM inlines).

Our own (exp, log, tanh and what is made of them) are straight-line code with explicit fused
multiply-adds and no fast-math flags, so that every width gives the same bits. What the C library
does is called lane by lane.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from loopgrad.backends.llvm.lanes import ORDER, Lanes
from loopgrad.backends.llvm.text import Body
from loopgrad.backends.llvm.transcendental import OWN

Function = Callable[..., str]

C_PREFIX = "loopgrad_c_"
C_LIBRARY = frozenset(["exp", "log", "log1p", "expm1", "tanh", "erf", "sin", "cos", "pow"])


def call(w: Lanes, operation: str, *operands: str) -> str:
    """The operation on every lane. `floor` stays a float here; `**` is the C library's `pow`."""
    if operation in INLINE:
        return INLINE[operation](w, *operands)
    formula = COMPOSED.get(operation)
    if formula is None and w.body.module.has_fma:
        formula = OWN.get(operation)
    if formula is not None:
        w.body.long_calls += 1
        return w.call(_define(w, operation, formula), *operands)
    name = c_symbol("pow" if operation == "**" else operation, w.element)
    _declare(w.body, name, len(operands))
    return w.call_each(name, *operands)


def compare(w: Lanes, operator: str, a: str, b: str) -> str:
    """`==`, `<` and the like, false where one is NaN; `!=`, true there."""
    return w.compare(ORDER[operator], a, b)


def c_symbol(operation: str, real: str) -> str:
    """Our name of a C function: its own would make LLVM assume things about errno and the like."""
    return f"{C_PREFIX}{operation}{'f' if real == 'float' else ''}"


def _declare(body: Body, name: str, arity: int) -> None:
    real = body.module.real
    body.module.declare(
        f"declare {real} @{name}({', '.join([real] * arity)}) nounwind readnone willreturn"
    )


def _define(w: Lanes, operation: str, formula: Function) -> str:
    module = w.body.module
    name = f"own_{operation}" + (f"_{w.count}" if w.count > 1 else "")
    if name not in module.functions:
        module.functions[name] = ""  # its place; functions that it calls come behind
        head = f"internal {w.real} @{name}({w.real} %x) alwaysinline nounwind readnone willreturn"
        inner = w.on(Body(module, name, head))
        inner.body.do(f"ret {w.real} {formula(inner, '%x')}")
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
