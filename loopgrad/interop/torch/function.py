"""A program as a differentiable function of tensors."""

from __future__ import annotations

import operator as operators
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import torch
from torch.overrides import is_tensor_like

from loopgrad.backends.shapes import count, label
from loopgrad.diagnostics import ProgramError, listing, suggestion
from loopgrad.interop.operators import plain
from loopgrad.interop.torch import registry
from loopgrad.interop.torch.eager import Eager
from loopgrad.interop.torch.running import spelled
from loopgrad.ir.nodes import Default, Input, Program, Size
from loopgrad.pipeline import as_program

MOST_CALLERS = 64

# Tuples, as the compiler of PyTorch 2.6 does not know `int | SymInt`.
INTEGERS = (int, torch.SymInt)
REALS = (float, torch.SymFloat)
NUMBERS = (int, float)


class Function:
    """A program as a function of PyTorch's tensors; see `function`. Immutable."""

    def __init__(self, program: Program, average: bool):
        self.program, self.average = program, average
        self._operator = plain(program, None if average else False)
        self._inputs = self._operator.inputs
        self._defaults = tuple(getattr(n, "value", None) for n in self._operator.numbers)
        self._eager = Eager(self._operator)
        # Without all sizes a call is never complete; -1 arguments there never are.
        self._count = -1 if None in self._defaults else len(self._inputs)
        self._usual = self._eager.caller(self._defaults)
        self._callers: dict[Any, Any] = {}
        self._overload = registry.registered(self._operator)

    def __call__(self, /, *arguments: Any, **named: Any) -> Any:
        """The results of the program: a tensor, or a tuple of them."""
        if torch.compiler.is_compiling():
            tensors, numbers = self._sorted(arguments, named)
            return self._overload(*tensors, *numbers)
        if not named and len(arguments) == self._count:
            # As nearly always; what is no tensor, or lacks a size, goes the other way.
            found = self._usual(*arguments)
            if found is not None:
                return found
        tensors, numbers = self._sorted(arguments, named)
        found = self._caller(numbers)(*tensors)
        if found is not None:
            return found
        for i, tensor in zip(self._inputs, tensors, strict=True):
            self._refuse_elsewhere(i, tensor)
        return self._overload(*tensors, *numbers)

    def _caller(self, numbers: tuple[Any, ...]) -> Any:
        key = spelled(numbers)
        known = self._callers.get(key)
        if known is None:
            if len(self._callers) >= MOST_CALLERS:
                self._callers = {}
            known = self._callers[key] = self._eager.caller(numbers)
        return known

    @property
    def operator(self) -> Any:
        """PyTorch's operator, of `torch.ops.loopgrad`: it takes all tensors, then all numbers."""
        return self._overload

    def __repr__(self) -> str:
        average = ", average=True" if self.average else ""
        return f"<loopgrad function of `{self.program.name}` for PyTorch{average}>"

    def __reduce__(self) -> Any:
        return _restored, (text_of(self.program), self.average)

    def __copy__(self) -> Function:
        return self

    def __deepcopy__(self, memory: Any) -> Function:
        return self

    # -------------------------------------------------------------------------- which is which

    def _sorted(
        self, arguments: Sequence[Any], named: Mapping[str, Any]
    ) -> tuple[Sequence[Any], tuple[Any, ...]]:
        """The tensors in the order of the header, and the numbers."""
        if len(arguments) > len(self._inputs):
            self._too_many(len(arguments))
        given = {i.name: a for i, a in zip(self._inputs, arguments, strict=False)}
        for name, value in named.items():
            if name in given:
                self._fail(f"got `{name}` twice, by place and by name")
            given[name] = value
        names = [i.name for i in self._inputs] + [n.name for n in self._operator.numbers]
        for name in named:
            if name not in names:
                self._unknown(name, names)
        missing = [label(i) for i in self._inputs if i.name not in given]
        missing += [f"size {n.name}" for n in self.program.sizes if n.name not in given]
        if missing:
            self._fail(f"needs {listing(missing)}, which it did not get")
        values = [given[i.name] for i in self._inputs]
        tensors = [
            value if is_tensor_like(value) else self._tensor(i, value, values)
            for i, value in zip(self._inputs, values, strict=True)
        ]
        numbers = tuple(
            [
                self._number(n, given[n.name]) if n.name in given else default
                for n, default in zip(self._operator.numbers, self._defaults, strict=True)
            ]
        )
        return tensors, numbers

    def _tensor(self, i: Input, value: Any, values: Sequence[Any]) -> torch.Tensor:
        """A Python number as a scalar tensor: of the type of the other tensors, as it is weak."""
        if i.extents or not isinstance(value, NUMBERS):
            self._fail(f"argument `{label(i)}` has to be a tensor, got {type(value).__name__}")
        if i.kind == "int":
            if isinstance(value, float):
                self._fail(f"argument `{i.name}` is an `int` and needs an integer, got {value}")
            return torch.tensor(value)
        if i.kind == "bool":
            if not isinstance(value, bool):
                self._fail(f"argument `{i.name}` is a `bool` and needs True or False, got {value}")
            return torch.tensor(value)
        dtype = None
        for other, known in zip(values, self._inputs, strict=True):
            if isinstance(other, torch.Tensor) and known.differentiable:
                dtype = torch.promote_types(dtype or other.dtype, other.dtype)
        if dtype is None or not dtype.is_floating_point:
            dtype = torch.get_default_dtype()
        return torch.tensor(value, dtype=dtype)

    def _number(self, n: Size | Default, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            self._fail(
                f"`{n.name}` is a {'size' if isinstance(n, Size) else 'constant'}, which is no tensor "
                "and has no gradient: give a number, or make it an input of the program"
            )
        if isinstance(n, Default) and isinstance(n.value, float):
            if isinstance(value, REALS):
                return value
            try:
                return float(value)
            except (TypeError, ValueError):
                self._fail(f"constant `{n.name}` has to be a number, got {value!r}")
        if isinstance(value, INTEGERS):
            return value
        try:
            return operators.index(value)
        except TypeError:
            self._fail(f"`{n.name}` has to be an integer, got {value!r}")

    # ----------------------------------------------------------------------------------- refusals

    def _refuse_elsewhere(self, i: Input, tensor: torch.Tensor) -> None:
        """Raises for a tensor that is not in this processor's memory, element by element."""
        if not isinstance(tensor, torch.Tensor):  # it stands for one, as in `torch.fx`
            return
        if tensor.is_nested:
            self._fail(
                f"argument `{label(i)}` is a nested tensor; give it as `.to_padded_tensor(0.0)`, or its "
                "tensors one by one"
            )
        if tensor.layout is not torch.strided:
            self._fail(
                f"argument `{label(i)}` is of layout {tensor.layout}; give it as `.to_dense()`"
            )
        if tensor.device.type not in ("cpu", "meta"):
            self._fail(
                f"argument `{label(i)}` is on {tensor.device}, and loops run on the CPU: give it as "
                "`.cpu()`"
            )

    def _too_many(self, got: int) -> NoReturn:
        takes = listing([label(i) for i in self._inputs]) or "none"
        self._fail(
            f"takes {count(len(self._inputs), 'tensor')} ({takes}), got {got}; sizes and constants are given "
            "by keyword"
        )

    def _unknown(self, name: str, names: Sequence[str]) -> NoReturn:
        meant = suggestion(name, names)
        hint = f"did you mean `{meant}`?" if meant else f"it takes {listing(list(names))}"
        self._fail(f"has no argument `{name}`; {hint}")

    def _fail(self, message: str) -> NoReturn:
        raise TypeError(f"{self.program.name}: {message}")


def function(program: Program | str, *, average: bool = False) -> Function:
    """A program as a differentiable function of PyTorch's tensors.

    average: False for the mathematical adjoint, as PyTorch has it everywhere: gradients of
        parameters are summed over the batch, and a loss that is a mean divides them. True for what
        `lg.vjp` gives: where the program names a `batch`, they are averaged over it, however the loss
        is made. (Second derivatives are then those of the averaged gradient.)

    The function takes the inputs of the program in the order of its header, or by name, and its
    sizes and constants by keyword; it returns a tensor, or a tuple where there are several results.
    Floating tensors are float32 or float64, on the CPU; scalars may be numbers. It is an operator of
    `torch.library`: it works under `torch.compile`, `torch.export`, `torch.func`, forward mode,
    checkpointing and autocast, and may be differentiated to any order. It can be pickled.

    Calls raise TypeError or ValueError, naming the argument, for what does not fit, and what the
    program raises where an index is out of range.

    >>> import loopgrad as lg, torch
    >>> square = lg.torch.function("square(x[N]) -> y[N]:\\n    y[n] = x[n] ** 2")
    >>> x = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    >>> square(x).sum().backward()
    >>> x.grad
    tensor([2., 4., 6.])
    """
    known = as_program(program)
    if not isinstance(average, bool):
        raise TypeError(f"`average` is True or False, got {average!r}")
    memory: dict[bool, Function] = known.__dict__.setdefault("_torch", {})
    if average not in memory:
        memory[average] = Function(known, average)
    return memory[average]


def _restored(text: str, average: bool) -> Function:
    return function(text, average=average)


def text_of(program: Program) -> str:
    """A text that gives the program again, wherever loopgrad is."""
    from loopgrad.frontend.library import program as parsed

    text = str(program)
    try:
        if parsed(text) == program:
            return text
    except ProgramError:  # it calls programs that stood above it
        pass
    return str(program.unfold())
