"""Prints why a simplified program equals the literal one."""

from __future__ import annotations

import click

from loopgrad.commands.output import print_program, print_source
from loopgrad.ir.nodes import Program
from loopgrad.simplify.telling.derivation import Derivation


def print_proof(literal: Program, simplified: Program, notation: str = "text") -> None:
    """The literal program, the chain of equalities, the simplified one, and what was certified."""
    print_program(literal, notation)
    derivation = simplified.derivation
    if simplified == literal:
        click.echo("\nNothing cheaper was found: this is the simplified program too.")
        return
    click.echo("\nEach line equals the one above it, by the rule between them:\n")
    print_source(derivation.to(notation), notation)
    click.echo("\nSo the program computes the same as:\n")
    print_program(simplified, notation)
    click.echo(f"\n{summary(derivation)}")


def summary(derivation: Derivation) -> str:
    """How many steps there are, how they were checked, and of which numbers they are true."""
    steps = len(derivation)
    exact = sum(step.exact for step in derivation)
    both = sum(step.certified == "fields and reals" for step in derivation)
    checked = sum(bool(step.certified) for step in derivation)
    said = "1 step, true" if steps == 1 else f"{steps} steps, true"
    if exact == steps:
        said += " bit for bit in floating point"
    else:
        said += " of real numbers, in floating point up to rounding"
        said += f" ({exact} bit for bit)" if exact else ""
    if checked < steps:
        return f"{said}; {steps - checked} not certified. The two programs as wholes are."
    parts = [f"{both} in finite fields and to 20 digits"] if both else []
    parts += [f"{checked - both} to 20 digits"] if checked > both else []
    return f"{said}. Each is certified: {', '.join(parts)}."
