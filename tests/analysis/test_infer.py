"""What `infer` finds that the writer left out, and what it asks for by name."""

from __future__ import annotations

import pytest

import loopgrad as lg
from loopgrad.analysis.infer import infer
from loopgrad.frontend.parser import parse
from loopgrad.ir.operations import ElementType
from loopgrad.ir.printer import show_expression, show_one


def explicit(text: str) -> str:
    return show_one(infer(parse(text)[-1]).program)


def extents(text: str, tensor: str) -> str:
    return ",".join(
        show_expression(e, True) for e in infer(parse(text)[-1]).tensors[tensor].extents
    )


def element(text: str, tensor: str) -> ElementType:
    return infer(parse(text)[-1]).tensors[tensor].element


def errors(text: str) -> list[tuple[int | None, int | None, str]]:
    with pytest.raises(lg.ProgramError) as caught:
        infer(parse(text)[-1])
    return [(d.line, d.column, d.message) for d in caught.value.diagnostics]


def test_ranges_come_from_inputs_and_results() -> None:
    assert (
        explicit(
            """\
conv(x[X], k[K]) -> y[X-K+1]:
    for i, d:  y[i] += x[i+d] * k[d]
"""
        )
        == """\
conv(x[X], k[K]) -> y[X-K+1]:
    for i <= X-K, d < K:  y[i] += x[i+d] * k[d]"""
    )


def test_a_computed_tensor_is_as_large_as_what_is_written() -> None:
    text = """\
f(x[N]) -> y[N]:
    for 1 <= n < N-2:  s[n+1] = x[n]
    for n:             r[2*n] = x[n]
    for n, m <= n:     t[n,m] = x[m] - x[n]
    for n:             u[n//2] += x[n]
    for n:             w[N-1-n, n%3] += x[n]
    q[2] = 1.0
    for n:             q[n] += x[n]   if n > 2
    for n:             y[n] = x[n]
"""
    found = {name: extents(text, name) for name in "srtuwq"}
    assert found == {
        "s": "N-1",
        "r": "2*N-1",
        "t": "N,N",
        "u": "(N+1)//2",
        "w": "N,3",
        "q": "max(3, N)",
    }


def test_a_bare_index_of_an_accumulated_tensor_takes_the_range_of_its_other_writers() -> None:
    text = """\
f(x[B,I], W[J,I], c[J]) -> y[B,J]:
    for b, j, i:  a[b,j] += W[j,i] * x[b,i]
    for b, j:     a[b,j] -= c[j]
    for b, j:     y[b,j] = tanh(a[b,j])
"""
    assert "for b < B, j < J:         a[b,j] -= c[j]" in explicit(text)


def test_names_for_one_extent_are_unified_and_checked_at_a_call() -> None:
    text = "f(h[B,J], W[K,K']) -> y[B,M]:\n    for b, k, j:  y[b,k] += W[k,j] * h[b,j]\n"
    facts = infer(parse(text)[-1])
    assert {(show_expression(e.left), show_expression(e.right)) for e in facts.equalities} == {
        ("K", "M"),
        ("K'", "J"),
    }
    assert {k: show_expression(v) for k, v in facts.defined.items()} == {"M": "K"}
    assert extents(text, "W") == "K,J"


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("y[n] += 1", ElementType.INT),
        ("y[n] = w[n] // 2 + n", ElementType.INT),
        ("y[n] = w[n] / 2", ElementType.FLOAT),
        ("y[n] = x[n] > 0", ElementType.INT),
        ("y[n] = floor(x[n])", ElementType.INT),
        ("y[n] = 1 if x[n] > 0 else 0.0", ElementType.FLOAT),
        ("y[n] = N**2", ElementType.INT),
        ("y[n] = N**-1", ElementType.FLOAT),
        ("y[n] = 2 * k", ElementType.INT),
        ("y[n] = 2 * eps", ElementType.FLOAT),
        ("y[n] = max(n, w[n])", ElementType.INT),
        ("y[n] = relu(x[n])", ElementType.FLOAT),
    ],
)
def test_computed_tensors_are_integer_where_all_they_are_made_of_is(
    statement: str, kind: ElementType
) -> None:
    text = f"f(x[N], int w[N], k = 3, eps = 1e-5) -> y[N]:\n    for n:  {statement}\n"
    assert element(text, "y") is kind


