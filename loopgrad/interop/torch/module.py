"""A program as an `nn.Module` that owns its parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from loopgrad.analysis.facts import Facts
from loopgrad.analysis.infer import infer
from loopgrad.backends.formulas import FormulaError, evaluate
from loopgrad.backends.shapes import count, label
from loopgrad.diagnostics import listing, suggestion
from loopgrad.interop.operators import names_of_numbers
from loopgrad.interop.roles import use_of
from loopgrad.interop.torch import initial
from loopgrad.interop.torch.function import Function, function
from loopgrad.ir.nodes import Extent, Input, Program
from loopgrad.ir.walk import subexpressions
from loopgrad.pipeline import as_program


class Module(torch.nn.Module):
    """A layer whose forward is a program, and whose parameters are the program's `param`s.

    program: a program, or its text.
    average: as for `lg.torch.function`.
    dtype, device: of the parameters, as PyTorch's modules take them.
    named: the extents of parameters (`J=10`), sizes and constants of the program (`eps=1e-6`), and
        initial values of parameters by their names: a name such as "xavier_uniform"
        (`initial.BY_NAME`), a number, a tensor, or a function that fills a tensor, as those of
        `torch.nn.init` do. Without one, a parameter that is summed over gets uniform values within
        ±1/√fan-in, as in `nn.Linear`; a table that is looked up, normal ones; one that multiplies,
        ones; one that is added, zeros.

    Calls take the other inputs, in the order of the header or by name, and constants by keyword.
    Parameters are attributes under their names in the program (dots and primes are spelled `_` and
    `_prime`). `state_dict`, `copy.deepcopy`, pickling and all else are PyTorch's.

    Raises TypeError for an extent that is missing or a name that there is not, ValueError for what
    is negative or does not fit.

    >>> import loopgrad as lg, torch
    >>> layer = lg.torch.Module(lg.lib.affine, I=4, J=3)
    >>> layer
    Module(
      affine(x[B,I], param W[J,I], param c[J]) batch B -> y[B,J]:
          for b, j:     y[b,j] += c[j]
          for b, j, i:  y[b,j] += W[j,i] * x[b,i]
      J=3, I=4
    )
    >>> layer(torch.zeros(2, 4)).shape
    torch.Size([2, 3])
    """

    def __init__(
        self,
        program: Program | str,
        /,
        *,
        average: bool = False,
        dtype: torch.dtype | None = None,
        device: Any = None,
        **named: Any,
    ):
        super().__init__()
        known = as_program(program)
        self.function: Function = function(known, average=average)
        facts = infer(known)
        owned = [i for i in known.inputs if i.kind == "param"]
        self._uses = {i.name: use_of(facts, i.name) for i in owned}
        self._initial = {i.name: named.pop(i.name) for i in owned if i.name in named}
        for name, wanted in self._initial.items():
            initial.check(f"{known.name}: parameter `{name}`", wanted)
        self.numbers = _numbers(known, named)
        self.extents = _extents(facts, owned, named, self.numbers)
        self._attributes = _attributes(self, known, owned)
        for i in owned:
            values = {**self.numbers, **self.extents}
            empty = torch.empty(_shape(known, i, values), dtype=dtype, device=device)
            self.register_parameter(self._attributes[i.name], torch.nn.Parameter(empty))
        self.reset_parameters()

    @property
    def program(self) -> Program:
        return self.function.program

    def reset_parameters(self) -> None:
        """Gives all parameters initial values again."""
        for name, attribute in self._attributes.items():
            what = f"{self.program.name}: parameter `{name}`"
            wanted = self._initial.get(name)
            initial.fill(getattr(self, attribute), self._uses[name], wanted, what)

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """The program's results, given the inputs that are no parameters."""
        program = self.function.program
        owned = self._attributes
        given = {n: getattr(self, attribute) for n, attribute in owned.items()}
        free = [i.name for i in program.inputs if i.name not in owned]
        if len(inputs) > len(free):
            raise TypeError(
                f"{program.name}: takes {count(len(free), 'tensor')} ({listing(free)}) beside its "
                f"parameters, got {len(inputs)}"
            )
        for name, tensor in zip(free, inputs, strict=False):
            given[name] = tensor
        for name, value in named.items():
            if name in given:
                raise TypeError(f"{program.name}: got `{name}` twice")
            given[name] = value
        for name, number in self.numbers.items():
            given.setdefault(name, number)
        if all(i.name in given for i in program.inputs) and len(given) == len(program.inputs):
            return self.function(*[given[i.name] for i in program.inputs])
        return self.function(**given)

    def extra_repr(self) -> str:
        shown = ", ".join(f"{n}={v}" for n, v in {**self.extents, **self.numbers}.items())
        return f"{self.program}\n{shown}".rstrip()


