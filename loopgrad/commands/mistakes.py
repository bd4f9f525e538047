"""The error that commands raise for what a user got wrong."""

from __future__ import annotations

import click


class Mistake(click.ClickException):
    """One readable message, exit status 2."""

    exit_code = 2
