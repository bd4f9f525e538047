"""Worked problems as documents: Markdown, LaTeX, a notebook."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from loopgrad.ir.nodes import Program
from loopgrad.problems.answers import Code, Evidence, Part, Worked

INTRODUCTION = (
    "The worked problem set from which this project grew. Every answer is computed when it is asked for: "
    "programs are derived, equalities proved step by step, gradients compared with central differences, "
    "costs counted."
)


@dataclass(frozen=True)
class Block:
    """A piece of a document: `kind` is "title", "words", "program", "formula" or "lines".

    `text` and `latex` say the same; `latex` is empty for what is shown as it stands.
    """

    kind: str
    text: str
    latex: str = ""
    measured: bool = False


def blocks(worked: Worked) -> Iterator[Block]:
    """The problem, piece by piece."""
    yield Block("title", worked.title)
    for program in worked.programs:
        yield Block("program", program.to("text"), program.to("latex"))
    for part in worked.parts:
        if isinstance(part, Evidence):
            yield from _lines(part.claim, part.lines, part.passed, part.measured)
            continue
        yield Block("words", f"{part.question}:")
        yield _answer(part)
    for name, checks in worked.checks.items():
        lines = tuple(
            f"{c.input + '.grad':10} derived {c.derived:+.9f}   differences {c.differences:+.9f}"
            f"   relative difference {c.relative:.0e}" + ("" if c.passed else "   DISAGREES")
            for c in checks
        )
        yield from _lines(
            f"Gradients of {name} along random directions, against central differences", lines, True
        )


def _answer(part: Part) -> Block:
    text = part.shown("text")
    match part.answer:
        case str() | Code():
            return Block("lines", text)
        case Program():
            return Block("program", text, part.shown("latex"))
    return Block("formula", text, part.shown("latex"))


def _lines(
    claim: str, lines: Sequence[str], passed: bool, measured: bool = False
) -> Iterator[Block]:
    yield Block("words", f"{claim}:")
    shown = (*lines, *(() if passed else ("THIS FAILS",)))
    yield Block("lines", "\n".join(shown), measured=measured)


# ---------------------------------------------------------------------------------------- Markdown


def markdown(solved: Sequence[Worked]) -> str:
    """A page; `loopgrad problems --to markdown` made docs/problems.md."""
    parts = ["# The source problems", INTRODUCTION]
    for worked in solved:
        for block in blocks(worked):
            parts.append(_markdown(block))
    return "\n\n".join(parts) + "\n"


def _markdown(block: Block) -> str:
    match block.kind:
        case "title":
            return f"## {block.text}"
        case "words":
            return _spelled(block.text)
    return f"```text\n{block.text}\n```"


def _spelled(words: str) -> str:
    """With what is of a program as code, so that no mark of Markdown's is in it."""
    spell = r"[^\s`]*[\[\]_*]\S*|`[^`]*`"
    return re.sub(spell, lambda m: m[0] if m[0].startswith("`") else _code(m[0]), words)


def _code(word: str) -> str:
    bare = word.rstrip(",:;.")
    return f"`{bare}`{word[len(bare) :]}"


# ------------------------------------------------------------------------------------------- LaTeX

PREAMBLE = r"""\documentclass{article}
\usepackage[utf8]{inputenc}
\usepackage[a4paper, landscape, margin=15mm]{geometry}
\usepackage{amsmath}
"""

SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
}  # fmt: skip

# What LaTeX has no letter for, in verbatim text too.
SIGNS = {
    "█": r"\rule{1ex}{1ex}", "Σ": r"\ensuremath{\Sigma}", "Δ": r"\ensuremath{\Delta}",
    "Θ": r"\ensuremath{\Theta}", "α": r"\ensuremath{\alpha}", "β": r"\ensuremath{\beta}",
    "γ": r"\ensuremath{\gamma}", "μ": r"\ensuremath{\mu}", "σ": r"\ensuremath{\sigma}",
    "ε": r"\ensuremath{\varepsilon}", "λ": r"\ensuremath{\lambda}", "π": r"\ensuremath{\pi}",
    "≤": r"\ensuremath{\le}", "≥": r"\ensuremath{\ge}", "∞": r"\ensuremath{\infty}",
}  # fmt: skip


def latex(solved: Sequence[Worked]) -> str:
    """A document that compiles with what every LaTeX has: `amsmath`, `geometry`."""
    found = [block for worked in solved for block in blocks(worked)]
    body = "\n\n".join([INTRODUCTION, *map(_latex, found)])
    signs = [
        f"\\DeclareUnicodeCharacter{{{ord(sign):04X}}}{{{SIGNS.get(sign, '?')}}}\n"
        for sign in sorted({c for c in body if ord(c) > 127})
    ]
    title = "\\title{The source problems}\n\\date{}\n"
    start = "\\begin{document}\n\\maketitle\n"
    return f"{PREAMBLE}{''.join(signs)}{title}{start}\n{body}\n\n\\end{{document}}\n"


def _latex(block: Block) -> str:
    match block.kind:
        case "title":
            return f"\\section*{{{_escaped(block.text)}}}"
        case "words":
            return _escaped(block.text)
    if block.latex:
        return block.latex
    return f"{{\\footnotesize\n\\begin{{verbatim}}\n{block.text}\n\\end{{verbatim}}\n}}"


def _escaped(words: str) -> str:
    return "".join(SPECIAL.get(c, c) for c in words)


# ---------------------------------------------------------------------------------------- notebook


def notebook(solved: Sequence[Worked]) -> str:
    """The JSON of a notebook: programs in cells that run, everything else in words and formulas."""
    cells = [
        _cell("markdown", f"# The source problems\n\n{INTRODUCTION}", 0),
        _cell("code", "import loopgrad as lg", 1),
    ]
    for worked in solved:
        for block in blocks(worked):
            cells.append(_notebook(block, len(cells)))
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    document = {
        "cells": cells,
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _notebook(block: Block, number: int) -> dict[str, object]:
    match block.kind:
        case "title":
            return _cell("markdown", f"## {block.text}", number)
        case "words":
            return _cell("markdown", _spelled(block.text), number)
        case "program":
            return _cell("code", f'lg.program(r"""\n{block.text}\n""")', number)
        case "formula":
            formula = block.latex.strip().removeprefix("\\[").removesuffix("\\]").strip()
            return _cell("markdown", f"$$\n{formula}\n$$", number)
    return _cell("markdown", f"```text\n{block.text}\n```", number)


def _cell(kind: str, source: str, number: int) -> dict[str, object]:
    own = hashlib.sha256(f"{number} {source}".encode()).hexdigest()[:12]
    cell: dict[str, object] = {"cell_type": kind, "id": own, "metadata": {}}
    if kind == "code":
        cell |= {"execution_count": None, "outputs": []}
    return cell | {"source": source.splitlines(keepends=True)}


DOCUMENTS: dict[str, Callable[[Sequence[Worked]], str]] = {
    "markdown": markdown,
    "latex": latex,
    "notebook": notebook,
}
