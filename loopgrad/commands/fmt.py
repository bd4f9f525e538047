"""`loopgrad fmt`: files of programs in canonical form."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from difflib import unified_diff
from pathlib import Path

import click

from loopgrad.commands.mistakes import Mistake
from loopgrad.commands.sources import STANDARD_INPUT, read_text, shown_name
from loopgrad.diagnostics import ProgramError


@click.command("fmt")
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option("--check", is_flag=True, help="Change nothing; exit 1 where a file would change.")
@click.option("--diff", is_flag=True, help="Change nothing; print what would change.")
@click.pass_context
def command(context: click.Context, files: tuple[str, ...], check: bool, diff: bool) -> int:
    """Write programs in canonical form, in place. Comments stay.

    With - as FILE, standard input is written to standard output. A file with an error is left as it
    is, and the others are still formatted.

    \b
    Examples:
      loopgrad fmt layers.loops cells.loops
      loopgrad fmt --check --diff *.loops
      loopgrad fmt - < draft.loops
    """
    from loopgrad.frontend.formatting import format_text

    status, changed = 0, 0
    for file in files:
        try:
            text = read_text(file)
            formatted = _with_line_ends_of(text, format_text(text, shown_name(file)))
        except (Mistake, ProgramError) as error:
            message = f"error: {error.message}" if isinstance(error, Mistake) else str(error)
            click.echo(message, err=True)
            status = 2
            continue
        differs = formatted != text
        changed += differs
        if diff:
            _show_difference(text, formatted, shown_name(file))
        if check and differs:
            click.echo(f"would change {shown_name(file)}", err=True)
        if file == STANDARD_INPUT and not (check or diff):
            _write_standard_output(formatted)
        elif differs and not (check or diff):
            _replace(file, formatted)
            click.echo(f"changed {file}", err=True)
    return status or int(check and changed > 0)


def _with_line_ends_of(text: str, formatted: str) -> str:
    """Windows' line ends stay where the first line has them."""
    end = text.find("\n")
    return formatted.replace("\n", "\r\n") if end > 0 and text[end - 1] == "\r" else formatted


def _show_difference(text: str, formatted: str, name: str) -> None:
    lines = unified_diff(
        text.splitlines(keepends=True),
        formatted.splitlines(keepends=True),
        name,
        f"{name} (formatted)",
    )
    for line in lines:
        click.echo(line if line.endswith("\n") else f"{line}\n\\ no newline at the end\n", nl=False)


def _write_standard_output(text: str) -> None:
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode("utf-8"))
    sys.stdout.buffer.flush()


def _replace(file: str, text: str) -> None:
    """Writes beside the file, then renames: interrupted, it leaves the old file or the new one."""
    path = Path(file).resolve()
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(text.encode("utf-8"))
            shutil.copymode(path, temporary)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
    except OSError as error:
        raise Mistake(f"cannot write `{file}`: {error.strerror}") from None
