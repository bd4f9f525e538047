"""Fresh names that read well: for temporaries, and for the indices of sums that had none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, count

from loopgrad.ir.nodes import Program, Reduce
from loopgrad.ir.operations import RESERVED
from loopgrad.ir.walk import all_statements, names_in, statement_expressions, subexpressions


class Names:
    """The names of one program, to which fresh ones are added as they are given out."""

    def __init__(self, program: Program):
        self.taken = names_in(program) | RESERVED
        # An index may bear the name of an index of another statement, and of nothing else.
        self.not_indices = set(self.taken) - _index_names(program)

    def tensor(self, wanted: str) -> str:
        """`wanted`, or with the first number that is free: `Z`, `Z2`, `Z3`; `h'`, `h2'`."""
        return self._take(chain([wanted], numbered(wanted, 2)))

    def part_of(self, tensor: str) -> str:
        """A name for a part of the tensor's value: `R1`, `R2`; `h1'`."""
        return self._take(numbered(tensor, 1))

    def index(self, wanted: str, live: Iterable[str]) -> str:
        """`wanted`, or with primes or a number, unlike all `live` indices and other names."""
        taken = self.not_indices.union(live)
        primed = (wanted + "'" * n for n in range(3))
        name = next(n for n in chain(primed, numbered(wanted, 2)) if n not in taken)
        self.taken.add(name)
        return name

    def _take(self, candidates: Iterator[str]) -> str:
        name = next(n for n in candidates if n not in self.taken)
        self.taken.add(name)
        self.not_indices.add(name)
        return name


def numbered(name: str, start: int) -> Iterator[str]:
    """`a1`, `a2`, ... before the primes; `s.grad_1`, because `s.grad2` means a second gradient."""
    base = name.rstrip("'")
    primes = name[len(base) :]
    joint = "_" if base[-1].isdigit() or base.endswith((".grad", ".dot")) else ""
    return (f"{base}{joint}{n}{primes}" for n in count(start))


def _index_names(program: Program) -> set[str]:
    names: set[str] = set()
    for statement in all_statements(program.statements):
        names.update(r.index for r in statement.ranges)
        for expression in statement_expressions(statement):
            for node in subexpressions(expression):
                if isinstance(node, Reduce):
                    names.update(r.index for r in node.ranges)
    return names
