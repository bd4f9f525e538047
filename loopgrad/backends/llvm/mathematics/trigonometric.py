"""sin and cos: the nearest multiple of pi is taken away, exactly enough; then one polynomial."""

from __future__ import annotations

import math

from loopgrad.backends.llvm.mathematics.formats import format_of
from loopgrad.backends.llvm.writing.c_functions import declare
from loopgrad.backends.llvm.writing.lanes import Lanes
from loopgrad.backends.llvm.writing.text import Body


def sin(w: Lanes, x: str) -> str:
    """sin(|x|) with the sign of x."""
    f = format_of(w)
    magnitude = w.absolute(x)
    magic = w.number(f.magic)
    shifted = w.fused(magnitude, w.number(1 / math.pi), magic)
    r = _less_multiple_of_pi(w, magnitude, w.subtract(shifted, magic))
    sign = w.whole("xor", w.whole("shl", w.bits(shifted), _sign_bit(w)), w.bits(x))
    sign = w.whole("and", sign, -(2 ** _sign_bit(w)))
    return _huge(w, "sin", x, _signed_sine(w, r, sign))


def cos(w: Lanes, x: str) -> str:
    """sin(x + pi/2): x is taken to the nearest odd multiple of pi/2, n + 1/2 times pi."""
    f = format_of(w)
    magnitude = w.absolute(x)
    magic = w.number(f.magic)
    shifted = w.fused(magnitude, w.number(1 / math.pi), w.number(-0.5))
    shifted = w.add(shifted, magic)
    n = w.subtract(shifted, magic)
    r = _less_multiple_of_pi(w, magnitude, w.add(n, w.number(0.5)))
    odd = w.whole("shl", w.bits(shifted), _sign_bit(w))
    sign = w.whole("xor", odd, -(2 ** _sign_bit(w)))
    return _huge(w, "cos", x, _signed_sine(w, r, sign))


def _sign_bit(w: Lanes) -> int:
    return 63 if w.element == "double" else 31


def _less_multiple_of_pi(w: Lanes, x: str, n: str) -> str:
    """x - n pi: the first difference is exact, the others are small."""
    for part in format_of(w).pi:
        x = w.fused(n, w.number(-part), x)
    return x


def _signed_sine(w: Lanes, r: str, sign: str) -> str:
    """sin(r), its sign changed where the bit of `sign` is set; |r| <= pi/2."""
    z = w.multiply(r, r)
    sine = w.fused(w.multiply(r, z), w.polynomial(z, format_of(w).sine), r)
    return w.from_bits(w.whole("xor", w.bits(sine), sign))


# ---------------------------------------------------------------------------------- huge numbers


def _huge(w: Lanes, operation: str, x: str, result: str) -> str:
    """`result`, but what the C library says where x is huge or infinite."""
    body, before = w.body, w.body.block
    body.branch(w.any(_is_huge(w, x)), "huge", "usual")
    body.start("huge")
    mended = w.call(_define_mending(w, operation), x, result)
    body.jump("usual")
    body.start("usual")
    return body.phi(w.real, (result, before), (mended, "huge"))


def _is_huge(w: Lanes, x: str) -> str:
    return w.compare("oge", w.absolute(x), w.number(format_of(w).huge))


def _define_mending(w: Lanes, operation: str) -> str:
    """A function of x and the result, which calls the C library in a loop over lanes."""
    module, name = w.body.module, f"huge_{operation}_{w.count}"
    if name in module.functions:
        return name
    head = (
        f"internal {w.real} @{name}({w.real} %x, {w.real} %result) "
        "noinline cold nounwind readnone willreturn"
    )
    body = Body(module, name, head)
    lanes, one = w.on(body), Lanes(body)
    function = declare(body, operation)
    if w.count == 1:
        body.do(f"ret {w.real} {one.call(function, '%x')}")
        body.finish()
        return name
    body.jump("loop")
    body.start("loop")
    lane, next_lane = body.phi_later("i32")
    result, next_result = body.phi_later(w.real)
    x = body.value(f"extractelement {w.real} %x, i32 {lane}")
    old = body.value(f"extractelement {w.real} {result}, i32 {lane}")
    new = one.select(_is_huge(one, x), one.call(function, x), old)
    mended = body.value(f"insertelement {w.real} {result}, {w.element} {new}, i32 {lane}")
    after = body.value(f"add i32 {lane}, 1")
    body.branch(body.value(f"icmp ult i32 {after}, {lanes.count}"), "loop", "end")
    next_lane(("0", "entry"), (after, "loop"))
    next_result(("%result", "entry"), (mended, "loop"))
    body.start("end")
    body.do(f"ret {w.real} {mended}")
    body.finish()
    return name
