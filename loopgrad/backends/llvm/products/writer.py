"""Vectors and loops over offsets, written into a function body."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from loopgrad.backends.llvm.products.tiling import REAL_BYTES, Tiling
from loopgrad.backends.llvm.writing.pieces import MASKED_BYTES, store_first
from loopgrad.backends.llvm.writing.text import I64, RARE, Body, Module


class Writer:
    """Writes one function of the products: `void @name(parameters)`."""

    def __init__(
        self,
        module: Module,
        tiling: Tiling,
        name: str,
        parameters: str,
        inner: bool,
        kind: str = "nounwind",
    ):
        """`kind`: of a function, to LLVM; of inner ones also that they stay functions."""
        self.module, self.tiling, self.real = module, tiling, tiling.real
        linkage, kind = ("internal ", f"noinline {kind}") if inner else ("", kind)
        self.body = Body(module, name, f"{linkage}void @{name}({parameters}) {kind}")

    def finish(self) -> None:
        self.body.do("ret void")
        self.body.finish()

    # ------------------------------------------------------------------------------------ integers

    def integer(self, operation: str, left: str | int, right: str | int) -> str:
        return self.body.value(f"{operation} i64 {left}, {right}")

    def compare(self, order: str, left: str | int, right: str | int) -> str:
        return self.body.value(f"icmp {order} i64 {left}, {right}")

    def least(self, left: str | int, right: str | int) -> str:
        first = self.compare("slt", left, right)
        return self.body.value(f"select i1 {first}, i64 {left}, i64 {right}")

    # ------------------------------------------------------------------------------------- control

    def where(
        self,
        condition: str,
        then: Callable[[], object],
        otherwise: Callable[[], object] | None = None,
    ) -> None:
        at, mark = self.body, self.body.fresh("where")
        at.branch(condition, f"{mark}.then", f"{mark}.else" if otherwise else f"{mark}.end")
        at.start(f"{mark}.then")
        then()
        at.jump(f"{mark}.end")
        if otherwise:
            at.start(f"{mark}.else")
            otherwise()
            at.jump(f"{mark}.end")
        at.start(f"{mark}.end")

    def chosen(
        self,
        condition: str,
        kind: str,
        then: Callable[[], list[str]],
        otherwise: Callable[[], list[str]],
    ) -> list[str]:
        """The values of one of the two, which are of that kind, and as many."""
        found: list[tuple[list[str], str]] = []
        self.where(
            condition,
            lambda: found.append((then(), self.body.block)),
            lambda: found.append((otherwise(), self.body.block)),
        )
        (first, after_first), (second, after_second) = found
        pairs = zip(first, second, strict=True)
        return [self.body.phi(kind, (a, after_first), (b, after_second)) for a, b in pairs]

    def loop(
        self,
        end: str | int,
        body: Callable[..., Sequence[str] | None],
        step: str | int | Callable[[str], str] = 1,
        carried: Sequence[tuple[str, str]] = (),
        once: bool = False,
    ) -> list[str]:
        """`for i = 0; i < end; i += step`, or do-while with `once`.

        `carried`: kinds and first values of what the loop carries; `body(i, *values)` returns the
        next ones. Returns what they are after the loop.
        """
        at, mark = self.body, self.body.fresh("loop")
        start = at.block
        if once:
            at.jump(f"{mark}.body")
        else:
            at.branch(self.compare("sgt", end, 0), f"{mark}.body", f"{mark}.end")
        at.start(f"{mark}.body")
        index, complete = at.phi_later(I64)
        values = [at.phi_later(kind) for kind, _ in carried]
        after = list(body(index, *[name for name, _ in values]) or ())
        following = self.integer("add", index, step(index) if callable(step) else step)
        more = self.compare("slt", following, end)
        complete(("0", start), (following, at.block))
        for (_, fill), (_, first), last in zip(values, carried, after, strict=True):
            fill((first, start), (last, at.block))
        last_block = at.block
        at.branch(more, f"{mark}.body", f"{mark}.end", loop=RARE)  # vectors are ours: leave it be
        at.start(f"{mark}.end")
        if once:
            return after
        pairs = zip(carried, after, strict=True)
        return [at.phi(k, (first, start), (last, last_block)) for (k, first), last in pairs]

    # ------------------------------------------------------------------------------------- memory

    @property
    def pointer(self) -> str:
        return self.module.pointer(self.real)

    def at(self, pointer: str, offset: str | int) -> str:
        """The address of an element."""
        return self.body.element(self.real, pointer, offset)

    def _typed(self, kind: str, pointer: str) -> str:
        if self.module.opaque_pointers or kind == self.real:
            return f"{self.module.pointer(kind)} {pointer}"
        cast = self.body.value(f"bitcast {self.pointer} {pointer} to {kind}*")
        return f"{kind}* {cast}"

    def load(self, pointer: str, kind: str | None = None) -> str:
        """A vector of the tiling, or a value of another kind, at an element's address."""
        kind = kind or self.tiling.vector
        align = REAL_BYTES[self.real]
        return self.body.value(f"load {kind}, {self._typed(kind, pointer)}, align {align}")

    def store(self, value: str, pointer: str, kind: str | None = None) -> None:
        kind = kind or self.tiling.vector
        align = REAL_BYTES[self.real]
        self.body.do(f"store {kind} {value}, {self._typed(kind, pointer)}, align {align}")

    def prefetch(self, pointer: str) -> None:
        self.body.prefetch(self.real, pointer, 3)

    def zeros(self) -> str:
        """A row of them on the stack, to add to where C has no value yet."""
        place = self.body.value(f"alloca {self.real}, i64 {self.tiling.width}, align 64")
        for v in range(self.tiling.vectors):
            self.store("zeroinitializer", self.at(place, v * self.tiling.lanes))
        return place

    def call_one_of(
        self, names: Sequence[str], number: str, kinds: Sequence[str], values: Sequence[str]
    ) -> None:
        """A call of the function that has the number among those."""
        module, kind = self.module, f"void ({', '.join(kinds)})*"
        function = "ptr" if module.opaque_pointers else kind
        table, several = f"@table_{names[0]}", f"[{len(names)} x {function}]"
        every = ", ".join(f"{function} @{name}" for name in names)
        module.declare(f"{table} = internal constant {several} [{every}]")
        at = module.pointer(several)
        place = self.body.value(f"getelementptr {several}, {at} {table}, i64 0, i64 {number}")
        given = ", ".join(f"{k} {v}" for k, v in zip(kinds, values, strict=True))
        self.body.do(f"call void {self.body.load(function, place)}({given})")

    def clear_where_empty(
        self, terms: str, adds: str, rows: str, columns: str, matrix: str, step: str
    ) -> None:
        """Sums of no terms: zeros, where nothing was there to add them to."""
        none = self.compare("slt", terms, 1)
        clears = self.body.value(f"and i1 {none}, {self.body.value(f'xor i1 {adds}, true')}")
        lanes = self.tiling.lanes

        def row(r: str) -> None:
            start = self.at(matrix, self.integer("mul", r, step))

            def some(n: str) -> None:
                count = self.least(self.integer("sub", columns, n), lanes)
                self.store_first("zeroinitializer", self.at(start, n), count)

            self.loop(columns, some, step=lanes)

        self.where(clears, lambda: self.loop(rows, row))

    # ------------------------------------------------------------------------------------- vectors

    def first_lanes(self, count: str) -> str:
        """The mask of lanes below `count`."""
        lanes, bits = self.tiling.lanes, 8 * REAL_BYTES[self.real]
        kind = f"<{lanes} x i{bits}>"
        narrow = count if bits == 64 else self.body.value(f"trunc i64 {count} to i{bits}")
        all_counts = self.splat(narrow, f"i{bits}")
        steps = ", ".join(f"i{bits} {i}" for i in range(lanes))
        return self.body.value(f"icmp sgt {kind} {all_counts}, <{steps}>")

    def splat(self, value: str, kind: str | None = None) -> str:
        kind, lanes = kind or self.real, self.tiling.lanes
        vector = f"<{lanes} x {kind}>"
        first = self.body.value(f"insertelement {vector} undef, {kind} {value}, i32 0")
        return self.body.value(
            f"shufflevector {vector} {first}, {vector} undef, <{lanes} x i32> zeroinitializer"
        )

    def keep_order(self) -> None:
        """What is loaded below is not loaded above.

        LLVM moves loads up until a tile's sums no longer fit the registers: one of them then goes through
        memory with every k, and all multiplications wait for it.
        """
        self.body.do('call void asm sideeffect "", "~{memory}"()')

    def masked_load(self, pointer: str, mask: str) -> str:
        """Lanes that are masked off are 0, and are not touched in memory."""
        vector, name = self.tiling.vector, self._masked("load")
        at, bits = self.module.pointer(vector), f"<{self.tiling.lanes} x i1>"
        self.module.declare(f"declare {vector} @{name}({at}, i32, {bits}, {vector})")
        typed = self._typed(vector, pointer)
        align = REAL_BYTES[self.real]
        return self.body.value(
            f"call {vector} @{name}({typed}, i32 {align}, {bits} {mask}, {vector} zeroinitializer)"
        )

    def store_first(self, value: str, pointer: str, count: str, mask: str = "") -> None:
        """Stores the first lanes, so many. mask: of these, where it is known."""
        lanes, size = self.tiling.lanes, REAL_BYTES[self.real]
        if lanes * size < MASKED_BYTES:
            store_first(self.body, self.real, size, pointer, value, lanes, count)
            return
        mask = mask or self.first_lanes(count)
        vector, name = self.tiling.vector, self._masked("store")
        at, bits = self.module.pointer(vector), f"<{lanes} x i1>"
        self.module.declare(f"declare void @{name}({vector}, {at}, i32, {bits})")
        typed = self._typed(vector, pointer)
        self.body.do(f"call void @{name}({vector} {value}, {typed}, i32 {size}, {bits} {mask})")

    def _masked(self, operation: str) -> str:
        suffix = self.tiling.vector_suffix
        space = "p0" if self.module.opaque_pointers else f"p0{suffix}"
        return f"llvm.masked.{operation}.{suffix}.{space}"

    def multiply_add(self, a: str, b: str, c: str) -> str:
        """`a * b + c`, rounded once where the processor can."""
        kind = self.tiling.vector
        if self.module.has_fma:
            name = f"llvm.fma.{self.tiling.vector_suffix}"
            self.module.declare(f"declare {kind} @{name}({kind}, {kind}, {kind})")
            return self.body.value(f"call {kind} @{name}({kind} {a}, {kind} {b}, {kind} {c})")
        product = self.body.value(f"fmul {kind} {a}, {b}")
        return self.body.value(f"fadd {kind} {product}, {c}")

    def across(self, value: str) -> str:
        """The sum of a vector's lanes: halves are added to each other."""
        lanes, kind = self.tiling.lanes, self.tiling.vector
        distance = lanes // 2
        while distance:
            order = ", ".join(f"i32 {(lane + distance) % lanes}" for lane in range(lanes))
            moved = self.body.value(
                f"shufflevector {kind} {value}, {kind} undef, <{lanes} x i32> <{order}>"
            )
            value, distance = self.body.value(f"fadd {kind} {value}, {moved}"), distance // 2
        return self.body.value(f"extractelement {kind} {value}, i32 0")

    def across_each(self, values: list[str]) -> str:
        """The sums of the lanes of as many vectors as they have lanes, each in the lane of its number: halves
        of two are added to the other halves, until one vector is left.
        """
        kind, distance = self.tiling.vector, self.tiling.lanes // 2
        while distance:
            order = self._exchange(distance)
            pairs = zip(values[:distance], values[distance:], strict=True)
            halves = [
                [
                    self.body.value(
                        f"shufflevector {kind} {a}, {kind} {b}, <{self.tiling.lanes} x i32> <{mask}>"
                    )
                    for mask in order
                ]
                for a, b in pairs
            ]
            values = [self.body.value(f"fadd {kind} {low}, {high}") for low, high in halves]
            distance //= 2
        return values[0]

    def transposed(self, rows: list[str]) -> list[str]:
        """As many vectors as they have lanes, transposed: log2(lanes) rounds of exchanges. LLVM looks for no
        others across a fence, which takes it long and finds none.
        """
        lanes, kind = self.tiling.lanes, self.tiling.vector
        distance = lanes // 2
        while distance:
            low, high = self._exchange(distance)
            turned = list(rows)
            for i in range(lanes):
                if not i & distance:
                    a, b = rows[i], rows[i + distance]
                    for to, mask in ((i, low), (i + distance, high)):
                        turned[to] = self.body.value(
                            f"shufflevector {kind} {a}, {kind} {b}, <{lanes} x i32> <{mask}>"
                        )
            distance //= 2
            rows = (
                [self.body.intrinsic("arithmetic.fence", kind, r) for r in turned]
                if distance
                else turned
            )
        return rows

    def _exchange(self, distance: int) -> tuple[str, str]:
        """Of vectors a and b: each block of lanes of b that stands low for the one of a that stands high."""
        lanes = self.tiling.lanes
        low = [lane if not lane & distance else lanes + lane - distance for lane in range(lanes)]
        high = [lane + distance if not lane & distance else lanes + lane for lane in range(lanes)]
        return tuple(", ".join(f"i32 {lane}" for lane in mask) for mask in (low, high))  # type: ignore[return-value]

    # -------------------------------------------------------------------------------------- groups

    @property
    def group(self) -> str:
        """The type of as many numbers as a processor moves between lanes at once, whatever its vectors."""
        return f"<{self.tiling.group} x {self.real}>"

    def together(self, groups: list[str]) -> str:
        """A vector of groups, the first in the lowest lanes."""
        lanes = self.tiling.group
        while len(groups) > 1:
            kind, mask = f"<{lanes} x {self.real}>", ", ".join(f"i32 {i}" for i in range(2 * lanes))
            groups = [
                self.body.value(
                    f"shufflevector {kind} {a}, {kind} {b}, <{2 * lanes} x i32> <{mask}>"
                )
                for a, b in zip(groups[::2], groups[1::2], strict=True)
            ]
            lanes *= 2
        return groups[0]

    def turned(self, rows: list[str]) -> list[str]:
        """As many vectors as a group has lanes, each group transposed with those above and below it.

        By perfect shuffles: vectors from the two halves are interleaved, group by group.
        """
        half = len(rows) // 2
        for _ in range(half.bit_length()):
            rows = [
                self._interleaved(rows[i], rows[i + half], high)
                for i in range(half)
                for high in (False, True)
            ]
        return rows

    def _interleaved(self, a: str, b: str, high: bool) -> str:
        """Of each group the lower or the higher half of its lanes, from a and b in turns."""
        lanes, group, kind = self.tiling.lanes, self.tiling.group, self.tiling.vector
        begin = group // 2 if high else 0
        each = (first + i for first in range(begin, lanes, group) for i in range(group // 2))
        mask = ", ".join(f"i32 {i}, i32 {lanes + i}" for i in each)
        return self.body.value(f"shufflevector {kind} {a}, {kind} {b}, <{lanes} x i32> <{mask}>")
