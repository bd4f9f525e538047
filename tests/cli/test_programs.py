"""`derive`, `unfold`: programs in, programs out."""

from __future__ import annotations

from pathlib import Path

import pytest

import loopgrad as lg
from tests.cli.conftest import LAYERS, Run

BACKWARD = """\
softmax.backward(s[B,J], Z[B], p.grad[B,J]) -> s.grad[B,J]:
    for b, j:  s.grad[b,j] += p.grad[b,j] * exp(s[b,j]) / Z[b]
    for b, j:  Z.grad[b]   -= p.grad[b,j] * exp(s[b,j]) / Z[b]**2
    for b, j:  s.grad[b,j] += Z.grad[b] * exp(s[b,j])
"""


def test_derive_prints_the_backward_loops(run: Run) -> None:
    assert run("derive", "layers.loops:softmax") == (BACKWARD, "", 0)


def test_a_program_comes_from_standard_input(run: Run) -> None:
    assert run("derive", "-:softmax", stdin=LAYERS) == (BACKWARD, "", 0)
    first = LAYERS.split("\n\n")[0]
    assert run("derive", "-", stdin=first) == (BACKWARD, "", 0)


def test_without_a_name_the_last_program_is_taken_and_said_so(run: Run) -> None:
    said = run("unfold", "layers.loops")
    assert said.out.startswith("counts(")
    assert said.err == (
        "note: layers.loops holds 3 programs; this is the last, `counts`. "
        "Another is layers.loops:softmax\n"
    )


def test_unfold_prints_the_loops_of_equations(run: Run) -> None:
    said = run("unfold", "layers.loops:affine")
    assert said.out == (
        "affine(x[B,I], param W[J,I], param c[J]) batch B -> y[B,J]:\n"
        "    for b, j, i:  y[b,j] += W[j,i] * x[b,i]\n"
        "    for b, j:     y[b,j] += c[j]\n"
    )


def test_wrt_chooses_and_batch_averages(run: Run) -> None:
    named = run("derive", "layers.loops:affine", "--wrt", "c")
    assert named.out == (
        "affine.backward(y.grad[B,J]) -> c.grad[J]:\n    for b, j:  c.grad[j] += y.grad[b,j] / B\n"
    )
    both = run("derive", "layers.loops:affine", "--wrt", "W,c")
    assert both == run("derive", "layers.loops:affine", "--wrt", "W", "--wrt", "c")
    summed = run("derive", "layers.loops:affine", "--wrt", "c", "--no-batch")
    assert "c.grad[j] += y.grad[b,j]\n" in summed.out
    asked = run("derive", "layers.loops:affine", "--wrt", "c", "--batch", "B")
    assert asked == named


def test_recompute_can_be_derived_again(run: Run) -> None:
    once = run("derive", "layers.loops:softmax", "--recompute")
    assert lg.program(once.out) == lg.program(LAYERS.split("\n\n")[0]).backward(recompute=True)
    twice = run("derive", "-", stdin=once.out)
    assert twice.status == 0
    assert "-> s.grad2[B,J]" in twice.out


def test_simplify(run: Run) -> None:
    said = run("derive", "layers.loops:softmax", "--simplify")
    assert said == (str(lg.load("layers.loops").softmax.backward().simplify()) + "\n", "", 0)


def test_explain_says_where_each_statement_comes_from(run: Run) -> None:
    said = run("derive", "layers.loops:softmax", "--explain")
    assert (said.err, said.status) == ("", 0)
    assert (
        said.out
        == """\
softmax.backward(s[B,J], Z[B], p.grad[B,J]) -> s.grad[B,J]:
    # from `for b, j:  p[b,j] += exp(s[b,j]) / Z[b]`
    # its s[b,j]: d p[b,j] / d s[b,j] = exp(s[b,j]) / Z[b]
    for b, j:  s.grad[b,j] += p.grad[b,j] * exp(s[b,j]) / Z[b]
    # from `for b, j:  p[b,j] += exp(s[b,j]) / Z[b]`
    # its Z[b]: d p[b,j] / d Z[b] = -(exp(s[b,j]) / Z[b]**2)
    for b, j:  Z.grad[b]   -= p.grad[b,j] * exp(s[b,j]) / Z[b]**2
    # from `for b, j:  Z[b] += exp(s[b,j])`
    # its s[b,j]: d Z[b] / d s[b,j] = exp(s[b,j])
    for b, j:  s.grad[b,j] += Z.grad[b] * exp(s[b,j])
"""
    )
    assert lg.program(said.out) == lg.load("layers.loops").softmax.backward()


