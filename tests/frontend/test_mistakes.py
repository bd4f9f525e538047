"""Each mistake: the line and column it is reported at, what is said, and a mend that works.

`mended` is the text with the help followed; it parses.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest

from loopgrad.diagnostics import ProgramError
from loopgrad.frontend.parser import parse


class Mistake(NamedTuple):
    text: str
    line: int
    column: int
    found: str
    help: str
    mended: str | None = None


def body(
    wrong: str,
    column: int,
    found: str,
    help: str,
    right: str | None = None,
    header: str | None = None,
) -> Mistake:
    """A mistake in the one line below a header; `column` counts from the line's first letter."""
    header = header or "f(x[N,M], v[N], s, int w[N], eps = 0.5) -> y[N]:"
    rest = "" if wrong.startswith(("y", "for n: y", "for i: y")) else "\n    y[0] = 1"
    mended = None if right is None else f"{header}\n    {right}{rest}"
    return Mistake(f"{header}\n    {wrong}{rest}", 2, column + 4, found, help, mended)


def head(wrong: str, column: int, found: str, help: str, right: str | None = None) -> Mistake:
    """A mistake in the header of a program that computes the scalar y."""
    rest = "\n    y = 1"
    mended = None if right is None else right + rest
    return Mistake(wrong + rest, 1, column, found, help, mended)


NAMES = [
    body("for n: y[n] = v[m]", 17, "`m` is neither an index", "bind it: `for n, m:`", "for n, m: y[n] += v[m]"),
    body("for n: y[n] = esp", 15, "`esp` is neither", "did you mean `eps`?", "for n: y[n] = eps"),
    body("for n, u <= t, t < N: y[n] = 1", 13, "`t` is neither", "bind `t` first", "for n, t < N, u <= t: y[n] += 1"),
    body("for t < m: y[t] = 1", 9, "`m` is neither", "`size m`"),
    body("for n: y[n] = vv[n]", 15, "there is no tensor `vv`", "did you mean `v`?", "for n: y[n] = v[n]"),
    body("for n: y[n] = logits[n]", 15, "there is no tensor `logits`", "stands in the header"),
    body("for n: y[n] = N[n]", 15, "`N` is an extent", ""),
    body("for n: y[n] = n[0]", 15, "`n` is an index", ""),
    body("for n: y[n] = eps[0]", 15, "`eps` is a constant", ""),
    body("for n: y[n] = True", 15, "`True`", "write `1`", "for n: y[n] = 1"),
    body("for n: v[n] = 1", 8, "`v` is an input, and inputs are never written", "`v'`"),
    body("N = 3", 1, "`N` is an extent, and cannot be written", "`N'`"),
    body("for n: n = 3", 8, "`n` is an index, and cannot be written", "write another tensor"),
    body("for n, n: y[n] = 1", 8, "the index `n` is bound twice", "`n'`", "for n, n': y[n] += 1"),
    body("for v: y[v] = 1", 5, "`v` is an input and cannot be an index", "`v'`"),
    body("for N: y[N] = 1", 5, "`N` is an extent and cannot be an index", "`n`", "for n: y[n] = 1"),
    body("for eps: y[eps] = 1", 5, "`eps` is a constant and cannot be an index", "`eps'`"),
    body("y[n] = sum[n](v[n])", 3, "`n` is an index of the statement, and of a reduction", "`n'`", "y[n] = sum[n'](v[n'])"),
    body("for n: y[n] = sum[n](v[n])", 19, "bound twice", "`n'`", "for n: y[n] = sum[n'](v[n'])"),
    body("for if: y[0] = 1", 5, "`if` cannot be an index", "`if_`"),
    body("for n: exp = v[n]", 8, "`exp` cannot be the name of a tensor", "`exp_`"),
]  # fmt: skip

