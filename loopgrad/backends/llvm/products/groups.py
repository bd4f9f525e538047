"""Several indices as one: where the strides of all operands allow, which is found when running."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from loopgrad.backends.llvm.writing.repeat import counted, where
from loopgrad.backends.llvm.writing.text import Body, Module

Strides = Mapping[str, str]  # operands -> how far an element of each moves with the index


@dataclass(frozen=True, slots=True)
class Along:
    """An index: how many values it takes, and the strides of the operands that it moves."""

    count: str
    strides: Strides


@dataclass(frozen=True, slots=True)
class Group:
    """Indices in order; `inner` counts as one with all those outside of it that take one value now."""

    outer: tuple[Along, ...]
    inner: Along


class Groups:
    """Arithmetic on indices where the body stands."""

    def __init__(self, body: Body):
        self.body = body

    def merged(
        self, indices: Sequence[Along], operands: Sequence[str], contiguous: str = ""
    ) -> Group:
        """The last index, and as many before it as the operands let count as one with it.

        contiguous: an operand whose last index has stride 1, and has to keep it.
        """
        *rest, inner = indices
        outer: list[Along] = []
        unbroken = "true"
        for along in reversed(rest):
            count = self._multiply(along.count, inner.count)
            fits = self.body.value(f"icmp eq i64 {along.count}, 1")
            if not contiguous:
                one = self.body.value(f"icmp eq i64 {inner.count}, 1")
                fits = self.body.value(f"or i1 {fits}, {one}")
            alike = "true"
            for operand in operands:
                moved = self._multiply(inner.count, inner.strides[operand])
                same = self.body.value(f"icmp eq i64 {along.strides[operand]}, {moved}")
                alike = self.body.value(f"and i1 {alike}, {same}")
            fits = self.body.value(f"or i1 {fits}, {alike}")
            unbroken = self.body.value(f"and i1 {unbroken}, {fits}")
            strides = dict(inner.strides)
            if not contiguous:
                only = self.body.value(f"icmp eq i64 {inner.count}, 1")
                take = self.body.value(f"and i1 {only}, {unbroken}")
                strides = {o: self._choose(take, along.strides[o], s) for o, s in strides.items()}
            outer.append(Along(self._choose(unbroken, "1", along.count), along.strides))
            inner = Along(self._choose(unbroken, count, inner.count), strides)
        return Group(tuple(reversed(outer)), inner)

    def at_least_once(self, group: Group) -> Group:
        """The group; where an outer index takes no value, one pass over none of the inner one."""
        if not group.outer:
            return group
        none = self.body.value(f"icmp eq i64 {self.total(group.outer)}, 0")
        outer = (Along(self._choose(none, "1", a.count), a.strides) for a in group.outer)
        inner = Along(self._choose(none, "0", group.inner.count), group.inner.strides)
        return Group(tuple(outer), inner)

    def over(
        self,
        indices: Sequence[Along],
        places: Mapping[str, str],
        write: Callable[[Mapping[str, str], str], None],
        number: str = "0",
    ) -> None:
        """Loops over the indices. `write` gets the operands' addresses, moved along, and how many
        iterations of all loops were before."""
        if not indices:
            write(places, number)
            return
        along, *rest = indices

        def once(i: str) -> None:
            moved = dict(places)
            for operand, stride in along.strides.items():
                if operand in moved:
                    moved[operand] = self.at(moved[operand], self._multiply(i, stride))
            before = self.body.value(f"add i64 {self._multiply(number, along.count)}, {i}")
            self.over(rest, moved, write, before)

        some = self.body.value(f"icmp sgt i64 {along.count}, 0")
        where(self.body, some, lambda: counted(self.body, "0", along.count, 1, once))

    def merged_indices(self, indices: Sequence[Along], group: Group) -> tuple[Along, ...]:
        """The indices as those of `group.inner`: the ones that loops go over take one value."""
        *rest, last = indices
        within = []
        for along, outer in zip(rest, group.outer, strict=True):
            one = self.body.value(f"icmp eq i64 {outer.count}, 1")
            within.append(Along(self._choose(one, along.count, "1"), along.strides))
        return (*within, last)

    def offset(self, number: str, indices: Sequence[Along], operand: str) -> str:
        """How far an operand is moved in iteration `number` of loops over the indices."""
        total = "0"
        for i, along in enumerate(reversed(indices)):
            value = number
            if i + 1 < len(indices):
                outside = self.body.value(f"udiv i64 {number}, {along.count}")
                whole = self._multiply(outside, along.count)
                value, number = self.body.value(f"sub i64 {number}, {whole}"), outside
            total = self.body.value(
                f"add i64 {total}, {self._multiply(value, along.strides[operand])}"
            )
        return total

    def tabulate(
        self, table: str, first: str, count: str, indices: Sequence[Along], operand: str
    ) -> None:
        """The operand's offsets in `count` iterations from `first` on, into memory."""
        name = _tabulating(self.body.module, len(indices))
        numbers = [first, count, *(along.count for along in indices)]
        numbers += [along.strides[operand] for along in indices]
        given = ", ".join(f"i64 {number}" for number in numbers)
        self.body.do(f"call void @{name}({self.body.module.pointer('i64')} {table}, {given})")

    def total(self, indices: Sequence[Along]) -> str:
        """How many values all of them take."""
        count = "1"
        for along in indices:
            count = self._multiply(count, along.count)
        return count

    def at(self, pointer: str, offset: str) -> str:
        """The address of a value of the module's real type."""
        real = self.body.module.real
        kind = self.body.module.pointer(real)
        return self.body.value(f"getelementptr {real}, {kind} {pointer}, i64 {offset}")

    def _choose(self, condition: str, then: str, otherwise: str) -> str:
        return then if then == otherwise else self.body.select(condition, "i64", then, otherwise)

    def _multiply(self, a: str, b: str) -> str:
        if "1" in (a, b):
            return b if a == "1" else a
        return self.body.value(f"mul i64 {a}, {b}")


