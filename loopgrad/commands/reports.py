"""What comes of a training, as tables, text and pictures."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loopgrad.commands.output import console, print_program
from loopgrad.ir.nodes import Program

if TYPE_CHECKING:
    from loopgrad.examples.digits import DigitsJob, Report
    from loopgrad.examples.information import Judgement, Parts
    from loopgrad.examples.text import TextJob

BITS = 1 / math.log(2)
GIVEN = ("nothing", "1 character", "2 characters", "3 characters")


def in_bits(nats: float) -> str:
    return f"{nats * BITS:.3f} bits"


# ---------------------------------------------------------------------------------------- programs


def show(programs: Iterable[Program], wrt: Any = None) -> None:
    """Each program and its backward."""
    for program in programs:
        print_program(program)
        click.echo()
        print_program(program.backward(wrt))
        click.echo()


def show_digits(model: str) -> None:
    from loopgrad.examples.digits import MODELS
    from loopgrad.frontend.library import lib

    show(getattr(lib, name) for name in MODELS[model].layers)


def show_text() -> None:
    from loopgrad.examples.text import programs

    model = programs().character_model
    print_program(programs().scores)
    click.echo()
    show([model.returning("L")])


# ------------------------------------------------------------------------------------------ digits


def print_digits(report: Report, seconds: float) -> None:
    table = _table("", "training", "test")
    both = (report.train, report.test)
    table.add_row("loss H(P,Q) (nats)", *(f"{one.loss.loss:.4f}" for one in both))
    table.add_row("  floor H(P)", *(f"{one.loss.floor:.4f}" for one in both))
    table.add_row("  gap KL(P,Q)", *(f"{one.loss.gap:.4f}" for one in both))
    table.add_row("loss (bits)", *(f"{one.loss.loss * BITS:.4f}" for one in both))
    table.add_row("accuracy", *(f"{one.accuracy:.2%}" for one in both))
    table.add_row("seconds", f"{seconds:.2f}", "")
    console().print(table)


# -------------------------------------------------------------------------------------------- text


def print_text(found: Judgement, seconds: float) -> None:
    click.echo(f"{found.characters:,} characters held out; {seconds:.1f} seconds of training")
    table = _table("", "nats", "bits per character")
    for name, nats in _rows(found.loss):
        table.add_row(name, f"{nats:.4f}", f"{nats * BITS:.4f}")
    console().print(table)
    click.echo(
        "The same predictions, averaged over all places with the same last characters (bits):"
    )
    table = _table("given", "floor H(P)", "gap KL(P,Q)", "H(P,Q)", "counts of the training part")
    for order in found.orders:
        parts = order.parts
        numbers = (parts.floor, parts.gap, parts.loss, order.counted)
        table.add_row(GIVEN[order.context], *(f"{nats * BITS:.4f}" for nats in numbers))
    console().print(table)
    click.echo(verdict(found))


def verdict(found: Judgement) -> str:
    """The model's loss beside what the last characters alone can give."""
    lines = [f"{found.loss.loss * BITS:.3f} bits per character:"]
    for order, name in zip(found.orders, ("unigram", "bigram", "trigram", "4-gram"), strict=False):
        floor = order.parts.floor
        place = "below" if found.loss.loss < floor else "not below"
        lines.append(f"  {place} the {name} entropy of the text, {floor * BITS:.3f}")
    return "\n".join(lines)


def print_sample(text: str, temperature: float) -> None:
    click.echo(f"\nA sample (temperature {temperature:g}):\n\n{text}")


def _rows(parts: Parts) -> tuple[tuple[str, float], ...]:
    return (
        ("loss H(P,Q)", parts.loss),
        ("  floor H(P)", parts.floor),
        ("  gap KL(P,Q)", parts.gap),
    )


# -------------------------------------------------------------------------------- plots, comparing


def plot(path: Path, job: DigitsJob | TextJob, losses: Any) -> None:
    from loopgrad.examples import plots

    plots.learning_curves(path, losses, job.in_epoch, job.curves())
    click.echo(f"learning curves: {path}")


def print_comparison(job: DigitsJob | TextJob) -> None:
    from loopgrad.examples.comparing import beside_torch

    found = beside_torch(job)
    table = _table("step", "loss here", "loss in PyTorch", "difference")
    for step in sorted(
        {*range(0, len(found.ours), max(1, len(found.ours) // 10)), len(found.ours) - 1}
    ):
        ours, theirs = found.ours[step], found.theirs[step]
        table.add_row(str(step + 1), f"{ours:.6f}", f"{theirs:.6f}", f"{ours - theirs:+.1e}")
    console().print(table)
    click.echo(
        f"largest difference over {len(found.ours)} steps: {found.largest:.1e}\n"
        f"a step takes {found.our_seconds * 1e3:.2f} ms here, {found.their_seconds * 1e3:.2f} ms in "
        f"PyTorch {found.version} (medians, {found.threads} threads): {found.ratio:.2f} times"
    )


def _table(*columns: str) -> Any:
    from rich.table import Table

    table = Table(*columns)
    for column in table.columns[1:]:
        column.justify = "right"
    return table
