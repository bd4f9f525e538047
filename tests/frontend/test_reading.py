"""What each construct of the notation becomes: text in, nodes out."""

from __future__ import annotations

import math

import pytest

from loopgrad.diagnostics import ProgramError
from loopgrad.frontend.parser import parse
from loopgrad.ir.nodes import (
    Accumulate,
    Apply,
    Block,
    Call,
    Compare,
    Conditional,
    Constant,
    Default,
    Expression,
    Extent,
    Index,
    Input,
    Local,
    Number,
    Program,
    Range,
    Read,
    Reduce,
    Reduction,
    Result,
    Size,
    Statement,
)
from loopgrad.ir.operations import ElementType

b, i, j, t, u = map(Index, "bijtu")
B, J, N, T = map(Extent, "BJNT")


def only(text: str) -> Program:
    [program] = parse(text)
    return program


def statement(
    line: str, header: str = "f(x[B,J], s, int w[B], eps = 1e-5, size T) -> y[B]:"
) -> Statement:
    [first] = only(f"{header}\n    {line}").statements
    return first


def value(text: str) -> Expression:
    accumulate = statement(f"for b, j: y[b] += {text}")
    assert isinstance(accumulate, Accumulate)
    return accumulate.value


# ------------------------------------------------------------------------------------------ header


def test_every_kind_of_argument() -> None:
    program = only(
        "f(x[B,J], s, param W[J,3], int w[B], bool m[B], size N, eps = -1e-5, k = 2, low = -inf,"
        " g[B, J-k+1]) batch B -> y[B], z[(J-N) // k + 1], q:\n"
        "    y[b] = x[b,0]\n    z[j] = 1\n    q = s"
    )
    k = Constant("k")
    assert program.arguments == (
        Input("x", (B, J)),
        Input("s"),
        Input("W", (J, Number(3)), "param"),
        Input("w", (B,), "int"),
        Input("m", (B,), "bool"),
        Size("N"),
        Default("eps", -1e-5),
        Default("k", 2),
        Default("low", -math.inf),
        Input("g", (B, Apply("+", (Apply("-", (J, k)), Number(1))))),
    )
    assert program.batch == "B"
    quotient = Apply("//", (Apply("-", (J, N)), k))
    assert program.results == (
        Result("y", (B,)),
        Result("z", (Apply("+", (quotient, Number(1))),)),
        Result("q"),
    )


def test_a_default_is_an_integer_or_a_float_as_it_is_written() -> None:
    program = only("f(x, a = 2, b = 2.0, c = -9223372036854775808) -> y:\n    y = x * a * b * c")
    assert [type(c.value) for c in program.constants] == [int, float, int]
    assert program.constants[2].value == -(2**63)


def test_an_extent_may_name_a_constant_that_stands_behind_it() -> None:
    assert only("f(x[k], k = 2) -> y:\n    y += x[n]").inputs[0].extents == (Constant("k"),)


def test_a_header_may_go_over_several_lines_with_comments_in_between() -> None:
    text = "f(x[B],  # in\n\n  eps = 1,\n # more\n) -> y:\n    y += x[b] * eps"
    assert [a.name for a in only(text).arguments] == ["x", "eps"]


def test_locals_are_gathered_from_all_their_lines() -> None:
    program = only(
        "f(x[N]) -> y:\n    local a[N], int w[2*N]\n    a[n] = x[n]\n    local c\n"
        "    w[n] = n\n    c = 1\n    y += a[n]"
    )
    assert program.locals == (
        Local("a", (N,)),
        Local("w", (Apply("*", (Number(2), N)),), ElementType.INT),
        Local("c"),
    )


# -------------------------------------------------------------------------------------- statements


@pytest.mark.parametrize("reduction", Reduction)
def test_every_operator(reduction: Reduction) -> None:
    read = statement(f"for b: y[b] {reduction.value} x[b,0]")
    assert isinstance(read, Accumulate)
    assert read.reduction is reduction
    assert statement(f"for b: y[b]{reduction.value}x[b,0]") == read


