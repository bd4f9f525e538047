"""More steps of random programs (strategies.py): what schedules treat in a way of their own.

Contractions with something before and after, windows that go by strides and leave holes, sums that overlap,
pools, two products around a softmax, recurrences with two states, indices that are computed and repeat.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from hypothesis import strategies as st

from tests.strategies import CARRIED, INDEX, STEPS, Draft, Drawn, Step

HEADER_END = re.compile(r"^(drawn\(.*\)) -> (.*):$", re.MULTILINE)


def averaged(drawn: Drawn) -> Drawn:
    """The program with its gradients of parameters averaged over the batch, if each result has that extent."""
    found = HEADER_END.search(drawn.text)
    assert found is not None
    if not all("B" in result for result in re.split(r", (?=t\d)", found[2])):
        return drawn
    return replace(drawn, text=HEADER_END.sub(r"\1 batch B -> \2:", drawn.text))


ACTIVATIONS = ("{}", "tanh({})", "relu({})", "sigmoid({})", "0.5 * {}", "({} if {} > 0.1 else 0.2)")


def loops(axes: Sequence[str]) -> str:
    return ", ".join(f"{INDEX[e]} < {e}" for e in axes)


def at(axes: Sequence[str]) -> str:
    return ", ".join(INDEX[e] for e in axes)


def side(d: Draft, *axes: str) -> str:
    """A factor of a product: a read, or what is cheap to compute of one."""
    read = d.read(axes)
    form = d.choose(*ACTIVATIONS)
    return form.format(*[read] * form.count("{}"))


def step_contraction(d: Draft) -> None:
    """A matrix product, with what may be done to its sides and its rows."""
    rows, columns, summed = d.draw(st.permutations(["B", "J", "K"]))
    name, every = d.fresh(), d.draw(st.permutations([rows, columns, summed]))
    target = f"{name}a[{at((rows, columns))}]"
    guard = d.choose("", "", f"   if {INDEX[summed]} > 0", f"   if {d.read((rows,))} > -0.5")
    sign = d.choose("+=", "-=")
    lines = [
        f"for {loops(every)}:  {target} {sign} 0.3 * {side(d, rows, summed)}"
        f" * {side(d, summed, columns)}{guard}"
    ]
    if d.integer(0, 1):
        lines.append(
            f"for {loops((columns, rows))}:  {target} += {side(d, columns)} * {side(d, rows)}"
        )
    if d.integer(0, 2) == 0:
        lines.append(
            f"for {loops(every)}:  {target} += 0.2 * {side(d, rows, summed)} * {d.read((columns, summed))}"
        )
    after = f"{name}[{at((rows, columns))}]"
    lines.append(f"for {loops((rows, columns))}:  {after} = tanh({target} + {d.read((columns,))})")
    d.add(name, (rows, columns), *lines)
    d.tensors[f"{name}a"] = (rows, columns)


def step_normalized(d: Draft) -> None:
    """Rows of anything, normalised: a maximum, a sum, a quotient."""
    row, along = d.draw(st.permutations(["B", "J", "K"]))[:2]
    name, both = d.fresh(), (row, along)
    guard = d.choose("", "", f"   if {d.read(both)} > -0.7")
    value = d.expression(both, 1)
    i, every = INDEX[row], loops(both)
    lines = [
        f"for {every}:  {name}s[{at(both)}] = {value}",
        f"for {every}:  {name}m[{i}] max= {name}s[{at(both)}]{guard}",
        f"for {every}:  {name}Z[{i}] += exp({name}s[{at(both)}] - {name}m[{i}]){guard}",
        f"for {every}:  {name}[{at(both)}] = "
        f"exp({name}s[{at(both)}] - {name}m[{i}]) / {name}Z[{i}] if {name}Z[{i}] > 0.5 and "
        f"{name}s[{at(both)}] <= {name}m[{i}] else 0.0",
    ]
    d.add(name, both, *lines)


def step_attention(d: Draft) -> None:
    """Two products around a softmax, maybe of a triangle."""
    name = d.fresh()
    bound = d.choose("i < J", "i <= j", "i < J")
    after = d.read(("B", "K"))
    lines = [
        f"for b < B, j < J, {bound}, k < K:  {name}s[b,j,i] += 0.3 * u[b,j,k] * u[b,i,k]",
        f"for b < B, j < J, {bound}:         {name}m[b,j] max= {name}s[b,j,i]",
        f"for b < B, j < J, {bound}:         {name}Z[b,j] += exp({name}s[b,j,i] - {name}m[b,j])",
        f"for b < B, j < J, {bound}, k < K:  {name}[b,j,k] += exp({name}s[b,j,i] - {name}m[b,j])"
        f" / {name}Z[b,j] * (u[b,i,k] + {after})",
    ]
    d.locals.append(f"{name}s[B,J,J]")
    d.add(name, ("B", "J", "K"), *lines)


def _window(d: Draft, index: str, extent: str) -> tuple[int, str, str]:
    """How many taps, the place that one looks at, and the condition that there is such a place."""
    taps, stride, dilation = d.integer(1, 4), d.integer(1, 3), d.integer(1, 2)
    padding = d.integer(0, 2)
    place = f"{stride}*{index} + {dilation}*p - {padding}"
    return taps, place, f"0 <= {place} < {extent}"


def step_window(d: Draft) -> None:
    """A convolution, of channels or of each row by itself; places beside the tensor count as zeros."""
    name = d.fresh()
    if d.integer(0, 1):
        taps, place, inside = _window(d, "j", "J")
        value = f"({d.read(('B',))} + sin(p + 1))" if d.integer(0, 1) else "(p - 0.7)"
        line = f"for b < B, j < J, p < {taps}:  {name}[b,j] += 0.4 * x[b,{place}] * {value}"
        d.add(name, ("B", "J"), f"{line}   if {inside}")
        return
    taps, place, inside = _window(d, "k", "K")
    sum_of = f"{name}w[j,i,p] * u[b,i,{place}]"
    line = f"for b < B, j < J, k < K, i < J, p < {taps}:  {name}[b,j,k] += "
    line += d.choose(f"{sum_of}   if {inside}", f"({sum_of} if {inside} else 0.0)")
    weights = f"for j < J, i < J, p < {taps}:  {name}w[j,i,p] = 0.2 * q[j,i] * cos(p + a)"
    d.add(name, ("B", "J", "K"), weights, line)


def step_inner_window(d: Draft) -> None:
    """A convolution at places where the whole window is inside: fewer than there are."""
    name, taps, stride = d.fresh(), d.integer(1, 3), d.integer(1, 2)
    value = d.choose(f"u[b,j,{stride}*o+p] * (0.5 + p)", f"tanh(u[b,j,{stride}*o+p]) * W[j,p]")
    lines = [
        f"for b < B, j < J, o < (K - {taps}) // {stride} + 1, p < {taps}:  {name}n[b,j,o] += {value}",
        f"for b < B, j < J, o < (K - {taps}) // {stride} + 1:  {name}[b,j] += 0.3 * sin({name}n[b,j,o])",
    ]
    d.add(name, ("B", "J"), *lines)


def step_spread(d: Draft) -> None:
    """What each place gives to those around it: sums that overlap, or leave holes."""
    name = d.fresh()
    taps, place, inside = _window(d, "k", "K")
    value = d.choose("u[b,j,k] * (0.5 - p)", "tanh(u[b,j,k]) * q[j,0]", "W[j,k] * x[b,j]")
    d.locals.append(f"{name}[B,J,K]")
    line = f"for b < B, j < J, k < K, p < {taps}:  {name}[b,j,{place}] += {value}   if {inside}"
    d.add(name, ("B", "J", "K"), line)


def step_pool(d: Draft) -> None:
    """The largest of each window; windows outside have none."""
    name = d.fresh()
    taps, place, inside = _window(d, "j", "J")
    operator, bound = d.choose("max= <", "min= >").split()
    sign = "" if bound == "<" else "-"
    lines = [
        f"for b < B, j < J, p < {taps}:  {name}m[b,j] {operator} x[b,{place}]   if {inside}",
        f"for b < B, j < J:  {name}[b,j] = {name}m[b,j] if abs({name}m[b,j]) < inf else {sign}0.3",
    ]
    d.add(name, ("B", "J"), *lines)


def step_places(d: Draft) -> None:
    """Targets and reads that go backwards, or in steps."""
    name = d.fresh()
    value = d.expression(("B", "J"), 1)
    lines = d.choose(
        f"for b < B, j < J:  {name}[b,J-1-j] = {value}",
        f"for b < B, j < J:  {name}[b,2*j] = {value}   if 2*j < J",
        f"for b < B, j < J:  {name}[b,J-1-2*j] += {value}   if 2*j < J",
        f"for b < B, j < J:  {name}[b,j//2] += {value}",
        f"for b < B, j < J:  {name}[b,(j+2)%J] += {value}",
        f"for b < B, j < J:  {name}[b,j] += x[b,2*j] * {d.read(('B',))}   if 2*j < J",
        f"for b < B, j < J:  {name}[b,j] += x[b,j//3] - x[B-1-b,j]",
    )
    d.locals.append(f"{name}[B,J]")
    d.add(name, ("B", "J"), lines)


def step_band(d: Draft) -> None:
    """A product with a triangle or a band of a matrix."""
    name = d.fresh()
    bound = d.choose("i <= j", "i < j", "j <= i < J", "max(0, j-2) <= i < min(J, j+3)")
    right = side(d, "J", "K").replace("j", "i").replace("J-1-i", "J-1-i")
    d.add(name, ("J", "K"), f"for j < J, {bound}, k < K:  {name}[j,k] += 0.3 * q[j,i] * {right}")


def step_cube(d: Draft) -> None:
    """Tensors of three axes, in any order, and sums over some of them."""
    axes = tuple(d.draw(st.permutations(["B", "J", "K"])))
    name = d.fresh()
    d.add(name, axes, f"for {loops(axes)}:  {name}[{at(axes)}] = {d.expression(axes)}")
    left = axes[: d.integer(0, 2)]
    total = d.fresh()
    target = f"{total}[{at(left)}]" if left else total
    value = f"0.2 * {name}[{at(axes)}] * {d.read(axes)}{d.guard(axes)}"
    d.add(total, left, f"for {loops(d.draw(st.permutations(axes)))}:  {target} += {value}")


def step_two_states(d: Draft) -> None:
    """A recurrence whose states read each other, with a product in it; over time K."""
    name = d.fresh()
    lines = [
        "for k < K:" if d.integer(0, 2) else "for 0 <= k < K:",
        f"    for b < B, j < J, i < J:  {name}a[k,b,j] += 0.2 * q[j,i] * {name}h[k-1,b,i]   if k > 0",
        f"    for b < B, j < J:  {name}c[k,b,j] = sigmoid({name}a[k,b,j]) * "
        f"({name}c[k-1,b,j] if k > 0 else {d.read(('B',))}) + tanh(u[b,j,k])",
        f"    for b < B, j < J:  {name}h[k,b,j] = tanh({name}c[k,b,j]) * sigmoid({name}a[k,b,j] + x[b,j])",
    ]
    for part, axes in (("h", "[K,B,J]"), ("c", "[K,B,J]"), ("a", "[K,B,J]")):
        d.locals.append(f"{name}{part}{axes}")
    d.add(f"{name}h", ("K", "B", "J"), *lines)
    d.tensors[f"{name}c"] = ("K", "B", "J")


def step_computed_indices(d: Draft) -> None:
    """Indices that are computed, and repeat: gathers by them, scatters to them."""
    name = d.fresh()
    d.locals += [f"int {name}i[B,K]", f"{name}t[J,K]"]
    index = d.choose("(g[b] + k) % J", "min(k, J - 1)", "(b * k) % J", "g[B-1-b]")
    operator = d.choose("+=", "-=", "max=", "min=")
    lines = [
        f"for b < B, k < K:  {name}i[b,k] = {index}",
        f"for b < B, k < K:  {name}[b,k] = x[b,{name}i[b,k]] * {side(d, 'B', 'K')}",
        f"for b < B, k < K:  {name}t[{name}i[b,k],k] {operator} {name}[b,k]{d.guard(('B',))}",
        f"for j < J, k < K:  {name}f[j,k] = {name}t[j,k] if abs({name}t[j,k]) < inf else 0.5",
    ]
    d.add(name, ("B", "K"), *lines)
    d.tensors[f"{name}f"] = ("J", "K")


def step_moments(d: Draft) -> None:
    """Mean and variance, along rows or down columns."""
    over, kept = d.choose("J B", "B J").split()
    name, source = d.fresh(), d.read(("B", "J"))
    lines = [
        f"for {loops(('B', 'J'))}:  {name}m[{INDEX[kept]}] += {source} / {over}",
        f"for {loops(('B', 'J'))}:  {name}v[{INDEX[kept]}] += ({source} - {name}m[{INDEX[kept]}])**2 / {over}",
        f"for {loops(('B', 'J'))}:  {name}[b,j] = ({source} - {name}m[{INDEX[kept]}])"
        f" * rsqrt({name}v[{INDEX[kept]}] + 0.1) * {d.read((kept,))}",
    ]
    d.add(name, ("B", "J"), *lines)


MORE: list[Step] = [
    step_contraction,
    step_contraction,
    step_normalized,
    step_attention,
    step_window,
    step_inner_window,
    step_spread,
    step_pool,
    step_places,
    step_band,
    step_cube,
    step_two_states,
    step_computed_indices,
    step_moments,
]
# All there is, new constructs as often as the others.
WIDE: list[Step] = [*STEPS, *MORE, *MORE, *CARRIED[-4:-2]]
