"""How long a machine of P processors takes: the graph level by level, greedily."""

from __future__ import annotations

import numpy as np

from loopgrad.cost.levels import Levels


def greedy(levels: Levels, processors: int) -> int:
    """The steps that the processors take, each level finished before the next begins.

    Every step does as many operations of its level as there are processors, so that it is at most
    `work / processors + span` (Brent 1974), and at least the larger of the two.

    Raises ValueError for less than one processor.

    >>> import numpy as np
    >>> [greedy(Levels(np.array([0, 5, 2, 1])), p) for p in (1, 2, 4, 100)]
    [8, 5, 4, 3]
    """
    if processors < 1:
        raise ValueError(f"processors: at least 1 is needed, got {processors}")
    return int(np.sum(-(-levels.counts // processors)))
