"""Packages of parameters, how they start, and how they are kept in a file."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from numbers import Integral, Number
from pathlib import Path
from typing import Any

import numpy as np

from loopgrad.backends.formulas import evaluate
from loopgrad.diagnostics import listing
from loopgrad.edf.graph import Array, Parameter, Value
from loopgrad.ir.nodes import Extent, Program
from loopgrad.ir.walk import subexpressions
from loopgrad.pipeline import as_program, infer


class Package(Mapping[str, Any]):
    """Parameters under one name: `Phi.W`, `Phi["W'"]`, packages of packages, and lists of them.

    What is set is a Parameter or another object of a graph, a package, a list or tuple of such, or an
    array, which becomes a Parameter. As a mapping it goes from the names to what was set.

    >>> from loopgrad import edf
    >>> Phi = edf.Package(W=[[1.0, 2.0]], layers=[edf.Package(b=[0.0]), edf.Package(b=[1.0])])
    >>> Phi.W
    <Parameter W: float64(1, 2)>
    >>> list(Phi.parameters())
    ['W', 'layers[0].b', 'layers[1].b']
    """

    def __init__(self, /, **items: Any) -> None:
        for name, item in items.items():
            setattr(self, name, item)

    def __setattr__(self, name: str, item: Any) -> None:
        if name in dir(type(self)):
            raise ValueError(f"a package has a method `{name}`: a parameter needs another name")
        super().__setattr__(name, _packed(item, name))
        for path, parameter in _found(name, self.__dict__[name]):
            if parameter.name in ("", path[-len(parameter.name) :]):
                parameter.name = path

    def __getitem__(self, name: str) -> Any:
        return self.__dict__[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.__dict__)

    def __len__(self) -> int:
        return len(self.__dict__)

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def parameters(self) -> dict[str, Parameter]:
        """All of them, those of packages and lists within too, by their paths."""
        return dict(_found("", self))

    def __repr__(self) -> str:
        return f"Package({', '.join(f'{name}={item!r}' for name, item in self.items())})"


def _packed(item: Any, name: str) -> Any:
    """A list of numbers is an array; any other is a list of things to be packed."""
    if isinstance(item, Value | Package):
        return item
    if isinstance(item, list | tuple) and not _is_numbers(item):
        return [_packed(one, f"{name}[{n}]") for n, one in enumerate(item)]
    return Parameter(item, name)


def _is_numbers(item: Any) -> bool:
    if isinstance(item, list | tuple):
        return all(map(_is_numbers, item))
    return isinstance(item, Number)


def _found(path: str, item: Any) -> Iterator[tuple[str, Parameter]]:
    """The parameters below, each with its path."""
    match item:
        case Parameter():
            yield path, item
        case Package():
            for name, one in item.items():
                yield from _found(f"{path}.{name}" if path else name, one)
        case list():
            for number, one in enumerate(item):
                yield from _found(f"{path}[{number}]", one)


def initial(
    program: Program | str,
    rng: np.random.Generator | int = 0,
    /,
    *,
    dtype: Any = float,
    **extents: int,
) -> Package:
    """Parameters for a program: one for each `param` of its header, by its name.

    Weights, of two axes or more, are uniform in ±sqrt(3 / n), where n is the product of their extents but
    for the first (variance 1 / n: LeCun et al. 1998); all others are zero.

    rng: a generator or its seed. extents: those that the parameters have, by name.

    Raises TypeError, naming it, for an extent that is missing or not known, ValueError for one below 0.

    >>> from loopgrad import edf, lib
    >>> edf.initial(lib.affine, I=64, J=10)
    Package(W=<Parameter W: float64(10, 64)>, c=<Parameter c: float64(10,)>)
    """
    program = as_program(program)
    rng = np.random.default_rng(rng)
    facts = infer(program)
    unknown = [name for name in extents if name not in facts.extents]
    if unknown:
        raise TypeError(
            f"{program.name} has no extent {listing(unknown)}; it has {listing(facts.extents)}"
        )
    axes = {i.name: facts.tensors[i.name].extents for i in program.inputs if i.kind == "param"}
    formulas = [e for shape in axes.values() for e in shape]
    parts = [part for e in formulas for part in subexpressions(e)]
    needed = {part.name for part in parts if isinstance(part, Extent)}
    missing = sorted(needed - extents.keys())
    if missing:
        raise TypeError(f"{program.name} needs the extents {listing(missing)} of its parameters")
    for name, extent in extents.items():
        if not isinstance(extent, Integral) or extent < 0:
            raise ValueError(f"the extent `{name}` has to be an integer from 0, got {extent!r}")
    sizes = {**{c.name: c.value for c in program.constants}, **extents}
    shapes = {name: [evaluate(e, sizes) for e in shape] for name, shape in axes.items()}
    return Package(**{name: _start(shape, rng).astype(dtype) for name, shape in shapes.items()})


def _start(shape: Sequence[int], rng: np.random.Generator) -> Array:
    if len(shape) < 2:
        return np.zeros(shape)
    bound = math.sqrt(3 / max(math.prod(shape[1:]), 1))
    return rng.uniform(-bound, bound, shape)


def save(path: str | os.PathLike[str], Phi: Package) -> None:
    """Writes all parameters of a package to an `.npz` file, by their paths.

    The file is there whole or, if anything interrupts, as it was before.
    """
    target = Path(path)
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=target.name, delete=False) as file:
        try:
            arrays = {name: p.value for name, p in Phi.parameters().items()}
            np.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            os.unlink(file.name)
            raise
    os.replace(file.name, target)


def load(path: str | os.PathLike[str], Phi: Package) -> None:
    """Gives the parameters of a package the values that `save` has written.

    Raises ValueError, and changes nothing, where the file has others, or of other shapes.
    """
    parameters = Phi.parameters()
    with np.load(path) as file:
        values = {name: file[name] for name in file.files}
    if values.keys() != parameters.keys():
        differ = sorted(values.keys() ^ parameters.keys())
        raise ValueError(f"{os.fspath(path)} and the package do not both have {listing(differ)}")
    for name, p in parameters.items():
        if values[name].shape != p.value.shape:
            raise ValueError(
                f"`{name}` has shape {p.value.shape}, and in {os.fspath(path)} {values[name].shape}"
            )
    for name, p in parameters.items():
        p.value = values[name]
