"""Remembering what was found out about a program, for as long as the program lives."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from importlib import import_module
from typing import Any, Concatenate, ParamSpec, TypeVar

from loopgrad.ir.nodes import Program

Answer = TypeVar("Answer")
Record = TypeVar("Record")
Asides = ParamSpec("Asides")

MOST_RECORDS = 4096

FINAL = "_final"  # on a program: it runs as it is written


def once_per_program(
    function: Callable[Concatenate[Program, Asides], Answer],
) -> Callable[Concatenate[Program, Asides], Answer]:
    """Keeps a function's answer on the program itself.

    By identity, not by equality: equal programs may stand at different places in a text, and
    what is found out about them (diagnostics, spans) names the place. What the function is told beside the
    program has no part in its answer.
    """
    key = f"_{function.__module__}.{function.__name__}"

    @wraps(function)
    def remembering(program: Program, /, *asides: Asides.args, **named: Asides.kwargs) -> Answer:
        memory = program.__dict__
        if key not in memory:
            memory[key] = function(program, *asides, **named)
        answer: Answer = memory[key]
        return answer

    return remembering


def by_identity(function: Callable[[Record], Answer]) -> Callable[[Record], Answer]:
    """Keeps a function's answers for the records that it was asked about last.

    A record never changes; to compare it with others would take as long as to ask again.
    """
    known: dict[
        int, tuple[Record, Answer]
    ] = {}  # with the record, so that no other gets its identity

    @wraps(function)
    def remembering(record: Record) -> Answer:
        found = known.get(id(record))
        if found is None:
            if len(known) >= MOST_RECORDS:
                known.clear()
            found = known[id(record)] = record, function(record)
        return found[1]

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
