"""Mends as changes of a claim's text: statements replaced, put in, left out, headers extended."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace

from loopgrad.analysis.infer import infer
from loopgrad.checking.claims import Claim, Stretch, opening
from loopgrad.checking.findings import How
from loopgrad.checking.headers import Task
from loopgrad.checking.pieces import Piece
from loopgrad.frontend.unfold import unfold
from loopgrad.ir.nodes import (
    Accumulate,
    Block,
    Expression,
    Extent,
    Index,
    Input,
    Local,
    Program,
    Result,
    Statement,
)
from loopgrad.ir.printer import show_expression, show_statements
from loopgrad.ir.walk import (
    accumulates,
    all_statements,
    map_statement,
    rebuild,
    statement_expressions,
    statement_reads,
    subexpressions,
)


@dataclass(frozen=True)
class Patch:
    """One mend: statements (a text, a line each) and where they go.

    at: the surface statement, by where it starts in the text. header: inputs and sizes that the
    mend needs besides, results that it adds; locals: declarations; before: statements to put before
    another one, which starts there.
    """

    at: int
    how: How
    text: str | None
    header: tuple[str, ...] = ()
    results: tuple[str, ...] = ()
    locals: tuple[str, ...] = ()
    before: tuple[int, str] | None = None


# ------------------------------------------------------------------------------ statements and text


class Layout:
    """Which surface statement of the claim's text each unfolded statement comes from."""

    def __init__(self, claim: Claim, program: Program):
        self.claim, self.program = claim, program
        self.stretches: Mapping[int, Stretch] = claim.stretches
        self.surface = {id(s): s for s in all_statements(program.statements)}
        self.unfolded = [s for _, s in accumulates(unfold(program).statements)]

    def with_changed(self, old: Accumulate, new: Accumulate) -> Layout:
        """The layout after one unfolded statement became another."""
        changed = copy(self)
        changed.unfolded = [new if s is old else s for s in self.unfolded]
        return changed

    def start(self, statement: Statement) -> int | None:
        """Where the surface statement of an unfolded one starts; None where that cannot be told."""
        return self.claim.start(statement.span)

    def group(self, start: int) -> list[Accumulate]:
        """The unfolded statements that the surface statement stands for."""
        return [s for s in self.unfolded if self.start(s) == start]

    def replaced(self, old: Accumulate, new: Accumulate) -> tuple[int, str] | None:
        """The text in which one unfolded statement is another, and the statement it stands for."""
        start = self.start(old)
        if start is None:
            return None
        group = [new if s is old else s for s in self.group(start)]
        return start, "\n".join(show_statements(_plain(group)))


def _plain(statements: Iterable[Accumulate]) -> list[Accumulate]:
    return list(statements)


def patched(claim: Claim, program: Program, patches: Sequence[Patch]) -> str:
    """The claim's text with the patches made."""
    text = claim.source.text
    changes: list[tuple[int, int, str]] = []
    for patch in dict.fromkeys(patches):
        if patch.before is not None:
            at, first = patch.before
            indent = _indent(text, at)
            changes.append((at, at, _indented(first, indent) + "\n" + indent))
        stretch = claim.stretches[patch.at]
        indent = _indent(text, stretch.start)
        match patch.how:
            case "replace":
                changes.append((stretch.start, stretch.end, _indented(patch.text or "", indent)))
            case "delete":
                start, end = _line_of(text, stretch)
                changes.append((start, end, ""))
            case "insert after":
                end = _end_of_line(text, _end_of_block(claim, stretch))
                changes.append((end, end, "\n" + indent + _indented(patch.text or "", indent)))
            case "insert before":
                changes.append(
                    (
                        stretch.start,
                        stretch.start,
                        _indented(patch.text or "", indent) + "\n" + indent,
                    )
                )
            case "move" | "input":
                pass  # a move is a deletion and an insertion, an input stands in the header
    changes += _header_changes(claim, program, patches)
    changes += _local_changes(text, claim, program, patches)
    for start, end, new in sorted(changes, key=lambda c: (c[0], c[1]), reverse=True):
        text = text[:start] + new + text[end:]
    return text


def _indent(text: str, start: int) -> str:
    line = text.rfind("\n", 0, start) + 1
    return text[line:start] if not text[line:start].strip() else " " * (start - line)


def _indented(text: str, indent: str) -> str:
    return text.replace("\n", "\n" + indent)


def _line_of(text: str, stretch: Stretch) -> tuple[int, int]:
    start = text.rfind("\n", 0, stretch.start) + 1
    return start, min(_end_of_line(text, stretch.end) + 1, len(text))


def _end_of_line(text: str, place: int) -> int:
    end = text.find("\n", place)
    return len(text) if end < 0 else end


def _end_of_block(claim: Claim, stretch: Stretch) -> int:
    """The end of the statements below a block's first line; of another statement its own."""
    text = claim.source.text
    mine = len(_indent(text, stretch.start))
    end = stretch.end
    for other in claim.stretches.values():
        if other.start > stretch.start:
            if len(_indent(text, other.start)) <= mine:
                break
            end = other.end
    return end


