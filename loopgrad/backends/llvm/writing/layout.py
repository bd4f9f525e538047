"""What compiled code is told at a call, and where: the arguments of the entry function.

arrays    the array object of each input, then of each result (`Layout.passed`)
integers  the values of `Layout.integers`: extents, integer constants, extents that are formulas
reals     the floating constants
record    [site, executed statements, details...]: the site of an error, 0 for none
scratch   a block, aligned to 64 bytes, as large as `loopgrad_scratch(integers, threads)` says:
          what is computed on the way, and the state of each tracked tensor
threads   how many threads may run
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from loopgrad.backends.kernel import BoundCall, Task
from loopgrad.ir import walk
from loopgrad.ir.nodes import Expression, Extent, Number, Statement
from loopgrad.ir.operations import ElementType

if TYPE_CHECKING:
    from loopgrad.backends.llvm.writing.scratch import Placed

# Where extents and integer constants are below these, sums and products in subscripts cannot
# overflow and are not checked. A call with larger ones runs a variant that checks them all.
EXTENT_BITS, CONSTANT_BITS = 40, 20

# Beside an extent of 0, an extent from this one on makes loops that do nothing for hours. The literal ones
# see beforehand that they have nothing to do.
ENDLESS = 1 << 30

# A call whose tensors take fewer bytes runs a variant without stores past the caches.
LARGE = 32 << 20

# Elements of a tensor from which on code is made for a single row, column or element, which is no more code
# than for any number; for the length of short rows, loops over which stand written out; for few rows of
# products, and small images.
SOME, MANY, PLENTY = 1 << 8, 1 << 10, 1 << 12

# Where an array object holds the address of its elements: `PyArray_DATA`, which is compiled into
# every extension module and so is fixed. To ask Python for the address takes microseconds.
ARRAY_HEAD = object.__basicsize__

ENTRY = "loopgrad_run"  # the name of the entry function
RECORD_HEAD = 2  # site, executed statements

# What the entry returns where only the literal code can tell what is wrong.
GAVE_UP = 2
# And where there are no threads yet, and it could use some.
ASLEEP = 3


@dataclass(frozen=True)
class Variant:
    """What one compilation of a program is for. `wide`: numbers exceed the bits above.

    `literal`: it finds what is wrong where faster code gave up. `constants`: the values of those that it
    is made for (`schedule/specializing.py`); none for any values. `about`: about how large the extents are on
    which an order hangs. `copies`: those of indices that threads share at the price of copies
    (`schedule/threads/copies.py`). `few`: those of rows of products that are few. `together`: tensors that
    products of all images write. `abreast`: the extents of rows of which several run at a time. `large`: it
    may store past the caches.

    """

    real: str
    checked: bool
    wide: bool
    literal: bool = False
    constants: tuple[tuple[str, int], ...] = ()
    about: tuple[tuple[str, int], ...] = ()
    copies: tuple[str, ...] = ()
    few: tuple[str, ...] = ()
    together: tuple[str, ...] = ()
    abreast: tuple[str, ...] = ()
    large: bool = True


def is_large(call: BoundCall) -> bool:
    """Whether its tensors together take so much that one of its phases might."""
    return 8 * sum(math.prod(shape) for shape in call.shapes.values()) >= LARGE


def most_elements(shapes: Iterable[Sequence[int]]) -> int:
    """Of a tensor."""
    return max(map(math.prod, shapes), default=0)


# Makes an error of the details that the code has recorded.
ErrorSite = Callable[[NDArray[np.int64]], Exception]
Integer = Callable[[BoundCall], int]


def _extent(name: str) -> Integer:
    return lambda call: call.extents[name]


def _constant(name: str) -> Integer:
    return lambda call: int(call.constants[name])


def _axis(tensor: str, axis: int) -> Integer:
    return lambda call: call.shapes[tensor][axis]


@dataclass
class Layout:
    task: Task
    variant: Variant
    integers: list[Integer] = field(default_factory=list)
    slots: dict[Any, int] = field(default_factory=dict)
    sites: list[ErrorSite] = field(default_factory=list)
    placed: tuple[tuple[Placed, ...], ...] = ()  # in scratch: for all phases, then each phase's own

    def __post_init__(self) -> None:
        facts = self.task.facts
        for name in facts.extents:
            self._slot(("extent", name), _extent(name))
        self.real_constants: list[str] = []
        for name, element in facts.constants.items():
            if element is ElementType.FLOAT:
                self.real_constants.append(name)
            else:
                self._slot(("constant", name), _constant(name))
        for tensor in facts.tensors.values():
            for axis, extent in enumerate(tensor.extents):
                if not isinstance(extent, Extent | Number):
                    self._slot(("formula", extent), _axis(tensor.name, axis))
        self.inputs = [t.name for t in facts.tensors.values() if t.role == "input"]
        self.returned = [r.name for r in facts.program.results]
        self.passed = [*self.inputs, *self.returned]
        computed = [t.name for t in facts.tensors.values() if t.role != "input"]
        self.temporaries = [name for name in computed if name not in self.passed]
        tracked = computed if self.variant.checked else self.task.safety.tracked
        self.tracked = [name for name in computed if name in tracked]
        self.tensor_types = {t.name: t.element for t in facts.tensors.values()}
        self.record_length = RECORD_HEAD + max(2, *(t.rank for t in facts.tensors.values()), 2)

    @cached_property
    def statements(self) -> list[Statement]:
        """Of the program, by their numbers."""
        return list(walk.all_statements(self.task.facts.program.statements))

    def _slot(self, key: Any, value: Integer) -> None:
        if key not in self.slots:
            self.slots[key] = len(self.integers)
            self.integers.append(value)

    def element(self, tensor: str) -> str:
        """The LLVM type of a tensor's elements in memory."""
        return self.memory_type(self.tensor_types[tensor])

    def memory_type(self, element: ElementType) -> str:
        match element:
            case ElementType.FLOAT:
                return self.variant.real
            case ElementType.INT:
                return "i64"
            case ElementType.BOOL:
                return "i8"

    def axis_key(self, extent: Expression) -> Any:
        """The slot's key of an extent that is no number."""
        return ("extent", extent.name) if isinstance(extent, Extent) else ("formula", extent)

    def add_sites(self, errors: list[ErrorSite]) -> int:
        """Registers places that may fail: numbers, which the code records, from 1 + the answer."""
        before = len(self.sites)
        self.sites += errors
        return before
