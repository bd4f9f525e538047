"""Texts from strangers: a ProgramError or programs, in bounded time, and nothing else."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import loopgrad
from loopgrad.diagnostics import ProgramError
from loopgrad.frontend.parser import parse
from loopgrad.ir.limits import LONGEST_TEXT
from loopgrad.ir.nodes import Program

HEADER = "f(x[N]) -> y[N]:\n    "
MANY = 20_000  # of what 1,000 at most are allowed, or 10,000
SECONDS = 8  # of the processor, for what takes half of one


def outcome(text: str) -> list[Program] | ProgramError:
    """Everything that reading the text may end in; the error shown, as a user would see it."""
    start = time.process_time()
    try:
        result: list[Program] | ProgramError = parse(text)
    except ProgramError as error:
        assert str(error)
        assert error.line is not None and error.column is not None
        result = error
    assert time.process_time() - start < SECONDS
    return result


REFUSED = {
    "brackets": HEADER + "y[n] = " + "(" * MANY + "x[n]" + ")" * MANY,
    "open brackets": "[" * MANY,
    "closing brackets": "]" * MANY,
    "crossed brackets": "[(" * MANY + "])" * MANY,
    "subscripts": HEADER + "y[n] = " + "x[" * MANY + "n" + "]" * MANY,
    "targets": HEADER + "y" + "[y" * MANY + "]" * MANY + " = 1",
    "extents": "f(x[" + "N[" * MANY + "N" + "]" * MANY + "]) -> y:\n    y = 1",
    "extent brackets": "f(x[" + "(" * MANY + "N" + ")" * MANY + "]) -> y:\n    y = 1",
    "local": HEADER + "local z[" + "exp(" * MANY + "N" + ")" * MANY + "]\n    y[n] = 1",
    "bounds": HEADER + "for n < " + "x[" * MANY + "0" + "]" * MANY + ":  y[n] = 1",
    "functions": HEADER + "y[n] = " + "exp(" * MANY + "x[n]" + ")" * MANY,
    "reductions": HEADER + "y[n] = " + "sum[i](" * MANY + "x[i]" + ")" * MANY,
    "a sum": HEADER + "y[n] = x[n]" + " + x[n]" * MANY,
    "a chain of comparisons": HEADER + "y[n] = x[n]" + " < x[n]" * MANY,
    "conditionals": HEADER + "y[n] = " + "1 if x[n] else " * (MANY // 2) + "2",
    "guards": HEADER + "y[n] = 1 if " + "1 if x[n] else " * (MANY // 2) + "2",
    "minus signs": HEADER + "y[n] = " + "-" * MANY + "x[n]",
    "nots": HEADER + "y[n] = " + "not " * MANY + "x[n]",
    "powers": HEADER + "y[n] = " + "2**" * MANY + "x[n]",
    "operands": HEADER + "y[n] = max(" + "x[n], " * MANY + "x[n])",
    "axes": HEADER + "y[n] = z[" + "n, " * MANY + "n]",
    "indices": HEADER + "for " + ", ".join(f"i{i}" for i in range(MANY)) + ":  y[0] = 1",
    "arguments": "f(" + ", ".join(f"x{i}" for i in range(MANY)) + ") -> y:\n    y = 1",
    "digits": HEADER + "y[n] = " + "9" * (5 * MANY),
    "decimals": HEADER + "y[n] = " + "9" * MANY + "." + "9" * MANY + "e" + "9" * MANY,
    "a name": HEADER + "y[n] = " + "a" * (5 * MANY),
    "dots": HEADER + "y[n] = " + "a." * MANY + "a",
    "primes": HEADER + "y[n] = x" + "'" * (5 * MANY),
    "combining marks": HEADER + "y[n] = R" + "\u0303" * (5 * MANY),
    "superscripts": HEADER + "y[n] = " + "²a" * (2 * MANY),
    "nul": "\0" * MANY,
    "surrogates": "\ud800" * MANY,
    "carriage returns": "\r" * MANY,
    "quotes": "'" * MANY,
    "statements": HEADER + "y[n] = 1\n    " * (MANY // 2) + "y[n] = 1",
    "headers": "f(x)->y:\n" * (MANY // 10),
    "mistakes": HEADER + "y[n] + x[n]\n    " * 9_000 + "y[n] = 1",
    "too long": HEADER + "y[n] = 1\n" + "#" * LONGEST_TEXT,
    "a million lines": HEADER + "y[n] += x[n]\n    " * 1_000_000,
    "blocks": HEADER
    + "".join("    " + " " * i + f"for t{i}:\n" for i in range(1_000)).strip()
    + "\n" + " " * 2_000 + "y[0] = 1",
    "indentations": HEADER + "".join("    " + " " * i + "y[0] = 1\n" for i in range(1_000)).strip(),
    "an open bracket and lines": HEADER + "y[n] = (x[n]\n" + "    + x[n]\n" * (MANY // 2),
    "an open bracket and nothing": HEADER + "y[n] = (x[n]\n" + "\n" * (5 * MANY),
}  # fmt: skip


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
def test_refused(text: str) -> None:
    assert isinstance(outcome(text), ProgramError)


ALLOWED = {
    "empty lines": HEADER + "y[n] = 1\n" + "\n" * (9 * MANY),
    "comments": HEADER + "y[n] = 1\n" + "#\n" * (4 * MANY),
    "spaces": HEADER + "y[n]" + " " * (9 * MANY) + "= 1",
    "tabs": HEADER + "y[n] = 1\n" + "\t" * (9 * MANY),
    "an indented text": " " * (4 * MANY) + "f(x) -> y:\n" + " " * (4 * MANY + 1) + "y = 1",
    "statements": HEADER + "y[n] += 1\n    " * 9_000,
    "programs": "".join(f"f{i}(x) -> y:\n    y = x\n" for i in range(MANY // 20)),
    "towers of powers": "f(x[2**2**2**2**2**2**9]) -> y:\n    y = 2**2**2**2**2**2**9",
    "huge extents": "f(size N) -> y[2**N]:\n    for n < 2**N:  y[n] = 1",
    "balanced brackets": HEADER + "y[n] = " + "(" * 60 + "x[n]" + ")" * 60,
}


@pytest.mark.parametrize("text", ALLOWED.values(), ids=ALLOWED)
def test_allowed(text: str) -> None:
    assert isinstance(outcome(text), list)


def test_the_deepest_expression_that_is_read_can_be_printed_and_compared() -> None:
    deep = "x[n]"
    for _ in range(32):
        deep = f"exp(1 - ({deep}) * 2)"
    program = parse(HEADER + "y[n] = " + deep)[-1]
    assert parse(str(program)) == [program]
    assert isinstance(
        outcome(HEADER + "y[n] = " + "exp(1 - 2 * " * 34 + deep + ")" * 34), ProgramError
    )


PIECES = [
    *"()[]{},:+-*/<>=!&|^%'\"#.\t \n\\0129aexB", "for ", "if ", "else ", "->", "+=", "max=",
    "local ", "int ", "param ", "size ", " batch B", "descending", "sum[i](", "**", "//", "==",
    "\n\n", "    ", "\r\n", "μ", "\u0303", "²", "\0", "\ud800", "1e400", "9" * 20, " and ", " not ",
]  # fmt: skip


def mutations(seed: int, count: int) -> Iterator[str]:
    """Programs of the library with a few random pieces put in, taken out or moved."""
    random_ = random.Random(seed)
    folder = Path(loopgrad.__file__).parent / "lib"
    texts = [t for f in sorted(folder.glob("*.loops")) for t in f.read_text("utf-8").split("\n\n")]
    for _ in range(count):
        text = random_.choice(texts)
        for _ in range(random_.choice([1, 1, 1, 2, 3, 8])):
            start = random_.randrange(len(text) + 1)
            end = start + random_.choice([0, 0, 1, 1, 2, 5, 20])
            piece = random_.choice([*PIECES, "", text[start:end]])
            other = random_.randrange(len(text) + 1)
            text = (
                text[:start] + piece + text[end:]
                if random_.random() < 0.7
                else text[:other] + text[start:end] + text[other:]
            )
        yield text


@pytest.mark.parametrize("seed", range(4))
def test_mutated_programs_are_refused_or_read_and_then_print_as_they_are(seed: int) -> None:
    refused = read = 0
    for text in mutations(seed, 400):
        result = outcome(text)
        if isinstance(result, ProgramError):
            refused += 1
            continue
        for program in result:
            read += 1
            assert parse(str(program))[-1] == program
    assert refused > 100 and read > 30