def test_element_types_flow_around_a_recurrence() -> None:
    text = "f(x[N]) -> y[N]:\n    for n:\n        y[n] = (y[n-1] if n > 0 else 0) + {}\n"
    assert element(text.format("1"), "y") is ElementType.INT
    assert element(text.format("x[n]"), "y") is ElementType.FLOAT


def test_a_range_that_nothing_gives_is_asked_for() -> None:
    [(line, column, message)] = errors("f(x[N]) -> y:\n    for n, k:  y += x[n] * k\n")
    assert (line, column) == (2, 12)
    assert "the range of index `k` is not known" in message and "`for k < N`" in message


def test_a_scatter_needs_a_declaration() -> None:
    text = "f(x[N], int w[N]) -> y:\n    for n:  s[w[n]] += x[n]\n    y = s[0]\n"
    [(line, column, message)] = errors(text)
    assert (line, column) == (2, 15)
    assert "local s[N]" in message
    assert extents(text.replace(":\n", ":\n    local s[N]\n", 1), "s") == "N"


def test_two_formulas_for_one_index_disagree() -> None:
    text = "f(x[X], a[X-1], b[X-2]) -> y:\n    for i:  y += a[i] * b[i]\n"
    [(line, column, message)] = errors(text)
    assert (line, column) == (2, 27)
    assert "`X-1`" in message and "`X-2`" in message and "for i < " in message


def test_an_index_cannot_range_over_an_extent_and_a_formula_of_it() -> None:
    [(_, _, message)] = errors("f(x[X], a[X-1]) -> y:\n    for i:  y += a[i] * x[i]\n")
    assert "`X-1`" in message and "`X`" in message
    assert infer(parse("f(x[X], a[X-1]) -> y:\n    for i < X-1:  y += a[i] * x[i]\n")[-1])


def test_an_extent_that_nothing_fixes_is_asked_for() -> None:
    [(line, column, message)] = errors("f(x[N]) -> y[M]:\n    for n, m < 3:  y[m] += x[n]\n")
    assert (line, column) == (1, 14)
    assert "nothing fixes the extent `M`" in message and "`size M`" in message


def test_a_real_value_does_not_go_into_an_index() -> None:
    text = "f(x[N]) -> y[N]:\n    local int w[N]\n    w[n] = x[n]\n    y[n] = x[w[n]]\n"
    [(line, column, message)] = errors(text)
    assert (line, column) == (3, 12)
    assert "floor" in message


def test_a_range_that_is_not_known_stays_so_in_an_equation() -> None:
    """Unfolding writes out the ranges it knows: an unknown one must not become an empty loop."""
    text = (
        "f(x[B,K], W[2*J,K], h[B,J]) -> y[B,J]:\n"
        "    for b, j:  z[b,j] = tanh(sum[k](W[J+j,k] * x[b,k]) + h[b,0])\n"
        "    for b, j:  y[b,j] = z[b,j] * h[b,j]\n"
    )
    [(line, column, message)] = errors(text)
    assert (line, column) == (2, 12)
    assert "the range of index `j` is not known" in message
    mended = infer(parse(text.replace("for b, j:  z", "for b, j < J:  z"))[-1])
    assert [show_expression(e) for e in mended.tensors["z"].extents] == ["B", "J"]


@pytest.mark.parametrize(
    ("result", "local"),
    [("y[M-1]", "y[M]"), ("y[3]", "y[4]"), ("y[M]", "y[N]"), ("y[2*M]", "y[M]")],
)
def test_a_result_has_its_extents_from_the_header(result: str, local: str) -> None:
    body = f"\n    local {local}\n    for m < 2:  y[m] += x[m] * z[0]\n"
    with pytest.raises(lg.ProgramError) as caught:
        lg.program(f"f(x[M], z[N]) -> {result}:{body}")
    (found,) = caught.value.diagnostics
    assert (found.line, found.column) == (2, 11)
    assert found.found == f"`local {local}` is `{result}` in the header"
    assert lg.program(f"f(x[M], z[N]) -> {local}:{body}")([1, 2], [3] * 2).shape[0] in (2, 4)
