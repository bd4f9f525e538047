"""The gallery of the library, docs/gallery: `python -m loopgrad.gallery docs/gallery` writes it.

A page a family; of each program its source, its loops, its derived backward, and that simplified, as
text and as formulas, and what each costs. All of it is computed here; the same library gives the same pages.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from loopgrad.cost.costs import analyze
from loopgrad.frontend.families import Family
from loopgrad.frontend.library import lib
from loopgrad.ir.nodes import Program

LONGEST = 160  # of what a table shows
NOTE = "<!-- Written by `make gallery` from loopgrad/lib: changes belong there. -->"


def pages() -> Iterator[tuple[str, str]]:
    """The name of each file of the gallery, and its text."""
    yield "README.md", index()
    for family in lib.families.values():
        yield f"{family.name}.md", page(family)


def index() -> str:
    """The page that lists all families and their programs."""
    lines = [
        *(NOTE, "", "# The library", ""),
        "Layers, losses and optimisers in the notation, `lg.lib`: the source of each, its loops, the",
        "backward that is derived from them, what algebra makes of that, and what each costs",
        "([docs/cost.md](../cost.md)). A family is a file of",
        "`loopgrad/lib`. [Decision 16](../decisions/0016-library.md) says what they have in common.",
    ]
    for family in lib.families.values():
        links = (f"[{name}]({family.name}.md#{_anchor(name)})" for name in family.programs)
        lines += ["", f"## {family.title}", "", f"[{family.name}.loops]({family.name}.md):"]
        lines += [" ·\n".join(links)]
    return "\n".join(lines) + "\n"


def page(family: Family) -> str:
    """All programs of a family."""
    head = f"{NOTE}\n\n# {family.title}\n\n{_prose(family.description)}\n"
    return "\n".join([head, *(section(name) for name in family.programs)])


def section(name: str) -> str:
    """One program: what it says of itself, its loops, its backward, and that simplified.

    >>> print(section("softmin").partition("Its backward")[0])
    ## softmin
    <BLANKLINE>
    softmax(-s)
    <BLANKLINE>
    ```text
    softmin(s[B,J]) -> p[B,J]:
        for b, j:  Z[b]   += exp(-s[b,j])
        for b, j:  p[b,j] += exp(-s[b,j]) / Z[b]
    ```
    <BLANKLINE>
    <BLANKLINE>
    """
    program = lib[name]
    backward = program.backward()
    simplified = backward.simplify()
    parts = [f"## {name}", _prose(program.description), _block("text", str(program))]
    parts += [f"Its backward{_of(program)}:", _block("text", str(backward))]
    if simplified == backward:
        parts += ["Nothing is left to simplify."]
    else:
        parts += ["Simplified:", _block("text", str(simplified))]
    shown = [program, backward, *([simplified] if simplified != backward else [])]
    parts += [_costs(shown)]
    formulas = [_block("math", _formula(one)) for one in shown]
    parts += ["<details><summary>As formulas</summary>", *formulas, "</details>"]
    return "\n\n".join(parts) + "\n"


def _of(program: Program) -> str:
    return f", gradients of parameters as means over {program.batch}" if program.batch else ""


def _costs(shown: list[Program]) -> str:
    """A table of what each of them costs: program, backward, simplified."""
    lines = ["| | work | span |", "| --- | --- | --- |"]
    for what, program in zip(("forward", "backward", "simplified"), shown, strict=False):
        found = analyze(program)
        lines.append(f"| {what} | {_cell(found.work)} | {_cell(found.span)} |")
    return "\n".join(lines)


def _cell(formula: object) -> str:
    text = str(formula)
    return f"`{text}`" if len(text) <= LONGEST else "long: see `lg.analyze`"


def _block(kind: str, text: str) -> str:
    return f"```{kind}\n{text}\n```"


def _formula(program: Program) -> str:
    return program.to("latex").removeprefix("\\[\n").removesuffix("\n\\]")


def _prose(text: str) -> str:
    """A comment as Markdown: its stars and underscores are no markup."""
    quoted = [part.replace("*", "\\*").replace("_", "\\_") for part in text.split("`")[::2]]
    code = [f"`{part}`" for part in text.split("`")[1::2]]
    return "".join(a + b for a, b in zip(quoted, [*code, ""], strict=True))


def _anchor(name: str) -> str:
    return name.lower()


def main(folder: str) -> None:
    """Writes all pages into the folder, which has to be there."""
    for name, text in pages():
        (Path(folder) / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        sys.exit("usage: python -m loopgrad.gallery FOLDER")
    main(sys.argv[1])
