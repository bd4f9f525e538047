"""What a file of the standard library says in its comments: of the family, and of each program."""

from __future__ import annotations

import re
from dataclasses import dataclass

HEADER = re.compile(r"^([^\W\d][^\s(#\[]*)\(", re.MULTILINE)


@dataclass(frozen=True)
class Family:
    """A file of the library: its name, the text at its top, and the text above each program."""

    name: str
    description: str
    programs: dict[str, str]

    @property
    def title(self) -> str:
        """The first sentence, without what it says behind a colon or a comma.

        >>> read_family("softmax", "# Softmax and its kin, along the last axis.\\n\\nf(x) -> y:\\n").title
        'Softmax and its kin'
        """
        return re.split(r"[,:.(]", self.description, maxsplit=1)[0].strip()


def read_family(name: str, text: str) -> Family:
    """The comments of a file. The first of them, up to an empty line, speaks of the family.

    >>> read_family("f", "# Of all.\\n\\n# Of one,\\n# of f.\\nf(x) -> y:\\n    y = x\\n").programs
    {'f': 'Of one,\\nof f.'}
    """
    lines = text.splitlines()
    top = 0
    while top < len(lines) and lines[top].startswith("#"):
        top += 1
    programs, above = {}, list[str]()
    for line in lines[top:]:
        header = HEADER.match(line)
        if header:
            programs[header[1]] = _text(above)
        above = [*above, line] if line.startswith("#") else []
    return Family(name, _text(lines[:top]), programs)


def alone(text: str, name: str) -> str:
    """A file with nothing but one of its programs, which stands where it stood.

    >>> alone("f(x) -> y:\\n    y = x\\ng(x) -> y:\\n    y = 2 * x", "g").split("\\n")
    ['          ', '         ', 'g(x) -> y:', '    y = 2 * x']
    """
    lines = text.splitlines(keepends=True)
    within, found = False, []
    for line in lines:
        if line[:1].strip():  # neither indented nor empty
            header = HEADER.match(line)
            within = header is not None and header[1] == name
        found.append(line if within else _blank(line))
    return "".join(found)


def _blank(line: str) -> str:
    """As long, and with nothing in it."""
    end = line[len(line.rstrip("\r\n")) :]
    return " " * (len(line) - len(end)) + end


def _text(comments: list[str]) -> str:
    return "\n".join(line.removeprefix("#").strip() for line in comments)
