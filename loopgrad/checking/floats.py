"""The arithmetic that checks run programs in, float64: that of `loopgrad.simplify.floats`."""

from __future__ import annotations

from loopgrad.simplify.floats import Floats, array, floats, numbers

__all__ = ["Floats", "array", "floats", "numbers"]
