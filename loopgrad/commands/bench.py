"""`loopgrad bench`: how long a program and its gradients take, beside other libraries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import click

from loopgrad.commands.mistakes import Mistake
from loopgrad.commands.output import console
from loopgrad.commands.sources import ProgramCommand, load_program
from loopgrad.diagnostics import listing, suggestion
from loopgrad.ir.nodes import Extent, Program

if TYPE_CHECKING:
    from loopgrad.peers.comparison import Comparison

LIBRARIES = ("torch", "jax", "numba")


@click.command("bench", cls=ProgramCommand)
@click.argument("file", metavar="FILE[:NAME]")
@click.argument("values", metavar="NAME=VALUE...", nargs=-1)
@click.option(
    "--against",
    default="torch,jax",
    show_default=True,
    metavar="LIBRARIES",
    help=f"Whom to compare with: {', '.join(LIBRARIES)}; none for nobody.",
)
@click.option(
    "--dtype", type=click.Choice(["float32", "float64"]), default="float32", show_default=True
)
@click.option("--rounds", type=click.IntRange(1, 10_000), default=11, show_default=True)
@click.option(
    "--seconds",
    type=click.FloatRange(0, 3600),
    default=10.0,
    show_default=True,
    help="No further rounds after these, for each column.",
)
def command(
    file: str, values: tuple[str, ...], against: str, dtype: str, rounds: int, seconds: float
) -> None:
    """Time a program and its gradients, beside the same loops in other libraries.

    NAME=VALUE gives each extent, or an input as `loopgrad run` takes it; the other inputs are
    random. Our results are written into the same arrays at each call; others run as they do.
    The program is said to the others as operations on whole arrays, a block over time as a scan;
    who computes something else is left out. Medians of rounds in which all have their turn.

    \b
    Examples:
      loopgrad bench layers.loops:softmax B=4096 J=1024
      loopgrad bench layers.loops:softmax B=4096 J=1024 --against torch,jax,numba --rounds 31
    """
    program = load_program(file)
    libraries = _libraries(against)
    from loopgrad.peers.comparison import compare
    from loopgrad.peers.problem import draw

    sizes, inputs = _values(program, values)
    try:
        problem = draw(program, sizes, inputs, dtype)
    except KeyError as missing:
        name = missing.args[0]
        raise Mistake(f"{program.name} needs the extent `{name}`: say {name}=64") from None
    except (TypeError, ValueError) as error:
        raise Mistake(str(error)) from None
    _print(compare(problem, libraries, rounds, seconds))


def _libraries(against: str) -> list[str]:
    words = [w.strip() for w in against.split(",") if w.strip() and w.strip() != "none"]
    for word in words:
        if word not in LIBRARIES:
            meant = suggestion(word, LIBRARIES)
            hint = f"did you mean `{meant}`?" if meant else f"there are {listing(list(LIBRARIES))}"
            raise Mistake(f"no library `{word}`; {hint}")
    return words


def _values(
    program: Program, words: Iterable[str]
) -> tuple[dict[str, int | float], dict[str, Any]]:
    """Extents, sizes and constants; and inputs, whose shapes tell extents too."""
    from loopgrad.analysis.infer import infer
    from loopgrad.commands import arrays

    ranks = {i.name: len(i.extents) for i in program.inputs}
    numbers = [*infer(program).extents, *(c.name for c in program.constants)]
    sizes: dict[str, int | float] = {}
    inputs: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name:
            raise Mistake(f"`{word}` is no NAME=VALUE; {program.name} has {listing(numbers)}")
        if name in ranks:
            import numpy as np

            inputs[name] = np.asarray(arrays.value(text, ranks[name]))
        elif name in numbers:
            sizes[name] = _number(name, text)
        else:
            meant = suggestion(name, [*numbers, *ranks])
            hint = f", did you mean `{meant}`?" if meant else f": it has {listing(numbers)}"
            raise Mistake(f"{program.name} has no extent or input `{name}`{hint}")
    for i in program.inputs:
        if i.name in inputs and inputs[i.name].ndim == len(i.extents):
            for extent, found in zip(i.extents, inputs[i.name].shape, strict=True):
                if isinstance(extent, Extent):
                    sizes.setdefault(extent.name, found)
    return sizes, inputs


def _number(name: str, text: str) -> int | float:
    for convert in (int, float):
        try:
            return convert(text)
        except ValueError:
            continue
    raise Mistake(f"{name}: `{text}` is no number")


def _print(found: Comparison) -> None:
    from rich.table import Table

    names: Mapping[str, str] = {"forward": "forward", "backward": "backward", "both": "both"}
    phases = [p for p in names if any(p in line.seconds for line in found.lines)]
    table = Table("", *(names[p] for p in phases), "first call", "error")
    for column in table.columns[1:]:
        column.justify = "right"
    for line in found.lines:
        cells = [shown(line.seconds.get(p)) for p in phases]
        error = f"{line.error:.1e}" if line.error is not None else ""
        table.add_row(line.name, *cells, shown(line.first), error)
    screen = console()
    screen.print(found.title, soft_wrap=True)
    screen.print(table)
    for note in found.notes:
        screen.print(f"- {note}", soft_wrap=True)


def shown(seconds: float | None) -> str:
    """A time for people: three digits and a unit."""
    if seconds is None:
        return ""
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if seconds * factor >= 1 or unit == "µs":
            value = seconds * factor
            digits = max(0, 2 - len(str(int(value))) + 1)
            return f"{value:.{digits}f} {unit}"
    raise AssertionError