def _tabulating(module: Module, number: int) -> str:
    """The name of a function that tabulates offsets by so many indices; a program has several such tables.

    The values of the indices are found by divisions once, and go on like a mileage counter.
    """
    name = f"tabulate{number}"
    if name in module.functions:
        return name
    indices = [Along(f"%count{i}", {"": f"%stride{i}"}) for i in range(number)]
    numbers = ["%first", "%count", *(along.count for along in indices)]
    numbers += [along.strides[""] for along in indices]
    given = ", ".join(f"i64 {number}" for number in numbers)
    head = f"internal void @{name}({module.pointer('i64')} %table, {given}) noinline nounwind"
    body = Body(module, name, head)
    where(body, body.value("icmp sgt i64 %count, 0"), lambda: _entries(body, indices))
    body.do("ret void")
    body.finish()
    return name


def _entries(body: Body, indices: Sequence[Along]) -> None:
    groups, inner = Groups(body), tuple(reversed(indices[1:]))
    offset = groups.offset("%first", indices, "")
    number, starts = "%first", []
    for along in inner:
        outside = body.value(f"udiv i64 {number}, {along.count}")
        whole = body.value(f"mul i64 {outside}, {along.count}")
        starts.append(body.value(f"sub i64 {number}, {whole}"))
        number = outside
    before = body.block
    body.jump("entry.next")
    body.start("entry.next")
    place, fill_place = body.phi_later("i64")
    at, fill_at = body.phi_later("i64")
    values = [body.phi_later("i64") for _ in starts]
    body.store("i64", at, body.element("i64", "%table", place))
    after, following, carry = at, [], "true"
    for along, (value, _) in zip(inner, values, strict=True):
        more = body.value(f"add i64 {value}, 1")
        wraps = body.value(f"icmp eq i64 {more}, {along.count}")
        new = body.select(wraps, "i64", "0", more)
        following.append(body.select(carry, "i64", new, value))
        back = body.value(f"mul i64 {along.strides['']}, {along.count}")
        back = body.select(wraps, "i64", back, "0")
        moved = body.value(f"sub i64 {along.strides['']}, {back}")
        after = body.value(f"add i64 {after}, {body.select(carry, 'i64', moved, '0')}")
        carry = body.value(f"and i1 {carry}, {wraps}")
    outermost = body.select(carry, "i64", indices[0].strides[""], "0") if indices else "0"
    after = body.value(f"add i64 {after}, {outermost}")
    place_after = body.value(f"add i64 {place}, 1")
    goes_on = body.value(f"icmp slt i64 {place_after}, %count")
    fill_place(("0", before), (place_after, body.block))
    fill_at((offset, before), (after, body.block))
    for (_, fill), start, new in zip(values, starts, following, strict=True):
        fill((start, before), (new, body.block))
    body.branch(goes_on, "entry.next", "entry.end", body.loops)
    body.start("entry.end")
