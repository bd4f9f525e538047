"""The initial values of a module's parameters."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch

from loopgrad.diagnostics import listing, suggestion
from loopgrad.interop.roles import Use

Initialiser: TypeAlias = str | int | float | torch.Tensor | Callable[[torch.Tensor], Any]

# Those that PyTorch has too do what `torch.nn.init` does with a weight of axes [output, input, ...].
BY_NAME: dict[str, Callable[[torch.Tensor], Any]] = {
    "zeros": torch.nn.init.zeros_,
    "ones": torch.nn.init.ones_,
    "normal": torch.nn.init.normal_,
    "uniform": torch.nn.init.uniform_,
    "kaiming_uniform": torch.nn.init.kaiming_uniform_,
    "kaiming_normal": torch.nn.init.kaiming_normal_,
    "xavier_uniform": torch.nn.init.xavier_uniform_,
    "xavier_normal": torch.nn.init.xavier_normal_,
    "orthogonal": torch.nn.init.orthogonal_,
    "eye": torch.nn.init.eye_,
}


def check(what: str, wanted: Any) -> None:
    """Raises TypeError or ValueError for what is no initialiser; `what` names the parameter."""
    if isinstance(wanted, str):
        if wanted not in BY_NAME:
            meant = suggestion(wanted, BY_NAME)
            hint = f"did you mean {meant!r}?" if meant else f"there are {listing(list(BY_NAME))}"
            raise ValueError(f"{what}: no initialiser {wanted!r}; {hint}")
    elif not isinstance(wanted, int | float | torch.Tensor) and not callable(wanted):
        raise TypeError(
            f"{what}: an initialiser is a name, a number, a tensor, or a function of the tensor that "
            f"fills it, got {type(wanted).__name__}"
        )


def fill(tensor: torch.Tensor, use: Use, wanted: Initialiser | None, what: str) -> None:
    """Fills a parameter as wanted, or by default as its use asks for."""
    with torch.no_grad():
        if wanted is None:
            default(tensor, use)
        elif isinstance(wanted, str):
            BY_NAME[wanted](tensor)
        elif isinstance(wanted, int | float):
            tensor.fill_(wanted)
        elif isinstance(wanted, torch.Tensor):
            if wanted.shape != tensor.shape:
                shapes = tuple(tensor.shape), tuple(wanted.shape)
                raise ValueError(f"{what} has shape {shapes[0]}, and its initial value {shapes[1]}")
            tensor.copy_(wanted)
        else:
            wanted(tensor)


def default(tensor: torch.Tensor, use: Use) -> None:
    """The field's own: uniform in ±1/√fan-in (LeCun et al. 1998; `torch.nn.Linear`), a normal table
    of vectors (`torch.nn.Embedding`), ones for factors, zeros for terms."""
    match use.role:
        case "contracted":
            bound = 1 / math.sqrt(max(1, fan_in(tensor.shape, use)))
            tensor.uniform_(-bound, bound)
        case "gathered":
            tensor.normal_()
        case "factor":
            tensor.fill_(1)
        case "term":
            tensor.fill_(0)


def fan_in(shape: Sequence[int], use: Use) -> int:
    """How many elements of the parameter meet in one element of what they are summed into."""
    return math.prod(shape[axis] for axis in use.axes)
