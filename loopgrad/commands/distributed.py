"""A command in several processes at once, which torchrun has started: one voice, and a clear end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import click

from loopgrad.commands.mistakes import Mistake
from loopgrad.commands.training import Keep, need
from loopgrad.examples.workers import Group

LOST = 1  # the exit status where another process has gone


@contextmanager
def joined(
    context: click.Context, options: dict[str, Any], keep: Keep
) -> Iterator[tuple[Group, Keep]]:
    """The group of processes, and whether they go on: started again by torchrun, they do.

    Where another process is lost the command ends, with what to do.
    """
    need("torch", "--distributed runs under PyTorch's torchrun", "torch")
    from loopgrad.examples.distributed import WorkerLost, Workers, is_launched, restarts

    if not is_launched():
        raise Mistake(
            "--distributed shares a batch among processes: start them with\n"
            "  torchrun --nproc-per-node 2 -m loopgrad train text --distributed"
        )
    if options["file"] == "-":
        raise Mistake("--distributed needs a file that every process can read, not standard input")
    if restarts() and keep.path is not None and keep.path.exists():
        keep = replace(keep, resume=True)
    try:
        workers = Workers()
        try:
            yield workers, keep
        finally:
            workers.close()
    except WorkerLost as lost:
        click.echo(f"error: {_farewell(lost, keep)}", err=True)
        context.exit(LOST)


def _farewell(lost: Exception, keep: Keep) -> str:
    words = f"another process of this job is gone ({lost})"
    if keep.path is None or not keep.path.exists():
        return f"{words}; no checkpoint was asked for: --checkpoint FILE keeps one"
    from loopgrad.examples.checkpoints import CheckpointError, load

    try:
        step = load(keep.path, "text").step
    except CheckpointError as error:
        return f"{words}; {error}"
    return f"{words}; {keep.path} has all up to step {step:,}: --resume goes on from there"
