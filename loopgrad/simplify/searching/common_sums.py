"""Sums that several statements contain: once, into a tensor that they read.

    for b, j, k:  a.grad[b,j] += c[b,j] * o[j,k] * y.grad[b,k]
    for b, j, k:  c.grad[b,j] += a[b,j] * o[j,k] * y.grad[b,k]

form the product of `o` and `y.grad` twice; `e[b,j] += o[j,k] * y.grad[b,k]` before them leaves one, and
loops over b and j alone. A guard is a part of the sum: equal sums have equal ones. What is shared is decided
by cost; a sum in one place stays where it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import combinations
from operator import or_

from loopgrad.ir.nodes import (
    Accumulate,
    Apply,
    Block,
    Expression,
    Extent,
    Index,
    Local,
    Number,
    Range,
    Read,
    Reduction,
    Statement,
)
from loopgrad.ir.printer import show_expression
from loopgrad.ir.walk import (
    accumulates,
    bounds,
    fresh_name,
    indices_of,
    reads,
    subexpressions,
    substitute,
)
from loopgrad.simplify.reading.empty_sums import EmptySums, extent_of
from loopgrad.simplify.searching.cost import cost_of
from loopgrad.simplify.searching.sharing import LEAST, whole

MOST = 12  # sums that are shared in one block
MOST_INDICES = 4  # of a statement, that are summed over
SIGNS = {Reduction.ADD: 1, Reduction.SUBTRACT: -1}

Changes = list[tuple[Accumulate, Accumulate | None]]  # a statement and what stands in its place


@dataclass(frozen=True)
class Product:
    """`sign` times the numerators over the denominators, in the order in which they are written."""

    sign: int
    above: tuple[Expression, ...]
    below: tuple[Expression, ...] = ()

    def parted(self, indices: Collection[str]) -> tuple[Product, Product]:
        """The factors on which any of the indices is, and the others with the sign."""

        def moves(factor: Expression) -> bool:
            return not indices_of(factor).isdisjoint(indices)

        moving = Product(1, tuple(filter(moves, self.above)), tuple(filter(moves, self.below)))
        above = tuple(f for f in self.above if not moves(f))
        return moving, Product(self.sign, above, tuple(f for f in self.below if not moves(f)))

    @property
    def expression(self) -> Expression:
        found = _times(self.above)
        if self.below:
            found = Apply("/", (found, _times(self.below)))
        return found if self.sign > 0 else Apply("neg", (found,))


def _times(factors: Sequence[Expression]) -> Expression:
    found: Expression | None = None
    for factor in factors:
        found = factor if found is None else Apply("*", (found, factor))
    return Number(1) if found is None else found


def product_of(expression: Expression) -> Product:
    """The expression as a product of what is none."""
    match expression:
        case Apply("neg", (operand,)):
            inner = product_of(operand)
            return replace(inner, sign=-inner.sign)
        case Apply("*", (left, right)):
            one, other = product_of(left), product_of(right)
            above, below = (*one.above, *other.above), (*one.below, *other.below)
            return Product(one.sign * other.sign, above, below)
        case Apply("/", (left, right)):
            one, other = product_of(left), product_of(right)
            above, below = (*one.above, *other.below), (*one.below, *other.above)
            return Product(one.sign * other.sign, above, below)
    return Product(1, (expression,))


@dataclass(frozen=True)
class Place:
    """A sum in the statement at a position: of `moving` over `inner`, times `rest`."""

    at: int
    key: str
    moving: Product
    rest: Product
    inner: frozenset[str]
    free: tuple[str, ...]  # the indices of its value, in the order of its canonical text
    whole: bool  # is the statement the sum, times what does not change in it?


@dataclass
class _Program:
    """What is known of the whole program, and what has been made and changed."""

    temporaries: set[str]
    taken: set[str]
    writers: Mapping[str, int]
    lengths: frozenset[str]
    empty: EmptySums
    locals: list[Local]
    changes: Changes


def share_sums(
    statements: Sequence[Statement],
    temporaries: Collection[str],
    taken: set[str],
    empty: EmptySums,
    lengths: frozenset[str] = frozenset(),
) -> tuple[list[Statement], list[Local], Changes]:
    """Sums that occur in several statements into tensors, where that costs less.

    Returns the statements, the tensors that were made, and what stands in the place of statements
    that changed, in the order in which that was done. temporaries, taken, lengths: as in `share`.
    empty: of the forward and the program.
    """
    writers = Counter(s.target.tensor for _, s in accumulates(statements))
    program = _Program(set(temporaries), taken, writers, lengths, empty, [], [])
    return _region(list(statements), (), program), program.locals, program.changes


def _region(
    statements: list[Statement], outer: tuple[Range, ...], program: _Program
) -> list[Statement]:
    """The statements of one block, under its ranges and those of the blocks around it."""
    for at, statement in enumerate(statements):
        if isinstance(statement, Block):
            inside = _region(list(statement.body), (*outer, *statement.ranges), program)
            statements[at] = replace(statement, body=tuple(inside))
    for _ in range(MOST):
        best = _best(statements, outer, program)
        if best is None:
            break
        statements = _merged(best.put(statements, program), program)
    return statements


# --------------------------------------------------------------------------------------- sharing


@dataclass(frozen=True)
class _Sharing:
    """One sum, made by a statement, and the statements that read it."""

    maker: Accumulate
    local: Local | None  # None where a statement made it anyway
    first: int  # where the maker is to stand
    readers: dict[int, Accumulate]
    old: int | None  # where the maker stood

    def saved(
        self, statements: Sequence[Statement], outer: tuple[Range, ...], program: _Program
    ) -> float:
        """What is saved, where that is worth it; 0 otherwise."""
        before = [
            statements[at] for at in (*self.readers, *([] if self.old is None else [self.old]))
        ]
        inner = program.temporaries | ({self.local.name} if self.local is not None else set())
        after = [self.maker, *self.readers.values()]
        old = cost_of(before, program.temporaries, outer, program.lengths).value
        new = cost_of(after, inner, outer, program.lengths).value
        return old - new if old - new > LEAST * old else 0.0

    def put(self, statements: Sequence[Statement], program: _Program) -> list[Statement]:
        if self.local is not None:
            program.locals.append(self.local)
            program.temporaries.add(self.local.name)
            program.taken.add(self.local.name)
        found: list[Statement] = []
        for at, statement in enumerate(statements):
            if at == self.first:
                found.append(self.maker)
            if at in self.readers:
                assert isinstance(statement, Accumulate)
                program.changes.append((statement, self.readers[at]))
                found.append(self.readers[at])
            elif at != self.old:
                found.append(statement)
        return found


def _best(
    statements: list[Statement], outer: tuple[Range, ...], program: _Program
) -> _Sharing | None:
    """The sum that saves most, if one does."""
    groups: dict[str, list[Place]] = {}
    for place in _places(statements, outer):
        same = groups.setdefault(place.key, [])
        if all(p.at != place.at for p in same):
            same.append(place)
    best: tuple[float, str, _Sharing] | None = None
    for key, found_places in sorted(groups.items()):
        places = _movable(found_places, statements, program.empty) if len(found_places) > 1 else []
        if len(places) > 1:
            found = _sharing(statements, outer, places, program)
            saved = found.saved(statements, outer, program)
            if saved > 0 and (best is None or (-saved, key) < best[:2]):
                best = (-saved, key, found)
    return None if best is None else best[2]


def _movable(places: list[Place], statements: Sequence[Statement], empty: EmptySums) -> list[Place]:
    """Those whose other factors may go out of the sum, if one of them is nothing but the sum of its
    loops: the tensor that is made is no larger than one that is written anyway.

    Sizes that some divide by stay inside, and the others are multiplied by them.
    """
    ranges = {r.index: r for r in _at(statements, places[0]).ranges}
    extents = {extent_of(ranges[i]) for i in places[0].inner}
    below = [_sizes(p.rest, extents) for p in places]
    inside = list(reduce(or_, below).elements())
    found = []
    for place, own in zip(places, below, strict=True):
        missing = (Counter(inside) - own).elements()
        others = tuple(f for f in place.rest.below if f not in own)
        rest = replace(place.rest, above=(*missing, *place.rest.above), below=others)
        moving = replace(place.moving, below=(*place.moving.below, *inside))
        if empty.defined(rest.expression, extents):
            found.append(replace(place, moving=moving, rest=rest))
    return found if any(p.whole for p in found) else []


def _sizes(product: Product, extents: Collection[str]) -> Counter[Expression]:
    """The sizes of these extents that the product is divided by."""
    return Counter(
        f for f in product.below if isinstance(f, Extent) and show_expression(f, True) in extents
    )


def _sharing(
    statements: list[Statement],
    outer: tuple[Range, ...],
    places: list[Place],
    program: _Program,
) -> _Sharing:
    made = next((p for p in places if _is_sum(statements, p, outer, program)), None)
    first, sign, local = places[0], 1, None
    if made is not None:
        first, maker = made, _at(statements, made)
        sign = made.rest.sign * SIGNS[maker.reduction]
        order = [s.name for s in maker.target.subscripts if isinstance(s, Index)]
    else:
        statement = _at(statements, first)
        ranges = tuple(r for r in statement.ranges if r.index in {*first.free, *first.inner})
        kept = (*outer, *(r for r in ranges if r.index in first.free))
        order = [r.index for r in kept]
        name = fresh_name("e", program.taken)
        target = Read(name, tuple(map(Index, order)))
        value = first.moving.expression
        maker = Accumulate(target, Reduction.ADD, value, ranges, statement.guard)
        local = Local(name, tuple(r.upper for r in kept if r.upper is not None))
    around = {r.index for r in outer}
    readers: dict[int, Accumulate] = {}
    for place in places:
        if place is not made:
            names = dict(zip(first.free, place.free, strict=True))
            read = Read(
                maker.target.tensor,
                tuple(Index(i if i in around else names[i]) for i in order),
            )
            readers[place.at] = _reading(_at(statements, place), place, read, sign)
    old = made.at if made is not None else None
    return _Sharing(maker, local, min(p.at for p in places), readers, old)


def _at(statements: Sequence[Statement], place: Place) -> Accumulate:
    statement = statements[place.at]
    assert isinstance(statement, Accumulate)
    return statement


def _is_sum(
    statements: Sequence[Statement], place: Place, outer: tuple[Range, ...], program: _Program
) -> bool:
    """Does the statement, alone, make its target this sum, or minus it?"""
    statement = _at(statements, place)
    plain = [s.name for s in statement.target.subscripts if isinstance(s, Index)]
    return (
        not place.rest.above
        and not place.rest.below
        and program.writers[statement.target.tensor] == 1
        and sorted(plain) == sorted((*place.free, *(r.index for r in outer)))
    )


def _reading(statement: Accumulate, place: Place, read: Read, sign: int) -> Accumulate:
    """The statement with the sum read.

    Where its guard does not hold the sum is 0, and so is a multiple of it that is sure to be a number.
    """
    rest = replace(place.rest, sign=1, above=(*place.rest.above, read))
    added = place.rest.sign * SIGNS[statement.reduction] * sign > 0
    ranges = tuple(r for r in statement.ranges if r.index not in place.inner)
    reduction = Reduction.ADD if added else Reduction.SUBTRACT
    found = replace(statement, value=rest.expression, reduction=reduction, ranges=ranges)
    return found if place.rest.above or place.rest.below else replace(found, guard=None)


# --------------------------------------------------------------------------------------- merging


def _merged(statements: Sequence[Statement], program: _Program) -> list[Statement]:
    """One statement for those that add to the same elements in loops over them alone, where a sum
    in one of them has been named."""
    found: list[Statement] = []
    new = {id(changed) for _, changed in program.changes}
    for statement in statements:
        other = next((s for s in found if _goes_with(s, statement, new)), None)
        if other is not None:
            assert isinstance(other, Accumulate) and isinstance(statement, Accumulate)
            both = _sum_of(other, statement)
            found = [s for s in found if s is not other]
            program.changes += [(other, None), (statement, both)]
            statement = both
        found.append(statement)
    return found


def _goes_with(one: Statement, other: Statement, new: Collection[int]) -> bool:
    if not isinstance(one, Accumulate) or not isinstance(other, Accumulate):
        return False
    return (
        (id(one) in new or id(other) in new)
        and one.target == other.target
        and {one.reduction, other.reduction} <= SIGNS.keys()
        and one.guard is None is other.guard
        and one.ranges == other.ranges
        and {r.index for r in one.ranges} <= indices_of(one.target)
    )


def _sum_of(one: Accumulate, other: Accumulate) -> Accumulate:
    if one.reduction is Reduction.SUBTRACT and other.reduction is Reduction.ADD:
        value = Apply("-", (other.value, one.value))
        return replace(other, value=value)
    operation = "+" if one.reduction is other.reduction else "-"
    return replace(other, value=Apply(operation, (one.value, other.value)), reduction=one.reduction)


# ---------------------------------------------------------------------------------------- places


def _places(statements: Sequence[Statement], outer: tuple[Range, ...]) -> Iterator[Place]:
    """Every sum of a product over whole ranges, with repetitions."""
    around = {r.index for r in outer}
    for at, statement in enumerate(statements):
        if not isinstance(statement, Accumulate) or statement.reduction not in SIGNS:
            continue
        product = product_of(statement.value)
        kept = indices_of(statement.target)
        summed = [r.index for r in statement.ranges if r.index not in kept]
        for count in range(1, min(len(summed), MOST_INDICES) + 1):
            for inner in combinations(summed, count):
                place = _place(at, statement, product, frozenset(inner), around)
                if place is not None:
                    yield place


def _place(
    at: int, statement: Accumulate, product: Product, inner: frozenset[str], around: set[str]
) -> Place | None:
    moving, rest = product.parted(inner)
    guards = () if statement.guard is None else (statement.guard,)
    factors = (*moving.above, *moving.below, *guards)
    used = frozenset().union(*map(indices_of, factors))
    ranges = {r.index: r for r in statement.ranges}
    own = used - around
    if len(moving.above) < 2 or not inner <= used:
        return None
    if not own >= ranges.keys() and not all(map(_plain, factors)):
        return None
    if not all(whole(ranges[i], False) for i in own):
        return None
    left = [r for r in statement.ranges if r.index not in inner]
    if any(not indices_of(b).isdisjoint(inner) for b in bounds(left)):
        return None
    if (rest.above or rest.below) and any(not indices_of(g).isdisjoint(inner) for g in guards):
        return None  # what is left would still need it
    key, order = _canonical(moving, guards, own, inner, ranges)
    free = tuple(i for i in order if i not in inner)
    summed = ranges.keys() - indices_of(statement.target)
    return Place(at, key, moving, rest, inner, free, inner >= summed)


def _plain(factor: Expression) -> bool:
    """Does it read at indices alone? Where another loop has no iteration, it cannot be out of range."""
    return all(isinstance(s, Index) for r in reads(factor) for s in r.subscripts)


def _canonical(
    moving: Product,
    guards: tuple[Expression, ...],
    own: frozenset[str],
    inner: frozenset[str],
    ranges: Mapping[str, Range],
) -> tuple[str, list[str]]:
    """A text that all equal sums share, and the order in which their indices come in it.

    The indices of blocks keep their names: an element of another turn is another thing.
    """
    blank: dict[str, Expression] = dict.fromkeys(own, Index("?"))

    def rank(factor: Expression) -> tuple[str, str]:
        return show_expression(substitute(factor, blank)), show_expression(factor)

    sides = [sorted(side, key=rank) for side in (moving.above, moving.below, guards)]
    found = (
        n.name for side in sides for f in side for n in subexpressions(f) if isinstance(n, Index)
    )
    order = [i for i in dict.fromkeys(found) if i in own]
    names: dict[str, Expression] = {i: Index(f"?{k}") for k, i in enumerate(order)}
    texts = [" * ".join(show_expression(substitute(f, names)) for f in side) for side in sides]
    extents = [show_expression(ranges[i].upper, True) for i in order]  # type: ignore[arg-type]
    summed = [str(k) for k, i in enumerate(order) if i in inner]
    return f"{' / '.join(texts)} over {','.join(extents)} summed {','.join(summed)}", order
