"""A loss and its gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from loopgrad.backends.kernel import Kernel
from loopgrad.cache.answers import kept
from loopgrad.functions.derived import loss_with_gradients
from loopgrad.functions.reverse import Reverse
from loopgrad.functions.shared import Array, Batch, kept_with, picker, unpacked
from loopgrad.ir.nodes import Program
from loopgrad.pipeline import compile


class Joint:
    """A loss and its gradients in one kernel, where each input asked for has one.

    Nothing is kept between a forward and a backward, and what both compute is computed once.
    """

    def __init__(self, program: Program, names: tuple[str, ...], batch: Batch):
        self._made_of = program, names, batch
        both = kept(
            "joint", (program, names, batch), lambda: loss_with_gradients(program, names, batch)
        )
        self.kernel: Kernel | None = None if both is None else compile(both)
        self.values = len(program.results)

    def __reduce__(self) -> tuple[Callable[..., Joint], tuple[Any, ...]]:
        program, names, batch = self._made_of
        return kept_with, (program, Joint, names, batch)

    def one(self, *inputs: Any, **named: Any) -> tuple[Array, Any]:
        """`(value, gradient)`."""
        assert self.kernel is not None
        found: tuple[Array, Array] = self.kernel(*inputs, **named)
        return found

    def several(self, *inputs: Any, **named: Any) -> tuple[Array, Any]:
        """`(value, (gradient, ...))`."""
        assert self.kernel is not None
        value, *gradients = self.kernel(*inputs, **named)
        return value, tuple(gradients)

    def one_with_more(self, *inputs: Any, **named: Any) -> tuple[Any, Any]:
        """`((value, aux), gradient)`."""
        values, gradients = self.several_with_more(*inputs, **named)
        return values, gradients[0]

    def several_with_more(self, *inputs: Any, **named: Any) -> tuple[Any, Any]:
        """`((value, aux), (gradient, ...))`."""
        assert self.kernel is not None
        found = self.kernel(*inputs, **named)
        return (found[0], unpacked(found[1 : self.values])), tuple(found[self.values :])


class Pulled:
    """A loss and its gradients by a forward and a backward, where one kernel does not give them."""

    def __init__(
        self, program: Program, names: tuple[str, ...], batch: Batch, single: bool, has_aux: bool
    ):
        self._made_of = program, names, batch, single, has_aux
        self._single, self._has_aux = single, has_aux
        self._reverse = reverse = kept_with(program, Reverse, names, batch, False)
        self._pick = picker([reverse.inputs.index(name) for name in names])

    def __reduce__(self) -> tuple[Callable[..., Pulled], tuple[Any, ...]]:
        program, *choices = self._made_of
        return kept_with, (program, Pulled, *choices)

    def __call__(self, *inputs: Any, **named: Any) -> tuple[Any, Any]:
        reverse = self._reverse
        found = reverse.execute(inputs, named)
        bound = found[0]
        all_gradients = reverse.gradients(bound, reverse.shared(found), reverse.of_loss(bound))
        gradients = self._pick(all_gradients)
        results = reverse.results_of(found)
        value = (results[0], unpacked(results[1:])) if self._has_aux else results
        return value, gradients[0] if self._single else gradients
