"""Every code block of README.md and docs/ runs, and prints what stands there.

`UPDATE_DOCS=1 pytest tests/docs` writes what commands and error messages print now into the
documents, to be read as a diff.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.docs.blocks import Document, blocks

ROOT = Path(__file__).parents[2]
NEEDS = re.compile(
    r"^<!-- needs: (\w+) -->$", re.MULTILINE
)  # an extra, without which it is skipped
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_what_a_document_shows_is_what_happens(path: Path, tmp_path: Path) -> None:
    for needed in NEEDS.findall(path.read_text(encoding="utf-8")):
        pytest.importorskip(needed)
    document = Document(path, tmp_path)
    document.run()
    if os.environ.get("UPDATE_DOCS"):
        path.write_text(document.updated(), encoding="utf-8")
    assert not document.faults, "\n\n".join(document.faults)


def test_the_runner_finds_what_is_wrong(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.md"
    wrong.write_text(
        "\n".join(
            [
                *("```loops", "f(x[N]) -> y[N]:", "    for n: y[n] = z[n]", "```"),
                *("```loops error", "f(x[N]) -> y[N]:", "    for n: y[n] = x[n]", "```"),
                *("```text", "error: none", "```"),
                *("```python", ">>> 1 + 1", "3", "```"),
                *("```console", "$ echo one", "two", "```"),
            ]
        ),
        encoding="utf-8",
    )
    document = Document(wrong, tmp_path)
    document.run()
    assert [fault.split(":")[1] for fault in document.faults] == ["2", "6", "10", "13", "17"]


def test_there_are_examples() -> None:
    infos = [b.info for path in DOCUMENTS for b in blocks(path.read_text(encoding="utf-8"))]
    for info in ("loops", "loops error", "python", "console"):
        assert infos.count(info) >= 5


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_and_links_that_a_document_names_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if path.name == "architecture.md":
        # All folders are gone through, among them an environment that the README's command makes here.
        known = {p.name for p in ROOT.rglob("*.py")}
        for named in re.findall(r"`([\w/]+\.py)`", text):
            assert named.rpartition("/")[2] in known, named
    prose = re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.DOTALL)
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", prose):
        assert (path.parent / target).exists(), target
