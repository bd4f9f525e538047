"""Ways to read a line that holds a mistake of notation: a name for another, subscripts added or left
out, an index more in the `for`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import permutations

from loopgrad.diagnostics import Source, suggestion
from loopgrad.frontend.body import operator_at
from loopgrad.frontend.lexer import NAME, Line, Report, lines

READ = re.compile(rf"({NAME})\s*(?:\[([^\[\]]*)\])?")


def repairs(line: str, start: int, end: int, text: str, own: bool = False) -> Iterator[str]:
    """Readings of the line, whose mistake stands from `start` to `end`; text: what it stands in; own: it
    makes a temporary that the forward does not know."""
    read = _line(line)
    wrong = line[start:end]
    names = _indices(read, line) if read is not None else []
    tensors = list(dict.fromkeys(name for name, subscripts in READ.findall(text) if subscripts))

    def put(new: str) -> str:
        return line[:start] + new + line[end:]

    if re.fullmatch(NAME, wrong):
        if own and read is not None and _in_head(read, start) and not _reads(line, wrong):
            yield _ranged(line, read, text)
        for index in names:
            yield put(index)
        close = suggestion(wrong, tensors)
        for tensor in [*([close] if close else []), *tensors]:
            yield put(tensor)
        if read is not None and read.tokens[0].text == "for":
            colon = next(t for t in read.tokens if t.text == ":")
            yield f"{line[: colon.start]}, {wrong}{line[colon.start :]}"
    elif match := READ.fullmatch(wrong):
        name, subscripts = match[1], [s for s in (match[2] or "").split(",") if s.strip()]
        for count in range(4):
            for way in permutations(dict.fromkeys([*subscripts, *names]), count):
                yield put(f"{name}[{','.join(way)}]" if way else name)


def _in_head(read: Line, place: int) -> bool:
    colon = next((t.start for t in read.tokens if t.text == ":"), 0)
    return read.tokens[0].text == "for" and place < colon


def _reads(line: str, index: str) -> bool:
    """Does the index subscript anything but the target?"""
    places = [re.findall(NAME, inside) for _, inside in READ.findall(line) if inside]
    return any(index in names for names in places[1:])


def _ranged(line: str, read: Line, text: str) -> str:
    """The line with the ranges of its indices: up to the extents of the axes that indices of their names
    subscript elsewhere in the text."""
    declared: dict[str, list[str]] = {}
    extents: dict[str, str] = {}
    for name, inside in READ.findall(text):
        subscripts = [s.strip() for s in inside.split(",")]
        for index, extent in zip(subscripts, declared.setdefault(name, subscripts), strict=False):
            if re.fullmatch(NAME, index) and re.fullmatch(NAME, extent) and index != extent:
                extents.setdefault(index, extent)
    colon = next(t.start for t in read.tokens if t.text == ":")
    parts = [part.strip() for part in line[3:colon].split(",")]
    ranges = [f"{p} < {extents[p]}" if p in extents else p for p in parts]
    return f"for {', '.join(ranges)}{line[colon:]}"


def target(line: str) -> str | None:
    """The tensor that the line writes, if it can be told."""
    read = _line(line)
    if read is None:
        return None
    at = operator_at(read.tokens)
    if at is None:
        return None
    first = _after_for(read)
    return read.tokens[first].text if read.tokens[first].kind == "name" else None


def indices(line: str) -> list[str]:
    """The indices of the line's `for`."""
    read = _line(line)
    return [] if read is None else _indices(read, line)


def _after_for(read: Line) -> int:
    if read.tokens[0].text != "for":
        return 0
    return next((i + 1 for i, token in enumerate(read.tokens) if token.text == ":"), 0)


def _indices(read: Line, line: str) -> list[str]:
    """The indices of the `for`; where there is none, the names in the target's brackets."""
    if read.tokens[0].text == "for":
        colon = next((t.start for t in read.tokens if t.text == ":"), 0)
        head = line[3:colon]
        return (
            [m for part in head.split(",") for m in re.findall(NAME, part)[-1:]]
            if "<" not in head
            else [m for m in re.findall(NAME, head) if m != "descending" and not m[0].isupper()]
        )
    bracket = re.search(r"\[([^\[\]]*)\]", line)
    return re.findall(NAME, bracket[1]) if bracket else []


def _line(line: str) -> Line | None:
    report = Report(Source(line))
    return next(iter(lines(report.source, report)), None)
