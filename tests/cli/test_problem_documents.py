"""The worked problems as documents, and the page of them in docs/."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.cost.greedy import greedy
from loopgrad.cost.levels import Levels
from loopgrad.problems import parallel, worked
from loopgrad.problems.answers import Worked
from loopgrad.problems.documents import latex, markdown, notebook
from tests.cli.conftest import Run, solve

PAGE = Path(__file__).parents[2] / "docs" / "problems.md"


@pytest.fixture(scope="module")
def solved() -> list[Worked]:
    return [solve(number) for number in worked.SOLUTIONS]


def lasting(page: str) -> str:
    """The page without what is another number on another machine: times, and how far roundings are off."""
    page = re.sub(r"(?s)(The compiled UGRNN on this machine[^`]*```text\n).*?(?=```)", r"\1", page)
    page = re.sub(r"\d(\.\d+)?e[-+]\d+", "tiny", page)
    return re.sub(r"(\d\.\d{6})\d+", r"\1", page)


def test_the_page_is_up_to_date(solved: list[Worked]) -> None:
    """`UPDATE_DOCS=1` writes it anew."""
    found = markdown(solved)
    if os.environ.get("UPDATE_DOCS"):
        PAGE.write_text(found, encoding="utf-8")
    assert lasting(found) == lasting(PAGE.read_text(encoding="utf-8"))
    assert "FAILS" not in found and "DISAGREES" not in found


def test_what_lasts_is_most_of_it(solved: list[Worked]) -> None:
    found = markdown(solved)
    assert len(lasting(found)) > 0.9 * len(found)
    assert lasting(found) != lasting(found.replace("h_0 = CELL", "h_1 = CELL"))


def test_latex_is_balanced(solved: list[Worked]) -> None:
    found = latex(solved)
    body = re.sub(r"(?s)\\begin\{verbatim\}.*?\\end\{verbatim\}", "", found)
    begun, ended = (re.findall(rf"\\{word}{{(\w+)}}", body) for word in ("begin", "end"))
    assert sorted(begun) == sorted(ended) and "document" in begun
    assert body.count("{") - body.count("\\{") == body.count("}") - body.count("\\}")
    declared = re.findall(r"\\DeclareUnicodeCharacter{(\w+)}{(.*)}", found)
    text = found.partition("\\begin{document}")[2]
    assert {c for c in text if ord(c) > 127} == {chr(int(code, 16)) for code, _ in declared}
    assert all(sign != "?" for _, sign in declared)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no pdflatex")
def test_latex_compiles(solved: list[Worked], tmp_path: Path) -> None:
    (tmp_path / "problems.tex").write_text(latex(solved), encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "problems.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "problems.pdf").exists()


def test_the_notebook(solved: list[Worked]) -> None:
    """Its cells of code run, and give the programs."""
    document = json.loads(notebook(solved))
    assert (document["nbformat"], document["nbformat_minor"]) == (4, 5)
    cells = document["cells"]
    assert len({cell["id"] for cell in cells}) == len(cells) > 100
    names: dict[str, object] = {}
    for cell in cells:
        assert cell["cell_type"] in ("markdown", "code")
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
            source = "".join(cell["source"])
            exec(source, names)
            if source.startswith("lg.program"):
                assert isinstance(eval(source, names), lg.Program)


def test_the_notebook_is_one_for_nbformat(solved: list[Worked]) -> None:
    nbformat = pytest.importorskip("nbformat")
    nbformat.validate(nbformat.reads(notebook(solved), as_version=4))


@pytest.mark.usefixtures("once")
@pytest.mark.parametrize(
    "notation, start",
    [("markdown", "# The source problems\n"), ("latex", "\\documentclass"), ("notebook", "{\n")],
)
def test_on_the_command_line(run: Run, notation: str, start: str) -> None:
    said = run("problems", "1", "--to", notation)
    assert (said.err, said.status) == ("", 0)
    assert said.out.startswith(start)


@pytest.mark.usefixtures("once")
def test_the_plot(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    said = run("problems", "5", "--plot", str(tmp_path / "scaling.png"))
    assert (said.err, said.status) == ("", 0)
    assert (tmp_path / "scaling.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["1", "--plot", "a.png"], "error: --plot draws problem 5: there is nothing to draw"),
        (["5", "--plot", "a.pdf"], "error: --plot writes a PNG file: a.pdf does not end in .png"),
    ],
)
def test_mistakes(run: Run, arguments: list[str], words: str) -> None:
    pytest.importorskip("matplotlib")
    said = run("problems", *arguments)
    assert said.status == 2 and words in said.err and said.out == ""


# ------------------------------------------------------------------------------------ problem 5 (b)


def test_a_greedy_schedule() -> None:
    levels = Levels(np.array([0, 10, 3, 1]))
    assert [greedy(levels, p) for p in (1, 2, 5, 10, 1000)] == [14, 8, 4, 3, 3]
    with pytest.raises(ValueError, match="processors: at least 1 is needed, got 0"):
        greedy(levels, 0)


def test_what_does_not_grow_as_it_should_is_seen(solved: list[Worked]) -> None:
    spans = {"UGRNN": (1, 4, 16, 64, 256, 1024, 4096), "other": (1, 2, 3, 4, 5, 6, 7)}
    good = parallel.Scaling(spans, (), 0, 0, ())
    assert parallel.grows(good).passed
    slower = {**spans, "other": (1, 2, 4, 8, 16, 32, 64)}
    assert not parallel.grows(replace(good, spans=slower)).passed
    assert not parallel.grows(
        replace(good, spans={**spans, "UGRNN": (1, 4, 9, 64, 256, 1024, 4096)})
    ).passed


def test_a_schedule_below_its_bounds_is_seen() -> None:
    steps = tuple(max(100, 1000 // p) for p in parallel.PROCESSORS)
    good = parallel.Scaling({}, steps, 1000, 100, ())
    assert parallel.processors(good).passed
    assert not parallel.processors(replace(good, steps=(*steps[:-1], 99))).passed


def test_a_chain_that_is_none_is_seen() -> None:
    assert parallel.chain(lg.analyze(worked.programs()["ugrnn"])).passed
    assert not parallel.chain(lg.analyze(worked.programs()["running_sum"])).passed
