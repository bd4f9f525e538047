"""Where in a Python file the traced function stands, for the errors that it gets."""

from __future__ import annotations

import sys
from types import FrameType
from typing import NoReturn

from loopgrad.diagnostics import Diagnostic, ProgramError, Source, Span


def here() -> Span | None:
    """The line of Python that is traced: the nearest one that is not of this package."""
    import linecache

    frame = calling_frame()
    path, line = frame.f_code.co_filename, frame.f_lineno
    text = "".join(linecache.getlines(path))
    if not text:
        return None
    source = Source(text, path)
    if line > len(source.line_starts):
        return None
    start = source.line_starts[line - 1]
    shown = source.line_text(line)
    indent = len(shown) - len(shown.lstrip())
    return Span(source, start + indent, start + max(len(shown.rstrip()), indent))


def calling_frame() -> FrameType:
    """The nearest frame that is not of this package: the function that is traced, or its place."""
    frame = sys._getframe(1)
    while frame.f_back is not None and _is_ours(frame.f_globals.get("__name__", "")):
        frame = frame.f_back
    return frame


def _is_ours(module: str) -> bool:
    return module in ("loopgrad", "contextlib") or module.startswith(
        ("loopgrad.frontend", "loopgrad.ir")
    )


def refuse(found: str, help: str) -> NoReturn:
    raise mistake(found, help)


def mistake(found: str, help: str) -> ProgramError:
    """An error in the line of Python that is traced."""
    return ProgramError(Diagnostic(found, here(), help))
