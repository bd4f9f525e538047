"""Texts, and what is none."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from loopgrad.examples import corpora
from loopgrad.examples.corpora import CorpusError, read


def test_characters_are_places_in_the_alphabet() -> None:
    corpus = read("a", "Zwölf Bö\N{SLIGHTLY SMILING FACE}en\n".encode())
    assert corpus.alphabet == "".join(sorted(set(corpus.text)))
    assert "".join(corpus.alphabet[c] for c in corpus.codes) == corpus.text
    assert corpus.codes.dtype == np.int64


def test_line_ends_and_a_mark_at_the_start_do_not_matter() -> None:
    plain = read("a", b"one\ntwo\n")
    assert read("a", b"\xef\xbb\xbfone\r\ntwo\r").text == plain.text
    assert read("b", b"one\ntwo\n").fingerprint == plain.fingerprint
    assert read("a", b"one\ntwo").fingerprint != plain.fingerprint


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "f is empty"),
        (b"\n\n\n", r"f holds nothing but '\\n'"),
        (b"\x7fELF\x02\x01\xff\xfe", "f is no UTF-8 text: byte 0xff at offset 6"),
        (b"text\0text", "f is no text: it holds a zero byte at offset 4"),
    ],
)
def test_what_is_no_text(data: bytes, message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        read("f", data)


def test_pythons_own_text() -> None:
    corpus = corpora.bundled()
    assert len(corpus.text) > 200_000
    assert corpus.held_out == len(corpus.text) - round(0.1 * len(corpus.text))
    paragraphs = corpus.text.split("\n\n")
    long = [p for p in paragraphs if len(p) > 200]
    assert len(long) == len(set(long))


def test_a_python_without_its_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(CorpusError, match="name one of yours: --file FILE"):
        corpora.bundled()
