"""Programs that nearly have the shapes that rules look for: their schedules, walked, against the interpreter."""

from __future__ import annotations

import pytest

from loopgrad.schedule.choices import Choices
from tests.effort import EFFORT
from tests.mutations import drawn
from tests.schedule.test_walking import check

TOGETHER = 20  # programs in a test


@pytest.mark.filterwarnings("ignore::loopgrad.ProgramWarning")
@pytest.mark.parametrize("part", range(4 * EFFORT))
def test_programs_that_differ_in_one_place_or_two(part: int) -> None:
    for seed in range(part * TOGETHER, (part + 1) * TOGETHER):
        program, inputs = drawn(seed)
        check(program, inputs, 1 + seed % 3, Choices())
