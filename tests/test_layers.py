"""Imports point down the picture of docs/architecture.md, and nowhere else."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

import loopgrad
from loopgrad.cache.keys import WITHOUT_ANSWERS

ROOT = Path(loopgrad.__file__).parent

# What each part may import when it is loaded, beside itself. Parts on one line of the picture are
# strangers: none of them stands in another's row.
BELOW = {
    "diagnostics": "",
    "forks": "",
    "tuning": "",
    "cache": "ir forks diagnostics",
    "ir": "diagnostics",
    "analysis": "ir diagnostics",
    "frontend": "cache analysis ir forks diagnostics",
    "grad": "analysis ir diagnostics",
    "simplify": "analysis ir cache tuning forks diagnostics",
    "schedule": "analysis ir diagnostics",
    "printers": "analysis ir diagnostics",
    "backends": "schedule analysis ir cache tuning forks diagnostics",
    "stable": "grad simplify backends schedule analysis ir cache tuning forks diagnostics",
    "pipeline": (
        "stable frontend grad simplify schedule backends printers analysis ir cache tuning forks "
        "diagnostics"
    ),
}
BELOW["cost"] = "backends analysis ir diagnostics"
BELOW["functions"] = BELOW["checking"] = f"pipeline {BELOW['pipeline']}"
BELOW["edf"] = f"functions checking {BELOW['functions']}"
BELOW["gallery"] = f"cost pipeline {BELOW['pipeline']}"
BELOW["interop"] = f"functions {BELOW['functions']}"
BELOW["exporting"] = f"functions {BELOW['functions']}"
BELOW["problems"] = f"cost edf {BELOW['edf']}"
BELOW["examples"] = f"functions {BELOW['functions']}"
BELOW["peers"] = f"functions {BELOW['functions']}"
BELOW["commands"] = f"exporting cost peers problems edf examples checking {BELOW['examples']}"
BELOW["cli"] = f"commands {BELOW['commands']}"
BELOW["__main__"] = "cli"

# Doors upwards, opened inside a function when somebody calls it: each module, and what it may open.
DOORS = {
    "ir.nodes": "frontend analysis grad simplify printers pipeline",  # the methods of a program
    "analysis.infer": "frontend",  # unfolds what it is given
    "simplify.equality": "frontend",  # takes a text for a program
    "simplify.telling.derivation": "printers",  # its other notation
    "frontend.library": "pipeline",  # `lg.program` and `lg.load` check what they read
}


@cache
def imports() -> tuple[tuple[str, str, bool], ...]:
    """Module, the part of loopgrad it imports from, and whether that waits for a call."""
    every = set()
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        module = ".".join(p for p in parts if p != "__init__")
        if not module:  # the public names are doors to everything
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node, waits in found(tree.body, waits=False):
            match node:
                case ast.ImportFrom(module="loopgrad", names=names):
                    targets = [f"loopgrad.{name.name}" for name in names]
                case ast.ImportFrom(module=str(target)):
                    targets = [target]
                case ast.Import(names=names):
                    targets = [name.name for name in names]
            every |= {
                (module, target.split(".")[1], waits)
                for target in targets
                if target.startswith("loopgrad.")
            }
    return tuple(sorted(every))


def found(nodes: Iterable[ast.AST], waits: bool) -> Iterator[tuple[ast.AST, bool]]:
    """The imports among and below the statements. Those for type checkers alone do not count."""
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node, waits
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        elif isinstance(node, ast.stmt | ast.match_case | ast.ExceptHandler):
            below = (
                child for child in ast.iter_child_nodes(node) if not isinstance(child, ast.expr)
            )
            yield from found(below, waits or isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize("own", BELOW)
def test_imports_point_down(own: str) -> None:
    """Those of the part's modules."""
    allowed = {own, *BELOW[own].split()}
    for module, part, waits in imports():
        if module.split(".")[0] == own:
            doors = DOORS.get(module, "").split() if waits else ()
            assert part in {*allowed, *doors}, f"{module} imports from {part}"


def test_every_part_stands_in_the_picture() -> None:
    assert {module.split(".")[0] for module, _, _ in imports()} <= BELOW.keys()


def test_no_answer_depends_on_what_its_key_leaves_out() -> None:
    """Printing alone opens a door to them. Of `interop`, `operators` makes answers."""
    without = {*WITHOUT_ANSWERS, "cli", "__main__", "gallery", "interop"}
    found = {
        (module, part)
        for module, part, _ in imports()
        if part in WITHOUT_ANSWERS
        and (module.split(".")[0] not in without or module == "interop.operators")
    }
    assert found == {("ir.nodes", "printers"), ("simplify.telling.derivation", "printers")}


def test_every_door_is_used() -> None:
    used = {(module, part) for module, part, waits in imports() if waits}
    stated = {(module, part) for module, parts in DOORS.items() for part in parts.split()}
    assert stated <= used
