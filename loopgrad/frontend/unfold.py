"""Equations and calls -> plain loops. `unfold(program) -> Program`.

Calls are inlined first (`frontend.inline`), Einstein capitals written as sums
(`frontend.einstein`), and sums then as statements (`frontend.equations`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from loopgrad.diagnostics import Diagnostic, ProgramError
from loopgrad.frontend.einstein import expand_capitals, has_capitals
from loopgrad.frontend.equations import Equation, is_equation
from loopgrad.frontend.knowledge import Knowledge
from loopgrad.frontend.names import Names
from loopgrad.frontend.writes import Writes
from loopgrad.ir.limits import within_limits
from loopgrad.ir.memo import once_per_program
from loopgrad.ir.nodes import Accumulate, Block, Call, Local, Program, Range, Statement
from loopgrad.ir.walk import all_statements


@once_per_program
def unfold(program: Program) -> Program:
    """The same program with its equations and calls rewritten as loops; itself if it has none.

    >>> import loopgrad as lg
    >>> print(lg.program("f(W[J,I], x[B,I]) -> y[B,J]:\\n    y[b,j] = W[j,I] * x[b,I]").unfold())
    f(W[J,I], x[B,I]) -> y[B,J]:
        for b, j, i:  y[b,j] += W[j,i] * x[b,i]

    Raises ProgramError, with all that is wrong, where they cannot be: a call whose arguments do
    not fit, a capital or a `mean` over an axis whose extent is not known.
    """
    if not any(map(_is_sugar, all_statements(program.statements))):
        return program
    if not any(isinstance(s, Call) for s in all_statements(program.statements)):
        return within_limits(_Unfolding(program).run())
    from loopgrad.frontend.inline import inline_calls
    from loopgrad.frontend.settling import settle

    inlined = inline_calls(program)
    plain = _Unfolding(inlined.program).run()
    return within_limits(settle(plain, inlined.locals, inlined.agreements))


def _is_sugar(statement: Statement) -> bool:
    match statement:
        case Call():
            return True
        case Accumulate():
            return is_equation(statement) or has_capitals(statement)
    return False


class _Unfolding:
    """The working state for one program without calls."""

    def __init__(self, program: Program):
        self.program = program
        self.knowledge = Knowledge(program)
        self.names = Names(program)
        self.writes = Writes(program)
        self.locals: list[Local] = list(program.locals)
        self.wrong: list[Diagnostic] = []

    def run(self) -> Program:
        statements = self.body(self.program.statements, ())
        if self.wrong:
            raise ProgramError(self.wrong)
        if _identical(statements, self.program.statements):
            return self.program
        return replace(self.program, statements=statements, locals=tuple(self.locals))

    def body(
        self, statements: Iterable[Statement], around: tuple[Range, ...]
    ) -> tuple[Statement, ...]:
        done: list[Statement] = []
        for statement in statements:
            match statement:
                case Block(ranges, inner):
                    body = self.body(inner, (*around, *ranges))
                    same = _identical(body, inner)
                    done.append(statement if same else replace(statement, body=body))
                case Accumulate():
                    done.extend(self.accumulate(statement, around))
                case Call():
                    raise AssertionError("calls are inlined before equations are unfolded")
        return tuple(done)

    def accumulate(self, statement: Accumulate, around: tuple[Range, ...]) -> list[Accumulate]:
        try:
            written = expand_capitals(statement, around, self.knowledge, self.names)
            if not is_equation(written):
                return [written]
            equation = Equation(
                written,
                around,
                self.knowledge,
                self.names,
                alone=self.writes.is_alone(statement),
                whole=self.writes.is_whole(
                    statement, self.knowledge.declared.get(statement.target.tensor)
                ),
            )
            done = equation.unfold()
        except ProgramError as error:
            self.wrong.extend(error.diagnostics)
            return [statement]
        self.locals.extend(equation.locals)
        return done


def _identical(new: Sequence[Statement], old: Sequence[Statement]) -> bool:
    return len(new) == len(old) and all(a is b for a, b in zip(new, old, strict=True))
