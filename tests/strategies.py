"""Random well-formed programs, as text, and inputs for them.

A program grows by steps; each adds a computed tensor by one construct of the notation, from tensors
that are complete. Values are kept of ordinary size (every expression is bounded in terms of its
operands), so that derivatives can be compared with differences; ties and kinks are met with
probability zero by the random inputs, and are tested by hand elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from hypothesis import strategies as st

INDEX = {"B": "b", "J": "j", "K": "k"}
EXTENTS = tuple(INDEX)

HEADER = (
    "drawn(x[B,J], param W[J,K], v[K], u[B,J,K], a, q[J,J], int g[B], int n[B], bool m[B],"
    " scale = 0.5, stride = 1)"
)

HELPER = """\
helper(y[N], z[N,M], c = 0.25) -> r[N], total:
    for n, m:  s[n] += tanh(z[n,m]) * c
    for n:     r[n] = y[n] * s[n]
    for n:     total += r[n]
"""


@dataclass
class Draft:
    """The program so far: its lines, and the complete floating tensors with their axes."""

    draw: st.DrawFn
    lines: list[str] = field(default_factory=list)
    tensors: dict[str, tuple[str, ...]] = field(
        default_factory=lambda: {
            "x": ("B", "J"),
            "W": ("J", "K"),
            "v": ("K",),
            "u": ("B", "J", "K"),
            "a": (),
            "q": ("J", "J"),
        }
    )
    locals: list[str] = field(default_factory=list)
    count: int = 0
    calls: bool = False

    def choose(self, *options: str) -> str:
        return self.draw(st.sampled_from(options))

    def integer(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def fresh(self) -> str:
        self.count += 1
        return f"t{self.count}"

    def axes(self, most: int = 2, least: int = 0) -> tuple[str, ...]:
        """Some distinct extents, in any order."""
        order = self.draw(st.permutations(EXTENTS))
        return tuple(order[: self.integer(least, most)])

    def add(self, name: str, axes: tuple[str, ...], *lines: str) -> None:
        self.lines += lines
        self.tensors[name] = axes

    # -------------------------------------------------------------------------------- expressions

    def read(self, axes: tuple[str, ...]) -> str:
        """A read of a complete tensor all of whose axes are among `axes` (or a square one)."""
        fitting = [n for n, own in self.tensors.items() if set(own) <= set(axes)]
        if not fitting:
            return self.choose("a", "0.7", "scale")
        name = self.choose(*fitting)
        own = self.tensors[name]
        if not own:
            return name
        subscripts = [INDEX[e] for e in own]
        if len(set(own)) < len(own) and self.integer(0, 1):
            subscripts[0] = (
                f"{subscripts[0]}" if self.integer(0, 1) else f"{own[0]}-1-{INDEX[own[0]]}"
            )
        return f"{name}[{', '.join(subscripts)}]"

    def expression(self, axes: tuple[str, ...], depth: int = 2) -> str:
        """A smooth expression of ordinary size, of reads with indices of `axes`."""
        if depth == 0:
            return self.read(axes)
        inner = lambda: self.expression(axes, depth - 1)
        form = self.choose(
            "{} + {}",
            "{} - {}",
            "0.5 * ({}) * ({})",
            "({}) / (1.5 + ({})**2)",
            "tanh({})",
            "sigmoid({})",
            "softplus({})",
            "exp(0.3 * tanh({}))",
            "sqrt(1 + ({})**2)",
            "log(2 + ({})**2)",
            "rsqrt(1 + ({})**2)",
            "erf({})",
            "sin({})",
            "cos({})",
            "log1p(({})**2)",
            "expm1(0.2 * sin({}))",
            "(1.5 + sin({}))**1.5",
            "(2 + sin({}))**(0.5 * tanh({}))",
            "max({}, {})",
            "min({}, {})",
            "relu({})",
            "abs({})",
            "scale * ({})",
            "({}) + 0 * stop_gradient({})",
            "({} if {} > 0.1 else {})",
            "{}",
            "-({})",
        )
        return form.format(*(inner() for _ in range(form.count("{}"))))

    def line(self, axes: tuple[str, ...], statement: str) -> str:
        """The statement in loops over the axes; bare where an input's axis gives the range."""
        ranges = [
            INDEX[e]
            if re.search(rf"\b[xWvuqm]\[([^]]*, ?)?{INDEX[e]}[],]", statement)
            else f"{INDEX[e]} < {e}"
            for e in axes
        ]
        return f"for {', '.join(ranges)}:  {statement}" if ranges else statement

    def target(self, name: str, axes: tuple[str, ...]) -> str:
        return f"{name}[{', '.join(INDEX[e] for e in axes)}]" if axes else name

    def guard(self, axes: tuple[str, ...]) -> str:
        options = [""]
        if "B" in axes:
            options += ["   if m[b]", "   if not m[b] and b > 0"]
        if "J" in axes:
            options += ["   if 0 < j < J - 1 or j == 0", "   if j % 2 == 0"]
        if axes:
            options.append(f"   if {self.read(axes)} > -0.2")
        return self.choose(*options)


