"""A program and its backward, compiled."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from loopgrad.analysis.facts import Facts
from loopgrad.backends import foreseen, recycling
from loopgrad.backends.binding import MOST_KNOWN, Arguments, signature
from loopgrad.backends.shapes import StandIn
from loopgrad.backends.thread_count import get_num_threads
from loopgrad.cache.answers import is_new
from loopgrad.diagnostics import listing
from loopgrad.functions.derived import ahead_pair, derived_name, derived_pair, may_go_ahead
from loopgrad.functions.shared import Array, Batch, cast_to, integer_tensors, kept_with, picker
from loopgrad.ir.nodes import Program
from loopgrad.ir.operations import ElementType
from loopgrad.ir.walk import fresh_name
from loopgrad.pipeline import compile, compile_returning, infer, stable

# Elements of a tensor that a pullback may keep, whatever else there is.
MUCH = 2**18

# Elements of an input from which on it is looked at what is least to keep: that takes a microsecond.
LOOKED_AT = 2**10

ZERO = -1  # in place of a gradient's number: nothing depends on the input


class Reverse:
    """A program and its backward, compiled: the first returns what the second reads.

    A call is as quick as its two kernels: where each array comes from and goes to is known before.
    keeps: whether the backward may run later, when the caller has changed inputs and results. Then
        the forward stores what it reads of those a second time, which is cheaper in its loops than
        after them.
    """

    def __init__(
        self, program: Program, wrt: tuple[str, ...] | None, batch: Batch, keeps: bool = True
    ):
        self.program = program
        self.inputs = tuple(i.name for i in program.inputs)
        self.differentiable = {i.name for i in program.inputs if i.differentiable}
        self.results = tuple(r.name for r in program.results)
        self.integer = integer_tensors(infer(program))
        self._keeps = keeps
        self._taken: tuple[Program, Program | None] | None = None
        self._is_begun = False
        self.ahead: dict[Any, bool] = {}  # whether to run `Ahead`, by what a call hangs on
        self._numbers_key, self._loss_key = object(), object()
        # Makes a call of the forward, as its kernel does.
        self.execute: Callable[[Sequence[Any], Mapping[str, Any]], tuple[Any, ...]]
        self.execute = self._begin_and_execute
        if self._has_gradients():
            self._take(*self._differentiated(wrt, batch))
        else:
            self._take(program, None)

    def _take(self, program: Program, backward: Program | None) -> None:
        """The two are what runs."""
        pair = program, backward
        if self._taken == pair:
            return  # foreseen
        self._taken, self._is_begun = None, False
        facts = infer(program)
        read = [i.name for i in backward.inputs] if backward else []
        residuals = [name for name in read if name in facts.tensors]
        extra = [n for n in residuals if n not in self.inputs and n not in self.results]
        self._extra = extra
        self.outgrows = any(outgrows(facts, name, self.results) for name in extra)
        self.waits = self._waits(program, backward)
        self._held = [(name, facts.tensors[name].element) for name in residuals]
        held = [
            n for n in residuals if n not in extra and facts.tensors[n].element is ElementType.FLOAT
        ]
        copies: dict[str, str] = {}
        if self._keeps and held:
            program = program if extra else stable(program)
            copies = _copies(infer(program), held)
            residuals = [copies.get(name, name) for name in residuals]
            read = [copies.get(name, name) for name in read]
        self.forward = compile_returning(program, self.results, extra, copies)
        extra = [*extra, *copies.values()]
        self.backward = compile(backward) if backward else None
        seeds = [n for n in read if n not in residuals]
        given = [*residuals, *(derived_name(result, "grad", seeds) for result in self.results)]
        self._ordered = picker([given.index(name) for name in read])
        alike = [*(name for name, _ in self._held), *self.results]
        named = [i.name for i in backward.inputs] if backward else []
        self._alike = dict(zip(named, self._ordered(alike), strict=True))  # in shape
        self._seeded = [(i, n) for i, n in enumerate(self.results) if n not in self.integer]
        arrays = ["", *self.inputs, *self.results, *extra]  # what a call of the forward comes to
        self.shared = picker([arrays.index(name) for name in residuals])
        self._frozen = [i for i, name in enumerate(residuals) if name not in extra]
        self._first = 1 + len(self.inputs)
        self._single = len(self.results) == 1
        written = [r.name for r in backward.results] if backward else []
        self._several = len(written) > 1
        self._places = [self._place(name, written) for name in self.inputs]
        self._whole = self._places == list(range(len(written)))
        self._numbered = backward is not None and bool(backward.sizes or backward.constants)
        self._taken = pair

    def _differentiated(self, wrt: tuple[str, ...] | None, batch: Batch) -> tuple[Program, Program]:
        return derived_pair(self.program, wrt, batch, self._foresee)

    def _foresee(self, program: Program, backward: Program) -> None:
        """Begins with the code of the two, which will run unless their certificate refuses them."""
        call = foreseen.expected_call()
        if call is None:
            return
        with suppress(Exception):  # the call says what is wrong with it
            self._take(program, backward)
            if not (self.outgrows and self.keeps_much(*call)):
                self._begin(*call)
                self._is_begun = True

    def _waits(self, program: Program, backward: Program | None) -> bool:
        """May the forward compute more of what the backward does, so that less has to be kept?"""
        if backward is None or program is not self.program:
            return False
        return may_go_ahead(program, backward)

    def keeps(self, inputs: Sequence[Any], named: Mapping[str, Any]) -> int:
        """The bytes of what the backward of a call reads of the forward."""
        bound = self.forward.bound(inputs, named)
        size = {ElementType.FLOAT: bound.dtype.itemsize, ElementType.INT: 8, ElementType.BOOL: 1}
        return sum(math.prod(bound.shapes[name]) * size[element] for name, element in self._held)

    def keeps_much(self, inputs: Sequence[Any], named: Mapping[str, Any]) -> bool:
        """Is a tensor that a call keeps for its pullback large, and most of what there is?"""
        shapes = self.forward.bound(inputs, named).shapes
        kept = max(math.prod(shapes[name]) for name in self._extra)
        rest = sum(math.prod(shapes[name]) for name in (*self.inputs, *self.results))
        return is_much(kept, rest)

    def _has_gradients(self) -> bool:
        return bool(self.differentiable) and not self.integer.issuperset(self.results)

    def _place(self, name: str, written: Sequence[str]) -> int | None:
        """An input's gradient among the results of the backward; ZERO, or None for no gradient."""
        if name not in self.differentiable:
            return None
        gradient = derived_name(name, "grad", written)
        return ZERO if gradient is None else written.index(gradient)

    def _begin_and_execute(
        self, inputs: Sequence[Any], named: Mapping[str, Any]
    ) -> tuple[Any, ...]:
        self.execute = self.forward.execute
        backward = self._taken[1] if self._taken is not None and not self._is_begun else None
        # The code of what is not new is on the disk, most likely.
        if backward is not None and is_new(backward) and get_num_threads() > 1:
            with suppress(Exception):  # the call says what is wrong with it
                self._begin(inputs, named)
        return self.execute(inputs, named)

    def _begin(self, inputs: Sequence[Any], named: Mapping[str, Any]) -> None:
        """Begins with the code of both: LLVM generates the forward's while the backward's text is written."""
        assert self.backward is not None
        self.forward.begin(inputs, named)
        bound = self.forward.bound(inputs, named)
        shaped = {name: StandIn(bound.shapes[tensor]) for name, tensor in self._alike.items()}
        self.backward.begin_with(shaped, self._numbers(bound), bound.dtype)

    def results_of(self, found: tuple[Any, ...]) -> Any:
        """What the program returns, of what its forward's `execute` did."""
        if self._single:
            return found[self._first]
        return found[self._first : self._first + len(self.results)]

    def saved(self, found: tuple[Any, ...]) -> Sequence[Array]:
        """What the backward reads of the forward's tensors, for later.

        As copies of those that the caller holds too and may change before the pullback; of floating
        ones the forward has made them.
        """
        arrays = [*self.shared(found)]
        for i in self._frozen:
            arrays[i] = recycling.copy(arrays[i], arrays[i].dtype)
        return arrays

    def gradients(
        self, bound: Arguments, saved: Sequence[Array], seeds: Sequence[Any]
    ) -> tuple[Array | None, ...]:
        """An array for each input, None for those that are not differentiable."""
        given = self._ordered([*saved, *self._seeds(bound, seeds)])
        arrays: tuple[Array, ...] = ()
        backward = self.backward
        if backward is not None:
            found = None if self._numbered else backward.call_known(*given)
            if found is None:
                found = backward(*given, **self._numbers(bound))
            arrays = found if self._several else (found,)
        if self._whole:
            return arrays
        return tuple(
            place if place is None else arrays[place] if place >= 0 else self._zeros(i, bound)
            for i, place in enumerate(self._places)
        )

    def of_loss(self, bound: Arguments) -> Sequence[Array]:
        """The seeds of a loss: 1, and 0 of what comes with it."""
        found: Sequence[Array] | None = bound.kept.get(self._loss_key)
        if found is None:
            found = bound.kept[self._loss_key] = tuple(
                np.full(bound.shapes[name], float(not place), bound.dtype)
                for place, name in enumerate(self.results)
            )
        return found

    def _zeros(self, place: int, bound: Arguments) -> Array:
        return np.zeros(bound.shapes[self.inputs[place]], bound.dtype)

    def _numbers(self, bound: Arguments) -> Mapping[str, int | float]:
        """The sizes and constants of the backward."""
        found: dict[str, int | float] | None = bound.kept.get(self._numbers_key)
        if found is None:
            found = {}
            if self.backward is not None:
                program = self.backward.program
                found.update((size.name, bound.extents[size.name]) for size in program.sizes)
                found.update((c.name, bound.constants[c.name]) for c in program.constants)
            bound.kept[self._numbers_key] = found
        return found

    def _seeds(self, bound: Arguments, seeds: Sequence[Any]) -> Sequence[Any]:
        """An array for each floating result."""
        if len(seeds) != len(self.results):
            raise TypeError(
                f"{self.program.name}: the pullback takes one seed for each result "
                f"({listing(self.results)}), got {len(seeds)}"
            )
        cast = [*seeds]
        shapes, dtype = bound.shapes, bound.dtype
        for i, name in self._seeded:
            seed = seeds[i]
            if (
                type(seed) is not np.ndarray
                or seed.dtype is not dtype
                or seed.shape != shapes[name]
            ):
                cast[i] = cast_to("seed", name, seed, bound)
        return cast


