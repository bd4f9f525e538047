"""`format_text`: canonical programs, with every comment kept."""

from __future__ import annotations

from pathlib import Path

import pytest

import loopgrad
from loopgrad.diagnostics import ProgramError
from loopgrad.frontend.formatting import format_text
from loopgrad.frontend.parser import parse

MESSY = """\
# a file


# about f
# more
f(x[N],   # in
  y[ N ], size  M)->z[N],w :  # out

  # first

  #second
  local a[N]  # la
  local int b[N]   # lb

  z[n]=x[n]  # s1


  # a paragraph

  for t<M:  # block
      # in the block
      for n:   a[n]+=(x[n])  if(t>0)  # s2
      # end of the block
  # behind the block
  b[n] = 1
  w += a[n]*y[n]+b[ n ]
  # end of f
    # deeper

# about g
g(x[N])->y:
    for n :
        for m<=n: y+=x[m]
    # end of g

# end of the file
"""

NEAT = """\
# a file

# about f
# more
# in
f(x[N], y[N], size M) -> z[N], w:  # out
    # first

    #second
    # la
    local a[N], int b[N]  # lb
    for n:  z[n] = x[n]  # s1

    # a paragraph
    for t < M:  # block
        # in the block
        for n:  a[n] += x[n]   if t > 0  # s2
        # end of the block
    # behind the block
    for n:  b[n] = 1
    for n:  w    += a[n] * y[n] + b[n]
    # end of f
    # deeper

# about g
g(x[N]) -> y:
    for n:
        for m <= n:  y += x[m]
    # end of g

# end of the file
"""


def test_a_messy_text() -> None:
    assert format_text(MESSY) == NEAT


def test_a_neat_text_stays_as_it_is() -> None:
    assert format_text(NEAT) == NEAT


def test_newlines_of_other_systems_and_byte_order_marks() -> None:
    assert format_text("\ufeff" + MESSY.replace("\n", "\r\n")) == NEAT


def test_without_comments_it_is_what_the_programs_print() -> None:
    text = "f( x[N] )->y:\n\n\n  y+=x[n]\n\n\n\n\n  y+=1\ng(x)->y:\n y=x"
    assert format_text(text) == "\n\n".join(map(str, parse(text))) + "\n"


@pytest.mark.parametrize(
    ("text", "formatted"),
    [
        ("", ""),
        ("\n\n", ""),
        ("#a\n\n\n #b", "#a\n\n#b\n"),
        ("f(x)->y:\n y=x", "f(x) -> y:\n    y = x\n"),
    ],
)
def test_small_texts(text: str, formatted: str) -> None:
    assert format_text(text) == formatted


@pytest.mark.parametrize(
    "path",
    [
        Path(__file__).parent.parent / "programs" / "corpus.loops",
        *sorted((Path(loopgrad.__file__).parent / "lib").glob("*.loops")),
    ],
    ids=lambda path: path.name,
)
def test_files(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    formatted = format_text(text)
    assert parse(formatted) == parse(text)
    assert format_text(formatted) == formatted
    said = [line.partition("#")[2].rstrip() for line in text.splitlines() if "#" in line]
    assert [line.partition("#")[2] for line in formatted.splitlines() if "#" in line] == said


def test_a_text_with_mistakes_is_not_touched() -> None:
    with pytest.raises(ProgramError) as caught:
        format_text("f(x[N]) -> y:\n    y += x[n] ^ 2", "layer.loops")
    assert "layer.loops:2:15" in str(caught.value)