# ------------------------------------------------------------------------------------------- steps


def step_map(d: Draft) -> None:
    axes, name = d.axes(), d.fresh()
    operator = d.choose("=", "+=", "-=")
    line = d.line(axes, f"{d.target(name, axes)} {operator} {d.expression(axes)}")
    d.add(name, axes, line + d.guard(axes) if operator != "=" or "if" not in line else line)


def step_sum(d: Draft) -> None:
    axes, over, name = d.axes(2), d.axes(2, 1), d.fresh()
    both = tuple(dict.fromkeys(axes + over))
    operator = d.choose("+=", "-=")
    value = d.expression(both)
    d.add(
        name,
        axes,
        d.line(both, f"{d.target(name, axes)} {operator} 0.4 * ({value}){d.guard(both)}"),
    )


def step_start_and_add(d: Draft) -> None:
    axes, name = d.axes(2, 1), d.fresh()
    over = tuple(dict.fromkeys((*axes, *d.axes(1))))
    d.add(
        name,
        axes,
        d.line(axes, f"{d.target(name, axes)} = {d.expression(axes)}"),
        d.line(over, f"{d.target(name, axes)} += 0.3 * ({d.expression(over, 1)})"),
        d.line(axes, f"{d.target(name, axes)} -= {d.expression(axes, 1)}{d.guard(axes)}"),
    )


def step_extremum(d: Draft) -> None:
    axes, name = d.axes(1), d.fresh()
    over = tuple(dict.fromkeys((*axes, *d.axes(2, 1))))
    operator = d.choose("max=", "min=")
    lines = [d.line(over, f"{d.target(name, axes)} {operator} {d.expression(over)}")]
    if d.integer(0, 1):
        lines.append(d.line(axes, f"{d.target(name, axes)} {operator} {d.expression(axes, 1)}"))
    if d.integer(0, 1):
        lines.insert(0, d.line(axes, f"{d.target(name, axes)} = {d.expression(axes, 1)}"))
    d.add(name, axes, *lines)


def step_product(d: Draft) -> None:
    axes, name = d.axes(1), d.fresh()
    over = tuple(dict.fromkeys((*axes, *d.axes(2, 1))))
    factor = d.choose("1 + 0.2 * tanh({})", "{} if {} > 0.3 else 1.1", "tanh({})", "relu(tanh({}))")
    value = factor.format(*(d.expression(over, 1) for _ in range(factor.count("{}"))))
    lines = [d.line(over, f"{d.target(name, axes)} *= ({value}){d.guard(over)}")]
    if d.integer(0, 1):
        lines.append(d.line(axes, f"{d.target(name, axes)} *= tanh({d.expression(axes, 1)})"))
    if d.integer(0, 1):
        lines.insert(0, d.line(axes, f"{d.target(name, axes)} = {d.expression(axes, 1)}"))
    d.add(name, axes, *lines)


def step_gather(d: Draft) -> None:
    name = d.fresh()
    source = d.read(("J", "K")).replace("j", "g[b]").replace("J-1-g[b]", "J-1-g[b]")
    d.add(name, ("B", "K"), f"for b, k < K:  {name}[b,k] = tanh({source}) * x[b,g[b]]")


def step_scatter(d: Draft) -> None:
    name = d.fresh()
    d.locals.append(f"{name}[J,K]")
    value = d.expression(("B", "K"), 1)
    d.add(name, ("J", "K"), f"for b, k:  {name}[g[b],k] += {value}{d.guard(('B', 'K'))}")


def step_shift(d: Draft) -> None:
    name = d.fresh()
    value = d.choose(
        "x[b,j-1] if j > 0 else 0.5",
        "x[b,j+stride] * v[0] if j + stride < J else a",
        "u[b,j,0] if K > 0 and j >= 1 else sin(a)",
        "x[b,J-1-j]",
        "x[b,(j+1)%J] - x[b,j//2]",
        "x[b,min(j+1, J-1)] * x[b,max(j-1, 0)]",
    )
    value = value.replace("v[0]", "a")
    d.add(name, ("B", "J"), f"for b < B, j < J:  {name}[b,j] = {value}")


def step_triangle(d: Draft) -> None:
    name = d.fresh()
    bound = d.choose("i <= j", "i < j", "j <= i < J", "1 <= i < J", "i < J-1")
    d.add(name, ("J",), f"for j, {bound}:  {name}[j] += q[j,i] * tanh(q[i,j]) * a")


