"""Runs an operator on tensors: they are read where they lie, and what is returned is PyTorch's own.

Compiled code gets the addresses of the elements and PyTorch's number of threads. Only a tensor that
does not lie in C order is copied, or one of another type than the code computes with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from loopgrad.backends.llvm.calling import addresses
from loopgrad.backends.shapes import label
from loopgrad.interop.operators import Operator, names_of_numbers
from loopgrad.interop.torch.storages import empty
from loopgrad.ir.nodes import Input

HALVES = (torch.float16, torch.bfloat16)
MOST_PLANS = 256
NUMPYS: dict[torch.dtype, np.dtype[Any]] = {
    dtype: np.dtype(str(dtype).removeprefix("torch."))
    for dtype in (
        *(torch.float32, torch.float64, torch.bool, torch.uint8),
        *(torch.int8, torch.int16, torch.int32, torch.int64),
    )
}


class Elsewhere(Exception):
    """A tensor that has no memory of its own: it stands for others, which the dispatcher knows."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What calls of one operator have in common that differ in the contents of tensors alone.

    reads: the places among the operator's inputs of those that the code reads, in its order, each
        with the type that it has there.
    made: shape and type of each tensor that is delivered.
    code: takes the addresses of both; answers 0 where it has done its work. None where calls have to
        go by way of NumPy.
    always: whether that may be called without a look at how much memory there is.
    """

    reads: tuple[tuple[int, torch.dtype], ...]
    made: tuple[tuple[tuple[int, ...], torch.dtype], ...]
    code: Callable[..., int] | None
    always: bool
    named: dict[str, Any]

    @property
    def quick(self) -> Callable[..., int] | None:
        """The code, where it may be called at once."""
        return self.code if self.always else None


class Runner:
    """One operator's calls. Several threads may run it at once."""

    def __init__(self, operator: Operator):
        self.operator = operator
        self._plans: dict[Any, Plan] = {}
        self._addressed: addresses.Addressed | None = None
        self._count = len(operator.inputs)
        places = {i.name: place for place, i in enumerate(operator.inputs)}
        self._inputs = [(places[i.name], i) for i in operator.computes.inputs]

    def __call__(self, arguments: Sequence[Any]) -> list[torch.Tensor]:
        """What the operator delivers, given its tensors and numbers in order.

        Raises TypeError or ValueError for what does not fit, as a call of the program does.
        """
        tensors, numbers = arguments[: self._count], arguments[self._count :]
        plan = self.plan(tensors, numbers)
        read = [_as_read(tensors[place], dtype) for place, dtype in plan.reads]
        made = [empty(shape, dtype) for shape, dtype in plan.made]
        if plan.code is None or not plan.always:
            self._checked(plan, read, made)
        elif addresses.fails(plan.code, [t.data_ptr() for t in (*read, *made)]):
            self._by_numpy(plan, read, made)
        return made

    def plan(self, tensors: Sequence[torch.Tensor], numbers: Sequence[Any]) -> Plan:
        """The plan of a call, made when first there is one like it."""
        threads = torch.get_num_threads()
        key = (
            threads,
            tuple([(t.shape, t.dtype) for t in tensors]),
            spelled(numbers),
        )
        known = self._plans.get(key)
        if known is None:
            known = self._made(tensors, numbers, threads)
            if len(self._plans) >= MOST_PLANS:
                self._plans = {}
            self._plans[key] = known  # without a lock, which a child might find taken
        return known

    def _made(self, tensors: Sequence[torch.Tensor], numbers: Sequence[Any], threads: int) -> Plan:
        operator, kernel = self.operator, self.operator.kernel
        floating = floating_type(operator, tensors)
        given = dict(zip((n.name for n in operator.numbers), numbers, strict=True))
        program = kernel.program
        named = {n: given[n] for n in names_of_numbers(program)}
        for place, i in self._inputs:
            _refuse(operator, i, tensors[place].dtype)
        reads = tuple((place, _type_read(i.kind, floating)) for place, i in self._inputs)
        # Shapes are looked at by those who look at NumPy's. Types are PyTorch's, which makes float32 of
        # float32 and int64: NumPy would make float64.
        arrays = [_seen(_as_read(tensors[place], dtype)) for place, dtype in reads]
        call = kernel.bind(arrays, named, [None] * len(operator.delivers))
        made = tuple(
            (call.shapes[name], floating if name in operator.floating else torch.int64)
            for name in operator.delivers
        )
        if self._addressed is None:
            self._addressed = addresses.Addressed(kernel)
        code = self._addressed.plan(call, threads)
        return Plan(reads, made, code, call.bound.small, named)

    def _checked(
        self, plan: Plan, read: Sequence[torch.Tensor], made: Sequence[torch.Tensor]
    ) -> None:
        """A call that may need more memory than there is."""
        if plan.code is None:
            self._by_numpy(plan, read, made)
            return
        outs = [_seen(t) for t in made]
        self.operator.kernel.bind([_seen(t) for t in read], plan.named, outs)
        if addresses.fails(plan.code, [t.data_ptr() for t in (*read, *made)]):
            self._by_numpy(plan, read, made)

    def _by_numpy(
        self, plan: Plan, read: Sequence[torch.Tensor], made: Sequence[torch.Tensor]
    ) -> None:
        """The long way, on which all errors are raised."""
        outs = tuple(_seen(t) for t in made)
        arrays = [_seen(t) for t in read]
        out = outs if len(outs) > 1 else outs[0]
        named = dict(plan.named)
        if all(a.name != "out" for a in self.operator.kernel.program.arguments):
            self.operator.kernel(*arrays, **named, out=out)
            return
        found = self.operator.kernel(*arrays, **named)
        for to, array in zip(outs, found if len(outs) > 1 else (found,), strict=True):
            to[...] = array