RANKS = [
    body("for n: y[n] = x[n]", 15, "`x` has 2 axes, here it has 1 subscript", "2 subscripts"),
    body("for n: y[n] = v", 15, "`v` has 1 axis and stands without subscripts", "`v[...]`", "for n: y[n] = v[n]"),
    body("for n: y[n] = s[n]", 15, "`s` has no axes", "write `s`, without brackets", "for n: y[n] = s"),
    body("for n: y[n,n] = s", 8, "`y` has 1 axis, here it has 2 subscripts", "1 subscript", "for n: y[n] = s"),
    body("y = s", 1, "`y` has 1 axis, here it has no subscripts", "1 subscript"),
    body("for n: y[n] = s[]", 16, "nothing in the brackets of `s`", "without brackets: `s`", "for n: y[n] = s"),
    body("for i, j: y[i] += x[i][j]", 23, "found `[`", "`x[i,j]`", "for i, j: y[i] += x[i,j]"),
    body("for i, j: z[i][j] = 1", 15, "found `[`", "`z[i,j]`"),
    body("y[n] = v(n)", 8, "`v` is a tensor", "write `v[n]`", "y[n] = v[n]"),
    body("y[n] = v[:]", 10, "`:` does not stand for an axis", "write an index"),
    body("y[n] = v[n,]", 12, "expected an expression after `,`, found `]`", ""),
]  # fmt: skip

OPERATORS = [
    body("y[n] == v[n]", 6, "`==` is not the operator of a statement", "`y[n] = ...` sets", "y[n] = v[n]"),
    body("y[n] /= v[n]", 6, "`/=` is not the operator", "`y[n] *= 1 / (...)`", "y[n] *= 1 / (v[n])"),
    body("y[n] := v[n]", 6, "`:=` is not the operator", "`y[n] = ...`", "y[n] = v[n]"),
    body("y[n] + = v[n]", 6, "`+ =` stands apart", "write `+=`", "y[n] += v[n]"),
    body("y[n] max = v[n]", 6, "`max =` stands apart", "write `max=`", "y[n] max= v[n]"),
    body("y[n] * = v[n]", 6, "`* =` stands apart", "write `*=`", "y[n] *= v[n]"),
    body("y[n] =+ v[n]", 7, "expected an expression after `=`, found `+`", "write `+=`", "y[n] += v[n]"),
    body("y[n] = + v[n]", 8, "found `+`", "no `+` before it", "y[n] = v[n]"),
    body("y(n) = v[n]", 2, "found `(`", "square brackets: `y[...]`", "y[n] = v[n]"),
    body("y[n]", 5, "found the end of the line", "as in `y[n] += ...`"),
    body("y[n] = v[n]^2", 12, "found `^`", "a power is written `**`", "y[n] = v[n]**2"),
    body("y[n] = v[n] && s", 13, "found `&&`", "write `and`", "y[n] = v[n] > 0 and s > 0"),
    body("y[n] = v[n] || s", 13, "found `||`", "write `or`"),
    body("y[n] = !s", 8, "found `!`", "write `not`"),
    body("y[n] = 1 if s = 2 else 3", 15, "found `=`", "a comparison is written `==`", "y[n] = 1 if s == 2 else 3"),
    body("y[n] = 1 if s <> 2 else 3", 15, "found `<>`", "write `!=`", "y[n] = 1 if s != 2 else 3"),
    body("y[n] = 1 if s < = 2 else 3", 17, "found `=`", "write `<=`, without a space", "y[n] = 1 if s <= 2 else 3"),
    body("y[n] = s ? 1 : 2", 10, "found `?`", "`a if condition else b`", "y[n] = 1 if s > 0 else 2"),
    body("y[n] = s @ s", 10, "found `@`", "a matrix product is its sum"),
    body("y[n] = s;", 9, "found `;`", "one statement a line", "y[n] = s"),
    body("y[n] = 2 s", 10, "found `s`", "a product is written with `*`", "y[n] = 2 * s"),
    body("y[n] = 2s", 9, "found `s`", "`2 * s`", "y[n] = 2 * s"),
    body("y[n] = (1)(2)", 11, "found `(`", "a product is written with `*`", "y[n] = (1)*(2)"),
    body("y[n] = s *", 11, "expected an expression after `*`, found the end of the line", ""),
    body("y[n] = s * * 2", 12, "found `*`", "`**`, without a space", "y[n] = s ** 2"),
    body("y[n] = 2 * not s", 12, "`not` needs brackets", "`(not ...)`", "y[n] = 2 * (not s > 0)"),
    body("y[n] = (s if s > 0) + 1", 11, "a conditional without `else`", "at its end, outside brackets"),
    body("y[n] = s if s > 0 if s < 1", 27, "expected `else`", "join by `and`", "y[n] = s if s > 0 and s < 1"),
    body("y[n] = s, 2", 9, "found `,`", ""),
    body("y[n] = s += 2", 10, "found `+=`", "one operator"),
]  # fmt: skip

