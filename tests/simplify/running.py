"""Inputs of a certificate's trials as arrays, and the reference interpreter on them."""

from __future__ import annotations

from decimal import localcontext
from typing import Any

import numpy as np

import loopgrad as lg
from loopgrad.simplify.certifying.sampling import Kind, World
from loopgrad.simplify.certifying.trials import Draw, Pairing, Trial
from loopgrad.simplify.numbers.decimals import CONTEXT
from loopgrad.simplify.numbers.evaluate import Tensor
from loopgrad.simplify.numbers.lines import Numbers


def trial(of: Pairing, number: int, kind: Kind = "unit") -> Trial | None:
    """One trial in one world with the constants' defaults, on the reals and one field."""
    with localcontext(CONTEXT), np.errstate(all="ignore"):
        return of.trial(Draw(2 * number, (World(kind),)))


def array(tensor: Tensor) -> Any:
    return (
        np.asarray(tensor.reals[0], float) if isinstance(tensor, Numbers) else np.asarray(tensor[0])
    )


def interpreted(program: lg.Program, number: int, of: Trial) -> dict[str, Any]:
    """The results, by name, of program `number` of a comparison, from the reference interpreter."""
    given = {i.name: array(of.inputs[i.name]) for i in program.inputs}
    given = {
        i.name: given[i.name].astype(bool) if i.kind == "bool" else given[i.name]
        for i in program.inputs
    }
    sizes = {s.name: of.extents[number][s.name] for s in program.sizes}
    constants = {c.name: type(c.value)(of.constants[c.name]) for c in program.constants}
    found = lg.compile(program, backend="interpret")(**given, **sizes, **constants)
    found = found if isinstance(found, tuple) else (found,)
    return {r.name: value for r, value in zip(program.results, found, strict=True)}