def reverse_of(
    program: Program,
    inputs: Sequence[Any],
    named: Mapping[str, Any],
    batch: Batch = None,
    keeps: bool = True,
) -> Reverse:
    """What runs a call of the program and its backward, and keeps little in between; see `Reverse`."""
    if "_derived" in program.__dict__:
        reverse = kept_with(program, Reverse, None, batch, keeps)
    else:
        with foreseen.expecting(inputs, named):
            reverse = kept_with(program, Reverse, None, batch, keeps)
    if reverse.outgrows and reverse.keeps_much(inputs, named):
        return kept_with(program, Again, None, batch, keeps)
    if (
        reverse.waits
        and not _are_few(inputs, named)
        and _pays_ahead(reverse, inputs, named, batch, keeps)
    ):
        return kept_with(program, Ahead, None, batch, keeps)
    return reverse


def _are_few(inputs: Sequence[Any], named: Mapping[str, Any]) -> bool:
    """Has no input many elements, as far as is seen at once?"""
    for value in (*inputs, *named.values()):
        kind = type(value)
        if kind is np.ndarray:
            if value.size >= LOOKED_AT:
                return False
        elif kind is not int and kind is not float:
            return False
    return True


def _pays_ahead(
    reverse: Reverse,
    inputs: Sequence[Any],
    named: Mapping[str, Any],
    batch: Batch,
    keeps: bool,
) -> bool:
    """Is what the backward reads then no more than half as much?"""
    key = signature(inputs, named)
    found = reverse.ahead.get(key)
    if found is None:
        other = kept_with(reverse.program, Ahead, None, batch, keeps)
        found = 2 * other.keeps(inputs, named) <= reverse.keeps(inputs, named)
        if key is not None:
            if len(reverse.ahead) >= MOST_KNOWN:
                reverse.ahead = {}
            reverse.ahead[key] = found
    return found


