"""The operations of `arrays.py`, by PyTorch and by JAX: one spelling for both."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from loopgrad.peers.problem import NoContender

Step = Callable[[Any, Any], tuple[Any, Any]]


WHOLE = ("maximum", "minimum", "abs", "sign", "relu")  # of integers they are integers


class Namespace:
    """What both have; numbers of Python stay such, where no array is among them."""

    inf, pi = math.inf, math.pi
    least, greatest = -(2**63), 2**63 - 1

    def both(self, a: Any, b: Any) -> Any:
        return a & b

    def either(self, a: Any, b: Any) -> Any:
        return a | b

    def take(self, array: Any, places: Any) -> Any:
        return array[places]


class Torch(Namespace):
    """Over a module `torch` and an element type."""

    def __init__(self, torch: Any, dtype: Any):
        self.torch, self.dtype = torch, dtype
        self.einsum = torch.einsum

    def __getattr__(self, name: str) -> Any:
        """A function such as `exp`; numbers are taken too, as real ones where it is one of those."""
        function = getattr(self.torch, name)
        convert = self.scalar if name in WHOLE else lambda a: self.scalar(self._real(a))
        return lambda *arguments: function(*map(convert, arguments))

    def _real(self, a: Any) -> Any:
        return float(a) if isinstance(a, int) else a

    def scalar(self, a: Any) -> Any:
        if isinstance(a, self.torch.Tensor):
            return a
        whole = isinstance(a, int) and not isinstance(a, bool)
        return self.torch.tensor(a, dtype=None if whole or isinstance(a, bool) else self.dtype)

    def real(self, a: Any) -> Any:
        return a.to(self.dtype)

    def softplus(self, a: Any) -> Any:
        return self.torch.nn.functional.softplus(self.scalar(a))

    def floor(self, a: Any) -> Any:
        return self.torch.floor(self.scalar(a)).long()

    def stop_gradient(self, a: Any) -> Any:
        return a.detach()

    def neither(self, a: Any) -> Any:
        return ~a if isinstance(a, self.torch.Tensor) else not a

    def where(self, condition: Any, then: Any, other: Any) -> Any:
        if not isinstance(condition, self.torch.Tensor):
            return then if condition else other
        numbers = [a for a in (then, other) if not isinstance(a, self.torch.Tensor)]
        if len(numbers) == 2:
            then = self.scalar(then)
        return self.torch.where(condition, then, other)

    def arange(self, lower: int, upper: int) -> Any:
        return self.torch.arange(lower, upper)

    def within(self, place: Any, extent: int) -> Any:
        """A subscript moved into range: where it is out of it, nobody looks at what it reads."""
        if isinstance(place, self.torch.Tensor):
            return place.clamp(0, max(extent - 1, 0))
        return min(max(place, 0), max(extent - 1, 0))

    def full(self, shape: Sequence[int], value: float) -> Any:
        return self.torch.full(tuple(shape), float(value), dtype=self.dtype)

    def integers(self, shape: Sequence[int], value: float) -> Any:
        return self.torch.full(tuple(shape), int(value), dtype=self.torch.int64)

    def expand(self, a: Any, shape: Sequence[int]) -> Any:
        return self.scalar(a).expand(tuple(shape))

    def permute(self, a: Any, order: Sequence[int]) -> Any:
        return a.permute(tuple(order))

    def sum(self, a: Any, axes: Sequence[int]) -> Any:
        return a.sum(tuple(axes))

    def amax(self, a: Any, axes: Sequence[int]) -> Any:
        return a.amax(tuple(axes))

    def amin(self, a: Any, axes: Sequence[int]) -> Any:
        return a.amin(tuple(axes))

    def prod(self, a: Any, axes: Sequence[int]) -> Any:
        for axis in sorted(axes, reverse=True):
            a = a.prod(axis)
        return a

    def put(self, array: Any, places: Any, value: Any, operator: str) -> Any:
        if operator in ("+=", "-=", "="):
            places = tuple(self.scalar(p) for p in places)
            value = self.scalar(value).to(array.dtype)
            value = -value if operator == "-=" else value
            return array.index_put(places, value, accumulate=operator != "=")
        raise NoContender(f"PyTorch has no scatter by `{operator}` of this form")

    def scan(
        self, step: Step, lower: int, upper: int, carried: Any, descending: bool = False
    ) -> Any:
        times = range(upper - 1, lower - 1, -1) if descending else range(lower, upper)
        made = []
        for t in times:
            carried, slices = step(t, carried)
            made.append(slices)
        if descending:
            made.reverse()
        return carried, [self.torch.stack(one) for one in zip(*made, strict=True)]

    def place(self, array: Any, axis: int, lower: int, stacked: Any) -> Any:
        """The array with the slices from `lower` on along the axis replaced; they are stacked in front."""
        moved = stacked.movedim(0, axis)
        if moved.shape == array.shape:
            return moved
        before = array.narrow(axis, 0, lower)
        end = lower + moved.shape[axis]
        after = array.narrow(axis, end, array.shape[axis] - end)
        return self.torch.cat([before, moved, after], axis)


class Jax(Namespace):
    """Over a module `jax` and an element type."""

    def __init__(self, jax: Any, dtype: Any):
        self.jax, self.np, self.dtype = jax, jax.numpy, dtype
        self.softplus, self.sigmoid, self.relu = jax.nn.softplus, jax.nn.sigmoid, jax.nn.relu
        self.rsqrt = lambda a: 1 / jax.numpy.sqrt(a)
        integers = jax.numpy.iinfo(int)  # 32 bits wide, unless it was told otherwise
        self.least, self.greatest = int(integers.min), int(integers.max)
        self.erf, self.stop_gradient = jax.scipy.special.erf, jax.lax.stop_gradient

    def __getattr__(self, name: str) -> Any:
        return getattr(self.np, name)

    def real(self, a: Any) -> Any:
        return a.astype(self.dtype)

    def scalar(self, a: Any) -> Any:
        return self.np.asarray(a) if not isinstance(a, float) else self.np.asarray(a, self.dtype)

    def floor(self, a: Any) -> Any:
        return self.np.floor(a).astype(int)

    def neither(self, a: Any) -> Any:
        return self.np.logical_not(a)

    def where(self, condition: Any, then: Any, other: Any) -> Any:
        if isinstance(condition, bool):
            return then if condition else other
        return self.np.where(condition, then, other)

    def within(self, place: Any, extent: int) -> Any:
        return self.np.clip(place, 0, max(extent - 1, 0))

    def full(self, shape: Sequence[int], value: float) -> Any:
        return self.np.full(tuple(shape), value, self.dtype)

    def integers(self, shape: Sequence[int], value: float) -> Any:
        return self.np.full(tuple(shape), int(value))

    def expand(self, a: Any, shape: Sequence[int]) -> Any:
        return self.np.broadcast_to(self.scalar(a), tuple(shape))

    def permute(self, a: Any, order: Sequence[int]) -> Any:
        return self.np.transpose(a, tuple(order))

    def put(self, array: Any, places: Any, value: Any, operator: str) -> Any:
        at = array.at[tuple(places)]
        if operator == "-=":
            return at.add(-value)
        method = {"+=": "add", "=": "set", "max=": "max", "min=": "min", "*=": "multiply"}[operator]
        return getattr(at, method)(value)

    def scan(
        self, step: Step, lower: int, upper: int, carried: Any, descending: bool = False
    ) -> Any:
        def turn(carried: Any, t: Any) -> Any:
            return step(t, carried)

        return self.jax.lax.scan(turn, carried, self.np.arange(lower, upper), reverse=descending)

    def place(self, array: Any, axis: int, lower: int, stacked: Any) -> Any:
        moved = self.np.moveaxis(stacked, 0, axis)
        if moved.shape == array.shape:
            return moved
        return self.jax.lax.dynamic_update_slice_in_dim(array, moved, lower, axis)
