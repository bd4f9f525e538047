"""What `infer` and `validate` find out about a program: the input of every backend."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from loopgrad.diagnostics import Span
from loopgrad.ir.deferred import Deferred
from loopgrad.ir.nodes import Expression, Number, Program, Read
from loopgrad.ir.operations import ElementType


@dataclass(frozen=True, slots=True)
class TensorFacts:
    """A tensor's role, extents (formulas in named extents and constants) and element type."""

    name: str
    role: Literal["input", "result", "temporary"]
    extents: tuple[Expression, ...]
    element: ElementType

    @property
    def rank(self) -> int:
        return len(self.extents)


def outgrows(tensor: str, tensors: Mapping[str, TensorFacts]) -> bool:
    """Has a temporary axes that nothing that is given or wanted has together, but for integers and masks?"""
    facts = tensors[tensor]
    if facts.role != "temporary":
        return False
    axes = _axes(facts)
    given = (t for t in tensors.values() if t.role != "temporary")
    return not any(axes <= _axes(t) for t in given if t.element is ElementType.FLOAT)


def _axes(facts: TensorFacts) -> Counter[Expression]:
    """Its extents; an axis of one element is none."""
    return Counter(extent for extent in facts.extents if extent != Number(1))


@dataclass(frozen=True, slots=True)
class Equality:
    """Two extents that have to be equal at a call, and the reason in words."""

    left: Expression
    right: Expression
    reason: str
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Facts:
    """A program with nothing left out.

    `program` is unfolded and has both bounds of every range. `tensors` holds the inputs in header
    order, then the computed tensors in the order of their first statement. `extents` are the names
    of all extents and sizes; `constants` maps the header's constants to their element types.
    `defined` gives the names that no input's axis and no `size` fixes a formula in those that are
    (`softmax(s[B,J]) -> p[B,K]` defines K as J), in an order in which they can be evaluated.
    """

    program: Program
    tensors: Mapping[str, TensorFacts]
    extents: tuple[str, ...]
    constants: Mapping[str, ElementType]
    equalities: tuple[Equality, ...]
    defined: Mapping[str, Expression]


@dataclass(frozen=True)
class Safety(Deferred, deferred="in_range"):
    """What was proved of a program, so that nobody has to check it at run time.

    `in_range`: (statement number, read or target) pairs whose subscripts are always in range; the
    number is the statement's place in `walk.all_statements(facts.program.statements)`.
    `tracked`: computed tensors whose completeness has to be watched at run time
    (docs/decisions/0001). `positive`: integer constants that the proofs took to be at least 1;
    where a call sets one to less, nothing counts as proved and every computed tensor is tracked.
    """

    in_range: frozenset[tuple[int, Read]]
    tracked: frozenset[str]
    positive: frozenset[str]
