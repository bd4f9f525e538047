"""`loopgrad check`: the answer, the exit status, JSON, and mistakes of the user's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run

RIGHT = """\
softmax.backward(p[B,J], p.grad[B,J]) -> s.grad[B,J]:
    for b, j:  e[b]        -= p[b,j] * p.grad[b,j]
    for b, j:  s.grad[b,j] += p[b,j] * (p.grad[b,j] + e[b])
"""
WRONG = RIGHT.replace("+= p[b,j] * (p.grad[b,j]", "+= p.grad[b,j] * (p.grad[b,j]")


def test_right(run: Run) -> None:
    Path("mine.loops").write_text(RIGHT)
    assert run("check", "layers.loops:softmax", "mine.loops") == (
        "right, proved: `s.grad`\n",
        "",
        0,
    )
    assert run("check", "layers.loops:softmax", "-", stdin=RIGHT).status == 0
    derived = run("derive", "layers.loops:affine").out
    assert run("check", "layers.loops:affine", "-", stdin=derived).status == 0


def test_wrong(run: Run) -> None:
    Path("mine.loops").write_text(WRONG)
    said = run("check", "layers.loops:softmax", "mine.loops")
    assert (said.err, said.status) == ("", 1)
    assert said.out.splitlines()[:6] == [
        "error: the tensor is wrong: `p.grad[b,j]`, and right is `p[b,j]`",
        " --> mine.loops:3:31",
        "  |",
        "3 |     for b, j:  s.grad[b,j] += p.grad[b,j] * (p.grad[b,j] + e[b])",
        "  |                               ^^^^^^^^^^^",
        "   = help: right is `for b, j:  s.grad[b,j] += p[b,j] * (p.grad[b,j] + e[b])`",
    ]


def test_a_program_of_several(run: Run) -> None:
    other = RIGHT.replace("softmax.backward", "mine")
    Path("mine.loops").write_text(f"{other}\n{WRONG}")
    assert run("check", "layers.loops:softmax", "mine.loops:mine").status == 0
    assert run("check", "layers.loops:softmax", "mine.loops").status == 1


def test_of_several_programs_that_of_the_forwards_name_is_meant(run: Run) -> None:
    other = "square.backward(x[N], y.grad[N]) -> x.grad[N]:\n    for n:  x.grad[n] += 2 * x[n] * y.grad[n]\n"
    Path("mine.loops").write_text(f"{RIGHT}\n{other}")
    assert run("check", "layers.loops:softmax", "mine.loops") == (
        "right, proved: `s.grad`\n",
        "note: mine.loops holds 2 programs; this is `softmax.backward`, by its name\n",
        0,
    )
    said = run("check", "layers.loops:affine", "mine.loops")
    assert "this is the last, `square.backward`" in said.err and said.status == 1


@pytest.mark.parametrize(
    "mine, meant",
    [("ds[B,J]", "s.grad"), ("grad_s[B,J]", "s.grad"), ("s_grad[B,J]", "s.grad")],
)
def test_names_that_others_give_to_gradients(run: Run, mine: str, meant: str) -> None:
    claimed = RIGHT.replace("s.grad[B,J]", mine).replace("s.grad[b", mine.replace("[B,J]", "[b"))
    said = run("check", "layers.loops:softmax", "-", stdin=claimed)
    assert said.status == 1 and f"did you mean `{meant}`?" in said.out


@pytest.mark.parametrize("seed", ["dp", "grad_output", "dout", "p_bar"])
def test_names_that_others_give_to_seeds(run: Run, seed: str) -> None:
    claimed = RIGHT.replace("p.grad", seed)
    said = run("check", "layers.loops:softmax", "-", stdin=claimed)
    assert said.status == 1 and "did you mean `p.grad`?" in said.out


def test_json(run: Run) -> None:
    Path("mine.loops").write_text(WRONG)
    said = run("check", "layers.loops:softmax", "mine.loops", "--json")
    found = json.loads(said.out)
    assert said.status == 1 and found["right"] is False
    assert found["findings"][0]["kind"] == "wrong tensor"
    assert found["findings"][0]["counterexample"]["result"] == "s.grad"
    right = json.loads(run("check", "layers.loops:softmax", "-", "--json", stdin=RIGHT).out)
    assert right == {
        "right": True,
        "method": "proved",
        "reason": None,
        "judged": ["s.grad"],
        "not_given": [],
        "findings": [],
        "mended": None,
    }


def test_wrt(run: Run) -> None:
    part = "g(x[B,I], y.grad[B,J]) -> W.grad[J,I]:\n    for b, j, i:  W.grad[j,i] += y.grad[b,j] * x[b,i] / B\n"
    said = run("check", "layers.loops:affine", "-", "--wrt", "W", stdin=part)
    assert said == ("right, proved: `W.grad`\nnot given: `x.grad` and `c.grad`\n", "", 0)
    said = run("check", "layers.loops:affine", "-", "--wrt", "W,c", stdin=part)
    assert said.status == 1 and "the gradient `c.grad` is missing" in said.out


def test_a_mistake_of_notation_in_the_claim_is_a_finding(run: Run) -> None:
    said = run("check", "layers.loops:softmax", "-", stdin=RIGHT.replace("+ e[b]", "+ e[k]"))
    assert said.status == 1 and said.err == ""
    assert "--> <stdin>:3:57" in said.out and "+ e[b])`" in said.out


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("layers.loops:softmax", "nowhere.loops"), "cannot read `nowhere.loops`"),
        (("nowhere.loops", "layers.loops"), "cannot read `nowhere.loops`"),
        (("layers.loops:softmx", "layers.loops"), "did you mean `softmax`?"),
        (("layers.loops:softmax", "layers.loops:nothing"), "holds no program `nothing`"),
        (("-", "-"), "only one of the two"),
        (("layers.loops:affine", "layers.loops:affine", "--wrt", "q"), "`q` is no input"),
        (("broken.loops", "layers.loops"), "error:"),
        (("layers.loops:softmax", "empty.loops"), "holds no program"),
        (("layers.loops:softmax",), "Missing argument"),
    ],
)
def test_mistakes_exit_2(run: Run, arguments: tuple[str, ...], message: str) -> None:
    Path("broken.loops").write_text("f(x[N]) -> y[N]:\n    for n:  y[n] = x[m]\n")
    Path("empty.loops").write_text("\n")
    said = run("check", *arguments)
    assert (said.out, said.status) == ("", 2)
    assert message in said.err