def spelled(numbers: Sequence[Any]) -> tuple[Any, ...]:
    """The numbers as a key: -0.0 is not 0.0, and NaN is NaN."""
    return tuple([n.hex() if type(n) is float else n for n in numbers])


def lie_in_memory(tensors: Iterable[torch.Tensor]) -> bool:
    """Whether all have memory: one that stands for others has no address, one of zeros alone has 0."""
    try:
        return all(tensor.data_ptr() or not tensor.numel() for tensor in tensors)
    except RuntimeError:
        return False


def _seen(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    """A tensor as an array. Its own `numpy()` would make it one that cannot be resized any more.

    Raises Elsewhere for one without memory.
    """
    if not lie_in_memory([tensor]):
        raise Elsewhere
    return np.asarray(_Seen(tensor)) if tensor.dtype in NUMPYS else tensor.detach().numpy()


class _Seen:
    def __init__(self, tensor: torch.Tensor):
        self._tensor = tensor
        dtype = NUMPYS[tensor.dtype]
        self.__array_interface__ = {
            "shape": tuple(tensor.shape),
            "strides": tuple(dtype.itemsize * s for s in tensor.stride()),
            "typestr": dtype.str,
            "data": (tensor.data_ptr(), False),
            "version": 3,
        }


def floating_type(operator: Operator, tensors: Sequence[torch.Tensor]) -> torch.dtype:
    """float32 or float64: what the floating tensors among the arguments promote to.

    Raises TypeError for 16 bits and for complex numbers.
    """
    found: torch.dtype | None = None
    for i, tensor in zip(operator.inputs, tensors, strict=True):
        if i.differentiable and (tensor.dtype.is_floating_point or tensor.dtype.is_complex):
            found = tensor.dtype if found is None else torch.promote_types(found, tensor.dtype)
            if found not in (torch.float32, torch.float64):
                raise TypeError(
                    f"{operator.name}: argument `{label(i)}` is {_named(tensor.dtype)}; float32 and "
                    f"float64 can be computed with{_mend(tensor.dtype)}"
                )
    return torch.float64 if found is None else found


def _refuse(operator: Operator, i: Input, dtype: torch.dtype) -> None:
    """Raises TypeError for elements that NumPy has not, or names otherwise."""
    name, what = _named(dtype), f"{operator.name}: argument `{label(i)}`"
    if dtype is torch.uint64:
        raise TypeError(f"{what} is uint64, which may not fit int64; give it as `.long()`")
    if name.startswith(("qint", "quint")):
        raise TypeError(f"{what} is {name}; give it as `.dequantize()`")
    if i.kind == "int" and (dtype.is_floating_point or dtype.is_complex):
        mend = "" if dtype.is_complex else ": give it as `.long()` if its values are whole"
        raise TypeError(f"{what} is an `int` tensor and needs integers, got {name}{mend}")
    if i.kind == "bool" and dtype is not torch.bool:
        raise TypeError(f"{what} is a `bool` tensor and needs booleans, got {name}")


def _mend(dtype: torch.dtype) -> str:
    if dtype.is_complex:
        return ": give its real and imaginary parts"
    autocast = ", or call under torch.autocast, which does that" if dtype in HALVES else ""
    return f": give it as `.float()`{autocast}"


def _named(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _as_read(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The tensor in C order, of a type: itself where it is so."""
    if tensor.dtype is not dtype:
        tensor = tensor.to(dtype)
    return tensor if tensor.is_contiguous() else tensor.contiguous()


def _type_read(kind: str, floating: torch.dtype) -> torch.dtype:
    return {"int": torch.int64, "bool": torch.bool}.get(kind, floating)
