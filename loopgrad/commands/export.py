"""`loopgrad export`: a program, and its gradients, for C and what can call it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import click

from loopgrad.commands.mistakes import Mistake
from loopgrad.commands.sources import ProgramCommand, load_program
from loopgrad.ir.nodes import Program

REALS = {"double": ("double",), "float": ("float",), "both": ("double", "float")}
How = tuple[bool, Sequence[str] | None, str | Literal[False] | None]  # gradients, wrt, batch
LINKERS = ("cc", "gcc", "clang", "ld.lld", "ld")


@click.command("export", cls=ProgramCommand, short_help="Write a program as C, and as an object.")
@click.argument("file", metavar="FILE[:NAME]")
@click.option("--grad", "gradients", is_flag=True, help="Its backward too, and what that needs.")
@click.option(
    "-o", "--output", metavar="DIR", required=True, help="Write the files here; it is made."
)
@click.option(
    "--wrt",
    multiple=True,
    metavar="NAME",
    help="The input to differentiate by; may be given more than once, or as a,b. Default: all.",
)
@click.option(
    "--batch",
    metavar="EXTENT",
    help="Average the gradients of `param` tensors over this extent. Default: the program's own.",
)
@click.option("--no-batch", is_flag=True, help="Sum them, also where the program names a batch.")
@click.option(
    "--dtype",
    type=click.Choice(list(REALS)),
    default="double",
    show_default=True,
    help="The type of real numbers; functions of float end in _f32.",
)
@click.option(
    "--literal", is_flag=True, help="The loops as they are written, neither stable nor simplified."
)
@click.option("--only-c", is_flag=True, help="No object, no shared object.")
def command(
    file: str,
    gradients: bool,
    output: str,
    wrt: tuple[str, ...],
    batch: str | None,
    no_batch: bool,
    dtype: str,
    literal: bool,
    only_c: bool,
) -> None:
    """Write a program as C11 with a header, as an object file, and as a shared object where this system
    has a linker.

    The C needs the C library alone, and uses OpenMP where that is switched on. The object has the
    same functions, made by LLVM for this machine's processor. Names that C does not know are spelled
    with letters: s.grad is s_grad, x' is x_prime, γ is gamma.

    \b
    Examples:
      loopgrad export layers.loops:softmax --grad -o build
      loopgrad export layers.loops:affine --grad --wrt W --dtype float -o build
      cc -O3 -march=native -fopenmp build/softmax.c main.c -lm
    """
    if batch is not None and no_batch:
        raise click.UsageError("--batch and --no-batch exclude each other")
    if not gradients and (wrt or batch is not None or no_batch):
        raise click.UsageError("--wrt, --batch and --no-batch are about gradients: give --grad too")
    program = load_program(file)
    names = [name.strip() for option in wrt for name in option.split(",")]
    over: str | Literal[False] | None = False if no_batch else batch
    folder = _folder(output)
    for real in REALS[dtype]:
        try:
            _export(program, folder, real, only_c, (gradients, names or None, over), literal)
        except ValueError as error:  # an input or an extent that there is none of
            raise Mistake(str(error)) from None


def _folder(output: str) -> Path:
    folder = Path(output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Mistake(f"cannot write to `{output}`: {error.strerror}") from None
    return folder


def _export(
    program: Program, folder: Path, real: str, only_c: bool, how: How, literal: bool
) -> None:
    from loopgrad.exporting.functions import functions_of
    from loopgrad.printers.c import c_files

    functions = functions_of(program, *how, literal, real)
    stem = functions[0].name
    for suffix, text in zip((".h", ".c"), c_files(stem, functions, real), strict=True):
        path = folder / f"{stem}{suffix}"
        path.write_text(text, encoding="utf-8")
        _say(path)
    if only_c:
        return
    from loopgrad.exporting.objects import object_file

    made = folder / f"{stem}.o"
    made.write_bytes(object_file(functions, real))
    _say(made)
    _share(made)


def _share(made: Path) -> None:
    """The object as a shared one, by the first linker that there is and that does it."""
    shared = made.with_suffix(".so")
    for linker in LINKERS:
        found = shutil.which(linker)
        if found is not None and _links(found, made, shared):
            _say(shared)
            return
    click.echo(f"note: no {shared.name}: this system has no linker for it", err=True)


def _links(linker: str, made: Path, shared: Path) -> bool:
    command: Sequence[str] = [linker, "-shared", "-o", str(shared), str(made), "-lm"]
    return subprocess.run(command, capture_output=True).returncode == 0


def _say(path: Path) -> None:
    click.echo(str(path))
