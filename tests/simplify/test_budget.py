"""The algebra gives up on terms that grow beyond what it takes on, and says so by leaving a program as it is."""

from __future__ import annotations

import pytest

import loopgrad as lg
from loopgrad.simplify.algebra.budget import TooLarge, spell, spelling
from loopgrad.simplify.improving import improved
from loopgrad.simplify.searching import search

SOFTMAX = """\
softmax(s[B,J]) -> p[B,J]:
    for b, j:  Z[b]   += exp(s[b,j])
    for b, j:  p[b,j] += exp(s[b,j]) / Z[b]
"""


def test_letters_within_count_for_what_is_around():
    with spelling(10):
        spell(4)
        with spelling(100):
            spell(5)
        spell(1)
        with pytest.raises(TooLarge), spelling(100):
            spell(1)
        with pytest.raises(TooLarge):
            spell(1)
    spell(1_000_000)  # nothing is counted where nothing is limited


def test_letters_of_a_candidate_are_its_own():
    with spelling(10):
        with pytest.raises(TooLarge), spelling(3):
            spell(4)
        spell(6)


@pytest.mark.parametrize("limits", [("SEARCH", 0), ("CANDIDATE", 0)])
def test_what_is_too_much_stays_as_it_is(monkeypatch: pytest.MonkeyPatch, limits: tuple[str, int]):
    program = lg.program(SOFTMAX)
    backward = program.backward()
    assert improved(backward, program) is not None
    monkeypatch.setattr(search, *limits)
    assert improved(backward, program) is None
