"""Faults put into the backwards of all programs of the repository: each that changes a value is caught,
and what is said to be right is right.

A sample in each run, always the same; with CHECK_ALL=1 every fault.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

import loopgrad as lg
from loopgrad.simplify.certifying.certificate import certify
from tests.effort import by_name, sample
from tests.simplify.mutations import mutations

ROOT = Path(__file__).parents[2]
EVERY = bool(os.environ.get("CHECK_ALL"))
EACH = 10_000 if EVERY else 1  # faults tried in each program

FILES = [
    "tests/programs/corpus.loops",
    "tests/programs/references.loops",
    "loopgrad/problems/problems.loops",
    "loopgrad/examples/digits.loops",
]


def programs() -> dict[str, lg.Program]:
    found = {f"lib.{name}": lg.lib[name] for name in lg.lib}
    for file in FILES:
        module = lg.load(ROOT / file)
        found |= {f"{Path(file).stem}.{name}": module[name] for name in module}
    return {name: p for name, p in found.items() if any(i.differentiable for i in p.inputs)}


PROGRAMS = programs()
SAMPLE = (
    list(PROGRAMS)
    if EVERY
    else [
        *by_name([name for name in PROGRAMS if name.startswith("lib.")], 36),
        *sample([name for name in PROGRAMS if not name.startswith("lib.")], 12),
    ]
)


@pytest.mark.parametrize("name", SAMPLE)
def test_faults_are_caught_and_mended(name: str) -> None:
    forward = PROGRAMS[name]
    literal = forward.backward()
    every = list(mutations(literal))
    for what, wrong in random.Random(name).sample(every, min(EACH, len(every))):
        answer = lg.check(forward, str(wrong))
        if answer:
            # It changes nothing: the certificate, which knows no kinks, says so of both.
            assert certify(literal, wrong, forward, kinks=False), f"{what}\n{wrong}"
            continue
        assert answer.findings[0].line is not None
        assert answer.mended is not None, f"{what}\n{wrong}\n{answer}"
        assert lg.check(forward, answer.mended), f"{what}\n{wrong}\n{answer.mended}"


# Backwards that compute all again, of which runs alone say that they are right; no proof is found.
UNPROVED = ("lib.lstm", "lib.ctc_loss", "corpus.ctc", "references.ctc", "references.crf_partition")


@pytest.mark.parametrize("name", SAMPLE[1::2])
def test_right_backwards_are_not_refused(name: str) -> None:
    forward = PROGRAMS[name]
    literal = forward.backward()
    assert lg.check(forward, str(literal)).method == "proved"
    again = lg.check(forward, str(forward.backward(recompute=True)))
    assert again
    assert (again.method == "proved") is (name not in UNPROVED)
    if len(literal.statements) < 12:
        assert lg.check(forward, str(literal.simplify()))
