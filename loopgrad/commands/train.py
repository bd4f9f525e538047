"""`loopgrad train`: a shipped example, on real data."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loopgrad.commands import training
from loopgrad.commands.mistakes import Mistake
from loopgrad.examples.workers import Alone

if TYPE_CHECKING:
    from loopgrad.examples.corpora import Corpus
    from loopgrad.examples.workers import Group


@click.group("train")
def command() -> None:
    """Train a shipped example on real data.

    \b
    Examples:
      loopgrad train digits
      loopgrad train text
    """


@command.command("digits")
@click.option("--model", type=click.Choice(["mlp", "conv"]), default="mlp", show_default=True)
@click.option("--epochs", type=click.IntRange(1, 10_000), default=20, show_default=True)
@click.option(
    "--smoothing",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.1,
    show_default=True,
    help="How much of a target's mass is spread over all classes.",
)
@training.options
@click.pass_context
def digits(context: click.Context, /, **options: Any) -> None:
    """Classify scikit-learn's 1,797 images of handwritten digits.

    `mlp`: affine, batch normalisation, relu, affine; `conv`: three convolutions, on images moved about by a
    pixel. Both are made of the library's layers, and their backward pass is derived from them.

    \b
    Examples:
      loopgrad train digits
      loopgrad train digits --model conv --plot curves.png
      loopgrad train digits --epochs 5 --seed 3 --smoothing 0 --show
    """
    training.need("sklearn", "the images come with scikit-learn", "examples")
    keep = _prepare(options)
    from loopgrad.commands import reports
    from loopgrad.examples import digits as example

    settings, found = training.begin(context, "digits", example.Settings, keep)
    if options["show"]:
        reports.show_digits(settings.model)
    job = example.DigitsJob(settings)
    if options["compare"]:
        reports.print_comparison(job)
        return
    unit = training.Unit(lambda nats: f"{nats:.4f}", "images", example.BATCH)
    done, seconds = training.trained(context, job, found, keep, unit)
    reports.print_digits(example.report(job), seconds)
    if options["plot"]:
        reports.plot(options["plot"], job, done.losses)


@command.command("text")
@click.option("--file", metavar="FILE", help="A text of yours, UTF-8; - for standard input.")
@click.option("--epochs", type=click.IntRange(1, 10_000), default=8, show_default=True)
@click.option("--hidden", type=click.IntRange(1), default=256, show_default=True)
@click.option(
    "--batch",
    type=click.IntRange(1),
    default=32,
    show_default=True,
    help="Stretches of the text that are read side by side.",
)
@click.option(
    "--length",
    type=click.IntRange(1),
    default=64,
    show_default=True,
    help="Characters that a step reads of each, and through which gradients flow.",
)
@click.option("--rate", type=click.FloatRange(0, min_open=True), default=3e-3, show_default=True)
@click.option(
    "--clip",
    type=click.FloatRange(0, min_open=True),
    default=1.0,
    show_default=True,
    help="The largest norm of a gradient.",
)
@click.option(
    "--distributed",
    is_flag=True,
    help="Share the batch with the other processes that torchrun has started.",
)
@click.option("--sample", type=click.IntRange(0), default=300, show_default=True)
@click.option(
    "--temperature", type=click.FloatRange(0), default=0.7, show_default=True, help="Of the sample."
)
@training.options
@click.pass_context
def text(context: click.Context, /, **options: Any) -> None:
    """Learn to predict the next character of English text.

    An update gate recurrent network (UGRNN) over the characters of Python's licence and documentation,
    or of FILE; truncated backpropagation through time, Adam, the end of the text held out. Its loss is
    judged by the entropies of the text, given the last 0, 1, 2 and 3 characters.

    \b
    Examples:
      loopgrad train text
      loopgrad train text --file novel.txt --checkpoint novel.checkpoint
      loopgrad train text --file novel.txt --checkpoint novel.checkpoint --resume
      torchrun --nproc-per-node 2 -m loopgrad train text --distributed
    """
    keep = _prepare(options)
    if not options["distributed"]:
        _train_text(context, options, keep, Alone())
        return
    from loopgrad.commands.distributed import joined

    with joined(context, options, keep) as (group, kept):
        _train_text(context, options, kept, group)


def _train_text(
    context: click.Context, options: dict[str, Any], keep: training.Keep, group: Group
) -> None:
    from loopgrad.commands import reports
    from loopgrad.examples import corpora
    from loopgrad.examples import text as example

    settings, found = training.begin(context, "text", example.Settings, keep, group)
    try:
        corpus = _corpus(options["file"])
        job = example.TextJob(corpus, settings, group)
    except corpora.CorpusError as error:
        raise Mistake(str(error)) from None
    if options["show"]:
        reports.show_text()
    if options["compare"]:
        reports.print_comparison(job)
        return
    per_step = settings.batch * settings.length
    unit = training.Unit(reports.in_bits, "characters", per_step)
    done, seconds = training.trained(context, job, found, keep, unit)
    if group.rank > 0:
        return
    reports.print_text(example.judged(job), seconds)
    if options["sample"]:
        drawn = example.sample(
            corpus, job.weights(), options["sample"], options["temperature"], settings.seed
        )
        reports.print_sample(drawn, options["temperature"])
    if options["plot"]:
        reports.plot(options["plot"], job, done.losses)


def _prepare(options: dict[str, Any]) -> training.Keep:
    """What can be said of the options before anything runs."""
    if options["plot"]:
        training.need_place(options["plot"])
        training.need("matplotlib", "--plot draws with matplotlib", "plot")
    if options["compare"]:
        training.need("torch", "--compare torch trains in PyTorch", "torch")
        if options["checkpoint"] or options["resume"] or options.get("distributed"):
            raise Mistake(
                "--compare takes its own 100 steps: it keeps no checkpoint, in one process"
            )
    return training.Keep(options["checkpoint"], options["resume"], options["save_every"])


def _corpus(file: str | None) -> Corpus:
    from loopgrad.examples import corpora

    if file is None:
        return corpora.bundled()
    if file == "-":
        return corpora.read("standard input", sys.stdin.buffer.read())
    try:
        return corpora.read(file, Path(file).read_bytes())
    except OSError as error:
        raise Mistake(f"{file} cannot be read: {error.strerror or error}") from None
