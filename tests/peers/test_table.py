"""benchmarks/bench_table.py, at its smallest row and without peers."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

import loopgrad

FOLDER = Path(loopgrad.__file__).parents[1] / "benchmarks"
pytestmark = pytest.mark.skipif(not FOLDER.exists(), reason="benchmarks are not installed")


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    import bench_table

    return bench_table


def test_a_row_without_peers(
    table: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    words = "--rounds 2 --seconds 0.1 --mode default --against none --json".split()
    file = tmp_path / "o.json"
    monkeypatch.setattr(sys, "argv", ["bench_table.py", "softmax (4,10)", *words, str(file)])
    table.main()
    (row,) = json.loads(file.read_text())
    line, joint = row["lines"]
    assert (line["name"], joint["name"]) == ("loopgrad", "loopgrad joint")
    assert set(line["seconds"]) == {"forward", "backward", "both"} == set(row["bounds"])
    assert set(joint["seconds"]) == {"both"}
    assert max(line["error"], joint["error"]) < 1e-6
    assert "softmax (4,10), default, float32" in capsys.readouterr().out


def test_rows_are_chosen_by_their_words(table: ModuleType) -> None:
    names = [row.name for row in table.workloads.chosen(["UGRNN", "(64,1000)"], False)]
    assert names == [
        "softmax (64,1000)",
        "UGRNN (64,32,256,128)",
        "UGRNN (512,16,128,64)",
        "UGRNN (128,64,512,512)",
    ]
    with pytest.raises(SystemExit, match="there are\n  softmax"):
        table.workloads.chosen(["no such row"], False)


def test_every_row_has_a_program_and_its_sizes(table: ModuleType) -> None:
    for row in table.workloads.TABLE + table.workloads.LAYERS:
        named = {*row.sizes, *row.keywords}
        program = row.program
        needed = {e.name for i in program.inputs for e in i.extents if hasattr(e, "name")}
        assert needed - {"J'"} <= named, row.name


def test_multiplications_and_bytes(table: ModuleType) -> None:
    from loopgrad.peers.problem import draw

    linear = draw(loopgrad.lib.affine, {"B": 3, "I": 4, "J": 5})
    assert table.machine.multiplications(linear) == {"forward": 120, "backward": 240, "both": 360}
    softmax = draw(loopgrad.lib.softmax, {"B": 3, "J": 4})
    assert table.machine.bytes_moved(softmax) == {"forward": 96, "backward": 144, "both": 240}
