"""The problems that are answered so far, and how each answer is computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from loopgrad.frontend.parser import parse
from loopgrad.ir.nodes import Program
from loopgrad.ir.printer import show_statement
from loopgrad.problems import information, networks, optimised, parallel
from loopgrad.problems.answers import Evidence, Part, Worked, statements_of
from loopgrad.problems.differences import check
from loopgrad.simplify.equality import equal

PROGRAMS = Path(__file__).with_name("problems.loops")
SIZES = {"B": 5, "J": 4, "J'": 4, "I": 3, "K": 2, "T": 6}


def solve(number: int) -> Worked:
    """The problem of that number, answered now. Raises KeyError for one that there is not."""
    return SOLUTIONS[number](programs())


def programs() -> dict[str, Program]:
    text = PROGRAMS.read_text(encoding="utf-8")
    return {p.name: p for p in parse(text, PROGRAMS.name)}


def _softmax(programs: Mapping[str, Program]) -> Worked:
    softmax = programs["softmax"]
    backward = softmax.backward()
    return Worked(
        "Problem 1. Backpropagation through softmax",
        (softmax,),
        (
            Part(
                "(a) into s.grad, from the second loop, given p.grad",
                statements_of(backward, "s.grad", reads="p.grad"),
            ),
            Part(
                "(b) into Z.grad, from the second loop, given p.grad",
                statements_of(backward, "Z.grad", reads="p.grad"),
            ),
            Part(
                "(c) into s.grad, from the first loop, given Z.grad",
                statements_of(backward, "s.grad", reads="Z.grad"),
            ),
            Part("The backward program, whole", backward),
        ),
        {softmax.name: check(softmax, SIZES)},
    )


def _batchnorm(programs: Mapping[str, Program]) -> Worked:
    batchnorm = programs["batchnorm"]
    backward = batchnorm.backward()
    simplified = backward.simplify()
    return Worked(
        "Problem 3. Backpropagation through batch normalisation",
        (batchnorm,),
        (
            Part(
                "The loops for x.grad, μ.grad and s.grad from x'.grad, in the order to be executed",
                backward,
            ),
            without_the_fifth(backward),
            Part("Nor are three sums for each j needed, since", simplified.derivation),
            Part("So x.grad is computed by", simplified),
        ),
        {batchnorm.name: check(batchnorm, SIZES)},
    )


def without_the_fifth(backward: Program) -> Evidence:
    """Going further than the problem asks."""
    dropped = backward.statements[4]
    others = tuple(s for s in backward.statements if s is not dropped)
    verdict = equal(backward, replace(backward, statements=others)).verdict
    lines = (show_statement(dropped), f"equal without it: {verdict}")
    return Evidence("Going further: the fifth line adds nothing", lines, verdict == "proved")


def _ugrnn(programs: Mapping[str, Program]) -> Worked:
    reset, einstein, cell = programs["reset"], programs["reset_einstein"], programs["ugrnn_cell"]
    loops = reset.unfold()
    same = replace(einstein.unfold(), name=loops.name) == loops
    parts = [
        Part("(a) The first equation as += loops", loops),
        Part(
            "(b) Its backward loops, the gradients of parameters averaged over the batch",
            reset.backward(),
        ),
        Part("All equations of the cell, as they stand", cell),
        Part("Their backward loops", cell.backward()),
    ]
    if same:
        parts.insert(
            1, Part("In Einstein notation it is, and unfolds into the same loops", einstein)
        )
    return Worked(
        "Problem 4. Backpropagation through a UGRNN",
        (reset,),
        tuple(parts),
        {name: check(programs[name], SIZES) for name in ("reset", "ugrnn_cell", "ugrnn")},
    )


def _framework(programs: Mapping[str, Program]) -> Worked:
    """(a) the procedure, and (b) what the network that it makes costs."""
    first = networks.solve(programs)
    return replace(first, parts=(*first.parts, *parallel.parts(programs)))


SOLUTIONS: dict[int, Callable[[Mapping[str, Program]], Worked]] = {
    0: information.solve,
    1: _softmax,
    2: optimised.solve,
    3: _batchnorm,
    4: _ugrnn,
    5: _framework,
}