NUMBERS = [
    body("y[n] = 99999999999999999999", 8, "does not fit 64 bits", "9223372036854775807"),
    body("y[n] = " + "9" * 5000, 8, "does not fit 64 bits", "`1e20`"),
    body("y[n] = 1e999", 8, "too large for a float64", "`inf`", "y[n] = inf"),
    body("y[n] = 1e-999", 8, "too small for a float64", "`0.0`", "y[n] = 0.0"),
    body("y[n] = 1_000", 9, "found `_000`", "`1000`", "y[n] = 1000"),
    body("y[n] = 0x1f", 9, "found `x1f`", "`1000`"),
    body("y[n] = 1.5.2", 11, "found `.2`", "`0.5`"),
]

FUNCTIONS = [
    body("y[n] = np.exp(s)", 8, "there is no function `np.exp`", "`exp(...)`", "y[n] = exp(s)"),
    body("y[n] += np.sum(v)", 9, "there is no function `np.sum`", "`sum[i](...)`", "y[n] = sum[i](v[i])"),
    body("y[n] = ln(s)", 8, "there is no function or program `ln`", "`log(u)`", "y[n] = log(s)"),
    body("y[n] = 1 + tanhh(s)", 12, "there is no function or program `tanhh`", "did you mean `tanh`?"),
    body("y[n] = where(s > 0, s, 0)", 8, "`where`", "`a if condition else b`", "y[n] = s if s > 0 else 0"),
    body("y[n] = max(s, 1, 2)", 8, "`max` takes 2 operands, here it has 3", "`max(max(s, 1), 2)`", "y[n] = max(max(s, 1), 2)"),
    body("y[n] = max(v[n])", 8, "`max` takes 2 operands, here it has 1", "`max[i](...)`", "y[n] = max[i](v[i])"),
    body("y[n] = exp(s, 1)", 8, "`exp` takes 1 operand, here it has 2", "`exp(u)`"),
    body("y[n] = exp()", 8, "here it has 0", "`exp(u)`"),
    body("y[n] = exp s", 12, "expected `(` after the function `exp`", "`exp(u)`", "y[n] = exp(s)"),
    body("y[n] = sum(i)", 8, "has to name the indices", "`sum[i](...)`", "y[n] = sum[i](v[i])"),
    body("y[n] = sum[](v[n])", 11, "names no index", "`sum[i](...)`"),
    body("y[n] = sum[i] v[i]", 15, "expected `(` after `sum[...]`", "with brackets", "y[n] = sum[i](v[i])"),
]  # fmt: skip

