"""What PyTorch's autograd does with an operator: backward and tangent, which are operators too.

PyTorch calls the kernel for its key `Autograd` wherever one of its differentiations sees the
operator, be it `.backward()`, `torch.func.grad` at any depth, or the tracing of `torch.compile`.
The kernel makes a node of the graph (`Node`) around the operator as the levels below see it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch._functorch.autograd_function import (  # type: ignore[attr-defined]
    enable_single_level_autograd_function,
)
from torch._functorch.pyfunctorch import retrieve_current_functorch_interpreter
from torch.autograd import forward_ad

from loopgrad import forks
from loopgrad.functions.reverse import is_much
from loopgrad.interop.operators import Operator, Reversal, may_outgrow, reversal, tangent
from loopgrad.interop.torch import registry
from loopgrad.interop.torch.shapes import elements, extents_of, shape_of

_functorch = torch._C._functorch


def kernel(operator: Operator, overload: Any) -> Callable[..., Any]:
    """The kernel of an operator, whose name in PyTorch is `overload`, for the key `Autograd`."""
    count = len(operator.inputs)
    reversals = Reversals(operator)

    def differentiated(keyset: Any, *arguments: Any) -> Any:
        tensors = arguments[:count]
        below = keyset & torch._C._after_autograd_keyset
        wanted = tuple([t.requires_grad for t in tensors]) if torch.is_grad_enabled() else ()
        chosen = reversals.of(wanted, arguments)
        if chosen is None and forward_ad._current_level < 0:
            with torch._C._AutoDispatchBelowAutograd():
                return overload.redispatch(below, *arguments)
        call = Call(operator, chosen, below, arguments[count:])
        with enable_single_level_autograd_function():
            found = Node.apply(call, *tensors)  # type: ignore[attr-defined]
        results = found[: len(operator.delivers)]
        return results[0] if len(results) == 1 else tuple(results)

    return differentiated


class Reversals:
    """The reversals of one operator, by the inputs that a gradient is wanted of."""

    _lock = threading.RLock()  # one for all: programs are derived one at a time anyway

    def __init__(self, operator: Operator):
        self.operator = operator
        self._known: dict[tuple[bool, ...], Choice | None] = {}

    def of(self, wanted: tuple[bool, ...], arguments: Sequence[Any]) -> Reversal | None:
        """For a call with these arguments; None where it has no gradient."""
        if wanted not in self._known:
            with self._lock:
                self._known[wanted] = self._choice(wanted)
        choice = self._known[wanted]
        return None if choice is None else choice.of(arguments)

    def _choice(self, wanted: tuple[bool, ...]) -> Choice | None:
        inputs = zip(self.operator.inputs, wanted, strict=False)
        wrt = [i.name for i, w in inputs if w and i.name in self.operator.differentiable]
        floating = self.operator.floating.intersection(self.operator.results)
        return Choice(self.operator, wrt) if wrt and floating else None


forks.hold("reversing", Reversals._lock)


class Choice:
    """Does the forward keep tensors, or does the backward compute them again?"""

    def __init__(self, operator: Operator, wrt: Sequence[str]):
        self.operator, self.wrt = operator, wrt
        self._keeping = reversal(operator, wrt)
        self._outgrows = may_outgrow(self._keeping)
        self._again: Reversal | None = None

    def of(self, arguments: Sequence[Any]) -> Reversal:
        if not self._outgrows or not self._keeps_much(arguments):
            return self._keeping
        if self._again is None:
            self._again = reversal(self.operator, self.wrt, keep=False)
        return self._again

    def _keeps_much(self, arguments: Sequence[Any]) -> bool:
        """As `lg.vjp` has it. Of extents that are symbols nobody knows: there, nothing is kept."""
        forward = self._keeping.forward
        values = values_of(forward, arguments)
        if any(isinstance(value, torch.SymInt) for value in values.values()):
            return True
        sizes = {n: elements(shape_of(forward.facts, n, values)) for n in forward.delivers}
        rest = sum(sizes[name] for name in forward.results)
        rest += sum(t.numel() for t in arguments[: len(forward.inputs)])
        return is_much(max(sizes[name] for name in forward.keeps), rest)


def values_of(operator: Operator, arguments: Sequence[Any]) -> Any:
    """The values of an operator's extents and constants."""
    count = len(operator.inputs)
    shapes = {i.name: t.shape for i, t in zip(operator.inputs, arguments, strict=False)}
    numbers = zip((n.name for n in operator.numbers), arguments[count:], strict=True)
    return extents_of(operator.facts, shapes, dict(numbers))