def _numbers(program: Program, named: dict[str, Any]) -> dict[str, Any]:
    """The sizes and constants that are given."""
    return {name: named.pop(name) for name in names_of_numbers(program) if name in named}


def _extents(
    facts: Facts, owned: list[Input], named: Mapping[str, Any], numbers: Mapping[str, Any]
) -> dict[str, int]:
    """The extents of the parameters, which all have to be given, and nothing else.

    Of two that the program needs to be equal, or that differ in primes, one is enough.
    """
    program = facts.program
    first: dict[str, tuple[Input, int]] = {}
    for i in owned:
        for axis, extent in enumerate(i.extents):
            for e in subexpressions(extent):
                if isinstance(e, Extent) and e.name not in numbers:
                    first.setdefault(e.name, (i, axis))
    for name in named:
        if name not in first:
            known = [*first, *(i.name for i in owned), *(c.name for c in program.constants)]
            meant = suggestion(name, known)
            takes = f"it takes {listing(known)}" if known else "it takes none"
            hint = f"did you mean `{meant}`?" if meant else takes
            raise TypeError(
                f"{program.name}: `{name}` is no extent of a parameter, no parameter and no constant; "
                f"{hint}"
            )
    given = {name: _extent(program, name, value) for name, value in named.items()}
    for _ in first:
        for equality in facts.equalities:
            match equality.left, equality.right:
                case (Extent(one), Extent(other)) | (Extent(other), Extent(one)) if one in given:
                    given.setdefault(other, given[one])
    for name in first:  # a keyword has no primes: `J'` is as large as `J` where it is not said
        if name.rstrip("'") in given:
            given.setdefault(name, given[name.rstrip("'")])
    missing = [
        f"{name} (axis {axis} of parameter `{label(i)}`)"
        for name, (i, axis) in first.items()
        if name not in given
    ]
    if missing:
        example = ", ".join(f"{name}=..." for name in first if "'" not in name)
        raise TypeError(
            f"{program.name}: its parameters need {', '.join(missing)}: Module({program.name}, {example})"
        )
    return {name: given[name] for name in first}


def _extent(program: Program, name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{program.name}: extent `{name}` has to be an integer, got {value!r}")
    if value < 0:
        raise ValueError(f"{program.name}: extent `{name}` cannot be negative, got {value}")
    return value


def _shape(program: Program, i: Input, values: dict[str, Any]) -> tuple[int, ...]:
    known = {c.name: c.value for c in program.constants} | values
    try:
        shape = tuple(evaluate(e, known) for e in i.extents)
    except FormulaError as error:
        raise ValueError(f"{program.name}: parameter `{label(i)}`: extent {error}") from None
    if min(shape, default=0) < 0:
        raise ValueError(f"{program.name}: parameter `{label(i)}` would have shape {shape}")
    return shape


def _attributes(module: Module, program: Program, owned: list[Input]) -> dict[str, str]:
    """What each parameter is called as an attribute; nothing of PyTorch's own is hidden."""
    found: dict[str, str] = {}
    for i in owned:
        name = i.name.replace(".", "_").replace("'", "_prime")
        while hasattr(module, name) or name in found.values():
            name += "_"
        found[i.name] = name
    return found
