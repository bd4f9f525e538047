"""What `train text` and `train digits` share: their options, checkpoints, the bar, a clean end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from loopgrad.commands.mistakes import Mistake
from loopgrad.commands.output import console

if TYPE_CHECKING:
    from loopgrad.examples.checkpoints import Checkpoint
    from loopgrad.examples.training import Job, Training
    from loopgrad.examples.workers import Group

Settings = TypeVar("Settings")
Command = TypeVar("Command", bound=Callable[..., Any])

RECENT = 20  # steps over which the loss shown is averaged


def options(command: Command) -> Command:
    """Those of all trainings."""
    for option in (
        click.option(
            "--compare",
            type=click.Choice(["torch"]),
            help="Train the same model beside it for 100 steps: losses and times.",
        ),
        click.option("--plot", type=_path(), help="Write the learning curves to this PNG file."),
        click.option(
            "--save-every",
            type=click.IntRange(1),
            default=100,
            show_default=True,
            help="Steps between two checkpoints.",
        ),
        click.option("--resume", is_flag=True, help="Go on from the checkpoint, bit for bit."),
        click.option("--checkpoint", type=_path(), help="Keep the training in this file."),
        click.option("--show", is_flag=True, help="First print the programs and their backward."),
        click.option(
            "--dtype",
            type=click.Choice(["float32", "float64"]),
            default="float32",
            show_default=True,
        ),
        click.option("--seed", type=click.IntRange(0), default=0, show_default=True),
    ):
        command = option(command)
    return command


def _path() -> click.Path:
    return click.Path(dir_okay=False, path_type=Path)


@dataclass(frozen=True)
class Keep:
    """Where a training is kept, and whether it goes on from there."""

    path: Path | None
    resume: bool
    every: int


def need(package: str, sentence: str, extra: str) -> None:
    """Raises Mistake where an optional package is missing."""
    from importlib.util import find_spec

    if find_spec(package) is None:
        raise Mistake(f'{sentence}, which is missing: pip install "loopgrad[{extra}]"')


def begin(
    context: click.Context, kind: str, make: type[Settings], keep: Keep, group: Group | None = None
) -> tuple[Settings, Checkpoint | None]:
    """The settings of a training, and what it goes on from.

    A new one takes the command's options, one that goes on has those that it was begun with. Of several
    processes the first looks at the file, and tells the others.
    """
    if group is None:
        return _begun(context, kind, make, keep)
    outcome: Any = None
    if group.rank == 0:
        try:
            outcome = _begun(context, kind, make, keep)
        except Mistake as mistake:
            outcome = mistake.message
    outcome = group.shared(outcome)
    if isinstance(outcome, str):
        if group.rank > 0:  # told already
            context.exit(Mistake.exit_code)
        raise Mistake(outcome)
    settings, found = outcome
    return settings, found


def _begun(
    context: click.Context, kind: str, make: type[Settings], keep: Keep
) -> tuple[Settings, Checkpoint | None]:
    from dataclasses import fields

    from loopgrad.examples.checkpoints import CheckpointError, load

    chosen = {f.name: context.params[f.name] for f in fields(make)}  # type: ignore[arg-type]
    if not keep.resume:
        if keep.path is not None and keep.path.exists():
            raise Mistake(f"{keep.path} exists: --resume goes on from it; or name another file")
        _need_folder(keep.path)
        return make(**chosen), None
    if keep.path is None:
        raise Mistake("--resume goes on from a checkpoint: name it, --checkpoint FILE")
    try:
        found = load(keep.path, kind)
    except CheckpointError as error:
        raise Mistake(str(error)) from None
    if set(found.settings) != set(chosen):
        raise Mistake(f"{keep.path} was made by a version of loopgrad with other settings")
    for name, value in chosen.items():
        source = context.get_parameter_source(name)
        if source is click.core.ParameterSource.COMMANDLINE and found.settings[name] != value:
            raise Mistake(
                f"{keep.path} was made with --{name} {found.settings[name]}, not {value}: "
                "leave that out to go on, or begin anew with another file"
            )
    return make(**found.settings), found


def _need_folder(path: Path | None) -> None:
    if path is not None and not path.parent.is_dir():
        raise Mistake(f"there is no folder {path.parent} for {path.name}")


def need_place(path: Path | None) -> None:
    """Raises Mistake where a file, to be written at the end, could not be."""
    _need_folder(path)
    if path is not None and path.suffix.lower() != ".png":
        raise Mistake(f"--plot writes a PNG file: {path} does not end in .png")


# ------------------------------------------------------------------------------------ the training


@dataclass(frozen=True)
class Unit:
    """How a loss in nats is shown, and what a step goes through."""

    loss: Callable[[float], str]
    name: str
    per_step: int


def trained(
    context: click.Context, job: Job, found: Checkpoint | None, keep: Keep, unit: Unit
) -> tuple[Training, float]:
    """The training at its end, and the seconds it took; leaves the command where it is stopped."""
    from loopgrad.examples.checkpoints import CheckpointError
    from loopgrad.examples.training import Stop, Training

    training = Training(job, keep.path, keep.every)
    if found is not None:
        try:
            training.resume(found)
        except CheckpointError as error:
            raise Mistake(str(error)) from None
        _say_what_differs(found, job)
    stop = Stop()
    begun = time.perf_counter()
    with stop.listening(), _bar(training, unit, quiet=job.group.rank > 0) as after_step:
        stopped = training.run(after_step, stop)
    if stopped:
        _say_how_to_go_on(context, training)
        context.exit(128 + stopped)
    return training, time.perf_counter() - begun


def _say_what_differs(found: Checkpoint, job: Job) -> None:
    """What else decides about bits."""
    from loopgrad.backends.thread_count import get_num_threads

    now: Mapping[str, Any] = {"threads": get_num_threads(), "processes": job.group.size}
    for name, value in now.items():
        before = found.by.get(name, value)
        if before != value and job.group.rank == 0:
            click.echo(
                f"note: begun with {before} {name}, here there are {value}: sums may be rounded "
                "otherwise",
                err=True,
            )


@contextmanager
def _bar(training: Training, unit: Unit, quiet: bool) -> Iterator[Callable[[int, float], None]]:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]}"),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
    )
    first, begun = training.done, time.perf_counter()
    with Progress(*columns, console=console(stderr=True), disable=quiet) as progress:
        task = progress.add_task(
            "steps", total=training.job.steps, completed=first, loss="-", speed=""
        )

        def after_step(done: int, loss: float) -> None:
            recent = training.losses[max(0, done - RECENT) : done].mean()
            speed = (done - first) * unit.per_step / (time.perf_counter() - begun)
            words = f"{speed:,.0f} {unit.name}/s"
            progress.update(task, completed=done, loss=unit.loss(recent), speed=words)

        yield after_step


def _say_how_to_go_on(context: click.Context, training: Training) -> None:
    """After a stop. Where no checkpoint was asked for, there is one now: nothing is lost."""
    group = training.job.group
    if training.path is None:
        training.path = group.shared(_free(f"{training.job.kind}.checkpoint"))
        training.save()
    if group.rank == 0:
        click.echo(
            f"stopped after step {training.done:,} of {training.job.steps:,}; to go on:\n"
            f"  {_again(context, training.path)}",
            err=True,
        )


def _free(name: str) -> Path:
    names = chain([name], (f"{name}-{i}" for i in count(2)))
    return next(path for path in map(Path, names) if not path.exists())


def _again(context: click.Context, path: Path) -> str:
    """The command that goes on: what the checkpoint does not hold has to be said again."""
    import shlex

    words = ["loopgrad", "train", str(context.info_name)]
    if context.params.get("distributed"):
        words = ["torchrun", "...", "-m", *words, "--distributed"]
    if context.params.get("file"):
        words += ["--file", context.params["file"]]
    return shlex.join([*words, "--checkpoint", str(path), "--resume"])