def step_ragged(d: Draft) -> None:
    name = d.fresh()
    d.add(name, ("B",), f"for b, j < n[b]:  {name}[b] += {d.expression(('B', 'J'))}")


def step_recurrence(d: Draft) -> None:
    name = d.fresh()
    inner = d.expression(("B", "J"), 1)
    if d.integer(0, 1):
        block, before = "for j:", f"{name}[b,j-1] if j > 0 else {d.read(('B',))}"
    else:
        block, before = "for j descending:", f"{name}[b,j+1] if j < J-1 else {d.read(('B',))}"
    lines = [
        block,
        f"    for b < B:     {name}p[b,j] = {before}",
        f"    for b < B, k:  {name}a[b,j] += 0.3 * W[j,k] * tanh({name}p[b,j])",
        f"    for b < B:     {name}[b,j] = tanh({name}a[b,j]) + {inner}",
    ]
    d.add(name, ("B", "J"), *lines)
    d.tensors[f"{name}p"] = d.tensors[f"{name}a"] = ("B", "J")


def step_carried(d: Draft) -> None:
    """Two states that add to what they start from, and to each other's former values."""
    name, inner = d.fresh(), d.expression(("B", "J"), 1)
    near = d.choose("j-1", "j-2")
    least = {"j-1": 0, "j-2": 1}[near]
    lines = [
        "for j:",
        f"    for b < B:     {name}c[b,j] += tanh({inner})",
        f"    for b < B:     {name}c[b,j] += 0.4 * {name}c[b,{near}] * {d.read(('B',))}   if j > {least}",
        f"    for b < B, k:  {name}[b,j] += 0.2 * W[{near},k] * {name}[b,{near}]   if j > {least}",
        f"    for b < B:     {name}[b,j] += sin({name}c[b,j]) * x[b,j]",
    ]
    d.add(name, ("B", "J"), *lines)
    d.tensors[f"{name}c"] = ("B", "J")


def step_regions(d: Draft) -> None:
    name = d.fresh()
    lines = [
        f"for b:  {name}[b,0] = {d.expression(('B',), 1)}",
        "for 1 <= j < J:",
        f"    for b:  {name}[b,j] = 0.5 * {name}[b,j-1] + sin({d.expression(('B', 'J'), 1)})",
    ]
    d.locals.append(f"{name}[B,J]")
    d.add(name, ("B", "J"), *lines)


def step_nested_blocks(d: Draft) -> None:
    name = d.fresh()
    lines = [
        "for j < J:",
        "    for k < K:",
        f"        {name}l[j,k] = {name}[j-1,k] if j > 0 else a",
        f"        {name}d[j,k] = {name}[j,k-1] if k > 0 else {name}l[j,k]",
        f"        {name}[j,k] = {d.expression(('J', 'K'), 1)} + 0.4 * {name}l[j,k] * {name}d[j,k]"
        f" + min({name}l[j,k], {name}d[j,k])",
    ]
    d.add(name, ("J", "K"), *lines)


def step_block_reductions(d: Draft) -> None:
    """Accumulators over a block's index, read after it."""
    name = d.fresh()
    operator = d.choose("+=", "max=", "min=", "*=")
    lines = [
        "for j:",
        f"    for b < B:     {name}e[b,j] = tanh({d.expression(('B', 'J'), 1)})",
        f"    for b, k:  {name}[b] {operator} {name}e[b,j] * (0.5 + 0.2 * sin(u[b,j,k]))",
    ]
    d.add(name, ("B",), *lines)
    d.tensors[f"{name}e"] = ("B", "J")


def step_equation(d: Draft) -> None:
    name = d.fresh()
    form, axes = d.draw(
        st.sampled_from(
            [
                ("{n}[b,k] = tanh(x[b,J] * W[J,k] - v[k]) + {e}", ("B", "K")),
                ("{n}[b] = sum[j](x[b,j] * {e}) - mean[j](x[b,j])", ("B",)),
                ("{n}[b,j] = softmax[j](x[b,j]) * {e}", ("B", "J")),
                ("{n}[b] = logsumexp[j](x[b,j] + {e}) * a", ("B",)),
                ("{n}[b] = 2 * max[j](x[b,j]) - min[j](x[b,j])", ("B",)),
                ("{n}[b] = prod[j](1 + 0.1 * x[b,j]) + x[b,J] * x[b,J]", ("B",)),
                ("{n}[k] = v[k] / sqrt(1 + v[K] * v[K])", ("K",)),
                ("{n}[j,k] = (W[j,K] * W[j,K] + 1) * W[j,k] if j > 0 else a", ("J", "K")),
            ]
        )
    )
    inner = ("B", "J") if "B" in axes and "K" not in axes else axes
    expression = d.expression(inner, 1) if "{e}" in form else ""
    if axes == ("B", "K"):
        expression = d.expression(axes, 1)
    d.add(name, axes, form.format(n=name, e=f"({expression})"))


