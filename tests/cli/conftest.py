"""A folder with a few files in it, and the command line run in it."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from loopgrad import cli
from loopgrad.problems import worked

LAYERS = """\
# layers
softmax(s[B,J]) -> p[B,J]:
    for b, j:  Z[b]   += exp(s[b,j])
    for b, j:  p[b,j] += exp(s[b,j]) / Z[b]

affine(x[B,I], param W[J,I], param c[J]) batch B -> y[B,J]:
    y[b,j] = W[j,I] * x[b,I] + c[j]

counts(int w[N], size K, scale = 1) -> n[K], total:
    for i:  n[w[i]] += scale
    for i:  total   += w[i]
"""


class Said(NamedTuple):
    """What a command printed, and its exit status."""

    out: str
    err: str
    status: int


Run = Callable[..., Said]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`run("derive", "layers.loops:softmax", stdin="...")`, in a folder with `layers.loops`."""
    (tmp_path / "layers.loops").write_text(LAYERS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)

    def command(*arguments: str, stdin: str | bytes = "") -> Said:
        data = stdin.encode("utf-8") if isinstance(stdin, str) else stdin
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))
        capsys.readouterr()
        status = cli.run(arguments)
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return Said(said.out, said.err, status)

    return command


solve = cache(worked.solve)


@pytest.fixture
def once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A problem is answered once for all tests of the right answers."""
    monkeypatch.setattr(worked, "solve", solve)


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in os.environ if n in ("NO_COLOR", "FORCE_COLOR")]:
        monkeypatch.delenv(name)
