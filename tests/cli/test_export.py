"""`loopgrad export`: files for C, and programs in C that use them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import Run

COMPILER = shutil.which("cc") or shutil.which("gcc")

MAIN = """
#include "softmax.h"
#include <stdio.h>

int main(void)
{
    const double s[6] = {1, 2, 3, 0, 0, 0}, seed[6] = {1, 0, 0, 0, 1, 0};
    double p[6], gradient[6];

    if (softmax(2, 3, s, p) != LOOPGRAD_OK)
        return 1;
    if (softmax_backward(2, 3, p, seed, gradient) != LOOPGRAD_OK)
        return 1;
    for (int i = 0; i < 6; i++)
        printf("%.6f %.6f\\n", p[i], gradient[i]);
    return softmax(-1, 3, s, p) == LOOPGRAD_EXTENT ? 0 : 1;
}
"""
PRINTED = """0.090031 0.081925
0.244728 -0.022033
0.665241 -0.059892
0.333333 -0.111111
0.333333 0.222222
0.333333 -0.111111
"""


@pytest.mark.parametrize("file", ["softmax.c", "softmax.o"])
def test_a_program_in_c_uses_a_derived_gradient(run: Run, file: str) -> None:
    done = run("export", "layers.loops:softmax", "--grad", "-o", "build")
    assert done.status == 0
    assert "build/softmax.h\nbuild/softmax.c\nbuild/softmax.o\n" in done.out
    if COMPILER is None:
        pytest.skip("this system has no C compiler")
    assert Path("build/softmax.so").exists()
    Path("build/main.c").write_text(MAIN, encoding="utf-8")
    strict = ["-std=c11", "-pedantic", "-Wall", "-Wextra", "-Werror"]
    command = [COMPILER, *strict, "main.c", file, "-o", "main", "-lm"]
    subprocess.run(command, cwd="build", check=True)
    ran = subprocess.run(["build/main"], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (0, PRINTED)


def test_a_backward_that_reads_what_is_computed_on_the_way_has_a_forward_that_writes_it(
    run: Run,
) -> None:
    Path("f.loops").write_text(
        "f(x[N], param a, param c) -> y[N]:\n    for n:  t[n] = tanh(a * x[n])\n"
        "    for n:  y[n] = t[n] * c\n",
        encoding="utf-8",
    )
    run("export", "f.loops", "--grad", "-o", ".", "--only-c", "--dtype", "both", "--literal")
    header = Path("f.h").read_text(encoding="utf-8")
    assert "int f(int64_t N, double a, double c, const double *x, double *y);" not in header
    assert "int f(int64_t N, const double *x, double a, double c, double *y);" in header
    assert (
        "int f_forward(int64_t N, const double *x, double a, double c, double *y, double *t);"
        in (header)
    )
    assert "int f_backward(int64_t N, " in header
    assert "float *t);" in Path("f_f32.h").read_text(encoding="utf-8")
    assert not Path("f.o").exists()


def test_names_that_c_does_not_know(run: Run) -> None:
    Path("g.loops").write_text(
        "double(γ[N], x'[N]) -> y'[N]:\n    for n:  y'[n] = γ[n] * x'[n]\n", encoding="utf-8"
    )
    done = run("export", "g.loops", "--grad", "-o", "out", "--only-c")
    assert done.out == "out/double_.h\nout/double_.c\n"
    header = Path("out/double_.h").read_text(encoding="utf-8")
    assert "const double *gamma, const double *x_prime, const double *y_prime_grad" in (
        header.replace("gamma_", "gamma").replace("\n" + " " * 21, " ")
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("layers.loops:softmax", "--wrt", "s", "-o", "d"), "give --grad too"),
        (("layers.loops:softmax", "--grad", "--wrt", "z", "-o", "d"), "no input `z`; it has `s`"),
        (("layers.loops:softmax", "--grad", "--batch", "Z", "-o", "d"), "has no extent `Z`"),
        (("layers.loops:softmax", "--grad", "--batch", "B", "--no-batch", "-o", "d"), "exclude"),
        (("layers.loops:softmax",), "Missing option '-o'"),
        (("layers.loops:sofmax", "-o", "d"), "did you mean `softmax`"),
        (("layers.loops:softmax", "-o", "layers.loops"), "cannot write to `layers.loops`"),
        (("layers.loops:softmax", "-o", "d", "--dtype", "half"), "'half' is not one of"),
    ],
)
def test_mistakes(run: Run, arguments: tuple[str, ...], words: str) -> None:
    done = run("export", *arguments)
    assert done.status == 2
    assert words in done.err
    assert "Traceback" not in done.err
