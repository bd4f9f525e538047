"""Functions on floats: a few instructions, a function of our own, or the C library's.

Our own (exp, log, tanh and what is made of them) are straight-line code with explicit fused
multiply-adds, so that LLVM's vectoriser can run them on whole registers, and no fast-math flags,
so that vector and scalar code give the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from loopgrad.backends.llvm.text import Body
from loopgrad.backends.llvm.transcendental import OWN

Function = Callable[..., str]

C_PREFIX = "loopgrad_c_"
C_LIBRARY = frozenset(["exp", "log", "log1p", "expm1", "tanh", "erf", "sin", "cos", "pow"])


def call(body: Body, operation: str, *operands: str) -> str:
    """The operation on values of the module's floating type."""
    if operation in INLINE:
        return INLINE[operation](body, *operands)
    formula = COMPOSED.get(operation)
    if formula is None and body.module.has_fma:
        formula = OWN.get(operation)
    if formula is not None:
        name = _define(body, operation, formula)
        body.long_calls += 1
    else:
        name = c_symbol(operation, body.module.real)
        _declare(body, name, len(operands))
    real = body.module.real
    arguments = ", ".join(f"{real} {o}" for o in operands)
    return body.value(f"call {real} @{name}({arguments})")


def c_symbol(operation: str, real: str) -> str:
    """Our name of a C function: its own would make LLVM assume things about errno and the like."""
    return f"{C_PREFIX}{operation}{'f' if real == 'float' else ''}"


def _declare(body: Body, name: str, arity: int) -> None:
    real = body.module.real
    body.module.declare(
        f"declare {real} @{name}({', '.join([real] * arity)}) nounwind readnone willreturn"
    )


def _define(body: Body, operation: str, formula: Function) -> str:
    module, name = body.module, f"own_{operation}"
    if name not in module.functions:
        module.functions[name] = ""  # its place; functions that it calls come behind
        real = module.real
        head = f"internal {real} @{name}({real} %x) alwaysinline nounwind readnone willreturn"
        inner = Body(module, name, head)
        inner.do(f"ret {real} {formula(inner, '%x')}")
        inner.finish()
    return name


# ---------------------------------------------------------------------------------- instructions


def _operate(body: Body, instruction: str, *operands: str) -> str:
    return body.value(f"{instruction} {body.module.real} {', '.join(operands)}")


def _number(body: Body, value: float) -> str:
    return body.module.number(value)


def _compare(body: Body, order: str, a: str, b: str) -> str:
    return body.value(f"fcmp {order} {body.module.real} {a}, {b}")


def _select(body: Body, condition: str, then: str, otherwise: str) -> str:
    return body.select(condition, body.module.real, then, otherwise)


def _absolute(body: Body, x: str) -> str:
    return body.intrinsic("fabs", body.module.real, x)


def _square_root(body: Body, x: str) -> str:
    return body.intrinsic("sqrt", body.module.real, x)


def _reciprocal(body: Body, x: str) -> str:
    return _operate(body, "fdiv", _number(body, 1.0), x)


def extremum(body: Body, name: str, a: str, b: str) -> str:
    """NaN if either is NaN, as `np.maximum` and `np.minimum`."""
    if body.module.llvm_version >= 20:
        intrinsic = "maximum" if name == "max" else "minimum"
        return body.intrinsic(intrinsic, body.module.real, a, b)
    wins = _compare(body, "oge" if name == "max" else "ole", a, b)
    nan = _compare(body, "uno", a, a)
    first = body.value(f"or i1 {wins}, {nan}")
    return _select(body, first, a, b)


def _relu(body: Body, x: str) -> str:
    zero = _number(body, 0.0)
    return _select(body, _compare(body, "ole", x, zero), zero, x)


def _sign(body: Body, x: str) -> str:
    zero = _number(body, 0.0)
    below = _select(body, _compare(body, "olt", x, zero), _number(body, -1.0), x)
    return _select(body, _compare(body, "ogt", x, zero), _number(body, 1.0), below)


INLINE: dict[str, Function] = {
    "pi": lambda body: _number(body, math.pi),
    "neg": lambda body, x: body.value(f"fneg {body.module.real} {x}"),
    "abs": _absolute,
    "sqrt": _square_root,
    "rsqrt": lambda body, x: _reciprocal(body, _square_root(body, x)),
    "max": lambda body, a, b: extremum(body, "max", a, b),
    "min": lambda body, a, b: extremum(body, "min", a, b),
    "relu": _relu,
    "sign": _sign,
    "stop_gradient": lambda body, x: x,
}


# ---------------------------------------------------------------------------------------- powers


def literal_power(body: Body, x: str, exponent: float) -> str | None:
    """`x ** exponent` without a call, for small whole exponents and halves; None for others."""
    if exponent == 0:
        return _number(body, 1.0)
    if exponent in (1, 2, 3, 4):
        square = x if exponent == 1 else _operate(body, "fmul", x, x)
        match exponent:
            case 3:
                return _operate(body, "fmul", square, x)
            case 4:
                return _operate(body, "fmul", square, square)
        return square
    if exponent in (-1, -2):
        # The square of the reciprocal, not the other way: x*x would overflow before it need.
        inverse = _reciprocal(body, x)
        return inverse if exponent == -1 else _operate(body, "fmul", inverse, inverse)
    if exponent in (0.5, 1.5, -0.5):
        return _half_power(body, x, exponent)
    return None


def _half_power(body: Body, x: str, exponent: float) -> str:
    """As `pow`, which differs from `sqrt` at -0 (+0) and at -inf (inf, or 0 to the power -0.5)."""
    root = _operate(body, "fadd", _square_root(body, x), _number(body, 0.0))
    if exponent == 1.5:
        root = _operate(body, "fmul", x, root)
        root = _operate(body, "fadd", root, _number(body, 0.0))
    elif exponent == -0.5:
        root = _reciprocal(body, root)
    at_minus_infinity = _number(body, 0.0 if exponent < 0 else math.inf)
    special = _compare(body, "oeq", x, _number(body, -math.inf))
    return _select(body, special, at_minus_infinity, root)


# ------------------------------------------------------------------------------------ composed


def _sigmoid(body: Body, x: str) -> str:
    """1 / (1 + e) or e / (1 + e), e = exp(-|x|): no overflow, accurate in both tails."""
    one = _number(body, 1.0)
    minus = body.value(f"fneg {body.module.real} {_absolute(body, x)}")
    e = call(body, "exp", minus)
    numerator = _select(body, _compare(body, "olt", x, _number(body, 0.0)), e, one)
    return _operate(body, "fdiv", numerator, _operate(body, "fadd", one, e))


def _softplus(body: Body, x: str) -> str:
    """max(x, 0) + log1p(exp(-|x|))."""
    minus = body.value(f"fneg {body.module.real} {_absolute(body, x)}")
    return _operate(body, "fadd", _relu(body, x), call(body, "log1p", call(body, "exp", minus)))


COMPOSED: dict[str, Function] = {"sigmoid": _sigmoid, "softplus": _softplus}
