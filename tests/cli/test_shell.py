"""The command as a process: help, version, colour, pipes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from loopgrad.cli import COMMANDS
from tests.cli.conftest import LAYERS, Run

LOOPGRAD = [sys.executable, "-m", "loopgrad"]


def test_version(run: Run) -> None:
    import loopgrad

    assert run("--version").out == f"loopgrad {loopgrad.__version__}\n"


@pytest.mark.parametrize("command", ["", *COMMANDS, "train digits"])
def test_help_has_examples(run: Run, command: str) -> None:
    for option in ("--help", "-h") if not command else ("--help",):
        said = run(*command.split(), option)
        assert said.status == 0
        assert "Example" in said.out
        assert "loopgrad " in said.out.split("Example")[1]


def test_no_command_shows_the_help(run: Run) -> None:
    said = run()
    assert "Commands:" in said.out + said.err


def test_help_names_every_command(run: Run) -> None:
    said = run("--help")
    listed = said.out.split("Commands:")[1].split()
    assert [name for name in listed if name in COMMANDS] == list(COMMANDS)


def test_as_a_module(tmp_path: Path) -> None:
    (tmp_path / "layers.loops").write_text(LAYERS)
    done = subprocess.run(
        [*LOOPGRAD, "unfold", "layers.loops:softmax"], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("softmax(s[B,J]) -> p[B,J]:")


@pytest.mark.skipif(os.name == "nt", reason="a POSIX shell")
def test_a_reader_that_leaves_is_no_error(tmp_path: Path) -> None:
    many = "\n".join(f"    for n:  y[n] += {k} * x[n]" for k in range(4000))
    (tmp_path / "long.loops").write_text(f"long(x[N]) -> y[N]:\n{many}\n")
    done = subprocess.run(
        f"{sys.executable} -m loopgrad fmt - < long.loops | head -1",
        shell=True,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "long(x[N]) -> y[N]:\n"
    assert done.stderr == ""


def _on_a_terminal(command: list[str], folder: Path, **environment: str) -> str:
    """What a command prints when its standard output is a terminal."""
    import pty

    ours, theirs = pty.openpty()
    clean = {k: v for k, v in os.environ.items() if k != "NO_COLOR"}
    with subprocess.Popen(
        command, cwd=folder, stdout=theirs, env={**clean, "TERM": "xterm", **environment}
    ):
        os.close(theirs)
        said = b""
        try:
            while piece := os.read(ours, 65536):
                said += piece
        except OSError:  # the other end is closed
            pass
        os.close(ours)
    return said.decode().replace("\r\n", "\n")


@pytest.mark.skipif(os.name == "nt", reason="pseudo-terminals are POSIX")
def test_colour_on_a_terminal_only(tmp_path: Path) -> None:
    (tmp_path / "layers.loops").write_text(LAYERS)
    for notation in ("text", "latex", "python"):
        command = [*LOOPGRAD, "derive", "layers.loops:softmax", "--to", notation]
        plain = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True).stdout
        assert "\x1b" not in plain
        assert "\x1b[" in _on_a_terminal(command, tmp_path)
        assert _on_a_terminal(command, tmp_path, NO_COLOR="1") == plain


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
def test_a_full_disk_is_said(tmp_path: Path) -> None:
    (tmp_path / "layers.loops").write_text(LAYERS)
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*LOOPGRAD, "derive", "layers.loops:softmax"],
            cwd=tmp_path,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 2
    assert done.stderr == "error: No space left on device\n"
