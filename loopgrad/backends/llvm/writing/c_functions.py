"""The C library's functions as compiled code names and declares them."""

from __future__ import annotations

from loopgrad.backends.llvm.writing.text import Body

C_PREFIX = "loopgrad_c_"
C_LIBRARY = frozenset(["exp", "log", "log1p", "expm1", "tanh", "erf", "sin", "cos", "pow"])


def c_symbol(operation: str, real: str) -> str:
    """Our name of a C function: its own would make LLVM assume things about errno and the like."""
    return f"{C_PREFIX}{operation}{'f' if real == 'float' else ''}"


def declare(body: Body, operation: str, arity: int = 1) -> str:
    """Declares the function for the module's floating type; its name."""
    real = body.module.real
    name = c_symbol(operation, real)
    operands = ", ".join([real] * arity)
    body.module.declare(f"declare {real} @{name}({operands}) nounwind readnone willreturn")
    return name