LOOPS = [
    body("for i in range(N): y[i] = 1", 7, "does not begin a range", "`for i < N:`", "for i < N: y[i] = 1"),
    body("for i in range(1, N-1): y[i] = 1", 7, "does not begin a range", "`for 1 <= i < N-1:`", "for 1 <= i < N-1: y[i] = 1"),
    body("for i in x: y[i] = 1", 7, "does not begin a range", "`for i:`", "for i: y[i] = 1"),
    body("for i = 0; i < N: y[i] = 1", 7, "does not begin a range", "`for i < N:`", "for i < N: y[i] = 1"),
    body("for (i, j): y[i] = 1", 5, "indices stand without brackets", "write `i`"),
    body("for i y[i] = 1", 7, "expected `:` after the indices of `for`, found `y`", "`for i:`", "for i: y[i] = 1"),
    body("for i, j", 9, "expected `:`", "`for i, j:`"),
    body("for i > 3: y[i] = 1", 7, "found `>`", "`1 <= t`", "for 4 <= i < N: y[i] = 1"),
    body("for i if i > 3: y[i] = 1", 7, "expected `:`", "at the end of each statement", "for i: y[i] = 1   if i > 3"),
    body("for : y[0] = 1", 5, "expected an index, found `:`", "`for i:`", "for i: y[i] = 1"),
    body("for i,: y[i] = 1", 7, "expected an index after `,`", "leave the `,` out", "for i: y[i] = 1"),
    body("for 1 <= 3: y[0] = 1", 10, "expected an index, found `3`", ""),
    body("for i: for j: y[i] = 1", 8, "a second `for` in one line", "`for b, j:`", "for i, j: y[i] += 1"),
    body("for i:", 1, "a `for` with no statements", "indented further"),
    body("b, j: y[b] = 1", 5, "found `:`", "follow `for`"),
    body("if s > 0: y[n] = 1", 1, "cannot begin with `if`", "behind each statement", "y[n] = 1   if s > 0"),
    body("while s: y[n] = 1", 1, "cannot begin with `while`", "`for t < T:`"),
    body("return y", 1, "cannot begin with `return`", "the header names the results"),
    body("(y[n]) = 1", 1, "expected a statement, found `(`", "begins with `for`"),
]  # fmt: skip

CHARACTERS = [
    body("y[n] = s − 1", 10, "the character `−`", "the ordinary minus", "y[n] = s - 1"),
    body("y[n] = s × 2", 10, "the character `×`", "write `*`", "y[n] = s * 2"),
    body("y[n] = s²", 9, "the character `²`", "write `**2`", "y[n] = s**2"),
    body("y[n] = 1 if s ≤ 2 else 3", 15, "the character `≤`", "write `<=`"),
    body("y′[n] = s", 2, "the character `′`", "the ordinary apostrophe"),
    body("y[n] = 'abc'", 8, "the character `'`", "a prime stands right behind a name"),
    body('y[n] = "a', 8, 'the character `"`', "holds no texts"),
    body("y[n] = \u00a0s", 8, "the character `U+00A0`", "an ordinary space", "y[n] = s"),
    body("y[n] = \0", 8, "the character `U+0000`", "leave it out"),
    body("y[n] = \ud800", 8, "the character `U+D800`", "leave it out"),
    body("y[n] = 1 + \\", 12, "the character `\\`", "where a bracket is open"),
    body("y[n] = " + "a" * 300, 8, "a name of 300 characters", "at most"),
]

BRACKETS = [
    body("y[n] = exp(v[n]", 11, "`(` is never closed", "close it with `)`", "y[n] = exp(v[n])"),
    body("y[n] = exp(v[n)", 15, "`)` stands where `[` has to be closed", "write `]` before it", "y[n] = exp(v[n])"),
    body("y[n] = v[n}", 11, "`}` stands where `[`", "write `]` instead", "y[n] = v[n]"),
    body("y[n] = exp(v[n]))", 17, "`)` closes nothing", "leave it out", "y[n] = exp(v[n])"),
]  # fmt: skip

G = "g(a[B,K], eps = 1.0, size M) -> p[B], q:\n    p[b] += a[b,k] * eps * M\n    q = 1\n"


def call(wrong: str, column: int, found: str, help: str, right: str | None = None) -> Mistake:
    header = G + "f(x[N,J], v[N]) -> y:\n    y = 1\n    "
    mended = None if right is None else header + right
    return Mistake(header + wrong, 6, column + 4, found, help, mended)


