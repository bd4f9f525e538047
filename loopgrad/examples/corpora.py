"""Where a text comes from, and its characters as numbers."""

from __future__ import annotations

import hashlib
import sysconfig
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

HELD_OUT = 0.1  # of a text, its end

Array = NDArray[Any]


class CorpusError(ValueError):
    """A text that cannot be trained on; the message is for the user."""


@dataclass(frozen=True)
class Corpus:
    """A text, its end held out. The alphabet is that of the whole text, taken as known.

    Raises CorpusError for a text without two different characters.
    """

    name: str
    text: str

    def __post_init__(self) -> None:
        if not self.text:
            raise CorpusError(f"{self.name} is empty")
        if len(self.alphabet) < 2:
            raise CorpusError(f"{self.name} holds nothing but {self.alphabet!r}")

    @cached_property
    def alphabet(self) -> str:
        return "".join(sorted(set(self.text)))

    @cached_property
    def codes(self) -> Array:
        """Each character's place in the alphabet."""
        points = np.frombuffer(self.text.encode("utf-32-le"), np.uint32)
        return np.unique(points, return_inverse=True)[1].astype(np.int64)

    @cached_property
    def held_out(self) -> int:
        """The place at which the held-out part begins."""
        return len(self.text) - round(HELD_OUT * len(self.text))

    @cached_property
    def fingerprint(self) -> str:
        return hashlib.blake2b(self.text.encode(), digest_size=16).hexdigest()


def read(name: str, data: bytes) -> Corpus:
    """The text of a file's bytes: UTF-8, line ends as they come made `\\n`.

    Raises CorpusError for what is no text, or none to train on.

    >>> read("note.txt", b"so it goes").alphabet
    ' egiost'
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"{name} is no UTF-8 text: byte {data[error.start]:#04x} at offset {error.start}"
        ) from None
    if "\0" in text:
        raise CorpusError(f"{name} is no text: it holds a zero byte at offset {data.index(0)}")
    return Corpus(name, text.replace("\r\n", "\n").replace("\r", "\n"))


def bundled() -> Corpus:
    """English that comes with Python: its licence, where it is installed, and `pydoc`'s topics.

    The topics quote each other at length; each paragraph is taken once, so that none of the
    held-out part has been seen in training. Raises CorpusError where Python came without them.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise CorpusError(
            "this Python came without the texts of pydoc; name one of yours: --file FILE"
        ) from None
    whole = "\n\n".join([_licence(), *(topics[name] for name in sorted(topics))])
    paragraphs = dict.fromkeys(p.rstrip() for p in whole.split("\n\n"))
    return Corpus("Python's documentation", "\n\n".join(p for p in paragraphs if p) + "\n")


def _licence() -> str:
    path = Path(sysconfig.get_path("stdlib"), "LICENSE.txt")
    return path.read_text(encoding="utf-8") if path.is_file() else ""
