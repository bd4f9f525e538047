"""Programs by name: `lg.program`, `lg.load`, `lg.lib`."""

from __future__ import annotations

from pathlib import Path

import pytest

import loopgrad as lg
from loopgrad.frontend.library import load, program, standard_library
from loopgrad.frontend.parser import parse

TEXT = """\
double(x[N]) -> x'[N]:
    x'[n] = 2 * x[n]

double.twice(x[N]) -> y[N]:
    a = double(x)
    y = double(a)
"""


def test_a_text_gives_its_last_program() -> None:
    assert program(TEXT).name == "double.twice"


@pytest.mark.parametrize("text", ["", "\n# nothing\n"])
def test_a_text_without_a_program(text: str) -> None:
    with pytest.raises(lg.ProgramError, match="holds no program"):
        program(text)


def test_what_is_no_text() -> None:
    with pytest.raises(TypeError, match="not as int"):
        program(3)  # type: ignore[arg-type]


def test_a_file_is_a_module_of_programs(tmp_path: Path) -> None:
    path = tmp_path / "layers.loops"
    path.write_bytes(b"\xef\xbb\xbf" + TEXT.encode())
    layers = load(path)
    assert list(layers) == ["double", "double.twice"] and len(layers) == 2
    assert layers.double is layers["double"]
    assert layers["double.twice"] == program(TEXT)
    assert "double" in layers and "triple" not in layers
    assert "double" in dir(layers) and "double.twice" not in dir(layers)
    assert repr(layers) == f"<{path}: double, double.twice>"
    with pytest.raises(AttributeError, match="did you mean `double`"):
        _ = layers.duoble
    with pytest.raises(KeyError, match="did you mean"):
        _ = layers["double.twic"]


def test_mistakes_in_a_file_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "layers.loops"
    path.write_text("f(x[N]) -> y:\n    y += x[m,n]\n", encoding="utf-8")
    with pytest.raises(lg.ProgramError, match=r"layers\.loops:2:10"):
        load(path)


def test_a_file_that_is_not_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "layers.loops"
    path.write_bytes("f(x[N]) -> y:\n    # ä\xe4\n".encode("latin-1"))
    with pytest.raises(lg.ProgramError, match="not UTF-8: the byte 0xe4") as caught:
        load(path)
    assert (caught.value.line, caught.value.column) == (2, 7)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.loops")


def test_the_standard_library_by_attribute() -> None:
    assert lg.lib.softmax is lg.lib["softmax"]
    assert "softmax" in dir(lg.lib)
    with pytest.raises(AttributeError, match="did you mean `softmax`"):
        _ = lg.lib.sotfmax


def test_every_program_of_the_library_reads_and_keeps_the_rules() -> None:
    for name in standard_library:
        assert program(str(standard_library[name])).name == name


def test_any_text_may_call_the_library_and_prints_without_it() -> None:
    [caller] = parse("f(s[T,B,J]) -> y[T,B,J]:\n    for t:  y[t,B,J] = softmax(s[t,B,J])")
    assert caller.statements[0].callee is lg.lib.softmax  # type: ignore[union-attr]
    assert parse(str(caller)) == [caller]
    assert str(caller).startswith("f(")


def test_a_program_of_the_text_prints_above_what_calls_it() -> None:
    caller = program(TEXT)
    assert str(caller) == TEXT.rstrip().replace("    x'", "    for n:  x'")
    assert program(str(caller)) == caller


def test_what_one_program_says_is_found_with_the_others_of_a_text() -> None:
    text = "f(x[N]) -> y:\n    y += x[n] ^ 2\ng(x[N]) -> y:\n    y += x[n] + z[n]\n"
    with pytest.raises(lg.ProgramError) as caught:
        program(text)
    assert [d.line for d in caught.value.diagnostics] == [2, 4]


def test_a_name_of_the_library_stands_in_one_file() -> None:
    names = [name for family in lg.lib.families.values() for name in family.programs]
    assert len(names) == len(set(names)) == len(standard_library)