def step_call(d: Draft) -> None:
    name = d.fresh()
    d.calls = True
    d.add(
        name,
        ("K",),
        f"for k, j:  {name}w[k,j] = W[j,k] * a",
        f"{name}, {name}s = helper(v, {name}w)",
    )
    d.tensors[f"{name}s"] = ()


def step_call_slices(d: Draft) -> None:
    name = d.fresh()
    d.calls = True
    d.add(
        name,
        ("B", "J"),
        "for b:",
        f"    {name}[b,J], {name}s[b] = helper(x[b,J], u[b,J,K], c=0.5)",
    )
    d.tensors[f"{name}s"] = ("B",)


def step_counts(d: Draft) -> None:
    """Integers computed on the way: counts and indices."""
    name = d.fresh()
    d.locals.append(f"int {name}w[B]")
    lines = [
        f"for b, j:  {name}c[b] += 1   if x[b,j] > 0",
        f"for b, j:  {name}w[b] min= (j if x[b,j] > 0 else J - 1)",
        f"for b:     {name}[b] = x[b,{name}w[b]] * {name}c[b] / J   if J > 0",
    ]
    d.add(name, ("B",), *lines)


STEPS = [
    step_map,
    step_sum,
    step_start_and_add,
    step_extremum,
    step_product,
    step_gather,
    step_scatter,
    step_shift,
    step_triangle,
    step_ragged,
    step_recurrence,
    step_regions,
    step_nested_blocks,
    step_block_reductions,
    step_equation,
    step_call,
    step_call_slices,
    step_counts,
]
Step = Callable[[Draft], None]
BLOCKS = [
    step_recurrence,
    step_regions,
    step_nested_blocks,
    step_block_reductions,
    step_product,  # blocks of running products, in its backward
]
CARRIED = [*BLOCKS, step_carried, step_carried, step_sum, step_map]


@dataclass(frozen=True)
class Drawn:
    """A program's text and the seed of its inputs."""

    text: str
    seed: int
    sizes: dict[str, int]

    def inputs(self) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(self.seed)
        b, j, k = (self.sizes[e] for e in EXTENTS)
        floats = {"x": (b, j), "W": (j, k), "v": (k,), "u": (b, j, k), "a": (), "q": (j, j)}
        values: dict[str, np.ndarray] = {
            name: np.asarray(rng.normal(size=shape)) for name, shape in floats.items()
        }
        values["g"] = rng.integers(0, max(j, 1), size=b)
        values["n"] = rng.integers(0, j + 1, size=b)
        values["m"] = rng.random(b) < 0.6
        return values


@st.composite
def programs(
    draw: st.DrawFn, steps: int = 4, smallest: int = 1, among: Sequence[Step] = STEPS
) -> Drawn:
    """A program of up to that many steps; its results are all floating tensors made on the way."""
    draft = Draft(draw)
    given_names = set(draft.tensors)
    for step in draw(st.lists(st.sampled_from(among), min_size=1, max_size=steps)):
        step(draft)
    computed = {n: axes for n, axes in draft.tensors.items() if n not in given_names}
    results = list(computed)[-draw(st.integers(1, 3)) :]
    shown = ", ".join(n + (f"[{','.join(computed[n])}]" if computed[n] else "") for n in results)
    declared = [
        entry
        for entry in draft.locals
        if entry.removeprefix("int ").partition("[")[0] not in results
    ]
    lines = [f"{HEADER} -> {shown}:"]
    lines += [f"    local {entry}" for entry in declared]
    lines += [f"    {line}" for line in draft.lines]
    text = "\n".join(lines) + "\n"
    if draft.calls:
        text = HELPER + "\n" + text
    sizes = {e: draw(st.integers(smallest, 4)) for e in EXTENTS}
    return Drawn(text, draw(st.integers(0, 2**32 - 1)), sizes)


def _renamed(names: dict[str, str], found: re.Match[str]) -> str:
    return names[found[0]]


def with_other_indices(drawn: Drawn, rng: np.random.Generator) -> Drawn:
    """The same program, where an index goes over another extent in each statement or block."""
    head, _, body = drawn.text.partition(HEADER)
    lines = (HEADER + body).splitlines(keepends=True)
    found, names = [], dict[str, str]()
    for line in lines:
        if not line.startswith("     "):  # of a block's body the names are the block's
            names = dict(zip(INDEX.values(), rng.permutation([*INDEX.values()]), strict=True))
        found.append(re.sub(r"\b[bjk]\b", partial(_renamed, names), line))
    return replace(drawn, text=head + "".join(found))
