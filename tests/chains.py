"""Still more steps of random programs (strategies.py): chains of layers, each of what the last ones made.

What a step reads is one of the latest tensors that fit, so that a program of five steps has products of norms
of gathered rows of products. Blocks of rows, of columns and of sums meet in one loop nest then; rows are
gathered, scattered, sorted by data, kept for a triangle; sides of products are computed, shifted, shared.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from hypothesis import strategies as st

from tests.constructs import HEADER_END, at, loops
from tests.strategies import INDEX, Draft, Drawn, Step

# How to read one element of a pair of axes where no tensor has just these.
PLANES = {frozenset("BK"): "u[b,0,k]", frozenset("BJ"): "u[b,j,K-1]", frozenset("JK"): "u[B-1,j,k]"}

ACTIVATED = (
    "{}",
    "{}",
    "tanh({})",
    "{} * sigmoid({})",
    "max({}, 0.1)",
    "exp(-0.5 * ({})**2)",
    "({} if {} > -0.1 else 0.2)",
)


def latest(d: Draft, *axes: str) -> str:
    """One of the latest tensors that have these axes, in any order; nearly always the last."""
    own = [
        name for name, has in d.tensors.items() if len(has) == len(axes) and set(has) == set(axes)
    ]
    plane = PLANES.get(frozenset(axes))
    if plane is not None and (not own or d.integer(0, 9) == 0):
        return plane
    name = own[-1] if len(own) == 1 or d.integer(0, 2) else own[-2]
    return f"{name}[{at(d.tensors[name])}]"


def at_another(read: str, index: str, there: str) -> str:
    """The read with something else in the place of an index."""
    name, _, subscripts = read.partition("[")
    parts = map(str.strip, subscripts.removesuffix("]").split(","))
    return f"{name}[{', '.join(there if part == index else part for part in parts)}]"


def moved(d: Draft, read: str, index: str, extent: str) -> str:
    """The read, maybe at another place along an index: one that several share, or further on."""
    there = d.choose(
        *[index] * 3,
        f"{index}//2",
        f"{index}//3",
        f"({index}+2)%{extent}",
        f"{extent}-1-{index}",
        f"min({index}+1, {extent}-1)",
        f"max({index}-3, 0)",
    )
    return at_another(read, index, there)


def activated(d: Draft, read: str) -> str:
    form = d.choose(*ACTIVATED)
    return form.format(*[read] * form.count("{}"))


def left_of(d: Draft, rows: str, summed: str) -> str:
    """A side of a product, computed from the latest rows."""
    i = INDEX[summed]
    value = activated(d, moved(d, latest(d, rows, summed), i, summed))
    if d.integer(0, 2) == 0:
        value += f" * {moved(d, latest(d, rows, summed), i, summed)}"
    return value


def roles(d: Draft, count: int = 3) -> Sequence[str]:
    return d.draw(st.permutations(["B", "J", "K"]))[:count]


def layer_dense(d: Draft) -> None:
    """A linear layer, and what often stands behind one."""
    rows, columns, summed = roles(d)
    name, order = d.fresh(), d.draw(st.permutations([rows, columns, summed]))
    target = d.draw(st.permutations([rows, columns])) if d.integer(0, 3) == 0 else (rows, columns)
    scale = d.choose("", " / 4", f" / sqrt({summed})")
    head = f"{name}[{at(target)}]"
    guard = d.choose(*[""] * 6, f"   if {INDEX[summed]} > 1", f"   if {INDEX[rows]} != 48")
    lines = [
        f"for {loops(order)}:  {head} += {left_of(d, rows, summed)}"
        f" * {latest(d, summed, columns)}{scale}{guard}"
    ]
    if d.integer(0, 3) == 0:
        lines.append(f"for {loops(target)}:  {head} += 0.5 * {latest(d, rows, columns)}")
    d.add(name, tuple(target), *lines)
    if d.integer(0, 1):
        after = d.fresh()
        more = d.choose("", f" + {d.read((columns,))}", f" + {latest(d, rows, columns)}")
        d.add(
            after,
            (rows, columns),
            f"for {loops((rows, columns))}:  {after}[{at((rows, columns))}] = {activated(d, head)}{more}",
        )


def layer_norm(d: Draft) -> None:
    """Rows less their mean, by their deviation, or a softmax of them; with or without the maximum."""
    row, along = roles(d, 2)
    both, name = (row, along), d.fresh()
    value, here, i = latest(d, row, along), f"{name}[{at((row, along))}]", INDEX[row]
    every = f"for {loops(both)}:  "
    lines = {
        "moments": [
            f"{every}{name}m[{i}] += {value} / {along}",
            f"{every}{name}v[{i}] += ({value} - {name}m[{i}])**2 / {along}",
            f"{every}{here} = ({value} - {name}m[{i}]) / sqrt({name}v[{i}] + 0.1)",
        ],
        "root": [
            f"{every}{name}v[{i}] += ({value})**2 / {along}",
            f"{every}{here} = {value} * rsqrt({name}v[{i}] + 0.1)",
        ],
        "softmax": [
            f"{every}{name}m[{i}] max= {value}",
            f"{every}{name}Z[{i}] += exp({value} - {name}m[{i}])",
            f"{every}{here} = exp({value} - {name}m[{i}]) / {name}Z[{i}]",
        ],
        "sum of exponentials": [
            f"{every}{name}Z[{i}] += exp(0.3 * tanh({value}))",
            f"{every}{here} = exp(0.3 * tanh({value})) / {name}Z[{i}]",
        ],
    }
    d.add(name, both, *lines[d.choose(*lines)])


def layer_pairs(d: Draft) -> None:
    """Products of all rows with all, or with those before, and their sums over others: an attention."""
    row, along = roles(d, 2)
    name, i, k = d.fresh(), INDEX[row], INDEX[along]
    bound = d.choose(
        f"c < {row}", f"c <= {i}", f"c < {i}", f"max(0, {i}-5) <= c <= {i}", f"{i} <= c < {row}"
    )
    query, key, value = (latest(d, row, along) for _ in range(3))
    # Subscripts of the key are those of the query, for c.
    key, value = (at_another(one, i, "c") for one in (key, value))
    pair, loop = f"{name}s[{i},c]", f"for {i} < {row}, {bound}"
    weight = d.choose(
        pair,
        f"tanh({pair})",
        f"{pair} * sigmoid({pair})",
        f"exp({pair} - {name}m[{i}]) / {name}Z[{i}]",
    )
    lines = [f"{loop}, {k} < {along}:  {pair} += {query} * {key} / {along}"]
    if "Z[" in weight:
        lines += [
            f"{loop}:  {name}m[{i}] max= {pair}",
            f"{loop}:  {name}Z[{i}] += exp({pair} - {name}m[{i}])",
        ]
    lines.append(f"{loop}, {k} < {along}:  {name}[{i},{k}] += {weight} * {value} / 3")
    d.locals += [f"{name}s[{row},{row}]", f"{name}[{row},{along}]"]
    d.add(name, (row, along), *lines)


def layer_heads(d: Draft) -> None:
    """An attention of a batch: of all its keys, or of few queries."""
    name, few = d.fresh(), d.integer(0, 1)
    query = (
        latest(d, "B", "J", "K") if not few else f"{latest(d, 'B', 'K')} * {latest(d, 'J', 'K')}"
    )
    bound = d.choose("c < J", "c < J", "c <= j")
    key, value = (at_another(latest(d, "B", "J", "K"), "j", "c") for _ in range(2))
    pair, loop = f"{name}s[b,j,c]", f"for b < B, j < J, {bound}"
    lines = [
        f"{loop}, k < K:  {pair} += 0.3 * {query} * {key}",
        f"{loop}:  {name}m[b,j] max= {pair}",
        f"{loop}:  {name}Z[b,j] += exp({pair} - {name}m[b,j])",
        f"{loop}, k < K:  {name}[b,j,k] += exp({pair} - {name}m[b,j]) / {name}Z[b,j] * {value}",
    ]
    d.locals += [f"{name}s[B,J,J]", f"{name}[B,J,K]"]
    d.add(name, ("B", "J", "K"), *lines)
    pooled = d.fresh()
    d.add(pooled, ("B", "K"), f"for b < B, j < J, k < K:  {pooled}[b,k] += {name}[b,j,k] / J")


def picked(d: Draft, name: str) -> tuple[str, str]:
    """A line that computes an index for each b, which may repeat or lie outside of J, and the condition that it
    lies inside."""
    value = d.choose("g[b]", "J-1-g[b]", "g[b]//2", "(b*7)%J", "b-2", "2*g[b]-3", "g[b]+b%2")
    d.locals.append(f"int {name}w[B]")
    return f"for b < B:  {name}w[b] = {value}", f"0 <= {name}w[b] < J"


def layer_gathered(d: Draft) -> None:
    """Rows that data pick, some of which are nowhere; a product of them, maybe."""
    name, (index, inside) = d.fresh(), ("", "")
    index, inside = picked(d, name)
    source = at_another(latest(d, "J", "K"), "j", f"{name}w[b]")
    form = d.choose("({} if {} else 0.3)", "{}   if {}")
    value = d.choose("{}", "{} * 0.5 * {}").replace("{}", source, 1)
    value = value.replace("{}", latest(d, "B", "K"))
    lines = [index, f"for b < B, k < K:  {name}[b,k] += {form.format(value, inside)}"]
    d.add(name, ("B", "K"), *lines)


def layer_scattered(d: Draft) -> None:
    """Rows that go where data say, several to one place."""
    name = d.fresh()
    index, inside = picked(d, name)
    operator = d.choose("+=", "+=", "-=", "max=", "min=")
    d.locals.append(f"{name}[J,K]")
    start = d.choose("", f"for j < J, k < K:  {name}[j,k] = {latest(d, 'J', 'K')}")
    lines = [index, *filter(None, [start])]
    lines.append(
        f"for b < B, k < K:  {name}[{name}w[b],k] {operator} {activated(d, latest(d, 'B', 'K'))}   if {inside}"
    )
    if operator in ("max=", "min="):
        kept = f"{name}f"
        d.tensors[kept] = ("J", "K")
        lines.append(
            f"for j < J, k < K:  {kept}[j,k] = {name}[j,k] if abs({name}[j,k]) < inf else 0.5"
        )
        d.lines += lines
        return
    d.add(name, ("J", "K"), *lines)


def layer_experts(d: Draft) -> None:
    """Each row by the matrix that data pick for it; of rows whose pick lies outside none."""
    name = d.fresh()
    d.locals.append(f"int {name}e[B]")
    inside = d.choose("min(g[b], B-1)", "b//3", "(b*b)%B", "max(b-7, 0)", "0*b")
    outside = d.choose("g[b]", "g[b]-1", "2*b-5")
    value, guard = (inside, "") if d.integer(0, 2) else (outside, f"   if 0 <= {name}e[b] < B")
    lines = [
        f"for b < B:  {name}e[b] = {value}",
        f"for {loops(d.draw(st.permutations(['B', 'J', 'K'])))}:  "
        f"{name}[b,k] += {left_of(d, 'B', 'J')} * u[{name}e[b],j,k] / 4{guard}",
    ]
    d.add(name, ("B", "K"), *lines)


def layer_winners(d: Draft) -> None:
    """The place of the greatest of a row, and what is there elsewhere."""
    row, along = roles(d, 2)
    name, i, k = d.fresh(), INDEX[row], INDEX[along]
    value, other = latest(d, row, along), latest(d, row, along)
    operator = d.choose("max=", "min=")
    d.locals.append(f"int {name}w[{row}]")
    every = f"for {loops((row, along))}:  "
    lines = [
        f"{every}{name}m[{i}] {operator} {value}",
        f"{every}{name}w[{i}] min= {k} if {value} == {name}m[{i}]".replace(" if", "   if"),
        f"{every}{name}[{i},{k}] = {other} * (0.7 if {k} == {name}w[{i}] else 0.2)",
        f"for {i} < {row}:  {name}t[{i}] = {at_another(other, k, f'{name}w[{i}]')}",
    ]
    d.add(name, (row, along), *lines)
    d.tensors[f"{name}t"] = (row,)


def layer_unit(d: Draft) -> None:
    """Through tensors with axes of one element."""
    row, column = roles(d, 2)
    name, i, k = d.fresh(), INDEX[row], INDEX[column]
    there = d.choose(f"{i},0,{k}", f"0,{i},{k}", f"{i},{k},0")
    axes = ",".join({"0": "1", i: row, k: column}[part] for part in there.split(","))
    here = there.replace("0", "o")
    d.locals.append(f"{name}a[{axes}]")
    d.locals.append(f"{name}z[{','.join({'0': '1', i: row, k: '1'}[p] for p in there.split(','))}]")
    total = ",".join("0" if part == k else part for part in there.split(","))
    lines = [
        f"for {i} < {row}, o < 1, {k} < {column}:  {name}a[{here}] = {activated(d, latest(d, row, column))}",
        f"for {i} < {row}, o < 1, {k} < {column}:  {name}z[{total.replace('0', 'o', 1)}] += {name}a[{here}]**2"
        if d.integer(0, 1)
        else f"for {i} < {row}, {k} < {column}:  {name}z[{total}] += {name}a[{there}]**2",
        f"for {loops((row, column))}:  {name}[{at((row, column))}] = {name}a[{there}] / sqrt({name}z[{total}] + 1)",
    ]
    d.add(name, (row, column), *lines)


def layer_cell(d: Draft) -> None:
    """A recurrence of rows with a product in each turn, up or down."""
    row, state, time = roles(d)
    name = d.fresh()
    t, i, s = INDEX[time], INDEX[row], INDEX[state]
    before, there = (f"{t}-1", f"{t} > 0")
    head = f"for {t} < {time}:"
    if d.integer(0, 1):
        before, there = f"{t}+1", f"{t} < {time}-1"
        head = f"for 0 <= {t} < {time} descending:"
    weights = d.choose("0.3 * q[j,c]", "0.2 * q[c,j]") if state == "J" else f"0.2 * cos({s}+2*c)"
    lines = [
        head,
        f"    for {i} < {row}, {s} < {state}, c < {state}:  {name}a[{t},{i},{s}] += "
        f"{weights} * {name}[{before},{i},c]   if {there}",
        f"    for {i} < {row}, {s} < {state}:  {name}[{t},{i},{s}] = tanh({name}a[{t},{i},{s}] / {state}"
        f" + {latest(d, row, state)}{d.choose('', f' * {latest(d, time, row)}')})",
    ]
    d.locals += [f"{name}a[{time},{row},{state}]", f"{name}[{time},{row},{state}]"]
    d.add(name, (time, row, state), *lines)
    last = d.fresh()
    d.add(
        last,
        (row, state),
        f"for {loops((time, row, state))}:  {last}[{at((row, state))}] += {name}[{at((time, row, state))}] / {time}",
    )


def layer_shift(d: Draft) -> None:
    """Neighbours along either axis, or a window over rows."""
    row, along = roles(d, 2)
    name, i, k = d.fresh(), INDEX[row], INDEX[along]
    source = latest(d, row, along)
    which, extent = (i, row) if d.integer(0, 1) else (k, along)
    step, dilation, taps = d.integer(1, 2), d.integer(1, 3), d.integer(1, 5)
    place = f"{step}*{which}+{dilation}*p-{d.integer(0, 3)}"
    value = at_another(source, which, place)
    operator = d.choose("+=", "+=", "max=")
    inside = f"   if 0 <= {place} < {extent}"
    lines = [
        f"for {loops((row, along))}, p < {taps}:  {name}w[{i},{k}] {operator} {value} * (p - 0.7){inside}"
    ]
    d.locals.append(f"{name}w[{row},{along}]")
    lines.append(
        f"for {loops((row, along))}:  {name}[{i},{k}] = {name}w[{i},{k}] if {name}w[{i},{k}] > -inf else 0.1"
    )
    d.add(name, (row, along), *lines)


def layer_totals(d: Draft) -> None:
    """Sums of all, of rows and of columns of one tensor, of what others made of it."""
    row, along = roles(d, 2)
    name, value = d.fresh(), latest(d, row, along)
    kept = d.choose(INDEX[row], INDEX[along])
    extent = row if kept == INDEX[row] else along
    lines = [
        f"for {loops((row, along))}:  {name}[{kept}] += {activated(d, value)} * {latest(d, row, along)} / 4",
        f"for {kept} < {extent}:  {name}a += {name}[{kept}]**2 / {extent}",
    ]
    d.add(name, (extent,), *lines)
    d.tensors[f"{name}a"] = ()


LAYERS: list[Step] = [
    layer_dense,
    layer_dense,
    layer_dense,
    layer_norm,
    layer_norm,
    layer_pairs,
    layer_heads,
    layer_gathered,
    layer_scattered,
    layer_experts,
    layer_winners,
    layer_unit,
    layer_cell,
    layer_shift,
    layer_totals,
]


def with_loss(drawn: Drawn) -> str:
    """The program's text with a scalar `loss`, of all results."""
    found = HEADER_END.search(drawn.text)
    assert found is not None
    lines = []
    for name, inside in re.findall(r"(\w+)(?:\[([^]]*)\])?", found[2]):
        axes = inside.split(",") if inside else []
        weight = " + ".join(["1", *(f"{n} * {INDEX[e]}" for n, e in enumerate(axes, 2))])
        read = f"{name}[{at(axes)}]" if axes else name
        every = f"for {loops(axes)}:  " if axes else ""
        lines.append(f"    {every}loss += {read} * cos({weight})")
    return drawn.text + "\n".join(lines) + "\n"
