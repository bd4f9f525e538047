"""Stable forms: Program -> Program that neither overflows nor cancels, run instead of what is written."""

from loopgrad.stable.stabilize import stabilize

__all__ = ["stabilize"]
