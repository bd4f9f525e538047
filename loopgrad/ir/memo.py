"""Remembering what was found out about a program, for as long as the program lives."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from importlib import import_module
from typing import Any, TypeVar

from loopgrad.ir.nodes import Program

Answer = TypeVar("Answer")

FINAL = "_final"  # on a program: it runs as it is written


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


def elsewhere(module: str, name: str) -> Callable[[Program], Any]:
    """A function of `once_per_program`, loaded when first a program has no answer of it."""
    key = f"_{module}.{name}"

    def asking(program: Program) -> Any:
        memory = program.__dict__
        return memory[key] if key in memory else getattr(import_module(module), name)(program)

    return asking


def final(program: Program) -> Program:
    """The program, marked as one that runs as it is written: no stable form of it is looked for."""
    program.__dict__[FINAL] = True
    return program


def is_final(program: Program) -> bool:
    return FINAL in program.__dict__
