"""Divisions of integers that only some iterations of a loop get to, by what all of them divide by.

LLVM 22 makes vectors of such loops that divide where the first lane does, and nowhere else.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

import loopgrad as lg

PROGRAMS = {
    "places": "f(v[A], u[B], w[A]) -> y[A,B]:\n"
    "    for i < A{down}, j < B-2:  y[(i+1) {by} A, j+2] += v[i] * u[j]   if {when}\n",
    "values": "f(v[A], u[B], w[A]) -> y[A,B]:\n"
    "    for i < A{down}, j < B:  y[i,j] += v[(i+3) % A] * u[j] * ((2*i+5) {by} A)   if {when}\n",
    "a divisor of data": "f(v[A], u[B], w[A], int n) -> y[A,B]:\n"
    "    for i < A{down}, j < B:  y[i,j] += (v[i] + (2*i+7) {by} n) * u[j]   if {when}\n",
    "sums": "f(v[A], u[B], w[A]) -> y[A]:\n"
    "    for i < A{down}, j < B:  y[i] += v[(5*i+2) % A] * u[j] * (i {by} A)   if {when}\n",
}
CONDITIONS = ["(i + j) % 2 == 0 and w[i] < 9", "j >= 3 and w[i] > 0", "u[j] > 0 and w[i] < 9"]


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("when", CONDITIONS)
def test_every_lane_divides(name: str, when: str) -> None:
    rng = np.random.default_rng(5)
    for down, by in product(("", " descending"), ("%", "//")):
        if name == "places" and by == "//":
            continue  # of which the second is out of range
        program = lg.program(PROGRAMS[name].format(down=down, by=by, when=when))
        for a, b in ((1, 9), (5, 21), (8, 40)):
            given = {"v": rng.normal(size=a), "u": rng.normal(size=b), "w": rng.normal(size=a)}
            given = {i.name: given.get(i.name, 3) for i in program.inputs}
            wanted = lg.compile(program, backend="interpret")(**given)
            for found in (program(**given), lg.compile(program, optimize=False)(**given)):
                np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)
