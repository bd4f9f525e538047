"""`loopgrad train`: a shipped example, on real data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from loopgrad.commands.mistakes import Mistake
from loopgrad.commands.output import console, print_program

if TYPE_CHECKING:
    from loopgrad.examples.digits import Report


@click.group("train")
def command() -> None:
    """Train a shipped example on real data.

    \b
    Example:
      loopgrad train digits
    """


@command.command("digits")
@click.option("--epochs", type=click.IntRange(1, 10_000), default=20, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option(
    "--dtype", type=click.Choice(["float32", "float64"]), default="float32", show_default=True
)
@click.option("--show", is_flag=True, help="First print the derived backward loops of the layers.")
def digits(epochs: int, seed: int, dtype: str, show: bool) -> None:
    """Classify scikit-learn's 1,797 images of handwritten digits.

    Affine, batch normalisation, relu, affine, softmax cross entropy; the layers are .loops files of
    the library, and their backward pass is derived from them.

    \b
    Examples:
      loopgrad train digits
      loopgrad train digits --epochs 5 --seed 3 --show
    """
    _need_scikit_learn()
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from loopgrad.examples import digits as example

    if show:
        _show_layers()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]}"),
    )
    with Progress(*columns, console=console(stderr=True)) as progress:
        task = progress.add_task("epochs", total=epochs, loss="-")

        def after_epoch(epoch: int, loss: float) -> None:
            progress.update(task, completed=epoch, loss=f"{loss:.4f}")

        report = example.train(epochs, seed, dtype, after_epoch)
    _print_report(report)


def _need_scikit_learn() -> None:
    from importlib.util import find_spec

    if find_spec("sklearn") is None:
        raise Mistake(
            'the images come with scikit-learn, which is missing: pip install "loopgrad[examples]"'
        )


def _show_layers() -> None:
    from loopgrad.examples.digits import LAYERS
    from loopgrad.frontend.library import lib

    for name in LAYERS:
        layer = getattr(lib, name)
        print_program(layer)
        click.echo()
        print_program(layer.backward())
        click.echo()


def _print_report(report: Report) -> None:
    from rich.table import Table

    table = Table("", "training", "test")
    for column in table.columns[1:]:
        column.justify = "right"
    table.add_row("loss (nats)", f"{report.train_loss:.4f}", f"{report.test_loss:.4f}")
    table.add_row("accuracy", f"{report.train_accuracy:.2%}", f"{report.test_accuracy:.2%}")
    table.add_row("seconds", f"{report.seconds:.2f}", "")
    console().print(table)
