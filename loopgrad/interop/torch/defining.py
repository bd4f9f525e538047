"""What PyTorch is told of an operator of ours, which it then has under `torch.ops.loopgrad`.

The name is that of the program and a hash of its content: the same in every process, so that what
`torch.export` or `torch.compile` have saved finds it again once the program has been made an
operator there. What is registered:

    CPU                the compiled program
    Meta               the shapes, of symbols too
    Autograd           the backward and the tangent, which are operators as well
    FuncTorchBatched   the program with a batch axis
    AutocastCPU        in float32
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from loopgrad.interop.operators import Operator, batched
from loopgrad.interop.torch import differentiating, registry
from loopgrad.interop.torch.running import HALVES, floating_type
from loopgrad.interop.torch.shapes import extents_of, shape_of
from loopgrad.ir.nodes import Default
from loopgrad.printers.identifiers import legal

NAMESPACE = "loopgrad"

_library = torch.library.Library(NAMESPACE, "FRAGMENT")


def define(operator: Operator) -> Any:
    name = f"{_ascii(operator.name)}_{operator.key}"
    _library.define(name + _schema(operator), tags=(torch.Tag.pt2_compliant_tag,))
    known = getattr(getattr(torch.ops, NAMESPACE), name).default
    qualified = f"{NAMESPACE}::{name}"

    runner = registry.runner_of(operator)

    def compute(*arguments: Any) -> Any:
        return _returned(runner(arguments))

    def fake(*arguments: Any) -> Any:
        return _returned(_shaped(operator, arguments))

    def mapped(info: Any, in_dims: Sequence[int | None], *arguments: Any) -> Any:
        return _mapped(operator, in_dims, arguments)

    _library.impl(name, compute, "CPU")
    torch.library.register_fake(qualified, fake, lib=_library)
    torch.library.register_vmap(qualified, mapped, lib=_library)
    _library.impl(name, _in_float32(known), "AutocastCPU", with_keyset=True)
    _library.impl(name, differentiating.kernel(operator, known), "Autograd", with_keyset=True)
    return known


def _in_float32(overload: Any) -> Any:
    """As `torch.library.register_autocast` does it, which PyTorch has from 2.7 on."""
    autocast = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU)

    def cast(keyset: Any, *arguments: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(autocast):
            return overload(*map(_widened, arguments))

    return cast


def _widened(argument: Any) -> Any:
    is_half = isinstance(argument, torch.Tensor) and argument.dtype in HALVES
    return argument.float() if is_half else argument


def _schema(operator: Operator) -> str:
    tensors = [f"Tensor {_ascii(i.name)}_{n}" for n, i in enumerate(operator.inputs)]
    numbers = [
        f"{'float' if isinstance(each, Default) and isinstance(each.value, float) else 'SymInt'} "
        f"{_ascii(each.name)}_{n}"
        for n, each in enumerate(operator.numbers, len(tensors))
    ]
    count = len(operator.delivers)
    returns = "Tensor" if count == 1 else f"({', '.join(['Tensor'] * count)})"
    return f"({', '.join([*tensors, *numbers])}) -> {returns}"


def _ascii(name: str) -> str:
    """A name that PyTorch's schemas take: `γ` is an `a`, and `θ2` is `a2`."""
    text = "".join(c if c.isascii() else "_" for c in legal(name)).strip("_")
    return text if text.isidentifier() else "a" + text


def _returned(tensors: Sequence[Any]) -> Any:
    return tensors[0] if len(tensors) == 1 else tuple(tensors)


def _shaped(operator: Operator, arguments: Sequence[Any]) -> list[torch.Tensor]:
    """Tensors without elements, as the operator delivers."""
    facts, inputs = operator.facts, operator.inputs
    tensors, numbers = arguments[: len(inputs)], arguments[len(inputs) :]
    values = extents_of(
        facts,
        {i.name: t.shape for i, t in zip(inputs, tensors, strict=True)},
        {each.name: n for each, n in zip(operator.numbers, numbers, strict=True)},
    )
    floating = floating_type(operator, tensors)
    like = tensors[0] if tensors else torch.empty((), device="meta")
    return [
        like.new_empty(
            shape_of(facts, name, values),
            dtype=floating if name in operator.floating else torch.int64,
        )
        for name in operator.delivers
    ]


def _mapped(
    operator: Operator, in_dims: Sequence[int | None], arguments: Sequence[Any]
) -> tuple[Any, Any]:
    """What `torch.vmap` makes of it."""
    names = [i.name for i in operator.inputs]
    moved = [n for n, dim in zip(names, in_dims, strict=False) if dim is not None]
    found = batched(operator, moved)
    given = [
        a if dim is None else a.movedim(dim, 0) for a, dim in zip(arguments, in_dims, strict=True)
    ]
    order = dict(zip(names, given, strict=False))
    numbers = given[len(names) :]
    answer = registry.registered(found.operator)(
        *(order[i.name] for i in found.operator.inputs), *numbers
    )
    dims = tuple(0 if m else None for m in found.moved)
    return answer, dims[0] if len(dims) == 1 else dims