def test_without_a_for_the_free_indices_are_the_loops_in_order_of_appearance() -> None:
    read = statement("y[b] += x[b,j] * eps * T   if w[b] > i")
    assert read.ranges == (Range("b"), Range("j"), Range("i"))


def test_indices_of_reductions_and_of_enclosing_blocks_are_not_free() -> None:
    block = statement("for b:\n        y[b] = sum[j](x[b,j]) + max[u < t](x[b,u])")
    assert isinstance(block, Block)
    assert block.body[0].ranges == (Range("t"),)


def test_a_guard_and_a_conditional_side_by_side() -> None:
    read = statement("for b: y[b] = 1 if w[b] > 0 else 2   if w[b] < 5 and not w[b] == 3")
    assert isinstance(read, Accumulate)
    assert isinstance(read.value, Conditional)
    assert isinstance(read.guard, Apply) and read.guard.operation == "and"


def test_a_guard_may_itself_be_a_conditional() -> None:
    read = statement("for b: y[b] = s   if w[b] if s > 0 else 0")
    assert isinstance(read, Accumulate)
    assert read.value == Read("s")
    assert read.guard == Conditional(
        Compare((">",), (Read("s"), Number(0))), Read("w", (b,)), Number(0)
    )


def test_blocks_nest_and_end_where_their_indentation_ends() -> None:
    first, last = only(
        "f(x[T,B]) -> y[B], z[B]:\n"
        "  for t descending:\n"
        "     for u < t:\n"
        "\t\n"
        "       for b: y[b] += x[u,b]\n"
        "     # nothing\n"
        "     for b: h[t,b] = y[b]\n"
        "  for b: z[b] = h[0,b]\n"
    ).statements
    assert isinstance(first, Block) and isinstance(last, Accumulate)
    assert first.ranges == (Range("t", descending=True),)
    inner, after = first.body
    assert isinstance(inner, Block) and len(inner.body) == 1
    assert inner.ranges == (Range("u", Number(0), t),)
    assert isinstance(after, Accumulate) and after.target == Read("h", (t, b))


# ------------------------------------------------------------------------------------------ ranges

TWICE = Apply("*", (Number(2), T))


@pytest.mark.parametrize(
    ("text", "lower", "upper"),
    [
        ("t", None, None),
        ("t < T", Number(0), T),
        ("t <= T", Number(0), Apply("+", (T, Number(1)))),
        ("t <= T-1", Number(0), T),
        ("t < T+1", Number(0), Apply("+", (T, Number(1)))),
        ("t <= 3", Number(0), Number(4)),
        ("0 <= t < T", Number(0), T),
        ("0 < t < T", Number(1), T),
        ("1 <= t", Number(1), None),
        ("T <= t", T, None),
        ("T < t", Apply("+", (T, Number(1))), None),
        ("T-3 <= t <= 2*T", Apply("-", (T, Number(3))), Apply("+", (TWICE, Number(1)))),
        ("t < w[0]", Number(0), Read("w", (Number(0),))),
        ("w[0] <= t < max(T, 2)", Read("w", (Number(0),)), Apply("max", (T, Number(2)))),
        ("-1 <= t < -T", Apply("neg", (Number(1),)), Apply("neg", (T,))),
        ("-1 < t <= -1", Number(0), Number(0)),
    ],
)
@pytest.mark.parametrize("direction", ["", " descending"])
def test_ranges_hold_their_lower_bound_and_one_past_their_last_value(
    text: str, lower: Expression | None, upper: Expression | None, direction: str
) -> None:
    read = statement(f"for {text}{direction}: y[0] += t")
    assert read.ranges == (Range("t", lower, upper, bool(direction)),)
    program = only(f"f(int w[B], size T) -> y:\n  for {text}{direction}: y += t")
    assert only(str(program)) == program


