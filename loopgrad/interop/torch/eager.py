"""The short way of a call that nobody looks at: no tracing, no `torch.func`, no autocast.

Most calls are of this kind, and for small tensors PyTorch's dispatcher takes longer than the loops.
So the node of the graph calls compiled code directly. Where its backward is to be differentiated
again, or is looked at, it is the operator that is called.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import Parameter

from loopgrad.backends.llvm.addresses import fails
from loopgrad.interop.operators import Operator, Reversal
from loopgrad.interop.torch import registry
from loopgrad.interop.torch.differentiating import Reversals, pulled_back, values_of
from loopgrad.interop.torch.running import spelled

MOST_ENTRIES = 256

_is_transformed = torch._C._are_functorch_transforms_active
_watchers = torch._C._len_torch_dispatch_stack
_functions = torch._C._len_torch_function_stack
_grad_enabled, _threads = torch.is_grad_enabled, torch.get_num_threads


class Elsewhere(Exception):
    """A tensor that has no memory of its own: it stands for others, which the dispatcher knows."""


class Eager:
    """The calls of one operator, known by the types and shapes of their tensors."""

    def __init__(self, operator: Operator):
        self.operator = operator
        self._reversals = Reversals(operator)
        self._entries: dict[Any, Entry] = {}
        self._single = len(operator.results) == 1

    def __call__(self, tensors: Sequence[Tensor], numbers: tuple[Any, ...]) -> Any:
        """What the operator returns; None for a call that has to go the usual way."""
        if (
            _is_transformed()
            or _watchers()
            or _functions()
            or forward_ad._current_level >= 0
            or torch._C._is_any_autocast_enabled()
        ):
            return None
        parts: list[Any] = [_threads(), spelled(numbers) if numbers else ()]
        enabled, needed = _grad_enabled(), False
        for tensor in tensors:
            kind = type(tensor)
            if (
                (kind is not Tensor and kind is not Parameter)
                or not tensor.is_cpu
                or tensor.layout is not torch.strided
                or tensor.is_neg()
            ):
                return None
            wants = enabled and tensor.requires_grad
            needed = needed or wants
            parts += (tensor.shape, tensor.dtype, wants)
        key = tuple(parts)
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entry(key, tensors, numbers)
        try:
            if needed and entry.chosen is not None:
                return EagerNode.apply(entry, *tensors)
            made = entry.forward(tensors)
        except Elsewhere:
            return None
        return made[0] if self._single else tuple(made)

    def _entry(self, key: Any, tensors: Sequence[Tensor], numbers: tuple[Any, ...]) -> Entry:
        wanted = key[4::3]
        chosen = self._reversals.of(wanted, [*tensors, *numbers]) if any(wanted) else None
        entry = Entry(self.operator, chosen, tensors, numbers)
        if len(self._entries) >= MOST_ENTRIES:
            self._entries = {}
        self._entries[key] = entry
        return entry


class Entry:
    """Calls that differ in the contents of their tensors alone.

    forward: from the tensors of a call to all that is delivered. backward: from these, and the
    seeds behind them, to the gradients.
    """

    def __init__(
        self,
        operator: Operator,
        chosen: Reversal | None,
        tensors: Sequence[Tensor],
        numbers: tuple[Any, ...],
    ):
        self.chosen, self.numbers = chosen, numbers
        forward = chosen.forward if chosen else operator
        self.forward = _quick(forward, range(len(tensors)), tensors, numbers)
        self.backward: Callable[[Sequence[Tensor]], list[Tensor]] | None = None
        self.count = len(operator.results)
        self.integer = [n for n, r in enumerate(operator.results) if r not in operator.floating]
        self.places = chosen.gradients if chosen else ()

    def prepared(self, given: Sequence[Tensor]) -> Callable[[Sequence[Tensor]], list[Tensor]]:
        """The backward, when first there is something given to it."""
        assert self.chosen is not None
        forward, backward = self.chosen.forward, self.chosen.backward
        inputs = [i.name for i in forward.inputs]
        values = values_of(forward, [*given[: len(inputs)], *self.numbers])
        names = [*inputs, *forward.delivers, *self.chosen.seeds]
        places = [names.index(i.name) for i in backward.inputs]
        numbers = tuple(values[n.name] for n in backward.numbers)
        self.backward = _quick(backward, places, given, numbers)
        return self.backward


def _quick(
    operator: Operator, places: Sequence[int], given: Sequence[Tensor], numbers: tuple[Any, ...]
) -> Callable[[Sequence[Tensor]], list[Tensor]]:
    """A function of tensors like those given, of which the operator takes those at the places."""
    runner = registry.runner_of(operator)
    plan = runner.plan([given[place] for place in places], numbers)
    code = plan.code
    reads = tuple(places[place] for place, _ in plan.reads)
    alike = all(given[places[place]].dtype is dtype for place, dtype in plan.reads)

    def slowly(tensors: Sequence[Tensor]) -> list[Tensor]:
        return runner([*(tensors[place] for place in places), *numbers])

    if code is None or not plan.always or not alike:
        return slowly
    made_like = plan.made
    empty = torch.empty

    def quickly(tensors: Sequence[Tensor]) -> list[Tensor]:
        read = [tensors[place] for place in reads]
        try:
            for n, tensor in enumerate(read):
                if not tensor.is_contiguous():
                    read[n] = tensor.contiguous()
            given = [tensor.data_ptr() for tensor in read]
        except RuntimeError as error:
            raise Elsewhere from error
        made = [empty(shape, dtype=dtype) for shape, dtype in made_like]
        given += [tensor.data_ptr() for tensor in made]
        if code(*given) and fails(code, given):
            return slowly(tensors)
        return made

    return quickly


class EagerNode(torch.autograd.function._SingleLevelFunction):
    """An operator in the graph, which calls compiled code itself."""

    @staticmethod
    def forward(ctx: Any, entry: Entry, *tensors: Tensor) -> Any:
        made = entry.forward(tensors)
        ctx.entry = entry
        ctx.save_for_backward(*tensors, *made)
        if entry.count == 1:
            return made[0]
        if entry.integer:
            ctx.mark_non_differentiable(*(made[n] for n in entry.integer))
        return tuple(made[: entry.count])

    @staticmethod
    def backward(ctx: Any, *seeds: Tensor) -> Any:
        entry: Entry = ctx.entry
        saved = ctx.saved_tensors
        if _is_looked_at(seeds):
            assert entry.chosen is not None
            return None, *pulled_back(entry.chosen, saved, entry.numbers, seeds)
        given = (*saved, *seeds)
        try:
            gradients = (entry.backward or entry.prepared(given))(given)
        except Elsewhere:
            assert entry.chosen is not None
            return None, *pulled_back(entry.chosen, saved, entry.numbers, seeds)
        return None, *[None if place is None else gradients[place] for place in entry.places]


def _is_looked_at(seeds: Sequence[Tensor]) -> bool:
    """Is the backward to be differentiated, or batched, or traced?"""
    return (
        _grad_enabled()
        or _is_transformed()
        or bool(_watchers())
        or any(type(seed) is not Tensor or seed.is_neg() for seed in seeds)
    )
