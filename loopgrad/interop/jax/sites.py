"""One operation of an XLA program: an operator with all that is known when XLA compiles.

    operator, numbers, shapes, type --Site--> code and its arguments, in memory that XLA's handler reads

A site is found by a number, made of its description as text; so a process that gets a compiled or exported
XLA program from another one can make the site again, from the description that the program carries.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopgrad.backends.binding import EXACT, Arguments, Binder, element_dtype
from loopgrad.backends.kernel import BoundCall
from loopgrad.backends.llvm import LLVMRunner
from loopgrad.backends.shapes import Shape, StandIn
from loopgrad.backends.thread_count import get_num_threads
from loopgrad.interop.operators import Operator
from loopgrad.ir.memo import final, is_final
from loopgrad.ir.nodes import Program
from loopgrad.pipeline import as_program

ALIGNMENT = 64  # of scratch; the handler aligns what XLA gives

# The sizes and constants of a call, each as text that says it exactly.
Numbers = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Site:
    """operator: what runs. numbers: its sizes and constants. shapes: of its inputs. real: their type.

    narrow: whether integers that it computes have to fit int32, as JAX's do.
    """

    operator: Operator
    numbers: Numbers
    shapes: tuple[Shape, ...]
    real: str
    narrow: bool
    threads: int

    @cached_property
    def bound(self) -> Arguments:
        return bound(self.operator, self.numbers, self.shapes, self.real)

    @cached_property
    def given(self) -> tuple[np.dtype[Any], ...]:
        """The types in memory of all that the code takes."""
        inputs = self.operator.computes.inputs
        return tuple(EXACT.get(i.kind, self.bound.dtype) for i in inputs)

    @cached_property
    def results(self) -> tuple[tuple[str, Shape, np.dtype[Any]], ...]:
        """Of all that the code computes: name, shape and type in memory."""
        elements = {t.name: t.element for t in self.operator.facts.tensors.values()}
        return tuple(
            (name, self.bound.shapes[name], element_dtype(elements[name], self.bound.dtype))
            for name in self.operator.delivers
        )

    @cached_property
    def text(self) -> str:
        """Its description, from which `read` makes it again."""
        operator = self.operator
        known = {
            "program": str(operator.computes),
            "final": is_final(operator.computes),
            "keeps": operator.keeps,
            "numbers": self.numbers,
            "shapes": self.shapes,
            "real": self.real,
            "narrow": self.narrow,
            "threads": self.threads,
        }
        return json.dumps(known, ensure_ascii=True)

    @cached_property
    def number(self) -> int:
        """Not 0. Two descriptions have the same one with a probability of 2**-63."""
        digest = hashlib.sha256(self.text.encode()).digest()
        return int.from_bytes(digest[:8], "little") >> 1 | 1 << 62

    @cached_property
    def scratch(self) -> int:
        """The bytes that XLA has to give, 0 for none."""
        size = self._prepared.scratch
        return size + ALIGNMENT - 1 if size else 0

    @cached_property
    def block(self) -> NDArray[np.int64]:
        """The words that handler.ll reads. What they point at lives as long as the site."""
        known = self._prepared
        integers, reals = self._words
        narrow = [
            word
            for place, (_, shape, dtype) in enumerate(self.results)
            if self.narrow and dtype.kind == "i"
            for word in (place, int(np.prod(shape, dtype=np.int64)))
        ]
        head = [
            known.compiled.code.address,
            integers.ctypes.data,
            reals.ctypes.data,
            known.threads,
            len(self.results),
            self.scratch,
            known.compiled.layout.record_length,
            len(narrow) // 2,
        ]
        return np.array([*head, *narrow], np.int64)

    @cached_property
    def _words(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        known = self._prepared
        integers, reals = (
            np.frombuffer(b or bytes(8), np.int64) for b in (known.integers, known.reals)
        )
        return integers, reals

    @cached_property
    def _prepared(self) -> Any:
        runner = self.operator.kernel.runner
        assert isinstance(runner, LLVMRunner)
        call = BoundCall(self.bound, {}, self.bound.checked)
        found = runner.prepared_for(call, self.threads)
        layout = found.compiled.layout
        assert layout.passed == [*self.names, *self.operator.delivers], "in the order of operands"
        return found

    @property
    def names(self) -> tuple[str, ...]:
        """Of the inputs of the code."""
        return tuple(i.name for i in self.operator.computes.inputs)

    def run(self, addresses: Sequence[int]) -> None:
        """Does a call from Python: the way for what the code alone cannot do.

        addresses: of the elements of the inputs, then of the results. Raises what a kernel does.
        """
        shapes = self.bound.shapes
        known = [(n, shapes[n], dtype) for n, dtype in zip(self.names, self.given, strict=True)]
        known += self.results
        arrays = {
            name: _array(address, shape, dtype)
            for address, (name, shape, dtype) in zip(addresses, known, strict=True)
        }
        self.operator.kernel.runner.run(BoundCall(self.bound, arrays, self.bound.checked))
        if self.narrow:
            for name, _, dtype in self.results:
                if dtype.kind == "i":
                    self._refuse_what_is_wide(name, arrays[name])

    def _refuse_what_is_wide(self, name: str, array: NDArray[Any]) -> None:
        wide = array[(array < -(2**31)) | (array >= 2**31)]
        if wide.size:
            raise ValueError(
                f"{self.operator.name}: result `{name}` holds {wide[0]}, which does not fit int32, "
                'the integers of JAX without jax.config.update("jax_enable_x64", True)'
            )


def _array(address: int, shape: Shape, dtype: np.dtype[Any]) -> NDArray[Any]:
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if size == 0:
        return np.empty(shape, dtype)
    memory: Any = (ctypes.c_char * size).from_address(address)
    found: NDArray[Any] = np.frombuffer(memory, dtype).reshape(shape)
    return found


# ------------------------------------------------------------------------------ shapes and numbers


@lru_cache(maxsize=1024)
def binder_of(operator: Operator) -> Binder:
    task = operator.kernel.task
    return Binder(task.facts, task.safety)


def bound(operator: Operator, numbers: Numbers, shapes: Sequence[Shape], real: str) -> Arguments:
    """What a call comes to, of shapes for the inputs of `operator.computes`.

    Raises ValueError, naming the argument, where a shape does not fit.
    """
    names = [i.name for i in operator.computes.inputs]
    shaped = {name: StandIn(shape) for name, shape in zip(names, shapes, strict=True)}
    return binder_of(operator).of_shapes(shaped, read_numbers(numbers), lambda: np.dtype(real))


def written_numbers(values: Mapping[str, int | float]) -> Numbers:
    """
    >>> from loopgrad.interop.jax.sites import written_numbers
    >>> written_numbers({"stride": 2, "eps": -0.0})
    (('eps', '-0.0'), ('stride', '2'))
    """
    return tuple((name, repr(values[name])) for name in sorted(values))


def read_numbers(numbers: Numbers) -> dict[str, int | float]:
    """
    >>> from loopgrad.interop.jax.sites import read_numbers
    >>> read_numbers((("eps", "-0.0"), ("stride", "2")))
    {'eps': -0.0, 'stride': 2}
    """
    return {name: _number(text) for name, text in numbers}


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        return float(text)


def for_numbers(operator: Operator, known: Arguments, numbers: Numbers = ()) -> Numbers:
    """The numbers that an operator takes, from those of a call that it is derived from.

    numbers: those that were given; what runs may need fewer than what it means.
    """
    values = {**known.extents, **known.constants, **read_numbers(numbers)}
    return written_numbers({n.name: values[n.name] for n in operator.numbers})


# ------------------------------------------------------------------------------- all that there are


def read(text: str) -> Site:
    """The site of a description. Raises ValueError for what is none."""
    known = json.loads(text)
    program: Program = as_program(known["program"])
    if known["final"]:
        final(program)
    return Site(
        Operator(program, program, tuple(known["keeps"])),
        tuple((name, value) for name, value in known["numbers"]),
        tuple(tuple(shape) for shape in known["shapes"]),
        known["real"],
        known["narrow"],
        known["threads"],
    )


class Table:
    """The sites of this process, as handler.ll looks them up. None is ever forgotten.

    A table that is full is followed by a larger one; others may be reading the old one, so it stays.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sites: dict[int, Site] = {}
        self._tables = [_table({}, 64)]

    @property
    def address(self) -> int:
        return self._tables[-1].ctypes.data

    def site(self, number: int) -> Site | None:
        return self._sites.get(number)

    def add(self, site: Site) -> Site:
        """The site, or the one that is there already."""
        with self._lock:
            known = self._sites.setdefault(site.number, site)
            if known.text != site.text:
                raise RuntimeError(
                    "two operations have the same number; rename one of the programs"
                )
            if known is site:
                pairs = (self._tables[-1].size - 1) // 2
                if 2 * len(self._sites) > pairs:
                    self._tables.append(_table(self._sites, 2 * pairs))
                else:
                    _enter(self._tables[-1], site)
            return known


def _table(sites: Mapping[int, Site], pairs: int) -> NDArray[np.int64]:
    table = np.zeros(1 + 2 * pairs, np.int64)
    table[0] = pairs - 1
    for site in sites.values():
        _enter(table, site)
    return table


def _enter(table: NDArray[np.int64], site: Site) -> None:
    mask = int(table[0])
    place = site.number & mask
    while table[1 + 2 * place]:
        place = (place + 1) & mask
    table[2 + 2 * place] = site.block.ctypes.data  # before its number, which others look for
    table[1 + 2 * place] = site.number


def make(
    operator: Operator, numbers: Numbers, shapes: Sequence[Shape], real: str, narrow: bool
) -> Site:
    return Site(operator, numbers, tuple(shapes), real, narrow, get_num_threads())