def test_of_two_names_the_index_is_the_one_that_is_not_known_yet() -> None:
    assert statement("for t < T: y[0] += t").ranges[0].index == "t"
    assert statement("for T <= t: y[0] += t").ranges[0].index == "t"
    _, inner = statement("for t < T, t <= u < T: y[0] += u").ranges
    assert inner == Range("u", t, T)
    assert statement("for t < T, u <= t: y[0] += u").ranges[1].upper == Apply("+", (t, Number(1)))
    free = statement("y[t] = sum[t <= u](x[u,0])")
    assert isinstance(free, Accumulate)
    assert free.value == Reduce("sum", (Range("u", t),), Read("x", (u, Number(0))))


# ------------------------------------------------------------------------------------- expressions

x = Read("x", (b, j))
one, two, three = map(Number, (1, 2, 3))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 - 2 - 3", Apply("-", (Apply("-", (one, two)), three))),
        ("1 - (2 - 3)", Apply("-", (one, Apply("-", (two, three))))),
        ("1 + 2 * 3", Apply("+", (one, Apply("*", (two, three))))),
        ("1 / 2 * 3", Apply("*", (Apply("/", (one, two)), three))),
        ("1 // 2 % 3", Apply("%", (Apply("//", (one, two)), three))),
        ("2**3**1", Apply("**", (two, Apply("**", (three, one))))),
        ("(2**3)**1", Apply("**", (Apply("**", (two, three)), one))),
        ("-2**3", Apply("neg", (Apply("**", (two, three)),))),
        ("(-2)**3", Apply("**", (Apply("neg", (two,)), three))),
        ("2**-3", Apply("**", (two, Apply("neg", (three,))))),
        ("2**-3**1", Apply("**", (two, Apply("neg", (Apply("**", (three, one)),))))),
        ("-2 * 3", Apply("*", (Apply("neg", (two,)), three))),
        ("2 * -3", Apply("*", (two, Apply("neg", (three,))))),
        ("--2", Apply("neg", (Apply("neg", (two,)),))),
        ("1 < 2 <= 3", Compare(("<", "<="), (one, two, three))),
        ("1 + 2 == 3", Compare(("==",), (Apply("+", (one, two)), three))),
        ("(1 < 2) < 3", Compare(("<",), (Compare(("<",), (one, two)), three))),
        ("not 1 == 2", Apply("not", (Compare(("==",), (one, two)),))),
        ("not not 1", Apply("not", (Apply("not", (one,)),))),
        ("1 or 2 and 3", Apply("or", (one, Apply("and", (two, three))))),
        ("1 and not 2 or 3", Apply("or", (Apply("and", (one, Apply("not", (two,)))), three))),
        ("1 if 2 else 3", Conditional(two, one, three)),
        ("1 if 2 else 3 if 1 else 2", Conditional(two, one, Conditional(one, three, two))),
        ("(1 if 2 else 3) + 1", Apply("+", (Conditional(two, one, three), one))),
        ("1 if 2 or 3 else 1", Conditional(Apply("or", (two, three)), one, one)),
        ("max(1, 2)", Apply("max", (one, two))),
        ("exp(-x[b,j])", Apply("exp", (Apply("neg", (x,)),))),
        ("pi * inf", Apply("*", (Apply("pi", ()), Number(math.inf)))),
        ("b + B", Apply("+", (b, B))),
        ("eps + s", Apply("+", (Constant("eps"), Read("s")))),
        ("x[w[b], (j+1) % J]", Read("x", (Read("w", (b,)), Apply("%", (Apply("+", (j, one)), J))))),
        ("x[b,J]", Read("x", (b, J))),
        ("sum[i](x[b,i])", Reduce("sum", (Range("i"),), Read("x", (b, i)))),
        (
            "softmax[1 <= i < J, u descending](x[u,i] if i else 1)",
            Reduce(
                "softmax",
                (Range("i", one, J), Range("u", descending=True)),
                Conditional(i, Read("x", (u, i)), one),
            ),
        ),
    ],
)
def test_expressions(text: str, expected: Expression) -> None:
    assert value(text) == expected


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("007", 7),
        ("9223372036854775807", 2**63 - 1),
        ("1.", 1.0),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("1.5E-3", 0.0015),
        ("4.9e-324", 5e-324),
        ("0e999999", 0.0),
        ("1e20", 1e20),
    ],
)
def test_numbers(text: str, number: float) -> None:
    assert value(text) == Number(number)


