"""A program as an operator of a framework, and the operators that its derivatives are.

    plain(program) --reversal--> forward, backward
                   --tangent---> its derivative along a direction
                   --batched---> the same for many arguments at once

Each of these is an operator again, so that a framework may differentiate to any order, and mix that
with batching. Nothing here knows of a framework.

An operator is a pair of programs. `computes` is what runs. It may read what another operator has
computed already: the backward of softmax reads `Z`. `means` is the same as a function of what the
user gave: it computes `Z` again. Derivatives are those of `means`; that residuals are functions of
the other arguments is thereby accounted for, and nothing flows through the residuals themselves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from loopgrad.analysis.facts import Facts
from loopgrad.backends.kernel import Kernel
from loopgrad.cache.answers import kept
from loopgrad.functions.derived import derived_name, derived_pair
from loopgrad.functions.reverse import outgrows
from loopgrad.functions.shared import Batch
from loopgrad.ir.nodes import Default, Input, Program, Size
from loopgrad.ir.operations import ElementType
from loopgrad.ir.walk import names_in
from loopgrad.pipeline import compile_returning, infer, verify


@dataclass(frozen=True, repr=False)
class Operator:
    """What runs and what it means; see the head of this file.

    keeps: tensors of `computes` that are delivered behind its results, for a backward to read.
    batch: over what extent the first gradient of parameters is averaged; False for sums.
    """

    computes: Program
    means: Program
    keeps: tuple[str, ...] = ()
    batch: Batch = False

    def __repr__(self) -> str:
        inputs, delivers = (", ".join(names) for names in (_names(self), self.delivers))
        return f"<{self.name}({inputs}) -> {delivers}>"

    @property
    def name(self) -> str:
        return self.computes.name

    @cached_property
    def inputs(self) -> tuple[Input, ...]:
        """The tensors that it takes: those of `means`, then residuals."""
        return _joined(self.means.inputs, self.computes.inputs)

    @cached_property
    def numbers(self) -> tuple[Size | Default, ...]:
        """The sizes and constants that it takes behind them."""
        return _joined(_numbers(self.means), _numbers(self.computes))

    @cached_property
    def differentiable(self) -> tuple[str, ...]:
        """The names of inputs that have a gradient; a residual has none."""
        return tuple(i.name for i in self.means.inputs if i.differentiable)

    @cached_property
    def results(self) -> tuple[str, ...]:
        return tuple(r.name for r in self.computes.results)

    @cached_property
    def delivers(self) -> tuple[str, ...]:
        """The names of all that a call comes to: results, then what is kept."""
        return (*self.results, *self.keeps)

    @cached_property
    def kernel(self) -> Kernel:
        return compile_returning(self.computes, self.results, self.keeps)

    @property
    def facts(self) -> Facts:
        return self.kernel.task.facts

    @cached_property
    def floating(self) -> frozenset[str]:
        """The computed tensors whose elements are real numbers."""
        tensors = self.facts.tensors.values()
        return frozenset(t.name for t in tensors if t.element is ElementType.FLOAT)

    @property
    def is_plain(self) -> bool:
        return self.computes is self.means and not self.keeps

    @cached_property
    def key(self) -> str:
        """Its content in sixteen letters: equal for equal operators, in every process."""
        parts = (str(self.computes), str(self.means), *self.keeps, str(self.batch))
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def plain(program: Program, batch: Batch = False) -> Operator:
    """The operator that computes the program and means just that."""
    return Operator(program, program, batch=batch)


# ----------------------------------------------------------------------------------- reverse mode


@dataclass(frozen=True)
class Reversal:
    """A forward, and the backward that takes what it was given, the seeds, and what it has delivered.

    seeds: for each result of the forward the input of the backward that takes its seed, None where
        the backward does not read it.
    gradients: for each input of the forward the number of its gradient among the results of the
        backward, None where it has none.
    """

    forward: Operator
    backward: Operator
    seeds: tuple[str | None, ...]
    gradients: tuple[int | None, ...]

    @cached_property
    def saved(self) -> tuple[str, ...]:
        """What the forward is given or delivers, and the backward takes."""
        known = {*_names(self.forward), *self.forward.delivers}
        return tuple(name for name in _names(self.backward) if name in known)


def reversal(operator: Operator, wrt: Sequence[str], keep: bool = True) -> Reversal:
    """The gradient of an operator in the inputs `wrt`, of which there is at least one.

    keep: whether the forward may keep tensors for the backward; otherwise that computes them again.
    Raises ProgramError where the program cannot be differentiated.
    """
    names = tuple(wrt)
    again = recomputing(operator.means, names, operator.batch)
    if keep and operator.is_plain:
        first, second = derived_pair(operator.computes, names, operator.batch)
        known = infer(first).tensors
        given = {*(i.name for i in first.inputs), *operator.results}
        keeps = tuple(i.name for i in second.inputs if i.name in known and i.name not in given)
        forward = Operator(first, operator.means, keeps)
        backward = Operator(second, again)
    else:
        forward, backward = operator, plain(again)
    new = _added(again, operator.means)
    written = list(backward.results)
    found = (derived_name(n, "grad", written) if n in names else None for n in _names(operator))
    return Reversal(
        forward,
        backward,
        tuple(derived_name(r, "grad", new) for r in operator.results),
        tuple(None if name is None else written.index(name) for name in found),
    )


def recomputing(program: Program, wrt: tuple[str, ...], batch: Batch) -> Program:
    """The backward that holds the forward too."""
    given = (program, wrt, batch)

    def made() -> Program:
        return verify(program.backward(wrt, batch, recompute=True), warn=False)

    return kept("again", given, made)


def may_outgrow(reversed_: Reversal) -> bool:
    """May what is kept be much larger than what was given and returned?"""
    forward = reversed_.forward
    return any(outgrows(forward.facts, name, forward.results) for name in forward.keeps)


# ----------------------------------------------------------------------------------- forward mode


@dataclass(frozen=True)
class Tangent:
    """The derivative of an operator along a direction.

    inputs: for each input of the operator the input that takes its tangent, None without one.
    results: for each result the number of its tangent among the results of the derivative; None
        for an integer, which has none.
    """

    operator: Operator
    inputs: tuple[str | None, ...]
    results: tuple[int | None, ...]


def tangent(operator: Operator, wrt: Sequence[str]) -> Tangent:
    """The derivative along a direction in which the inputs `wrt`, at least one, change."""
    names, program = tuple(wrt), operator.means
    derived = kept(
        "tangent", (program, names), lambda: verify(program.forward_mode(names), warn=False)
    )
    new = _added(derived, program)
    written = [r.name for r in derived.results]
    found = [derived_name(r, "dot", written) for r in operator.results]
    return Tangent(
        plain(derived),
        tuple(derived_name(n, "dot", new) if n in names else None for n in _names(operator)),
        tuple(None if name is None else written.index(name) for name in found),
    )


# --------------------------------------------------------------------------------------- batching


@dataclass(frozen=True)
class Batched:
    """An operator with a leading axis on some inputs. moved: which of all that it delivers have it."""

    operator: Operator
    moved: tuple[bool, ...]


def batched(operator: Operator, inputs: Sequence[str]) -> Batched:
    """The operator for many values of `inputs`, at least one, at once.

    Raises ValueError where gradients of parameters are to be averaged, and one of them is batched:
    such an average is not that of each alone.
    """
    parameters = [i.name for i in operator.means.inputs if i.kind == "param"]
    averaged = operator.means.batch if operator.batch is None else operator.batch
    if averaged and set(parameters) & set(inputs):
        raise ValueError(
            f"{operator.name}: gradients of parameters are averaged over {averaged}, and this has no "
            "meaning under a map over parameters; average=False gives sums"
        )
    extent = _fresh_extent(operator)
    computes = _with_axis(operator.computes, extent, inputs)
    same = operator.means is operator.computes
    means = computes if same else _with_axis(operator.means, extent, inputs)
    made = Operator(computes, means, operator.keeps, operator.batch)
    before, after = operator.facts.tensors, made.facts.tensors
    return Batched(made, tuple(after[n].rank > before[n].rank for n in operator.delivers))


def _with_axis(program: Program, extent: str, inputs: Sequence[str]) -> Program:
    moved = tuple(i.name for i in program.inputs if i.name in inputs)
    if not moved:
        return program
    given = (program, extent, moved)
    return kept("batched", given, lambda: verify(program.batched(extent, moved), warn=False))


def _fresh_extent(operator: Operator) -> str:
    taken = names_in(operator.computes.unfold()) | names_in(operator.means.unfold())
    name = "N"
    while name in taken:
        name += "'"
    return name


# ---------------------------------------------------------------------------------------- helpers


def names_of_numbers(program: Program) -> list[str]:
    """The names of its sizes and constants."""
    return [*(size.name for size in program.sizes), *(c.name for c in program.constants)]


def _names(operator: Operator) -> list[str]:
    return [i.name for i in operator.inputs]


def _added(derived: Program, program: Program) -> list[str]:
    """The inputs that the first has and the second has not."""
    known = {i.name for i in program.inputs}
    return [i.name for i in derived.inputs if i.name not in known]


def _numbers(program: Program) -> tuple[Size | Default, ...]:
    return (*program.sizes, *program.constants)


def _joined(first: Sequence, second: Sequence) -> tuple:  # type: ignore[type-arg]
    """Both, each name once."""
    names = {each.name for each in first}
    return (*first, *(each for each in second if each.name not in names))
