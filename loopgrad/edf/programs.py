"""A program as a component: its backward is derived, or hand-written loops to be judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from loopgrad.diagnostics import ProgramError, listing
from loopgrad.edf.documentation import Documentation
from loopgrad.edf.graph import Array, Component, Pullback
from loopgrad.functions.reverse import reverse_of
from loopgrad.ir.nodes import Program
from loopgrad.pipeline import compile, compile_returning, infer

if TYPE_CHECKING:
    from loopgrad.checking.findings import Judgement

Constants = Mapping[str, Any]


class Derived(Component):
    __doc__ = Documentation("A program as a component, with the backward that is derived from it.")

    def __init__(self, program: Program, name: str = "") -> None:
        self.program = program
        self.name = name or program.name
        self.inputs = [i.name for i in program.inputs]
        self.results = [r.name for r in program.results]
        self.constants = [*(s.name for s in program.sizes), *(c.name for c in program.constants)]

    def vjp(
        self, inputs: Sequence[Array], constants: Constants
    ) -> tuple[Sequence[Array], Pullback]:
        # Sums over the batch, whatever the program says: the model takes the mean, once for all.
        reverse = reverse_of(self.program, inputs, constants, batch=False, keeps=False)
        found = reverse.execute(inputs, constants)
        call, kept = found[0], reverse.shared(found)
        results = reverse.results_of(found)
        return (
            results if len(self.results) > 1 else (results,),
            lambda gradients: reverse.gradients(call, kept, gradients),
        )

    @cached_property
    def text(self) -> str:
        """The program, its backward as it is derived, and simplified."""
        title, program = "Its backward", self.program
        try:
            try:
                literal = program.backward()
            except ProgramError:  # a result without the extent of the batch
                literal = program.backward(batch=False)
                title = "It has no backward of averages over the batch; of sums it is"
        except (ProgramError, ValueError) as error:
            reason = error.diagnostics[0].found if isinstance(error, ProgramError) else error
            return f"{program}\n\n# It has no backward: {reason}"
        parts = [str(program), f"# {title}:\n{literal}"]
        simplified = literal.simplify()
        if simplified != literal:
            parts.append(f"# The same, simplified:\n{simplified}")
        return "\n\n".join(parts)

    def __repr__(self) -> str:
        return self.text


class Claimed(Derived):
    __doc__ = Documentation("A program as a component, with a backward that somebody wrote.")

    def __init__(self, program: Program, backward: Program, name: str = "") -> None:
        super().__init__(program, name)
        self.backward = backward
        facts = infer(program)
        read = [i.name for i in backward.inputs]
        self.seeds = {r.name: f"{r.name}.grad" for r in program.results}
        unknown = [n for n in read if n not in facts.tensors and n not in self.seeds.values()]
        if unknown:
            raise ValueError(
                f"{backward.name} reads {listing(unknown)}, which {program.name} neither takes nor computes"
            )
        gradients = {f"{i.name}.grad": i for i in program.inputs if i.differentiable}
        returned = [r.name for r in backward.results]
        missing = [name for name in gradients if name not in returned]
        if missing:
            raise ValueError(f"{backward.name} does not return {listing(missing)}")
        extra = [n for n in read if n in facts.tensors and n not in (*self.inputs, *self.results)]
        self._forward = compile_returning(program, self.results, extra)
        self._names = [*self.inputs, *self.results, *extra]
        self._backward = compile(backward)
        self._places = [
            returned.index(f"{i.name}.grad") if i.differentiable else None for i in program.inputs
        ]
        # Under a `batch` the loops return averages, as the derived ones do.
        self._averaged = [i.kind == "param" and program.batch is not None for i in program.inputs]

    def vjp(
        self, inputs: Sequence[Array], constants: Constants
    ) -> tuple[Sequence[Array], Pullback]:
        call, *arrays = self._forward.execute(inputs, constants)
        known = dict(zip(self._names, arrays, strict=True))
        numbers = {**call.extents, **call.constants}
        names = [*(s.name for s in self.backward.sizes), *(c.name for c in self.backward.constants)]
        keywords = {name: numbers[name] for name in names if name in numbers}
        examples = call.extents[self.program.batch] if self.program.batch else 1

        def pullback(gradients: Sequence[Any]) -> list[Array | None]:
            seeds = dict(zip(self.seeds.values(), gradients, strict=True))
            given = [{**known, **seeds}[i.name] for i in self.backward.inputs]
            found = self._backward(*given, **keywords)
            arrays = found if len(self.backward.results) > 1 else (found,)
            chosen = [None if place is None else arrays[place] for place in self._places]
            pairs = zip(chosen, self._averaged, strict=True)
            return [g * examples if averaged and g is not None else g for g, averaged in pairs]

        first = len(self.inputs)
        return arrays[first : first + len(self.results)], pullback

    def check(self) -> Judgement:
        """What `lg.check` says of the backward."""
        from loopgrad.checking.judging import check  # large, and not needed where all is derived

        return check(self.program, self.backward)

    @cached_property
    def text(self) -> str:
        return f"{self.program}\n\n# Its backward, written by hand:\n{self.backward}"