def test_brackets_let_a_line_go_on() -> None:
    assert value("(1\n  +\n\n # more\n2 * (\n3\n)\n)") == value("1 + 2 * 3")


# ------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    "name",
    ["μ", "x'", "x''", "s.grad", "x'.grad", "h.grad'", "x.grad2", "_", "R̃", "été", "变量", "a_1"],
)
def test_names(name: str) -> None:
    program = only(f"f({name}[N]) -> y:\n    y += {name}[n] * {name}[0]")
    assert program.inputs[0].name == name
    assert program == only(str(program))


def test_names_are_one_in_all_their_spellings() -> None:
    micro, greek = "\u00b5", "\u03bc"
    program = only(f"f({micro}[N], e\u0301) -> y:\n    y += {greek}[n] * \u00e9")
    assert [i.name for i in program.inputs] == [greek, "\u00e9"]


def test_a_tensor_may_be_called_softmax() -> None:
    program = only("f(softmax[N]) -> y:\n    y = softmax[0] + softmax[n](softmax[n])")
    assert program == only(str(program))


# ------------------------------------------------------------------------------------------- calls

MOMENTS = "moments(x[B,J], size K, eps = 1.0) -> m[J], v[J]:\n    m[j] += x[b,j] * eps * K\n    v[j] = 1\n"


def test_a_call_holds_the_program_called_with_its_inputs_in_order() -> None:
    moments, caller = parse(
        MOMENTS + "f(a[T,B,J]) -> μ[T,J]:\n"
        "    for t:  μ[t,J], v[t,J] = moments(a[t,B,J], eps=2.5, K=J)\n"
        "    p, q = moments(K=3, x=μ)\n"
    )
    first, second = caller.statements
    assert first == Call(
        (Read("μ", (t, J)), Read("v", (t, J))),
        moments,
        (Read("a", (t, B, J)),),
        (("eps", Number(2.5)), ("K", J)),
        (Range("t"),),
    )
    assert second == Call((Read("p"), Read("q")), moments, (Read("μ"),), (("K", Number(3)),), ())


def test_a_tensor_that_a_call_computes_has_the_axes_of_the_result() -> None:
    parse(MOMENTS + "f(a[B,J]) -> y:\n    p, q = moments(a, K=1)\n    y += p[j] + q[0]")


def test_programs_of_the_library_are_called_without_being_in_the_text() -> None:
    library = {p.name: p for p in parse("twice(x[N]) -> y[N]:\n    y[n] = 2 * x[n]")}
    [program] = parse("f(x[N]) -> y[N]:\n    y = twice(x)", library=library)
    [call] = program.statements
    assert isinstance(call, Call) and call.callee is library["twice"]


def test_a_program_of_the_text_goes_before_one_of_the_library() -> None:
    library = {p.name: p for p in parse("g(x) -> y:\n    y = x")}
    _, program = parse("g(x) -> y:\n    y = 2 * x\nf(x) -> y:\n    y = g(x)", library=library)
    [call] = program.statements
    assert isinstance(call, Call) and call.callee != library["g"]


