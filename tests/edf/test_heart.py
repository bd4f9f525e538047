"""The heart is short, and docs/edf.md shows it as it is."""

from __future__ import annotations

from pathlib import Path

from loopgrad.edf import graph
from tests.docs.blocks import blocks

DOCUMENT = Path(__file__).parents[2] / "docs" / "edf.md"


def test_the_document_ends_with_the_heart() -> None:
    heart = Path(graph.__file__).read_text(encoding="utf-8")
    *_, last = blocks(DOCUMENT.read_text(encoding="utf-8"))
    assert (last.info, last.text) == ("python", heart)


def test_it_fits_into_a_lecture() -> None:
    lines = Path(graph.__file__).read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 215
    assert max(map(len, lines)) <= 100