CALLS = [
    call("p, q = gg(x, M=2)", 8, "there is no function or program `gg`", "did you mean `g`?", "p, q = g(x, M=2)"),
    call("p = g(x, M=2)", 5, "`g` returns 2 results, here it has 1 target", "`p` and `q`", "p, q = g(x, M=2)"),
    call("p, p = g(x, M=2)", 4, "`p` is a target twice", "its own tensor", "p, q = g(x, M=2)"),
    call("p, q += g(x, M=2)", 6, "taken with `=`, not `+=`", "a tensor of its own"),
    call("p, q = g(x)", 8, "called without `M`", "by name", "p, q = g(x, M=2)"),
    call("p, q = g(M=2)", 8, "called without `a`", "`a`, `eps` and `M`", "p, q = g(a=x, M=2)"),
    call("p, q = g(x, 2.0, M=2)", 13, "takes 1 input, here it is given 2", "`eps=...`", "p, q = g(x, eps=2.0, M=2)"),
    call("p, q = g(x, M=2, esp=2)", 18, "no argument `esp`", "did you mean `eps`?", "p, q = g(x, M=2, eps=2)"),
    call("p, q = g(x, M=2, M=3)", 18, "`M` is given twice", "give it once", "p, q = g(x, M=2)"),
    call("p, q = g(M=2, x)", 15, "an argument by position stands behind one by name", "come first", "p, q = g(x, M=2)"),
    call("p, q = g(v, M=2)", 10, "`v` has 1 axis, `g` takes `a` with 2 axes here", ""),
    call("p, q = g(2, M=2)", 10, "`g` takes a tensor with 2 axes as `a`", "a statement of its own"),
    call("p, q = g(x, M=2)   if 1 > 0", 20, "a call has no condition", "what reads its result"),
    call("p[n] = 1 + g(x, M=2)", 12, "stands inside an expression", "a line of its own", "p, q = g(x, M=2)"),
    call("p, q = v[0]", 8, "2 targets, and no call", "a statement for each"),
    call("z = f(x, v)", 5, "`f` calls itself", "a recurrence is a block"),
    call("z = later(x)\nlater(x) -> y:\n    y = x", 5, "`later` is defined below", "put it further up"),
]  # fmt: skip