class Ahead(Reverse):
    """The same, with a forward that computes what of the backward hangs on no seed: the winners of a maximum,
    of which there may be far fewer than there were candidates."""

    def _differentiated(self, wrt: tuple[str, ...] | None, batch: Batch) -> tuple[Program, Program]:
        return ahead_pair(self.program, wrt, batch)


class Again(Reverse):
    """The same, with a backward that computes again what it reads, but for inputs."""

    def _differentiated(self, wrt: tuple[str, ...] | None, batch: Batch) -> tuple[Program, Program]:
        return self.program, self.program.backward(wrt, batch, recompute=True)


def is_much(kept: int, rest: int) -> bool:
    """Is a tensor too large to be kept, beside what there is in any case? Both in elements.

    To compute it again costs no time then: scores of attention take as long to be written and read. What
    products with long sums make, as a hidden layer, is seldom so large.
    """
    return kept > MUCH and kept > 2 * rest


def outgrows(facts: Facts, tensor: str, results: Sequence[str]) -> bool:
    """Has the tensor axes that no input and no result has together?"""
    axes = Counter(facts.tensors[tensor].extents)
    known = (t for t in facts.tensors.values() if t.role == "input" or t.name in results)
    return not any(axes <= Counter(t.extents) for t in known)


def _copies(facts: Facts, names: Sequence[str]) -> dict[str, str]:
    """Names for copies of the tensors."""
    taken = {*facts.tensors, *facts.extents, *facts.constants}
    return {name: fresh_name(f"{name}.kept", taken) for name in names}
