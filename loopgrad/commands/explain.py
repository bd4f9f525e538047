"""`loopgrad explain`: a program as it is scheduled: its loops, what is kept where, what it costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import click

from loopgrad.backends.thread_count import get_num_threads
from loopgrad.commands.mistakes import Mistake
from loopgrad.commands.output import print_program, print_source
from loopgrad.commands.sources import ProgramCommand, load_program
from loopgrad.diagnostics import ProgramError, listing, suggestion
from loopgrad.ir.nodes import Expression, Program
from loopgrad.ir.printer import show_expression
from loopgrad.schedule.showing.account import (
    Account,
    Bytes,
    Held,
    Kept,
    Memory,
    PhaseAccount,
    account,
)
from loopgrad.schedule.tree import Scope

INDENT = "    "
REALS = {"float32": "float", "float64": "double"}  # LLVM's names
UNITS = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("bytes", 1.0))
TIMES = (("s", 1e9), ("ms", 1e6), ("µs", 1e3), ("ns", 1.0))


@click.command("explain", cls=ProgramCommand)
@click.argument("file", metavar="FILE[:NAME]")
@click.argument("values", metavar="EXTENT=VALUE...", nargs=-1)
@click.option("--backward", is_flag=True, help="The backward that `lg.vjp` runs, not the program.")
@click.option(
    "--dtype", type=click.Choice(["float32", "float64"]), default="float32", show_default=True
)
@click.option(
    "--schedule", metavar="WORDS", default="", help="Choices, as `lg.compile` takes them."
)
@click.option("--llvm", is_flag=True, help="Print the code in LLVM's language, optimised.")
@click.option("--asm", is_flag=True, help="Print the machine's instructions.")
def command(
    file: str,
    values: tuple[str, ...],
    backward: bool,
    dtype: str,
    schedule: str,
    llvm: bool,
    asm: bool,
) -> None:
    """Print a program as it runs: its loops in the order in which they run, and how.

    A loop marked `parallel` is shared by threads, each with a contiguous part of it; `vector` runs
    over the lanes of a register; `in blocks of 48` takes that many values of the index at a time.
    `product` is a product of matrices by register tiles, `pack` what is made ready for it.
    Statements under one loop are fused: they share its iterations. Below each phase stands what it
    keeps for itself, what it reads and writes in memory, and the bytes of that, at most: as formulas, and as
    numbers at the sizes given.

    \b
    Examples:
      loopgrad explain layers.loops:softmax
      loopgrad explain layers.loops:softmax B=4096 J=1024
      loopgrad explain layers.loops:softmax --backward
      loopgrad explain layers.loops:softmax --schedule "no fusion"
      loopgrad explain layers.loops:softmax --asm
    """
    if llvm and asm:
        raise click.UsageError("--llvm and --asm exclude each other")
    program = load_program(file)
    written = _backward(program) if backward else program
    runs = written if backward else _stable(program)
    sizes = _sizes(runs, values)
    try:
        if llvm or asm:
            print_source(_code(runs, schedule, dtype, sizes, asm), "llvm")
            return
        found = accounted(runs, schedule, dtype, sizes)
    except ValueError as error:
        raise Mistake(str(error)) from None
    if runs is not written:
        click.echo(f"{program.name} runs in a form that neither overflows nor cancels:\n")
        print_program(runs)
        click.echo()
    elif backward:
        print_program(runs)
        click.echo()
    show = _Shower(sizes, dtype, None if backward else program)
    print_source("\n".join(show.phases(found)))
    click.echo("\n" + "\n".join(show.whole(found, runs)))


def _code(
    program: Program, words: str, dtype: str, sizes: Mapping[str, int | float], asm: bool
) -> str:
    """The code that a call of these sizes runs: the machine's, or LLVM's.

    Raises ValueError for choices that cannot be made.
    """
    from loopgrad.pipeline import compile

    runner: Any = compile(program, schedule=words).runner
    real = REALS[dtype]
    return str(runner.assembly(real, sizes) if asm else runner.text(real, True, sizes))


def _stable(program: Program) -> Program:
    from loopgrad.pipeline import stable

    return stable(program)


def _backward(program: Program) -> Program:
    from loopgrad.functions.reverse import Reverse

    backward = Reverse(program, None, None).backward
    if backward is None:
        raise Mistake(f"{program.name} has no gradients")
    return backward.program


def _sizes(program: Program, words: tuple[str, ...]) -> dict[str, int | float]:
    """The values of extents, and those of constants that are not given."""
    from loopgrad.analysis.infer import infer

    extents = infer(program).extents
    constants = {c.name: c.value for c in program.constants}
    sizes: dict[str, int | float] = dict(constants)
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not text.isdecimal():
            raise Mistake(f"`{word}` is no EXTENT=VALUE, such as {(*extents, 'N')[0]}=64")
        if name not in extents and name not in constants:
            meant = suggestion(name, extents)
            there = listing(list(extents)) or "none"
            hint = f", did you mean `{meant}`?" if meant else f": there are {there}"
            raise Mistake(f"{program.name} has no extent `{name}`{hint}")
        sizes[name] = int(text)
    for name in extents:
        if name.rstrip("'") in sizes:
            sizes.setdefault(name, sizes[name.rstrip("'")])
    return sizes


def accounted(
    program: Program, words: str, dtype: str, sizes: Mapping[str, int | float]
) -> Account:
    """What the backend makes of it, for the values of constants, windows and short rows.

    Raises ValueError for choices that cannot be made.
    """
    from loopgrad.backends.llvm.writing.scratch import BYTES
    from loopgrad.pipeline import compile

    runner: Any = compile(program, schedule=words).runner
    real = REALS[dtype]
    scheduled, placed = runner.explained(real, sizes)
    between, *phases = (
        tuple(Kept(p.tensor, BYTES[p.kind], p.extents, p.further) for p in part) for part in placed
    )
    return account(scheduled, BYTES[real], Memory(between, tuple(phases)))


class _Shower:
    """The account in words, with numbers where the sizes give them."""

    def __init__(
        self, sizes: Mapping[str, int | float], dtype: str, differentiated: Program | None
    ):
        self.sizes, self.dtype, self.differentiated = sizes, dtype, differentiated

    def phases(self, found: Account) -> Iterator[str]:
        for number, phase in enumerate(found.phases):
            if number:
                yield ""
            yield from phase.lines
            yield from (f"{INDENT}# {line}" for line in self._facts(phase))

    def _facts(self, phase: PhaseAccount) -> Iterator[str]:
        if phase.reason is not None:
            yield f"as written: {phase.reason}"
        registers = [h.name for h in phase.held if h.scope is Scope.REGISTER]
        if registers:
            yield f"in registers: {', '.join(registers)}"
        for held in phase.held:
            if held.scope is not Scope.REGISTER:
                yield self._held(held)
        sides = [f"{verb} {', '.join(names)}" for verb, names in
                 (("reads", phase.reads), ("writes", phase.writes)) if names]  # fmt: skip
        yield f"{'; '.join(sides)}: {self._bytes(phase.moved)}"
        statements = f"{phase.statements} statement{'s' * (phase.statements > 1)}; "
        if not phase.statements:
            statements = ""  # it makes something ready for others
        sharing = f"threads share {phase.shared}" if phase.shared else "one thread"
        if phase.shared and self._is_small(phase.work):
            sharing = "one thread, too little for more"
        time = self._time(phase.work)
        yield f"{statements}{sharing}" + (f"; about {time} of one thread" if time else "")

    def _held(self, held: Held) -> str:
        if not held.name:
            return f"what products read, packed by each thread: {self._bytes(held.bytes)}"
        axes = ",".join(show_expression(e, compact=True) for e in held.extents)
        where = {
            Scope.ROW: "in a row of each thread",
            Scope.PARTIAL: "summed by each thread for itself",
            Scope.SUMMED: "summed in a copy for each part of the sums but the first",
            Scope.SPLIT: "summed in a copy by each thread that goes on with another's row",
            None: "packed for products by each thread",
        }[held.scope]
        name = held.name if held.scope is None else f"{held.name}[{axes}]" if axes else held.name
        return f"{name} {where}: {self._bytes(held.bytes)}"

    def whole(self, found: Account, program: Program) -> Iterator[str]:
        from loopgrad.simplify.searching.cost import cost, show_formula

        yield f"inputs {self._bytes(found.inputs)}; results {self._bytes(found.results)}"
        yield from self._memory(found)
        counted = cost(program)
        yield (
            f"operations as written: {show_formula(counted.operations)}; exp and the like: "
            f"{show_formula(counted.transcendental)}"
        )
        yield from self._price(program)
        for condition in found.requires:
            yield f"the loops run as written in a call where this does not hold: {show_expression(condition)}"

    def _memory(self, found: Account) -> Iterator[str]:
        own = " or ".join(str(own) for own, _ in found.threads if own.terms)
        more = " or ".join(str(more) for _, more in found.threads if more.terms)
        each = f"; each thread {own} bytes" if own else ""
        each += f"; each but the first {more} bytes{' more' * bool(own)}" if more else ""
        if len(found.threads) > 1:
            each += ", whichever is most"
        yield f"beside those, memory {self._bytes(found.between)}{each}"
        threads = get_num_threads()
        value = self._number(lambda evaluated: found.memory.at(evaluated, threads))
        if value:
            yield f"in all {_in_units(value, UNITS)} with {threads} thread{'s' * (threads > 1)}"

    def _price(self, program: Program) -> Iterator[str]:
        """Work, span and what they come to: the program's own, whatever the schedule."""
        from loopgrad.cost.costs import analyze

        cost = analyze(program, self.dtype)
        values = None
        with suppress(KeyError, ValueError, TypeError):
            values = cost.at(**{n: v for n, v in self.sizes.items() if isinstance(v, int)})
        words = {
            "work": "operations of the graph",
            "span": "the longest chain of operations",
            "sequential_span": "without a scan",
            "parallelism": "work / span",
            "intensity": "operations a byte that has to be moved",
        }
        for name, formula, exact in cost.lines():
            if name not in words:
                continue
            shown = name.replace("_", " ") + (" " if exact else " at most ")
            quotient = name in ("parallelism", "intensity")
            if quotient and values is None:
                continue
            number = "" if values is None else _rounded(values[name])
            text = number if quotient else f"{formula} = {number}" if number else formula
            yield f"{shown}{text}: {words[name]}"
        for one in cost.recurrences:
            yield f"{one.reads}: {one.why}"
        if self.differentiated is not None:
            with suppress(ProgramError, ValueError):
                yield "its backward, as derived: " + "; ".join(
                    f"{name.replace('_', ' ')} {'' if exact else 'at most '}{formula}"
                    for name, formula, exact in analyze(self.differentiated.backward()).lines()
                    if name in ("work", "span", "sequential_span")
                )

    def _bytes(self, bytes: Bytes) -> str:
        value = self._number(bytes.at)
        if not bytes.terms:
            return "0 bytes"
        text = f"{bytes} bytes"
        return text if value is None else f"{text} = {_in_units(value, UNITS)}"

    def _time(self, work: Expression | None) -> str | None:
        if work is None:
            return None
        value = self._number(lambda evaluated: evaluated(work))
        return None if value is None else _in_units(value, TIMES)

    def _is_small(self, work: Expression | None) -> bool:
        """Does code that is given these sizes leave it to one thread?"""
        from loopgrad.backends.llvm.fused.phase import SMALL_WORK

        value = None if work is None else self._number(lambda evaluated: evaluated(work))
        return value is not None and value < SMALL_WORK

    def _number(self, at: Callable[[Callable[[Expression], int]], int]) -> int | None:
        """What a formula comes to; None where a size is missing."""
        from loopgrad.backends.formulas import evaluate

        try:
            return at(lambda formula: evaluate(formula, self.sizes))
        except (KeyError, ValueError):
            return None


def _rounded(number: float) -> str:
    return f"{number:,}" if isinstance(number, int) else f"{number:,.1f}"


def _in_units(value: float, units: tuple[tuple[str, float], ...]) -> str:
    for unit, factor in units:
        if value >= factor or factor == 1:
            shown = f"{value / factor:.1f}" if factor > 1 else f"{value:.0f}"
            return f"{shown} {unit}"
    raise AssertionError("the smallest unit is 1")
