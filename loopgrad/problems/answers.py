"""What a worked problem is made of: questions, computed answers, and checks of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from loopgrad.ir.nodes import Accumulate, Program, Statement
from loopgrad.ir.printer import show_statement
from loopgrad.ir.walk import statement_reads
from loopgrad.printers.latex import statements as latex_statements
from loopgrad.problems.differences import Check
from loopgrad.simplify.telling.derivation import Derivation


@dataclass(frozen=True)
class Code:
    """A piece of Python."""

    text: str


Answer = str | Code | Program | Derivation | tuple[Statement, ...]


@dataclass(frozen=True)
class Part:
    """A question and its answer: a program, statements of one, a derivation, code, or words."""

    question: str
    answer: Answer

    def shown(self, notation: str) -> str:
        """The answer as "text" or "latex"."""
        match self.answer:
            case str():
                return self.answer
            case Code(text):
                return (
                    text
                    if notation == "text"
                    else f"\\begin{{verbatim}}\n{text}\n\\end{{verbatim}}"
                )
            case Program() | Derivation():
                return self.answer.to(notation)
            case found if notation == "latex":
                return f"\\[\n{latex_statements(found)}\n\\]"
            case found:
                return "\n".join(map(show_statement, found))


@dataclass(frozen=True)
class Evidence:
    """What a computation showed, in lines of text, and whether it bears out what is claimed.

    `measured`: the lines have times of this machine.
    """

    claim: str
    lines: tuple[str, ...]
    passed: bool
    measured: bool = False


@dataclass(frozen=True)
class Worked:
    """A problem with its computed answers."""

    title: str
    programs: tuple[Program, ...]
    parts: tuple[Part | Evidence, ...]
    checks: Mapping[str, list[Check]] = field(default_factory=dict)

    @property
    def evidence(self) -> Iterator[Evidence]:
        return (part for part in self.parts if isinstance(part, Evidence))

    @property
    def passed(self) -> bool:
        gradients = all(c.passed for checks in self.checks.values() for c in checks)
        return gradients and all(e.passed for e in self.evidence)


def statements_of(program: Program, target: str, reads: str) -> tuple[Statement, ...]:
    """The statements that write `target` and read `reads`."""

    def fits(s: Statement) -> bool:
        return (
            isinstance(s, Accumulate)
            and s.target.tensor == target
            and any(r.tensor == reads for r in statement_reads(s))
        )

    return tuple(s for s in program.statements if fits(s))
