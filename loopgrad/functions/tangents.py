"""A program and its forward mode, compiled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from loopgrad.backends.binding import Arguments
from loopgrad.functions.derived import derived_name
from loopgrad.functions.shared import Array, cast_to, integer_tensors, unpacked
from loopgrad.ir.nodes import Program
from loopgrad.pipeline import compile, infer


class Tangent:
    """A program and its forward mode, compiled into one where that computes the results too."""

    def __init__(self, program: Program, moving: tuple[str, ...]):
        self.program = program
        self.results = tuple(r.name for r in program.results)
        derived = program.forward_mode(moving) if moving else None
        facts = infer(program)
        self.integer = integer_tensors(facts)
        if derived is None:
            self.tangents: dict[str, str | None] = dict.fromkeys(self.results)
            self.inputs: dict[str, str | None] = {}
            self.kernel = None
            return
        written = [r.name for r in derived.results if r.name not in self.results]
        self.tangents = {name: derived_name(name, "dot", written) for name in self.results}
        read = [i.name for i in derived.inputs if i.name not in facts.tensors]
        self.inputs = {name: derived_name(name, "dot", read) for name in moving}
        self.kernel = compile(derived)

    def __call__(
        self, primals: Sequence[Any], tangents: Mapping[str, Any], constants: Mapping[str, Any]
    ) -> tuple[Any, Any]:
        bound, *arrays = compile(self.program).execute(primals, constants)
        moved = self._derivatives(bound, arrays, tangents)
        found = [self._tangent(name, bound, moved) for name in self.results]
        return unpacked(arrays[len(self.program.inputs) :]), unpacked(found)

    def _derivatives(
        self, bound: Arguments, arrays: Sequence[Array], tangents: Mapping[str, Any]
    ) -> Mapping[str, Array]:
        """By name. What the derived program reads beside the tangents is the forward's."""
        primal = dict(zip([i.name for i in self.program.inputs], arrays, strict=False))
        values: dict[str, Any] = {}
        for name, tangent in tangents.items():
            array = cast_to("tangent", name, tangent, bound)
            dotted = self.inputs[name]
            if dotted is not None:
                values[dotted] = array
        if self.kernel is None:
            return {}
        program = self.kernel.program
        for i in program.inputs:
            values.setdefault(i.name, primal.get(i.name))
        values.update((size.name, bound.extents[size.name]) for size in program.sizes)
        values.update((c.name, bound.constants[c.name]) for c in program.constants)
        found = self.kernel(**values)
        names = [r.name for r in program.results]
        return dict(zip(names, found if len(names) > 1 else [found], strict=True))

    def _tangent(self, name: str, bound: Arguments, moved: Mapping[str, Array]) -> Array | None:
        if name in self.integer:
            return None
        dotted = self.tangents[name]
        return np.zeros(bound.shapes[name], bound.dtype) if dotted is None else moved[dotted]