HEADERS = [
    head("f(x[N]):", 8, "expected `->`", "`f(...) -> y[N]:`", "f(x[N]) -> y:"),
    head("f(x[N]) -> y", 13, "expected `:` at the end of the header", "write `:`", "f(x[N]) -> y:"),
    head("f x[N] -> y:", 3, "expected `(` after the program's name", "`f(x[N]) -> y[N]:`", "f(x[N]) -> y:"),
    head("def f(x[N]) -> y:", 1, "`def` has no meaning here", "starts with its name", "f(x[N]) -> y:"),
    head("exp(x[N]) -> y:", 1, "`exp` cannot be the name of a program", "`exp_`", "exp_(x[N]) -> y:"),
    head("f(x[N], x[M]) -> y:", 9, "two arguments are named `x`", "a name of its own"),
    head("f(x[N], N) -> y:", 9, "`N` is an argument and an extent", "leave the argument out: the shape of `x`", "f(x[N]) -> y:"),
    head("f(int n, x[2*n]) -> y:", 7, "`n` is an argument and an extent", "write `size n`", "f(size n, x[2*n]) -> y:"),
    Mistake("f(int n) -> y[n]:\n    y[0] = 1", 1, 15, "`n` is a tensor, and no extent", "`size n`", "f(size n) -> y[n]:\n    y[0] = 1"),
    head("f(float x[N]) -> y:", 3, "no kind of argument `float`", "leave it out", "f(x[N]) -> y:"),
    head("f(parm x[N]) -> y:", 3, "no kind of argument `parm`", "did you mean `param`?", "f(param x[N]) -> y:"),
    head("f(x: int) -> y:", 4, "the kind of an argument stands before its name", "`int x[N]`", "f(int x) -> y:"),
    head("f(size N[3]) -> y:", 9, "a size is a number", "`size N`", "f(size N) -> y:"),
    head("f(eps = 1/2) -> y:", 9, "not a formula", "`eps = 0.5`", "f(eps = 0.5) -> y:"),
    head("f(eps = True) -> y:", 9, "has to be a number, found `True`", "write `1`", "f(eps = 1) -> y:"),
    head("f(int k = 3) -> y:", 9, "found `=`", "`eps = 1e-5`", "f(k = 3) -> y:"),
    head("f(x[N][M]) -> y:", 7, "found `[`", "`x[N,M]`", "f(x[N,M]) -> y:"),
    head("f(x[N] z) -> y:", 8, "expected `,` or `)`", "parted by `,`", "f(x[N], z) -> y:"),
    head("f(x[2.5]) -> y:", 5, "an extent is an integer", "write `2`", "f(x[2]) -> y:"),
    head("f(x[-1]) -> y:", 5, "an extent cannot be negative", ""),
    head("f(x[N], w[x[0]]) -> y:", 11, "`x[...]` stands in an extent", "`size N`"),
    head("f(x[ceil(N/2)]) -> y:", 5, "`ceil` cannot be called in a header", "`-floor(-u)`"),
    head("f(x[N]) batch M -> y:", 15, "`M` is not the extent of an argument", "", "f(x[N]) batch N -> y:"),
    head("f(x[N]) -> y, y:", 15, "the result `y` is named twice", "name it once", "f(x[N]) -> y:"),
    head("f(x[N]) -> y, x:", 15, "`x` is an input already", "`x'`"),
    head("f(x[N]) -> int y:", 12, "a result has no kind `int`", "`local int w[B]`", "f(x[N]) -> y:"),
    head("f(x[N]) -> (y):", 12, "results stand without brackets", "", "f(x[N]) -> y:"),
    head("f(x[N]) -> y: y = 2", 15, "expected the end of the line after the header", "each on a line of its own", "f(x[N]) -> y:"),
    head("f(x[N]) -> y, z:", 15, "no statement computes the result `z`", "`z = ...`", "f(x[N]) -> y:"),
    head("f(*x) -> y:", 3, "a fixed list of arguments", "name each"),
    Mistake("f(x[N]) -> y:", 1, 1, "has no statements", "below the header", "f(x[N]) -> y:\n    y = 1"),
    Mistake("f(x) -> y:\n    y = x\nf(x) -> y:\n    y = x", 3, 1, "two programs are named `f`", "name of its own"),
    Mistake("for n: y = 1", 1, 1, "a statement outside a program", "begins with its header"),
    Mistake("f(x) -> y:\ny = x", 2, 1, "a statement outside a program", "indent it", "f(x) -> y:\n    y = x"),
]  # fmt: skip

LOCALS = [
    Mistake("f(v[N]) -> y[N]:\n    local y\n    y[n] = 1", 2, 11, "`y` has 1 axis", "1 subscript", "f(v[N]) -> y[N]:\n    local y[N]\n    y[n] = 1"),
    Mistake("f(x[N]) -> y:\n    y = 1\n    local z[N]", 3, 11, "no statement computes the `local` `z`", "`z[n] = ...`"),
    Mistake("f(x[N]) -> y:\n    local x[N]\n    y = 1", 2, 11, "`x` is an input already", "`x'`"),
    Mistake("f(x[N]) -> y:\n    local bool z[N]\n    z[n] = 1\n    y = 1", 2, 11, "cannot be `bool`", "`local int w[N]`"),
    Mistake("f(x[N]) -> y:\n    local z[N] = 1\n    z[n] = 1\n    y = 1", 2, 16, "found `=`", "only declares"),
    Mistake("f(x[N]) -> y:\n    z[n] = 1\n    local z[N]\n    y = 1", 2, 5, "used before its `local`", "right below the header"),
]  # fmt: skip

INDENTS = [
    Mistake("f(x) -> y:\n    y = x\n        y = x", 3, 9, "indented further", "the same indentation"),
    Mistake("f(x) -> y:\n    for t < 2:\n        z = x\n      y = x", 4, 7, "that of no line above", "the same indentation"),
    Mistake("f(x) -> y:\n    y = x\n\tz = x", 3, 2, "tabs and spaces are mixed", "spaces alone"),
    Mistake("  f(x) -> y:\n    y = x\n g(x) -> y:\n    y = x", 3, 2, "not in the column of the first one", "one column"),
]  # fmt: skip

