"""Graphs as pictures."""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import loopgrad as lg
from loopgrad import edf
from loopgrad.edf.picture import Picture

DOT = """\
digraph model {
  node [fontname="monospace", fontsize=10, style=filled];
  n0 [label="Input x\\nno value", shape=ellipse, fillcolor="#e8f1e4"];
  n1 [label="Parameter W\\nfloat64 (2, 3)\\n|value| 2.45", shape=box, fillcolor="#fbeed5"];
  n2 [label="Input a \\"b\\" & <c>\\nint64 (1,)", shape=ellipse, fillcolor="#e8f1e4"];
  n3 [label="linear\\ny: no value", shape=box, fillcolor="#e6ecf8"];
  n4 [label="softmax_cross_entropy\\nL: no value", shape=box, fillcolor="#e6ecf8"];
  n0 -> n3 [label="x", fontsize=9];
  n1 -> n3 [label="W", fontsize=9];
  n3 -> n4 [label="s", fontsize=9];
  n2 -> n4 [label="label", fontsize=9];
}
"""


def small() -> edf.Model:
    x, label = edf.Input("x"), edf.Input('a "b" & <c>', [1])
    W = edf.Parameter(np.ones((2, 3)), "W")
    s = edf.component(lg.lib.linear)(x, W)
    return edf.Model(edf.component(lg.lib.softmax_cross_entropy)(s, label))


def texts(svg: str) -> list[str]:
    return [e.text or "" for e in ElementTree.fromstring(svg).iter() if e.tag.endswith("}text")]


def test_before_anything_is_computed() -> None:
    model = small()
    assert model.to_dot() == DOT
    assert texts(model.to_svg())[:2] == ["Input x", "no value"]


def test_shapes_and_norms() -> None:
    model = small()
    model.inputs[0].value = np.ones((1, 3))
    model.forward()
    model.backward()
    shown = texts(model._repr_svg_() or "")
    assert shown[:4] == ["Input x", "float64 (1, 3)", "|value| 1.73", "|grad| 0"]
    assert shown[-4:] == ["softmax_cross_entropy", "L: float64 (1,)", "|value| 0.693", "|grad| 1"]
    assert 'Input a "b" & <c>' in shown


def test_boxes_stand_below_what_they_read_and_beside_each_other() -> None:
    Phi = edf.initial(lg.lib.lstm_cell, 0, J=2, K=2)
    X = [edf.Input(f"x{t}") for t in range(4)]
    H = edf.RNN(lg.lib.lstm_cell, Phi, X, edf.Zeros(X[0], size=2))
    picture = Picture(edf.Model(H[-1][0]))
    for source, box, _ in picture.arrows():
        assert source.y + source.height < box.y
    for one in picture.boxes:
        assert one.width / 2 <= one.x <= picture.width - one.width / 2
        assert 0 <= one.y <= picture.height - one.height
        for other in picture.boxes:
            if one is not other and one.row == other.row:
                assert abs(one.x - other.x) >= (one.width + other.width) / 2


def test_files(tmp_path: Path) -> None:
    model = small()
    model.save(tmp_path / "graph.svg")
    model.save(str(tmp_path / "graph.dot"))
    assert (tmp_path / "graph.svg").read_text(encoding="utf-8") == model.to_svg()
    assert (tmp_path / "graph.dot").read_text(encoding="utf-8") == DOT
    with pytest.raises(
        ValueError, match=r"a picture is an \.svg, \.dot, \.png or \.pdf file, not '\.jpeg'"
    ):
        model.save(tmp_path / "graph.jpeg")


def test_pixels(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    small().save(tmp_path / "graph.png")
    assert (tmp_path / "graph.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_pixels_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"needs matplotlib \(pip install 'loopgrad\[plot\]'\)"):
        small().save(tmp_path / "graph.png")


def test_large_graphs_are_not_drawn_in_notebooks() -> None:
    y = edf.Input("x")
    Tanh = edf.component(lg.lib.tanh_layer)
    for _ in range(201):
        y = Tanh(y)
    model = edf.Model(y)
    assert model._repr_svg_() is None and "</svg>" in model.to_svg()


def test_a_model_prints_its_steps() -> None:
    assert repr(small()).splitlines() == [
        "   1  linear(x=<Input x: no value>, W=<Parameter W: float64(2, 3)>)",
        '   2  softmax_cross_entropy(s=<Computed y: no value>, label=<Input a "b" & <c>: int64(1,)>)',
    ]
