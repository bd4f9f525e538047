"""The short way of a call that nobody looks at: no tracing, no `torch.func`, no autocast.

Most calls are of this kind, and for small tensors PyTorch's dispatcher takes longer than the loops.
So such a call is found by the types and shapes of its tensors, and what is found calls compiled code
directly (nodes.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from loopgrad.interop.operators import Operator
from loopgrad.interop.torch import nodes, written
from loopgrad.interop.torch.differentiating import Reversals
from loopgrad.interop.torch.running import lie_in_memory, spelled

MOST_KINDS = 256

# What asks for the hooks that saved tensors go through; PyTorch 2.6 has none, and there may be some.
_HOOKS = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", bool)


class Eager:
    """The calls of one operator, known by the types and shapes of their tensors."""

    def __init__(self, operator: Operator):
        self.operator = operator
        self._reversals = Reversals(operator)
        self._runs: dict[Any, Callable[..., Any]] = {}

    def caller(self, numbers: tuple[Any, ...]) -> Callable[..., Any]:
        """A function of the tensors: what the operator returns, None for a call that is not plain."""
        names = {
            **nodes.NAMES,
            "functions": torch._C._len_torch_function_stack,
            "is_autocast": torch._C._is_any_autocast_enabled,
            "is_traced": torch._C._get_tracing_state,  # by `torch.jit.trace`
            "hooks": _HOOKS,
            "threads": torch.get_num_threads,
            "Parameter": Parameter,
            "runs": self._runs,
            "enter": self._enter,
            "numbers": numbers,
            "spelled": spelled(numbers),
        }
        return written.looked_up(len(self.operator.inputs), names)

    def _enter(
        self, key: tuple[Any, ...], tensors: Sequence[Tensor], numbers: tuple[Any, ...]
    ) -> Callable[..., Any] | None:
        """What does calls of a key from now on; None where the tensors' elements lie elsewhere.

        key: threads, whether saved tensors go through hooks, numbers; then shape, type, and whether a
        gradient is wanted, of each tensor.
        """
        if any(tensor.layout is not torch.strided for tensor in tensors):
            return None
        if not lie_in_memory(tensors):
            return None
        wanted = key[5::3]
        chosen = self._reversals.of(wanted, [*tensors, *numbers]) if any(wanted) else None
        if chosen is None:
            run = nodes.outside(self.operator, tensors, numbers)
        else:
            run = nodes.node(self.operator, chosen, tensors, numbers, hooked=key[1])
        if len(self._runs) >= MOST_KINDS:
            self._runs.clear()
        self._runs[key] = run
        return run