class Call:
    """What one call of an operator is about, beside its tensors.

    chosen: how it is differentiated in reverse, None where it is not. below: the keys of PyTorch's
    dispatcher that come after its autograd. values: of its extents and constants, once it has run.
    """

    __slots__ = ("below", "chosen", "forward", "numbers", "operator", "values")

    def __init__(
        self, operator: Operator, chosen: Reversal | None, below: Any, numbers: Sequence[Any]
    ):
        self.operator, self.chosen, self.below, self.numbers = operator, chosen, below, numbers
        self.forward = chosen.forward if chosen else operator
        self.values: Any = None


class Node(torch.autograd.function._SingleLevelFunction):
    """An operator with all that it delivers; what it keeps has no gradient.

    Of one level of differentiation: under `torch.func`, those further out see the operators that
    are called in here, and differentiate these.
    """

    @staticmethod
    def forward(ctx: Any, call: Call, *tensors: torch.Tensor) -> Any:
        overload = registry.registered(call.forward)
        with _as_outside(), torch._C._AutoDispatchBelowAutograd():
            found = overload.redispatch(call.below, *tensors, *call.numbers)
        delivered = (found,) if isinstance(found, torch.Tensor) else tuple(found)
        ctx.call = call
        ctx.save_for_forward(*tensors)
        if call.chosen is not None:
            call.values = values_of(call.forward, [*tensors, *call.numbers])
            known = dict(zip(_known(call.forward), (*tensors, *delivered), strict=True))
            ctx.save_for_backward(*(known[name] for name in call.chosen.saved))
        results = len(call.operator.results)
        fixed = (
            t for n, t in enumerate(delivered) if n >= results or not t.dtype.is_floating_point
        )
        ctx.mark_non_differentiable(*fixed)
        return delivered

    @staticmethod
    def backward(ctx: Any, *seeds: torch.Tensor) -> Any:
        call: Call = ctx.call
        assert call.chosen is not None
        given = dict(zip(call.chosen.saved, ctx.saved_tensors, strict=True))
        named = zip(call.chosen.seeds, seeds, strict=False)
        given |= {name: seed for name, seed in named if name is not None}
        return None, *pulled_back(call.chosen, given, call.values)

    @staticmethod
    def jvp(ctx: Any, _: None, *tangents: torch.Tensor | None) -> Any:
        call: Call = ctx.call
        primals = ctx.saved_tensors[: len(call.operator.inputs)]
        delivers = len(call.forward.delivers)
        if _functorch.peek_interpreter_stack() is None:
            with torch.enable_grad():
                return pushed_forward(call, primals, tangents, delivers)
        # Without the tangents of this level, but with those of levels further out.
        level = retrieve_current_functorch_interpreter().level()
        primals = [_without_tangent(t, level) for t in primals]
        tangents = tuple(None if t is None else _without_tangent(t, level) for t in tangents)
        with _as_outside():
            return pushed_forward(call, primals, tangents, delivers)


@contextmanager
def _as_outside() -> Iterator[None]:
    """Differentiation as it was before a node turned it off, for the levels further out."""
    with torch.enable_grad(), forward_ad._set_fwd_grad_enabled(True):
        yield


def _without_tangent(tensor: torch.Tensor, level: int) -> Any:
    return _functorch._wrap_for_grad(_functorch._unwrap_for_grad(tensor, level), level)


def pulled_back(
    chosen: Reversal, given: Mapping[str, torch.Tensor], values: Any
) -> list[torch.Tensor | None]:
    """The gradient of each input.

    given: what the backward takes. values: those of the extents and constants of the forward.
    """
    backward = chosen.backward
    found = registry.registered(backward)(
        *(given[i.name] for i in backward.inputs),
        *(values[n.name] for n in backward.numbers),
    )
    gradients = (found,) if isinstance(found, torch.Tensor) else found
    return [None if place is None else gradients[place] for place in chosen.gradients]


def _known(forward: Operator) -> list[str]:
    return [*(i.name for i in forward.inputs), *forward.delivers]


def pushed_forward(
    call: Call,
    primals: Sequence[torch.Tensor],
    tangents: Sequence[torch.Tensor | None],
    delivers: int,
) -> tuple[torch.Tensor | None, ...]:
    """The tangent of each tensor that is delivered, None for those that have none."""
    operator = call.operator
    names = [i.name for i in operator.inputs]
    moving = {
        n: t
        for n, t in zip(names, tangents, strict=True)
        if t is not None and n in operator.differentiable
    }
    if not moving:
        return (None,) * delivers
    found = tangent(operator, tuple(moving))
    given = dict(zip(names, primals, strict=True))
    given |= {d: moving[n] for n, d in zip(names, found.inputs, strict=True) if d is not None}
    values = values_of(operator, [*primals, *call.numbers])
    answer = registry.registered(found.operator)(
        *(given[i.name] for i in found.operator.inputs),
        *(values[n.name] for n in found.operator.numbers),
    )
    moved = (answer,) if isinstance(answer, torch.Tensor) else answer
    results = [None if place is None else moved[place] for place in found.results]
    return (*results, *[None] * (delivers - len(results)))
