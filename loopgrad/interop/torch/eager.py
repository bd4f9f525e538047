"""The short way of a call that nobody looks at: no tracing, no `torch.func`, no autocast.

Most calls are of this kind, and for small tensors PyTorch's dispatcher takes longer than the loops.
So the node of the graph calls compiled code directly. Where its backward is to be differentiated
again, or is looked at, it is the operator that is called.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import Parameter

from loopgrad.interop.operators import Operator, Reversal
from loopgrad.interop.torch import registry, written
from loopgrad.interop.torch.differentiating import Reversals, pulled_back, values_of
from loopgrad.interop.torch.running import empty, spelled

MOST_ENTRIES = 256
SMALL = 4096  # elements; such tensors are made by an example, as PyTorch reads that sooner

_is_transformed = torch._C._are_functorch_transforms_active
_watchers = torch._C._len_torch_dispatch_stack
_grad_enabled = torch.is_grad_enabled

Tensors = tuple[Tensor | None, ...]


class Elsewhere(Exception):
    """A tensor that has no memory of its own: it stands for others, which the dispatcher knows."""


class Eager:
    """The calls of one operator, known by the types and shapes of their tensors."""

    def __init__(self, operator: Operator):
        self.operator = operator
        self._reversals = Reversals(operator)
        self._entries: dict[Any, Entry] = {}

    def caller(self, numbers: tuple[Any, ...]) -> Callable[..., Any]:
        """A function of the tensors: what the operator returns, None for a call that is not plain."""
        single = len(self.operator.results) == 1
        names = {
            "is_transformed": _is_transformed,
            "watchers": _watchers,
            "functions": torch._C._len_torch_function_stack,
            "level": forward_ad,
            "is_autocast": torch._C._is_any_autocast_enabled,
            "is_traced": torch._C._get_tracing_state,  # by `torch.jit.trace`
            "grad_enabled": _grad_enabled,
            "threads": torch.get_num_threads,
            "Tensor": Tensor,
            "Parameter": Parameter,
            "Elsewhere": Elsewhere,
            "entries": self._entries,
            "enter": self._entry,
            "apply": EagerNode.apply,  # type: ignore[attr-defined]
            "numbers": numbers,
            "spelled": spelled(numbers),
            "returned": (lambda made: made[0]) if single else (lambda made: made),
        }
        return written.looked_up(len(self.operator.inputs), names)

    def _entry(
        self, key: tuple[Any, ...], tensors: Sequence[Tensor], numbers: tuple[Any, ...]
    ) -> Entry | None:
        """What knows calls of a key from now on; None where the tensors' elements lie elsewhere."""
        if any(tensor.layout is not torch.strided for tensor in tensors):
            return None
        _check_memory(tensors)
        wanted = key[4::3]
        chosen = self._reversals.of(wanted, [*tensors, *numbers]) if any(wanted) else None
        entry = Entry(self.operator, chosen, tensors, numbers)
        if len(self._entries) >= MOST_ENTRIES:
            self._entries.clear()
        self._entries[key] = entry
        return entry


class Entry:
    """Calls that differ in the contents of their tensors alone.

    forward: from the tensors of a call to what it returns; `keeping` to all that is delivered.
    backward: from these, and the seeds behind them, to the gradients, after a None.
    """

    def __init__(
        self,
        operator: Operator,
        chosen: Reversal | None,
        tensors: Sequence[Tensor],
        numbers: tuple[Any, ...],
    ):
        self.chosen, self.numbers = chosen, numbers
        self.count = len(operator.results)
        self.integer = [n for n, r in enumerate(operator.results) if r not in operator.floating]
        forward = chosen.forward if chosen else operator
        every = range(len(forward.delivers))
        self.forward = _quick(forward, range(len(tensors)), tensors, numbers, every)
        self.backward: Callable[..., Tensors] | None = None

    def prepared(self, given: Sequence[Tensor]) -> Callable[..., Tensors]:
        """The backward, when first there is something given to it."""
        _check_memory(given)
        assert self.chosen is not None
        forward, backward = self.chosen.forward, self.chosen.backward
        inputs = [i.name for i in forward.inputs]
        values = values_of(forward, [*given[: len(inputs)], *self.numbers])
        names = [*inputs, *forward.delivers, *self.chosen.seeds]
        places = [names.index(i.name) for i in backward.inputs]
        numbers = tuple(values[n.name] for n in backward.numbers)
        returned = (None, *self.chosen.gradients)
        self.backward = _quick(backward, places, given, numbers, returned)
        return self.backward


def _check_memory(tensors: Sequence[Tensor]) -> None:
    """Raises Elsewhere for a tensor without memory of its own."""
    try:
        for tensor in tensors:
            tensor.data_ptr()
    except RuntimeError as error:
        raise Elsewhere from error


def _quick(
    operator: Operator,
    places: Sequence[int],
    given: Sequence[Tensor],
    numbers: tuple[Any, ...],
    returned: Sequence[int | None],
) -> Callable[..., Tensors]:
    """A function of tensors like those given, of which the operator takes those at the places."""
    runner = registry.runner_of(operator)
    plan = runner.plan([given[place] for place in places], numbers)
    code = plan.code
    alike = all(given[places[place]].dtype is dtype for place, dtype in plan.reads)

    def slowly(tensors: Sequence[Tensor]) -> list[Tensor]:
        return runner([*(tensors[place] for place in places), *numbers])

    if code is None or not plan.always or not alike:

        def in_full(*tensors: Tensor) -> Tensors:
            made = slowly(tensors)
            return tuple(None if n is None else made[n] for n in returned)

        return in_full

    names = {
        "code": code,
        "slowly": slowly,
        "empty": empty,
        "empty_like": torch.empty_like,
        "Elsewhere": Elsewhere,
    }
    makers = [_maker(*like) for like in plan.made]
    reads = [places[place] for place, _ in plan.reads]
    return written.addressed(len(given), reads, makers, returned, names)


def _maker(shape: tuple[int, ...], dtype: torch.dtype) -> Any:
    """As `written.addressed` has it."""
    return torch.empty(shape, dtype=dtype) if math.prod(shape) <= SMALL else (shape, dtype)


class EagerNode(torch.autograd.function._SingleLevelFunction):
    """An operator in the graph, which calls compiled code itself."""

    @staticmethod
    def forward(ctx: Any, entry: Entry, *tensors: Tensor) -> Any:
        made = entry.forward(*tensors)
        ctx.entry = entry
        ctx.save_for_backward(*tensors, *made)
        if entry.count == 1:
            return made[0]
        if entry.integer:
            ctx.mark_non_differentiable(*[made[n] for n in entry.integer])
        return made[: entry.count]

    @staticmethod
    def backward(ctx: Any, *seeds: Tensor) -> Any:
        entry: Entry = ctx.entry
        given = (*ctx.saved_tensors, *seeds)
        if not (_grad_enabled() or _is_transformed() or _watchers()):
            for seed in seeds:
                if type(seed) is not Tensor or seed.is_neg():
                    break
            else:
                try:
                    return (entry.backward or entry.prepared(given))(*given)
                except Elsewhere:
                    pass
        assert entry.chosen is not None
        saved = given[: len(given) - len(seeds)]
        return None, *pulled_back(entry.chosen, saved, entry.numbers, seeds)
