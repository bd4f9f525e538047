"""Programs -> C11 and a header, that need the C library alone: their loops, as a reader would write them.

    int softmax(int64_t B, int64_t J, const double *restrict s, double *restrict p)
    {
        ...
        /* for b, j:  Z[b] += exp(s[b,j]) */
        for (int64_t b = 0; b < B; b++)
            for (int64_t j = 0; j < J; j++)
                Z[b] += exp(s[b * J + j]);

A function takes the extents that its header names, constants, inputs and results, and returns an error
code. It computes what the reference interpreter does. What the analysis proved is not checked again;
what it left to run time is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from loopgrad.printers import c_helpers
from loopgrad.printers.c_functions import Exported, Function
from loopgrad.printers.c_names import legal


def c_files(stem: str, functions: Sequence[Exported], real: str = "double") -> tuple[str, str]:
    """The header and the source, as texts, of `stem`.h and `stem`.c.

    real: "double" or "float". Raises ProgramError where a program breaks a rule.

    >>> import loopgrad as lg
    >>> from loopgrad.printers.c import c_files
    >>> from loopgrad.printers.c_functions import Exported
    >>> double = lg.program("double(x[N]) -> y[N]:\\n    for n:  y[n] += 2 * x[n]")
    >>> header, source = c_files("twice", [Exported("twice", double)])
    >>> print(source[source.index("int twice"):], end="")
    int twice(int64_t N, const double *restrict x, double *restrict y)
    {
        if (N < 0)
            return LOOPGRAD_EXTENT;
        if (N >> 40)
            return LOOPGRAD_TOO_LARGE;
    <BLANKLINE>
        /* for n:  y[n] += 2 * x[n] */
        for (int64_t i = 0; i < N; i++)
            y[i] = 0;
        PARALLEL((double)N)
        for (int64_t n = 0; n < N; n++)
            y[n] += 2.0 * x[n];
        return LOOPGRAD_OK;
    }
    """
    made = [Function(each, real) for each in functions]
    return _header(stem, made), _source(stem, made, real)


def _header(stem: str, functions: Sequence[Function]) -> str:
    guard = f"{legal(stem).upper()}_H"
    codes = [f"    {name} = {c_helpers.code(name)}," for name in c_helpers.ERRORS]
    width = max(map(len, codes))
    lines = [
        f"/* {stem}.h: written by loopgrad. Arrays are in C order; what is written overlaps nothing. */",
        f"#ifndef {guard}",
        f"#define {guard}",
        "",
        "#include <stdint.h>",
        "",
        "#ifndef LOOPGRAD_ERRORS",
        "#define LOOPGRAD_ERRORS",
        "/* What a function returns: several of these, added up, where several things are wrong. */",
        "enum {",
        *(f"{c:{width}} /* {m} */" for c, m in zip(codes, c_helpers.ERRORS.values(), strict=True)),
        "};",
        "#endif",
        "",
        "#ifdef __cplusplus",
        'extern "C" {',
        "#endif",
    ]
    for each in functions:
        lines += ["", *each.comment(), f"{each.prototype(restrict=False)};"]
    return "\n".join([*lines, "", "#ifdef __cplusplus", "}", "#endif", "", "#endif", ""])


PARALLEL = """
/* Loops whose iterations write elements of their own, shared by threads where that is worth it. */
#ifdef _OPENMP
#define PRAGMA(text) _Pragma(#text)
#define PARALLEL(work) PRAGMA(omp parallel for if ((work) > 30000))
#define PARALLEL_CHECKED(work) PRAGMA(omp parallel for reduction(| : error) if ((work) > 30000))
#else
#define PARALLEL(work)
#define PARALLEL_CHECKED(work)
#endif
"""


def _source(stem: str, functions: Sequence[Function], real: str) -> str:
    helpers = {name for each in functions for name in each.scope.helpers}
    helpers |= {needed for name in helpers for needed in c_helpers.NEEDS.get(name, ())}
    texts = [each.text() for each in functions]
    lines = [
        f"/* {stem}.c: written by loopgrad. C11; link with -lm. With OpenMP it may use several threads. */",
        f'#include "{stem}.h"',
        "",
        "#include <math.h>",
        "#include <stddef.h>",
        "#include <stdlib.h>",
    ]
    if any("PARALLEL" in text for text in texts):
        lines.append(PARALLEL.rstrip("\n"))
    for name, text in c_helpers.HELPERS.items():
        if name in helpers:
            lines.append(_of_type(text, real).rstrip("\n"))
    for text in texts:
        lines += ["", text]
    return "\n".join([*lines, ""])


def _of_type(text: str, real: str) -> str:
    text = re.sub(r"\breal\b", real, text)
    return re.sub(r"(?<=[a-z0-9])F\(", "f(" if real == "float" else "(", text)
