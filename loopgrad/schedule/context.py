"""What the passes of one schedule share: its tensors, names for more, and what a user has chosen."""

from __future__ import annotations

from dataclasses import dataclass, field

from loopgrad.analysis.facts import TensorFacts
from loopgrad.analysis.types import element_type
from loopgrad.ir import walk
from loopgrad.ir.nodes import Expression
from loopgrad.ir.operations import ElementType
from loopgrad.schedule.choices import Choices


@dataclass
class Context:
    """`whole`: tensors of which elements may be written that no line writes, as nobody reads them.
    `requires`: what sizes have to satisfy for what was made of lines to be the same.
    """

    tensors: dict[str, TensorFacts]
    constants: dict[str, ElementType]
    taken: set[str]
    choices: Choices = field(default_factory=Choices)
    whole: set[str] = field(default_factory=set)
    requires: dict[Expression, None] = field(default_factory=dict)

    def name(self, wanted: str) -> str:
        name = walk.fresh_name(wanted, self.taken)
        self.taken.add(name)
        return name

    def temporary(self, wanted: str, extents: tuple[Expression, ...]) -> str:
        name = self.name(wanted)
        self.holds(name, extents)
        return name

    def holds(self, name: str, extents: tuple[Expression, ...]) -> None:
        """Makes the name, which is taken, that of a temporary."""
        self.tensors[name] = TensorFacts(name, "temporary", extents, ElementType.FLOAT)

    def is_floating(self, expression: Expression) -> bool:
        elements = {name: self.tensors[name].element for name in walk.tensors_in(expression)}
        return element_type(expression, elements, self.constants) is ElementType.FLOAT
