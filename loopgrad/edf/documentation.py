"""The documentation of components."""

from __future__ import annotations

from loopgrad.edf.graph import Component


class Documentation:
    """The `__doc__` of a component: its loops; of the class: what the class is."""

    def __init__(self, of_class: str) -> None:
        self.of_class = of_class

    def __get__(self, instance: Component | None, owner: type) -> str:
        return self.of_class if instance is None else str(instance)
