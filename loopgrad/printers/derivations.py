r"""A derivation in LaTeX: for each tensor the chain of equalities, and the statements it ends in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from loopgrad.ir.nodes import Apply, Expression, Number
from loopgrad.ir.printer import show_expression
from loopgrad.ir.walk import summands, without_bounds
from loopgrad.printers.latex import expression, statements

if TYPE_CHECKING:
    from loopgrad.simplify.telling.derivation import Chain, Derivation, Step

LONGEST = 116  # of a formula's text, where it stands in one row


def latex(derivation: Derivation) -> str:
    r"""Each chain as a displayed formula `\[ ... \]`, for a document that loads `amsmath`.

    >>> import loopgrad as lg
    >>> forward = lg.program("f(x[N]) -> y[N]:\n    y[n] = exp(x[n])")
    >>> print(forward.backward().simplify().derivation.to("latex"))
    \[
    \begin{aligned}
    x^{\mathrm{grad}}_{n} &= y^{\mathrm{grad}}_{n} \, \exp\left(x_{n}\right) \\
    & \qquad (\exp\left(x_{n}\right) = y_{n}\text{, by the definition of }y\text{; exact}) \\
    &= y_{n} \, y^{\mathrm{grad}}_{n} \\
    & \quad \begin{aligned}
    & \text{for } n\colon & x^{\mathrm{grad}}_{n} &\mathrel{+}= y_{n} \, y^{\mathrm{grad}}_{n}
    \end{aligned}
    \end{aligned}
    \]
    """
    return "\n".join(f"\\[\n{_chain(chain)}\n\\]" for chain in derivation.chains)


def notebook(derivation: Derivation) -> str:
    """The same, as notebooks want it."""
    return "\n\n".join(f"$\\displaystyle\n{_chain(chain)}\n$" for chain in derivation.chains)


def _chain(chain: Chain) -> str:
    first, *more = _sum(chain.start)
    rows = [f"{_show(chain.target)} &= {first}", *more]
    for step in chain.steps:
        rows += _step(step)
    rows.append(f"& \\quad {statements(chain.shown)}")
    return "\\begin{aligned}\n" + " \\\\\n".join(rows) + "\n\\end{aligned}"


def _step(step: Step) -> Iterator[str]:
    mark = r"\text{; exact}" if step.exact else ""
    yield rf"& \qquad ({_sentence(step)}{mark})"
    first, *more = _sum(step.after)
    yield f"&= {first}"
    yield from more


def _sum(e: Expression) -> list[str]:
    """The formula; a long sum in rows, a term each."""
    if len(show_expression(e)) <= LONGEST:
        return [_show(e)]
    (_, first), *others = summands(e)
    rows = [_show(first)]
    for minus, term in others:
        signed = _show(Apply("-" if minus else "+", (Number(0), term)))
        rows.append(rf"& \quad {signed.removeprefix('0 ')}")
    return rows


def _sentence(step: Step) -> str:
    """The rule: words as text, formulas as formulas."""
    return "".join(_word(w) if isinstance(w, str) else _show(w) for w in step.says)


def _word(word: str) -> str:
    return word if word == " = " else rf"\text{{{_escaped(word)}}}"


def _escaped(words: str) -> str:
    for sign in "{}$&#_%":
        words = words.replace(sign, rf"\{sign}")
    return words


def _show(e: Expression) -> str:
    return expression(without_bounds(e))
