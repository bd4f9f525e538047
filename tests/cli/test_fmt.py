"""`loopgrad fmt`: canonical form, in place."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.cli.conftest import LAYERS, Run

DRAFT = "f( x[N] )->y[N]:   # doubles\n  # twice\n  y[n]+=2*x[ n ]\n"
CLEAN = "f(x[N]) -> y[N]:  # doubles\n    # twice\n    for n:  y[n] += 2 * x[n]\n"


def test_files_are_written_in_place(run: Run) -> None:
    Path("draft.loops").write_text(DRAFT)
    Path("clean.loops").write_text(CLEAN)
    said = run("fmt", "draft.loops", "clean.loops")
    assert said == ("", "changed draft.loops\n", 0)
    assert Path("draft.loops").read_text() == Path("clean.loops").read_text() == CLEAN
    assert run("fmt", "draft.loops") == ("", "", 0)


def test_standard_input_goes_to_standard_output(run: Run) -> None:
    said = run("fmt", "-", stdin=DRAFT)
    assert (said.err, said.status) == ("", 0)
    assert said.out == CLEAN


def test_check_changes_nothing_and_says_what_would_change(run: Run) -> None:
    Path("draft.loops").write_text(DRAFT)
    assert run("fmt", "--check", "draft.loops") == ("", "would change draft.loops\n", 1)
    assert Path("draft.loops").read_text() == DRAFT
    Path("clean.loops").write_text(CLEAN)
    assert run("fmt", "--check", "clean.loops") == ("", "", 0)
    assert run("fmt", "--check", "-", stdin=DRAFT).status == 1


def test_diff_shows_the_lines(run: Run) -> None:
    Path("draft.loops").write_text(DRAFT)
    said = run("fmt", "--diff", "draft.loops")
    assert (said.err, said.status) == ("", 0)
    assert "-  y[n]+=2*x[ n ]\n" in said.out
    assert "+    for n:  y[n] += 2 * x[n]\n" in said.out
    assert Path("draft.loops").read_text() == DRAFT
    assert run("fmt", "--diff", "--check", "draft.loops").status == 1


def test_a_file_with_an_error_is_left_and_the_others_are_formatted(run: Run) -> None:
    Path("wrong.loops").write_text("f(x[N] -> y:\n")
    Path("draft.loops").write_text(DRAFT)
    said = run("fmt", "wrong.loops", "nowhere.loops", "draft.loops")
    assert said.status == 2
    assert "wrong.loops:1:" in said.err
    assert "cannot read `nowhere.loops`" in said.err
    assert Path("wrong.loops").read_text() == "f(x[N] -> y:\n"
    assert Path("draft.loops").read_text() == CLEAN


def test_windows_line_ends_stay(run: Run) -> None:
    Path("draft.loops").write_bytes(DRAFT.replace("\n", "\r\n").encode())
    run("fmt", "draft.loops")
    assert Path("draft.loops").read_bytes() == CLEAN.replace("\n", "\r\n").encode()
    assert run("fmt", "--check", "draft.loops").status == 0


@pytest.mark.skipif(os.name == "nt", reason="permissions and links are those of POSIX")
def test_permissions_and_links_stay(run: Run) -> None:
    Path("draft.loops").write_text(DRAFT)
    Path("draft.loops").chmod(0o640)
    Path("link.loops").symlink_to("draft.loops")
    run("fmt", "link.loops")
    assert Path("link.loops").is_symlink()
    assert Path("draft.loops").read_text() == CLEAN
    assert stat.S_IMODE(Path("draft.loops").stat().st_mode) == 0o640
    assert sorted(p.name for p in Path().iterdir()) == [
        "draft.loops",
        "layers.loops",
        "link.loops",
    ]


def test_every_program_of_a_file_is_kept(run: Run) -> None:
    said = run("fmt", "-", stdin=LAYERS)
    assert [line for line in said.out.splitlines() if line.endswith(":")] == [
        line for line in LAYERS.splitlines() if line.endswith(":")
    ]
    assert said.out.startswith("# layers\n")
    assert run("fmt", "-", stdin=said.out).out == said.out


def test_no_file_is_a_mistake(run: Run) -> None:
    said = run("fmt")
    assert said.status == 2
    assert "FILE" in said.err
