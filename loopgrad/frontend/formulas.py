"""Extents as `lg.tensor` and annotations give them: `"B J"`, `"B, X-DX+1"`, numbers, symbols."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from typing import Any

from loopgrad.frontend.python_places import mistake
from loopgrad.frontend.symbolic import node_of
from loopgrad.ir.nodes import (
    Apply,
    Expression,
    Extent,
    Number,
)


def extents_from(given: Sequence[Any]) -> tuple[Expression, ...]:
    """Extents from what `lg.tensor` was given: `"B J"`, `"B, X-DX+1"`, numbers, symbols."""
    found: list[Expression] = []
    for one in given:
        if isinstance(one, str):
            found.extend(map(formula, _pieces(one)))
        else:
            found.append(node_of(one))
    return tuple(found)


def _pieces(text: str) -> list[str]:
    text = text.strip()
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    if re.fullmatch(r"[\w'\s]*", text):
        return text.split()
    pieces, depth, start = [], 0, 0
    for at, character in enumerate(text):
        depth += (character in "([") - (character in ")]")
        if character == "," and depth == 0:
            pieces.append(text[start:at])
            start = at + 1
    return [*pieces, text[start:]]


PRIME = "ʹ"  # a letter to Python, and to nobody's mind part of a name
ARITHMETIC: dict[type[ast.AST], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.FloorDiv: "//",
    ast.Mod: "%",
    ast.Pow: "**",
}


def formula(text: str) -> Expression:
    """An extent's formula from its text. Names are extents; constants are told apart at the end."""

    def build(node: ast.AST) -> Expression:
        match node:
            case ast.Expression(body):
                return build(body)
            case ast.Name(name):
                return Extent(name.replace(PRIME, "'"))
            case ast.Constant(int(value)):
                return Number(value)
            case ast.UnaryOp(ast.USub(), operand):
                return Apply("neg", (build(operand),))
            case ast.BinOp(left, operator, right) if type(operator) in ARITHMETIC:
                return Apply(ARITHMETIC[type(operator)], (build(left), build(right)))
            case ast.Call(ast.Name("max" | "min" as name), [left, right]):
                return Apply(name, (build(left), build(right)))
        raise wrong

    wrong = mistake(f"`{text.strip()}` is no formula for an extent", "write it as in `X - DX + 1`")
    try:
        tree = ast.parse(text.strip().replace("'", PRIME), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise wrong from None
    return build(tree)
