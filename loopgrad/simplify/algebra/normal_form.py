"""Sums of products with bound indices, in a form in which equal things are equal texts.

    Poly   a sum of terms with rational coefficients                               (sums.py)
    Term   sum over bound indices of a product of atoms to rational powers         (terms.py)
    Atom   a read, a size, a function of sums, a sum under a power,
           `delta(i, e)`, an indicator                                             (atoms.py)

Bound indices have canonical names (`$1.0`): the number before the point is one more than that of
every sum inside the term's atoms, so an index put into an atom is never captured there. A term that
is being worked on is *opened*: its bound indices get fresh names (`#12`), and `product` closes it.

This module has the names of those below it: `from loopgrad.simplify.algebra import normal_form as nf`.
"""

from __future__ import annotations

from dataclasses import dataclass
from threading import RLock

from loopgrad import forks
from loopgrad.ir.nodes import Program
from loopgrad.simplify.algebra import sums, terms
from loopgrad.simplify.algebra.atoms import (
    Atom,
    Number,
    Subscript,
    as_expression,
    exact,
    key_of,
    read,
    rename,
)
from loopgrad.simplify.algebra.functions import function, power
from loopgrad.simplify.algebra.sums import (
    KEEP,
    ONE,
    UNIT,
    ZERO,
    Poly,
    TooLarge,
    add_axis,
    extent_expression,
    extent_poly,
    extent_text,
    number,
    of_atom,
    plus,
    powered_sum,
    product,
    scaled,
    times,
)
from loopgrad.simplify.algebra.terms import Bound, Powers, Term, fresh_index
from loopgrad.simplify.algebra.traversal import atoms_of, map_atoms, map_under, multiplied

__all__ = [
    "KEEP",
    "ONE",
    "UNIT",
    "WORKING",
    "ZERO",
    "Atom",
    "Bound",
    "Naming",
    "Number",
    "Poly",
    "Powers",
    "Subscript",
    "Term",
    "TooLarge",
    "add_axis",
    "as_expression",
    "atoms_of",
    "equal_forms",
    "exact",
    "extent_expression",
    "extent_poly",
    "extent_text",
    "fresh_index",
    "function",
    "key_of",
    "map_atoms",
    "map_under",
    "multiplied",
    "naming",
    "number",
    "of_atom",
    "plus",
    "power",
    "powered_sum",
    "product",
    "read",
    "rename",
    "restart_names",
    "resume_names",
    "scaled",
    "times",
]

# Names and extents belong to the program that is being worked on: one at a time.
WORKING = RLock()
forks.hold("working", WORKING)


def restart_names() -> None:
    """Fresh names from the first on, and no extents: a run does not depend on those before it."""
    terms.restart_names()
    sums.forget_extents()


@dataclass(frozen=True)
class Naming:
    """The names and extents in use, by which work on a program can go on later."""

    following: int
    sizes: sums.Sizes


def naming() -> Naming:
    return Naming(int(fresh_index()[1:]) + 1, sums.known_extents())


def resume_names(state: Naming) -> None:
    """As they were: no new name is one of that time, and its extents are known."""
    terms.restart_names(state.following)
    sums.forget_extents(state.sizes)


def equal_forms(p: Program, q: Program, forward: Program | None = None) -> bool:
    """See `loopgrad.simplify.reading.forms.equal_forms`."""
    from loopgrad.simplify.reading.forms import equal_forms as decide

    return decide(p, q, forward)