def _header_changes(
    claim: Claim, program: Program, patches: Sequence[Patch]
) -> Iterator[tuple[int, int, str]]:
    added = list(dict.fromkeys(name for patch in patches for name in patch.header))
    if added:
        tensors = [i.span for i in program.inputs if i.span is not None]
        if tensors and not claim.lent:
            yield tensors[-1].end, tensors[-1].end, ", " + ", ".join(added)
        else:  # what was lent has moved the places in the header
            at = opening(claim.source, program.name)
            last = "" if claim.source.text[at:].lstrip().startswith(")") else ", "
            yield at, at, ", ".join(added) + last
    results = list(dict.fromkeys(name for patch in patches for name in patch.results))
    ends = [r.span.end for r in program.results if r.span is not None]
    if results and ends:
        yield ends[-1], ends[-1], ", " + ", ".join(results)


def _local_changes(
    text: str, claim: Claim, program: Program, patches: Sequence[Patch]
) -> Iterator[tuple[int, int, str]]:
    lines = list(dict.fromkeys(line for patch in patches for line in patch.locals))
    if lines and program.statements:
        header = program.span.start if program.span is not None else 0
        start = min((s for s in claim.stretches if s > header), default=None)
        if start is not None:
            indent = _indent(text, start)
            yield start, start, "".join(f"local {line}\n{indent}" for line in lines)


# ------------------------------------------------------------------- right statements, in the claim


class Translation:
    """Right statements in the words of a claim: its names of extents and indices."""

    def __init__(self, task: Task):
        self.task = task
        self.extents = _extent_names(task)
        unfolded = [unfold(task.right)] + ([unfold(task.forward)] if task.is_backward else [])
        self.right: list[Piece] = []
        self.first_forward = 0
        for program in unfolded:
            self.first_forward = self.first_forward or len(self.right)
            for blocks, statement in accumulates(program.statements):
                self.right.append(Piece(statement, blocks, len(self.right)))
        if len(unfolded) == 1:
            self.first_forward = len(self.right)
        self.own = {a.name for a in task.program.arguments} - set(task.claim.lent)
        self.computed = set(infer(task.program).tensors) - {i.name for i in task.program.inputs}

    def explicit(self) -> list[Piece]:
        """The same pieces with both bounds of every range, to be run."""
        programs = [infer(self.task.right).program]
        if self.task.is_backward:
            programs.append(infer(self.task.forward).program)
        found: list[Piece] = []
        for program in programs:
            for blocks, statement in accumulates(program.statements):
                found.append(Piece(statement, blocks, len(found)))
        return found

    def statement(
        self, piece: Piece, like: Accumulate | None, inside: Sequence[Block]
    ) -> Statement:
        """A right statement, its indices named as those of the statement that it stands for.

        inside: the claim's blocks around the place that it goes to, which take those of its own.
        """
        names = _index_names(piece, like, inside)
        made: Statement = self._renamed(piece.statement, names)
        if len(inside) < len(piece.blocks):
            for block in reversed(piece.blocks[len(inside) :]):
                made = self._renamed(replace(block, body=(made,)), names)
        return made

    def together(
        self, several: Sequence[Piece], like: Accumulate | None, inside: Sequence[Block]
    ) -> list[Statement]:
        """Right statements in order, those of one block in one block."""
        ordered = sorted(several, key=lambda p: (p.place < self.first_forward, p.place))
        found: list[Statement] = []
        last: Block | None = None
        for piece in ordered:
            depth = min(len(inside), len(piece.blocks))
            beyond = piece.blocks[depth:]
            made = self.statement(piece, like, inside[:depth])
            if beyond and beyond[0] is last and isinstance(made, Block):
                found[-1] = _merged(found[-1], made)
            else:
                found.append(made)
            last = beyond[0] if beyond else None
        return found

    def _renamed(self, statement: Statement, names: Mapping[str, str]) -> Statement:
        def change(node: Expression) -> Expression:
            match node:
                case Index(name):
                    return Index(names.get(name, name))
                case Extent(name):
                    return self.extents.get(name, node)
            return rebuild(node, change)

        changed = map_statement(statement, change)
        ranges = tuple(replace(r, index=names.get(r.index, r.index)) for r in changed.ranges)
        return replace(changed, ranges=ranges)

    def needs(self, statements: Iterable[Statement]) -> tuple[list[str], list[str]]:
        """What the statements read that the claim has not: as header arguments; and temporaries of
        the backward, by name."""
        arguments: dict[str, None] = {}
        temporaries: dict[str, None] = {}
        made = {s.target.tensor for x in statements for _, s in accumulates((x,))}
        for statement in statements:
            for inner in all_statements((statement,)):
                for read in statement_reads(inner):
                    name = read.tensor
                    if name in self.own or name in self.computed or name in made:
                        continue
                    self._given(name, arguments, temporaries)
                arguments.update((f"{c}", None) for c in self._constants(inner))
        return list(arguments), list(temporaries)

    def given(self, name: str) -> tuple[list[str], list[str]]:
        """How a tensor gets into the claim: as an argument, or else it has to be computed."""
        arguments: dict[str, None] = {}
        temporaries: dict[str, None] = {}
        self._given(name, arguments, temporaries)
        return list(arguments), list(temporaries)

    def _given(self, name: str, arguments: dict[str, None], temporaries: dict[str, None]) -> None:
        facts = infer(self.task.forward)
        given = next((i for i in facts.program.inputs if i.name == name), None)
        seeds = {i.name: i.extents for i in self.task.right.inputs}
        extents = given.extents if given is not None else seeds.get(name)
        if extents is None and name in facts.tensors:
            extents = facts.tensors[name].extents
        if extents is None:
            temporaries.setdefault(name)
            return
        kind = "" if given is None or given.kind in ("input", "param") else f"{given.kind} "
        if given is None and name in facts.tensors and facts.tensors[name].element.value == "int":
            kind = "int "
        arguments.setdefault(kind + self._declared(name, extents))

    def _declared(self, name: str, extents: Sequence[Expression]) -> str:
        if not extents:
            return name
        texts = [show_expression(self._extent(e), True) for e in extents]
        return f"{name}[{','.join(texts)}]"

    def _extent(self, extent: Expression) -> Expression:
        if isinstance(extent, Extent):
            return self.extents.get(extent.name, extent)
        return rebuild(extent, self._extent)

    def _constants(self, statement: Statement) -> Iterator[str]:
        defaults = {c.name: c.value for c in self.task.forward.constants}
        for expression in statement_expressions(statement):
            for node in subexpressions(expression):
                name = getattr(node, "name", None)
                if type(node).__name__ == "Constant" and name in defaults and name not in self.own:
                    yield f"{name} = {defaults[name]!r}"

    def result(self, name: str) -> str:
        extents = infer(self.task.right).tensors[name].extents
        return self._declared(name, extents)

    def locals_for(self, statements: Iterable[Statement]) -> tuple[str, ...]:
        """Declarations that the right program has of what the statements compute."""
        made = {s.target.tensor for x in statements for _, s in accumulates((x,))}
        declared: list[Local] = [*unfold(self.task.right).locals, *unfold(self.task.forward).locals]
        known = {local.name for local in self.task.program.locals}
        return tuple(
            ("int " if local.element.value == "int" else "")
            + self._declared(local.name, local.extents)
            for local in declared
            if local.name in made - known
        )

    def closure(self, wanted: Sequence[str]) -> list[Piece]:
        """The right statements that compute the tensors named, and what those read, in order."""
        needed: dict[str, None] = dict.fromkeys(wanted)
        while True:
            inside = [p for p in self.right if p.target in needed]
            reads = {r.tensor for p in inside for r in statement_reads(p.statement)}
            writable = {p.target for p in self.right}
            known = self.own | self.computed | set(infer(self.task.forward).tensors)
            more = [n for n in reads if n in writable and n not in known and n not in needed]
            if not more:
                return inside
            needed.update(dict.fromkeys(more))


