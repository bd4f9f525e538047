"""`ceil(log2(n))` as a function of SymPy: how many rounds a balanced tree of n values takes."""

from __future__ import annotations

from typing import Any

import sympy


class ceil_log2(sympy.Function):  # type: ignore[misc]
    """`ceil(log2(n))` for n of 1 or more, exactly for integers; 0 for less.

    >>> import sympy
    >>> n = sympy.Symbol("n", integer=True, positive=True)
    >>> ceil_log2(n)
    ceil(log2(n))
    >>> ceil_log2(n).subs(n, 1000)
    10
    """

    nargs = (1,)
    is_integer = True
    is_nonnegative = True
    is_real = True
    is_finite = True

    @classmethod
    def eval(cls, n: Any) -> Any:
        if n.is_Integer:
            return sympy.Integer(max(0, int(n) - 1).bit_length())
        return None

    def _sympystr(self, printer: Any) -> str:
        return f"ceil(log2({printer._print(self.args[0])}))"

    _sympyrepr = _sympystr

    def _latex(self, printer: Any) -> str:
        argument = printer._print(self.args[0])
        inside = argument if self.args[0].is_Symbol else rf"\left({argument}\right)"
        return rf"\left\lceil \log_2 {inside} \right\rceil"

    def _eval_rewrite_as_ceiling(self, n: Any, **_: Any) -> Any:
        return sympy.ceiling(sympy.log(n, 2))
