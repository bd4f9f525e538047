"""Arithmetic in float32, in the place of decimals: what a compiled program makes of its inputs."""

from __future__ import annotations

import numpy as np

from loopgrad.simplify.numbers.floats import Floats

SINGLE = np.float32


class Singles(Floats):
    """`Lines` whose reals are float32."""

    dtype = SINGLE