def test_explain_of_a_simplified_program_is_its_proof(run: Run) -> None:
    said = run("derive", "layers.loops:softmax", "--simplify", "--explain")
    literal = lg.load("layers.loops").softmax.backward()
    simplified = literal.simplify()
    assert (said.err, said.status) == ("", 0)
    assert said.out == "\n".join(
        [
            str(literal),
            "\nEach line equals the one above it, by the rule between them:\n",
            str(simplified.derivation),
            "\nSo the program computes the same as:\n",
            str(simplified),
            "\n3 steps, true of real numbers, in floating point up to rounding. "
            "Each is certified: 3 in finite fields and to 20 digits.\n",
        ]
    )
    nothing = run(
        "derive", "-", "--simplify", "--explain", stdin="f(x[N]) -> y[N]:\n  y[n] = 2*x[n]"
    )
    assert "Nothing cheaper was found" in nothing.out
    latex = run("derive", "layers.loops:softmax", "--simplify", "--explain", "--to", "latex")
    assert simplified.derivation.to("latex") in latex.out


def test_other_notations(run: Run) -> None:
    softmax = lg.load("layers.loops").softmax
    for notation in ("latex", "python"):
        said = run("unfold", "layers.loops:softmax", "--to", notation)
        assert said.out == softmax.to(notation) + "\n"
    assert "s_grad" in run("derive", "layers.loops:softmax", "--to", "python").out


def test_a_file_whose_name_has_a_colon_is_a_file(run: Run) -> None:
    Path("a:b.loops").write_text(LAYERS, encoding="utf-8")
    assert run("derive", "a:b.loops:softmax").out == BACKWARD
    assert run("unfold", "a:b.loops").out.startswith("counts(")


@pytest.mark.parametrize("path", [r"C:\layers.loops", r"C:\my\layers.loops", "C:/layers.loops"])
def test_a_windows_path_is_a_path(run: Run, path: str) -> None:
    said = run("derive", path)
    assert (said.out, said.status) == ("", 2)
    assert said.err.startswith(f"error: cannot read `{path}`: there is no such file")


def test_warnings_go_to_stderr_without_python_around_them(run: Run) -> None:
    said = run("unfold", "-", stdin="f(x[N], z[N]) -> y[N]:\n    for n:  y[n] += x[n]\n")
    assert said.status == 0
    assert said.out.startswith("f(x[N], z[N])")
    assert said.err.startswith("warning: input `z` is never used\n --> <stdin>:1:9\n")
    assert "site-packages" not in said.err and ".py" not in said.err


# ---------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["derive"], "Missing argument 'FILE[:NAME]'"),
        (["derive", "nowhere.loops"], "cannot read `nowhere.loops`: there is no such file"),
        (["derive", "layer.loops"], "did you mean `layers.loops`?"),
        (["derive", "."], "cannot read `.`: is a directory"),
        (["derive", "layers.loops:sofmax"], "no program `sofmax`, did you mean `softmax`?"),
        (["derive", "layers.loops:q"], "it holds `softmax`, `affine` and `counts`"),
        (["derive", "nowhere.loops:softmax"], "cannot read `nowhere.loops`: there is no such file"),
        (["derive", "layers.loops:softmax", "--wrt", "q"], "`q`"),
        (["derive", "layers.loops:counts"], "counts"),
        (["derive", "layers.loops:affine", "--batch", "Q"], "Q"),
        (["derive", "layers.loops:affine", "--batch", "B", "--no-batch"], "exclude each other"),
        (["derive", "layers.loops:softmax", "--explain", "--to", "latex"], "--explain writes text"),
        (
            ["derive", "layers.loops:softmax", "--simplify", "--explain", "--to", "python"],
            "--explain writes text and latex",
        ),
        (["unfold", "layers.loops:softmax", "--to", "word"], "'text', 'latex', 'python'"),
        (["unfold", "layers.loops", "more"], "unexpected extra argument"),
        (["derive", "a\0b"], "cannot read"),
        (["deriv", "layers.loops"], "no command `deriv`, did you mean `derive`?"),
        (
            ["xyz"],
            "there are derive, unfold, fmt, check, run, export, explain, bench, problems, train",
        ),
        (["--nothing"], "--nothing"),
    ],
)
def test_a_mistake_is_one_message_and_status_2(
    run: Run, arguments: list[str], message: str
) -> None:
    said = run(*arguments)
    assert (said.out, said.status) == ("", 2)
    assert message in said.err
    assert said.err.startswith("error: ")


def test_a_mistake_in_a_program_shows_the_place(run: Run) -> None:
    said = run("derive", "-", stdin="f(x[N]) -> y[N]:\n    for n:  y[n] += x[m] + z\n")
    assert (said.out, said.status) == ("", 2)
    assert " --> <stdin>:2:23\n" in said.err
    assert " --> <stdin>:2:28\n" in said.err  # all of them, not the first alone
    assert "^" in said.err


def test_what_is_no_text_is_said_to_be_none(run: Run) -> None:
    Path("latin.loops").write_bytes("# ok\nf(x[N]) -> y[N]:  # größer\n".encode("latin-1"))
    said = run("derive", "latin.loops")
    assert said.err == "error: `latin.loops` is not UTF-8 text: line 2 holds the byte 0xf6\n"
    assert said.status == 2


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing\n"])
def test_a_file_without_programs(run: Run, text: str) -> None:
    said = run("derive", "-", stdin=text)
    assert (said.out, said.status) == ("", 2)
    assert "<stdin>" in said.err and "no program" in said.err
