"""Products that sum over the same indices run together: whatever they share, sums are those of NumPy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.analysis.validity import validate
from loopgrad.backends.llvm.products.together import together, with_one_right
from loopgrad.schedule import tree
from loopgrad.schedule.default import optimized
from tests.literal import literally


@dataclass(frozen=True)
class Term:
    """`target += factor * a * b`, one letter an index; what a letter's extent is, stands in SIZES."""

    target: str
    a: str
    b: str
    factor: float = 1.0


SHARED = {  # name: lines, and which of them have one right side
    "one right side": ([Term("ij", "ki", "kj"), Term("ij", "ik", "kj")], [[[0, 1]]]),
    "factors": ([Term("ij", "ki", "kj", -2.5), Term("ij", "ik", "kj", 0.5)], [[[0], [1]]]),
    "two right sides": (
        [Term("ij", "tki", "tkj"), Term("in", "tki", "tkn"), Term("ij", "tik", "tkj")],
        [[[0, 2], [1]]],
    ),
    "sums in other orders": (
        [Term("ij", "tki", "tkj"), Term("ij", "kti", "tkj"), Term("in", "tki", "ktn")],
        [[[0, 1], [2]]],
    ),
    "axes in other orders": (
        [Term("inj", "ki", "knj"), Term("inj", "ik", "knj"), Term("ijn", "ki", "knj")],
        [[[0, 1], [2]]],
    ),
}


def text(terms: list[Term]) -> str:
    read = lambda name, letters: f"{name}[{','.join(letters)}]"
    shape = lambda name, letters: f"{name}[{','.join(letters.upper())}]"
    sides = dict.fromkeys(s for term in terms for s in (f"a{term.a}", f"b{term.b}"))
    inputs = ", ".join(shape(s, s[1:]) for s in sides)
    results = ", ".join(shape(f"y{k}", term.target) for k, term in enumerate(terms))
    lines = [
        f"    for {', '.join(dict.fromkeys(term.target + term.a + term.b))}:  "
        f"{read(f'y{k}', term.target)} += {term.factor} * {read('a' + term.a, term.a)} * {read('b' + term.b, term.b)}"
        for k, term in enumerate(terms)
    ]
    return f"f({inputs}) -> {results}:\n" + "\n".join(lines)


def groups(program: lg.Program) -> list[tuple[tree.Product, ...]]:
    """The products that run together, in order."""
    found = []

    def walk(nodes: tuple[tree.Node, ...]) -> None:
        for node in together(nodes):
            if isinstance(node, tuple):
                found.append(node)
            elif isinstance(node, tree.Over | tree.Blocks):
                walk(node.body)

    for phase in optimized(infer(program), validate(program)).phases:
        assert isinstance(phase, tree.Fused)
        walk(phase.body)
    return found


@pytest.mark.parametrize("name", SHARED)
@pytest.mark.parametrize("depth", [0, 1, 16, 255, 257, 700])
def test_sums_are_those_of_numpy(name: str, depth: int) -> None:
    terms, shared = SHARED[name]
    program = lg.program(text(terms))
    assert [with_one_right(group) for group in groups(program)] == shared
    sizes = {"i": 65, "h": 7, "j": 70, "n": 5, "k": depth, "t": 3}
    rng = np.random.default_rng(depth)
    sides = dict.fromkeys(s for term in terms for s in (f"a{term.a}", f"b{term.b}"))
    arrays = {s: rng.standard_normal([sizes[i] for i in s[1:]]) for s in sides}
    for dtype in (np.float32, np.float64):
        given = {s: a.astype(dtype) for s, a in arrays.items()}
        for term, y in zip(terms, lg.compile(program)(**given), strict=True):
            a, b = (given[s].astype(float) for s in (f"a{term.a}", f"b{term.b}"))
            sums = f"{term.a},{term.b}->{term.target}"
            size = abs(term.factor) * np.einsum(sums, abs(a), abs(b))
            bound = 4 * np.finfo(dtype).eps * size * max(1, 3 * depth) ** 0.5
            assert (abs(y - term.factor * np.einsum(sums, a, b)) <= bound).all(), term


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (
            "y[i,j] += a[k,i] * b[k,j]\n z[i,j] += y[k,i] * b[k,j]",
            "one reads what the other writes",
        ),
        ("y[i,j] += a[k,i] * b[k,j]\n y[i,j] += c[k,i] * b[k,j]", "both write into one tensor"),
        ("y[i,j] += a[k,i] * b[k,j]\n z[i,j] += c[l,i] * d[l,j]", "the sums are not over the same"),
    ],
)
def test_products_that_have_to_run_apart(lines: str, why: str) -> None:
    body = "".join(f"    {line.strip()}\n" for line in lines.splitlines())
    names = [name for name in "yz" if f"{name}[i,j] +=" in body]
    results = ", ".join(f"{name}[I,I]" for name in names)
    inputs = ", ".join(f"{name}[I,I]" for name in "abcd" if f" {name}[" in body)
    program = lg.program(f"f({inputs}) -> {results}:\n{body}")
    assert not groups(program), why
    rng = np.random.default_rng(3)
    arrays = [rng.standard_normal((67, 67)) for _ in program.inputs]
    for found, wanted in zip(
        np.atleast_3d(lg.compile(program)(*arrays)),
        np.atleast_3d(literally(program)(*arrays)),
        strict=True,
    ):
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-10)