# ---------------------------------------------------------------------------------- files and text


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("start", ["", "\ufeff", "# a file\n\n", "\n\n"])
@pytest.mark.parametrize("indent", ["", "    ", "\t"])
def test_newlines_byte_order_marks_and_indentation_of_the_whole_text(
    newline: str, start: str, indent: str
) -> None:
    lines = ["f(x[N]) -> y:", "  for n:", "\ty += x[n]", "", "g(x) -> y:", "  y = x"]
    lines[2] = "      y += x[n]"
    text = start + "".join(indent + line + newline for line in lines)
    assert [p.name for p in parse(text)] == ["f", "g"]


def test_an_empty_text_holds_no_programs() -> None:
    assert parse("") == parse("\n# nothing\n") == []


def test_comments_stay_with_what_they_are_about() -> None:
    program = only(
        "# about f\nf(x[N],  # the input\n  z) -> y:  # the sum\n"
        "    # first\n    #second\n    y += x[n]  # here\n    for n:  # block\n"
        "        y += z  \n"
    )
    assert program.comments.above == (" about f", " the input")
    assert program.comments.behind == " the sum"
    first, block = program.statements
    assert first.comments.above == (" first", "second")
    assert first.comments.behind == " here"
    assert block.comments.behind == " block"


def test_every_node_knows_its_place() -> None:
    program = only("f(x[N]) -> y:\n    for n < N:  y += exp( x[n] ) / 2   if x[n] > 0")
    [accumulate] = program.statements
    assert isinstance(accumulate, Accumulate) and isinstance(accumulate.value, Apply)
    texts = {
        "for n < N:  y += exp( x[n] ) / 2   if x[n] > 0": accumulate,
        "y": accumulate.target,
        "n < N": accumulate.ranges[0],
        "exp( x[n] ) / 2": accumulate.value,
        "exp( x[n] )": accumulate.value.operands[0],
        "x[n] > 0": accumulate.guard,
        "f(x[N]) -> y:": program,
        "x[N]": program.inputs[0],
    }
    for text, node in texts.items():
        assert node is not None and node.span is not None
        assert node.span.text == text


HEADERS = {
    "before the arrow": "f(x[N])\n    -> y[N], z:\n",
    "behind the arrow": "f(x[N]) ->\n    y[N], z:\n",
    "behind a comma": "f(x[N]) -> y[N],\n    z:\n",
    "everywhere, with comments": "f(\n  x[N]\n)  # one\n  ->  # two\n\n  y[N],  # three\nz:  # four\n",
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_a_header_may_go_on_over_lines_around_its_results(header: str) -> None:
    body = "    for n:  y[n] = x[n]\n    for n:  z    += x[n]"
    assert parse(header + body) == parse("f(x[N]) -> y[N], z:\n" + body)


@pytest.mark.parametrize(
    "next_line",
    ["y[n] = x[n]", "y += x", "y = x", "for n:  y[n] = x[n]", "local z", "g(x) -> y:", "\n\n"],
)
def test_a_header_that_breaks_off_does_not_swallow_what_follows(next_line: str) -> None:
    with pytest.raises(ProgramError) as caught:
        parse(f"f(x[N]) -> y[N],\n    {next_line}")
    first = caught.value.diagnostics[0]
    assert (first.line, first.column) == (1, 17)
    assert first.found == "expected a result, found the end of the line"


def test_a_long_header_is_printed_with_results_under_each_other() -> None:
    arguments = ", ".join(f"given{i}[N]" for i in range(10))
    results = ", ".join(f"computed{i}[N]" for i in range(10))
    body = "".join(f"\n    for n:  computed{i}[n] = given{i}[n]" for i in range(10))
    text = str(parse(f"copies({arguments}) -> {results}:{body}")[0])
    assert text.split("\n")[:4] == [
        "copies(given0[N], given1[N], given2[N], given3[N], given4[N], given5[N], given6[N], given7[N],",
        "       given8[N], given9[N])",
        "        -> computed0[N], computed1[N], computed2[N], computed3[N], computed4[N], computed5[N],",
        "           computed6[N], computed7[N], computed8[N], computed9[N]:",
    ]