WHOLE = [
    Mistake("f(x) -> y:\n    y += x\n    y = 1\n    y max= x", 4, 5, "`y` is updated with `max=` here, and with `+=` above", "tensors of their own"),
    Mistake("f(x[N]) -> y:\n    z[n] = x[n]\n    y = z[0,0]", 3, 9, "`z` has 1 axis, here it has 2 subscripts", "1 subscript"),
    Mistake("f(x[N]) -> y:\n    z[n] = x[n]\n    z[n,n] = 1\n    y = z[0]", 3, 5, "`z` has 1 axis, here it has 2 subscripts", "1 subscript"),
]  # fmt: skip

EVERYTHING = [
    NAMES, RANKS, OPERATORS, NUMBERS, FUNCTIONS, LOOPS, CHARACTERS, BRACKETS, CALLS, HEADERS,
    LOCALS, INDENTS, WHOLE,
]  # fmt: skip


@pytest.mark.parametrize("mistake", [m for some in EVERYTHING for m in some], ids=lambda m: m.found)
def test_mistake(mistake: Mistake) -> None:
    with pytest.raises(ProgramError) as caught:
        parse(mistake.text, library={})
    [diagnostic] = caught.value.diagnostics
    assert (diagnostic.line, diagnostic.column) == (mistake.line, mistake.column), diagnostic
    assert mistake.found in diagnostic.found
    assert mistake.help in (diagnostic.help or "")
    assert diagnostic.severity == "error"
    if mistake.mended is not None:
        assert parse(mistake.mended, library={})


def test_a_message_shows_the_line_a_caret_the_other_fact_and_the_mend() -> None:
    with pytest.raises(ProgramError) as caught:
        parse("f(x[N,M]) -> y:\n    for n:  y += x[n]", "layer.loops")
    assert str(caught.value) == (
        "error: `x` has 2 axes, here it has 1 subscript\n"
        " --> layer.loops:2:18\n"
        "  |\n"
        "2 |     for n:  y += x[n]\n"
        "  |                  ^^^^\n"
        "   = note: `x` has 2 axes here\n"
        " --> layer.loops:1:3\n"
        "  |\n"
        "1 | f(x[N,M]) -> y:\n"
        "  |   ^^^^^^\n"
        "   = help: give it 2 subscripts"
    )


def test_a_tensor_that_nothing_computes_is_shown_as_a_target() -> None:
    """A target names indices: `z[B,N] = ...` would be refused in its turn."""
    text = "f(x[B,N]) -> y[B,N]:\n    local z[B,N]\n    y[b,n] = x[b,n] + z[b,n]\n"
    with pytest.raises(ProgramError, match=r"write it in a statement: `z\[b,n\] = \.\.\.`"):
        parse(text)
    assert parse(text.replace("    y[", "    z[b,n] = 2 * x[b,n]\n    y["))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (
            "f(x[B,J]) -> y[B,J]:\n"
            "    for b, j:  mean[j] += x[b,j] / B\n"
            "    for b, j:  y[b,j] = x[b,j] - mean[j] + sum[i](x[b,i])",
            ["mean"],
        ),
        ("f(max[J], x[B,J]) -> sum[B]:\n    for b, j:  sum[b] += x[b,j] - max[j]", ["max", "sum"]),
    ],
    ids=["temporary", "header"],
)
def test_a_word_taken_for_a_name_is_told_once(text: str, named: list[str]):
    """What reads it afterwards is no mistake of its own."""
    with pytest.raises(ProgramError) as caught:
        parse(text)
    said = [diagnostic.found for diagnostic in caught.value.diagnostics]
    assert [found.split("`")[1] for found in said] == named
    assert all(found.endswith("the notation uses the word") for found in said)
