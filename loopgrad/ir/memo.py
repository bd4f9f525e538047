"""Remembering what was found out about a program, for as long as the program lives."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TypeVar

from loopgrad.ir.nodes import Program

Answer = TypeVar("Answer")


def once_per_program(function: Callable[[Program], Answer]) -> Callable[[Program], Answer]:
    """Keeps a function's answer on the program itself.

    By identity, not by equality: equal programs may stand at different places in a text, and
    what is found out about them (diagnostics, spans) names the place.
    """
    key = f"_{function.__module__}.{function.__name__}"

    @wraps(function)
    def remembering(program: Program) -> Answer:
        memory = program.__dict__
        if key not in memory:
            memory[key] = function(program)
        answer: Answer = memory[key]
        return answer

    return remembering