def _merged(one: Statement, other: Statement) -> Statement:
    """Two blocks of the same loops as one."""
    assert isinstance(one, Block) and isinstance(other, Block)
    first, last = other.body[0], one.body[-1]
    if isinstance(first, Block) and isinstance(last, Block) and first.ranges == last.ranges:
        return replace(one, body=(*one.body[:-1], _merged(last, first)))
    return replace(one, body=(*one.body, *other.body))


def _extent_names(task: Task) -> dict[str, Expression]:
    """The forward's extents in the claim's header, by the axes of the tensors that both have."""
    found: dict[str, Expression] = {}
    there = {**infer(task.forward).tensors, **infer(task.right).tensors}
    declared: list[Input | Result] = [*task.program.inputs, *task.program.results]
    for tensor in declared:
        if tensor.name not in there:
            continue
        for mine, theirs in zip(tensor.extents, there[tensor.name].extents, strict=True):
            if isinstance(theirs, Extent):
                known = found.get(theirs.name)
                if known is None or (not isinstance(known, Extent) and isinstance(mine, Extent)):
                    found[theirs.name] = mine
    return found


def _index_names(piece: Piece, like: Accumulate | None, inside: Sequence[Block]) -> dict[str, str]:
    """The piece's indices as another statement of the target has them, and the blocks around it."""
    own = [r.index for r in piece.ranges()]
    names: dict[str, str] = {}
    mine = [r for block in inside for r in block.ranges]
    theirs = [r for block in piece.blocks for r in block.ranges]
    for theirs_r, mine_r in zip(theirs, mine, strict=False):
        names[theirs_r.index] = mine_r.index
    if like is not None and like.target.tensor == piece.target:
        pairs = zip(piece.statement.target.subscripts, like.target.subscripts, strict=False)
        for one, other in pairs:
            if isinstance(one, Index) and isinstance(other, Index):
                names.setdefault(one.name, other.name)
    taken = set(names.values())
    if len(taken) < len(names):
        return {}
    for name in own:
        if name not in names:
            fresh = name
            while fresh in taken:
                fresh += "'"
            names[name] = fresh
            taken.add(fresh)
    return names
