"""Nodes of PyTorch's graph that call compiled code themselves, and calls outside of a graph that do.

A node is a class of its own for each kind of call, that is, for calls that differ in the contents of
their tensors alone. It saves what its backward reads: tensors that were given or returned as
PyTorch saves them, and small ones that nobody else sees in a piece of memory of its own (`Memory`). Where
its backward is to be differentiated again, or is looked at, it is the operator that is called.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from loopgrad.interop.operators import Operator, Reversal
from loopgrad.interop.torch import registry, written
from loopgrad.interop.torch.differentiating import pulled_back, values_of
from loopgrad.interop.torch.running import Elsewhere, Plan, lie_in_memory
from loopgrad.interop.torch.storages import empty
from loopgrad.interop.torch.written import Operand, Run

SMALL = 4096  # elements; such tensors are made by an example, as PyTorch reads that sooner
MOST_KEPT = (
    16384  # bytes that a node keeps itself: as long as it lives, while PyTorch frees what it saves
)
LINE = 64  # bytes, at multiples of which tensors begin there

_Function = torch.autograd.function._SingleLevelFunction  # type: ignore[attr-defined]


NAMES: dict[str, Any] = {
    "grad_enabled": torch.is_grad_enabled,
    "is_transformed": torch._C._are_functorch_transforms_active,
    "watchers": torch._C._len_torch_dispatch_stack,
    "level": forward_ad,
    "threads": torch.get_num_threads,
    "Tensor": Tensor,
    "Elsewhere": Elsewhere,
    "empty": empty,
    "empty_like": torch.empty_like,
    "address_of": ctypes.addressof,
}


def outside(
    operator: Operator, tensors: Sequence[Tensor], numbers: tuple[Any, ...]
) -> Callable[..., Any]:
    """A function of tensors like these, to what the operator returns, without a gradient."""
    runner = registry.runner_of(operator)
    plan = runner.plan(tensors, numbers)

    def slowly(tensors: Sequence[Tensor]) -> list[Tensor]:
        return runner([*tensors, *numbers])

    if plan.quick is None:
        single = len(plan.made) == 1
        return lambda *tensors: slowly(tensors)[0] if single else tuple(slowly(tensors))
    reads = [_operand(f"t{place}", tensors[place], dtype) for place, dtype in plan.reads]
    run = Run(plan.quick, reads, [_maker(*like) for like in plan.made])
    return written.outside(len(tensors), run, slowly, NAMES)


def node(
    operator: Operator,
    chosen: Reversal,
    tensors: Sequence[Tensor],
    numbers: tuple[Any, ...],
    hooked: bool,
) -> Callable[..., Any]:
    """The same with a gradient. hooked: what is saved may come back as something else."""
    found = _Node(operator, chosen, tensors, numbers, hooked)
    name = "".join(part[:1].upper() + part[1:] for part in operator.name.split("_"))
    members = {"forward": staticmethod(found.forward()), "backward": staticmethod(found.first)}
    found.function = type(name, (_Function,), members)
    apply: Callable[..., Any] = found.function.apply
    return apply


@dataclass(frozen=True)
class Memory:
    """Where tensors lie in a piece of memory that a node keeps."""

    places: dict[str, int]
    likes: dict[str, tuple[tuple[int, ...], torch.dtype]]
    size: int

    @property
    def kind(self) -> Any:
        """What makes such a piece."""
        return ctypes.c_char * self.size if self.size else _nothing

    def tensor(self, kept: Any, name: str) -> Tensor:
        """What lies there, where it lies."""
        shape, dtype = self.likes[name]
        if not math.prod(shape):
            return torch.empty(shape, dtype=dtype)
        flat = torch.frombuffer(kept, dtype=dtype, count=math.prod(shape), offset=self.places[name])
        return flat.view(shape)


def _nothing() -> None:
    return None


def memory_for(likes: dict[str, tuple[tuple[int, ...], torch.dtype]]) -> Memory:
    """None of it is used where the tensors are large."""
    places, size = {}, 0
    for name, (shape, dtype) in likes.items():
        places[name] = size
        size += LINE * max(1, -(-math.prod(shape) * dtype.itemsize // LINE))
    return Memory(places, likes, size) if size <= MOST_KEPT else Memory({}, {}, 0)


class _Node:
    """What is known of the calls of one kind, from which a class for their nodes is made.

    kept: the forward's tensors that lie in the node's own memory. saved: those of its inputs and of
    what else it delivers that PyTorch saves, each with the variable that holds it.
    """

    function: Any  # the class

    def __init__(
        self,
        operator: Operator,
        chosen: Reversal,
        tensors: Sequence[Tensor],
        numbers: tuple[Any, ...],
        hooked: bool,
    ):
        self.chosen, self.tensors, self.numbers, self.hooked = chosen, tensors, numbers, hooked
        forward = chosen.forward
        self.values = values_of(forward, [*tensors, *numbers])
        self.runner = registry.runner_of(forward)
        self.plan: Plan = self.runner.plan(tensors, numbers)
        self.threads = torch.get_num_threads()  # of the forward: calls of one kind have one number
        self.results = len(operator.results)
        self.fixed = [n for n, r in enumerate(operator.results) if r not in operator.floating]
        likes = dict(zip(forward.delivers, self.plan.made, strict=True))
        keeps = {name: likes[name] for name in forward.keeps} if self.plan.quick else {}
        self.memory = memory_for(keeps)
        self.variables = {i.name: f"t{n}" for n, i in enumerate(forward.inputs)}
        self.variables |= {name: f"m{n}" for n, name in enumerate(forward.delivers)}
        self.saved = [name for name in chosen.saved if name not in self.memory.places]
        self.likes = likes | {
            i.name: (tuple(t.shape), t.dtype) for i, t in zip(forward.inputs, tensors, strict=True)
        }

    # ------------------------------------------------------------------------------------- forward

    def forward(self) -> Callable[..., Any]:
        if self.plan.quick is None:
            return self._forward_in_full()
        reads = [
            _operand(f"t{place}", self.tensors[place], dtype) for place, dtype in self.plan.reads
        ]
        places = self.memory.places
        makes = [
            places[name] if name in places else _maker(*self.likes[name])
            for name in self.chosen.forward.delivers
        ]
        return written.forward(
            len(self.tensors),
            Run(self.plan.quick, reads, makes),
            self.results,
            [self.variables[name] for name in self.saved],
            [f"m{n}" for n in self.fixed],
            {**NAMES, "slowly": self._slowly, "Kept": self.memory.kind},
        )

    def _slowly(self, tensors: Sequence[Tensor], kept: Any) -> list[Tensor]:
        """All that is delivered; what the node keeps itself is put there instead."""
        made = self.runner([*tensors, *self.numbers])
        rest = []
        for name, tensor in zip(self.chosen.forward.delivers, made, strict=True):
            if name in self.memory.places:
                self.memory.tensor(kept, name).copy_(tensor)
            else:
                rest.append(tensor)
        return rest

    def _forward_in_full(self) -> Callable[..., Any]:
        names = list(self.variables)
        saved = [names.index(name) for name in self.saved]

        def forward(ctx: Any, *tensors: Tensor) -> Any:
            made = self._slowly(tensors, None)
            known = [*tensors, *made]
            ctx.kept = None
            ctx.save_for_backward(*[known[n] for n in saved])
            ctx.mark_non_differentiable(*[made[n] for n in self.fixed])
            return made[0] if self.results == 1 else tuple(made[: self.results])

        return forward

    # ------------------------------------------------------------------------------------ backward

    def first(self, ctx: Any, *seeds: Tensor) -> Any:
        """The backward, until there is one that was made for tensors as they come."""
        given = self.given(ctx, ctx.saved_tensors, seeds)
        if self._is_looked_at(seeds) or not self._are_usual(given):
            return self._as_operator(given)
        backward = self._backward(given)
        self.function.backward = staticmethod(backward)
        self.function._backward_cls.apply = backward  # where the engine would find the other
        return self._in_full(given)

    def given(
        self, ctx: Any, saved: Sequence[Tensor], seeds: Sequence[Tensor]
    ) -> dict[str, Tensor]:
        """What the backward reads, by name."""
        found = dict(zip(self.saved, saved, strict=True))
        found |= {name: self.memory.tensor(ctx.kept, name) for name in self.memory.places}
        named = zip(self.chosen.seeds, seeds, strict=True)
        return found | {name: seed for name, seed in named if name is not None}

    def again(self, ctx: Any, saved: Sequence[Tensor], seeds: Sequence[Tensor]) -> Any:
        return self._as_operator(self.given(ctx, saved, seeds))

    def _as_operator(self, given: dict[str, Tensor]) -> Any:
        """The gradients by PyTorch's operator, which knows all that may be asked of one."""
        return _one_or_all(pulled_back(self.chosen, given, self.values))

    def _in_full(self, given: dict[str, Tensor]) -> Any:
        """The gradients, with all that a call may have to look at."""
        backward = self.chosen.backward
        made = registry.runner_of(backward)(
            [given[i.name] for i in backward.inputs]
            + [self.values[n.name] for n in backward.numbers]
        )
        return _one_or_all([None if n is None else made[n] for n in self.chosen.gradients])

    def _is_looked_at(self, seeds: Sequence[Tensor]) -> bool:
        if any(NAMES[name]() for name in ("grad_enabled", "is_transformed", "watchers")):
            return True
        if torch.get_num_threads() != self.threads:
            return True
        return forward_ad._current_level >= 0 or any(
            type(seed) is not Tensor or seed.is_neg() for seed in seeds
        )

    def _are_usual(self, given: dict[str, Tensor]) -> bool:
        """Are the saved ones, which may have gone through hooks, like those that were saved?"""
        saved = ((given[name], self.likes[name]) for name in self.saved)
        return lie_in_memory(given.values()) and not any(_is_other(*each) for each in saved)

    def _backward(self, given: dict[str, Tensor]) -> Callable[..., Any]:
        backward = self.chosen.backward
        runner = registry.runner_of(backward)
        numbers = tuple(self.values[n.name] for n in backward.numbers)
        names = [i.name for i in backward.inputs]
        plan = runner.plan([given[name] for name in names], numbers)
        if plan.quick is None:

            def in_full(ctx: Any, *seeds: Tensor) -> Any:
                given = self.given(ctx, ctx.saved_tensors, seeds)
                if self._is_looked_at(seeds) or not self._are_usual(given):
                    return self._as_operator(given)
                return self._in_full(given)

            return in_full
        seeds = written.variables("g", len(self.chosen.seeds))
        places: dict[str, str | int] = {name: self.variables[name] for name in self.saved}
        places |= self.memory.places
        places |= {name: g for name, g in zip(self.chosen.seeds, seeds, strict=True) if name}
        reads = [_operand(places[names[n]], given[names[n]], dtype) for n, dtype in plan.reads]
        known = dict(NAMES)
        unlike = [f"type({g}) is not Tensor or {g}.is_neg()" for g in seeds]
        unlike.append(f"threads() != {self.threads}")
        for n, name in enumerate(self.saved):
            known[f"like_saved{n}"] = self.likes[name]
            known[f"shape_saved{n}"], known[f"type_saved{n}"] = self.likes[name]
            saved = self.variables[name]
            # A tensor's own hooks nobody is told of.
            unlike.append(
                f"is_other({saved}, like_saved{n})"
                if self.hooked
                else f"{saved}.dtype is not type_saved{n} or {saved}.shape != shape_saved{n}"
            )
        return written.backward(
            len(seeds),
            [self.variables[name] for name in self.saved],
            Run(plan.quick, reads, [_maker(*like) for like in plan.made]),
            unlike,
            self.chosen.gradients,
            known | {"again": self.again, "is_other": _is_other},
        )


def _is_other(tensor: Tensor, like: tuple[tuple[int, ...], torch.dtype]) -> bool:
    """Has a hook given back something that code for a tensor like that cannot read?"""
    plain = type(tensor) in (Tensor, torch.nn.Parameter) and tensor.is_cpu and not tensor.is_neg()
    return not plain or (tensor.shape, tensor.dtype) != like


def _operand(place: str | int, tensor: Tensor, dtype: torch.dtype) -> Operand:
    return Operand(place, None if tensor.dtype is dtype else dtype)


def _maker(shape: tuple[int, ...], dtype: torch.dtype) -> Any:
    """As `written.Run` has it."""
    return torch.empty(shape, dtype=dtype) if math.prod(shape) <= SMALL else (shape, dtype)


def _one_or_all(values: Sequence[Tensor | None]) -> Any:
    return values[0] if len(values) == 1 else tuple(values)
