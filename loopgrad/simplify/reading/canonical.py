"""What is the same in programs that differ only in names and order.

In a valid program every element is complete before it is read, so that its value follows from the
statements alone, whatever valid order they stand in. Two programs of the same canonical form are equal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256

from loopgrad.analysis.facts import Facts
from loopgrad.analysis.infer import infer
from loopgrad.ir.nodes import (
    Accumulate,
    Block,
    Expression,
    Extent,
    Index,
    Program,
    Range,
    Statement,
)
from loopgrad.ir.printer import show_expression, show_statement
from loopgrad.ir.walk import (
    accumulates,
    bounds,
    indices_of,
    map_statement,
    rebuild,
    rebuild_range,
    renamed,
    subexpressions,
)
from loopgrad.simplify.algebra.integers import canonical as canonical_integer
from loopgrad.simplify.algebra.integers import canonical_inside

# A name that no text of the notation has.
FRESH = "·"


def canonical(program: Program) -> tuple[str, ...]:
    """The program's inputs, constants, results and statements, as lines of text.

    Indices, temporaries and extents are renamed, statements and the loops of each sorted, and sums of
    integers in subscripts and bounds are written one way. Raises
    ProgramError for what is no program.
    """
    facts = infer(program)
    extents = _extent_names(facts)
    statements = [_renamed_extents(s, extents) for s in facts.program.statements]
    statements = [_renamed_indices(s, {}) for s in statements]
    names = _temporary_names(facts, statements)
    body = sorted(_text(renamed(s, names)) for s in statements)
    return (*_header(facts, extents), *body)


def statement_text(statement: Statement, names: Mapping[str, str]) -> str:
    """The statement with tensors renamed and its indices in canonical names."""
    return _text(renamed(_renamed_indices(statement, {}), names))


def _header(facts: Facts, extents: Mapping[str, str]) -> list[str]:
    program = facts.program
    lines = [f"{c.name} = {c.value!r}" for c in program.constants]
    lines += [f"size {extents.get(s.name, s.name)}" for s in program.sizes]
    for i in program.inputs:
        kind = "" if i.differentiable else i.kind
        lines.append(f"{kind} {_tensor(i.name, facts, extents)}")
    lines += ["-> " + _tensor(r.name, facts, extents) for r in program.results]
    return sorted(lines)


def _tensor(name: str, facts: Facts, extents: Mapping[str, str]) -> str:
    axes = (canonical_integer(_renamed_extent(e, extents)) for e in facts.tensors[name].extents)
    return f"{name}[{','.join(show_expression(axis) for axis in axes)}]"


# ------------------------------------------------------------------------------------------- names


def _extent_names(facts: Facts) -> dict[str, str]:
    """Extents by their first place in the inputs, these sorted by name; sizes keep their names."""
    names = {size.name: size.name for size in facts.program.sizes}
    for i in sorted(facts.program.inputs, key=lambda i: i.name):
        for axis in facts.tensors[i.name].extents:
            for node in subexpressions(axis):
                if isinstance(node, Extent):
                    names.setdefault(node.name, f"N{FRESH}{len(names)}")
    return names


def _renamed_extent(expression: Expression, names: Mapping[str, str]) -> Expression:
    if isinstance(expression, Extent):
        return Extent(names.get(expression.name, expression.name))
    return rebuild(expression, lambda e: _renamed_extent(e, names))


def _renamed_extents(statement: Statement, names: Mapping[str, str]) -> Statement:
    return map_statement(statement, lambda e: _renamed_extent(e, names))


def _renamed_indices(statement: Statement, outer: Mapping[str, str]) -> Statement:
    """Indices by their first place in the target, value and guard; a block's by its depth."""
    names = dict(outer)
    match statement:
        case Block(ranges, body):
            for r in ranges:
                names[r.index] = f"t{FRESH}{len(names)}"
            shallow = _with_indices(replace(statement, body=()), names)
            assert isinstance(shallow, Block)
            return replace(shallow, body=tuple(_renamed_indices(s, names) for s in body))
        case Accumulate(target, _, value, ranges, guard):
            own = {r.index for r in ranges}
            seen = [*target.subscripts, value, *([guard] if guard is not None else [])]
            for expression in seen:
                for node in subexpressions(expression):
                    if isinstance(node, Index) and node.name in own:
                        own.discard(node.name)
                        names[node.name] = f"i{FRESH}{len(names):03}"
            for r in ranges:
                if r.index in own:
                    names[r.index] = f"i{FRESH}{len(names):03}"
            renamed = _with_indices(statement, names)
            assert isinstance(renamed, Accumulate)
            return replace(renamed, ranges=_sorted(renamed.ranges))
    return statement


def _with_indices(statement: Statement, names: Mapping[str, str]) -> Statement:
    def change(expression: Expression) -> Expression:
        if isinstance(expression, Index):
            return Index(names[expression.name])
        return rebuild(expression, change)

    changed = map_statement(map_statement(statement, change), canonical_inside)
    if isinstance(changed, Accumulate):
        subscripts = tuple(map(canonical_integer, changed.target.subscripts))
        changed = replace(changed, target=replace(changed.target, subscripts=subscripts))
    ranges = (
        rebuild_range(replace(r, index=names[r.index]), canonical_integer) for r in changed.ranges
    )
    return replace(changed, ranges=tuple(ranges))


def _sorted(ranges: tuple[Range, ...]) -> tuple[Range, ...]:
    """Loops whose bounds do not hang on one another, by index; the direction says nothing here."""
    own = {r.index for r in ranges}
    if any(indices_of(bound) & own for bound in bounds(ranges)):
        return ranges
    return tuple(replace(r, descending=False) for r in sorted(ranges, key=lambda r: r.index))


def _temporary_names(facts: Facts, statements: Sequence[Statement]) -> dict[str, str]:
    """A temporary is named after its definition; those of recurrences keep their names."""
    writers: dict[str, list[Statement]] = {}
    inside_blocks: set[str] = set()
    for blocks, statement in accumulates(statements):
        writers.setdefault(statement.target.tensor, []).append(statement)
        if blocks:
            inside_blocks.add(statement.target.tensor)
    temporaries = [
        name
        for name, tensor in facts.tensors.items()
        if tensor.role == "temporary" and name not in inside_blocks
    ]
    # A declared extent may be larger than what is written, and says what is read as the start.
    names: dict[str, str] = {}
    for name in temporaries:  # in the order of their first statement: what they read is named
        texts = sorted(_text(renamed(s, {**names, name: FRESH})) for s in writers[name])
        digest = sha256("\n".join(texts).encode()).hexdigest()[:20]
        names[name] = f"T{FRESH}{digest}"
    return names


def _text(statement: Statement) -> str:
    if isinstance(statement, Block):
        head = show_statement(replace(statement, body=())).splitlines()[0]
        return "\n".join([head, *_indented(sorted(_text(s) for s in statement.body))])
    return show_statement(statement)


def _indented(texts: Iterable[str]) -> list[str]:
    return ["    " + line for text in texts for line in text.splitlines()]
