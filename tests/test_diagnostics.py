"""How a diagnostic looks: the line, the caret under the place, whatever the line holds."""

from __future__ import annotations

import pytest

import loopgrad as lg
from loopgrad.diagnostics import Diagnostic, Source, Span, display_width, render, suggestion


def shown(text: str, at: int, end: int) -> list[str]:
    return render(Diagnostic("found", Span(Source(text, "a.loops"), at, end), "mend")).splitlines()


def test_the_caret_stands_under_the_place() -> None:
    assert shown("one\ntwo three\n", 8, 13) == [
        "error: found",
        " --> a.loops:2:5",
        "  |",
        "2 | two three",
        "  |     ^^^^^",
        "   = help: mend",
    ]


def test_combining_marks_take_no_column_and_wide_letters_two() -> None:
    assert display_width("R\u0303") == 1 and display_width("語") == 2
    assert shown("R\u0303 語 x", 5, 6)[4] == "  |      ^"


def test_a_long_line_is_cut_around_the_place() -> None:
    *_, line, caret, _ = shown("a" * 5000 + "X" + "b" * 5000, 5000, 5001)
    assert len(line) < 220 and line[caret.index("^")] == "X"


@pytest.mark.parametrize("bad", ["\x1b[2J", "\ud800", "\x00", "\x07"])
def test_what_a_terminal_must_not_have_is_not_printed(bad: str) -> None:
    with pytest.raises(lg.ProgramError) as caught:
        lg.program(f"f(x[N]) -> y:\n    for n: y += {bad} x[n]\n")
    text = str(caught.value)
    text.encode("utf-8")
    assert bad not in text


def test_suggestions_prefer_the_other_case() -> None:
    assert suggestion("z", ["Z", "zz"]) == "Z"
    assert suggestion("softmx", ["softmax", "relu"]) == "softmax"
    assert suggestion("q", ["softmax"]) is None
