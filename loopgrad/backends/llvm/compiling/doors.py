"""Functions whose code is exchanged for better code while programs call it.

A program's code is linked to an address for good. Where better code is going to come, that is the address of
a door: it jumps to where its cell says. Who has the better code writes its address into the cell, and whoever
calls the door next runs it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass

INNER = "behind_"  # what the name of a function behind a door begins with


@dataclass(frozen=True)
class Doors:
    """The functions that get a door, and the one that tells where their cells are, in their order."""

    names: tuple[str, ...]
    cells: str

    @property
    def defined(self) -> tuple[str, ...]:
        """What a module with doors has for others."""
        return (*self.names, self.cells)


def with_doors(text: str, doors: Doors, opaque_pointers: bool) -> str:
    """A module with doors under the names of its functions, which have other names now.

    opaque_pointers: whether a pointer's type is `ptr`.
    """
    heads = {name: _parameters(text, name) for name in doors.names}
    inner = text
    for name in doors.names:
        inner = inner.replace(f"@{name}(", f"@{INNER}{name}(")
    inner = inner.replace(f"\ndefine void @{INNER}", f"\ndefine internal void @{INNER}")
    cell = "ptr" if opaque_pointers else "i8*"
    several = f"[{len(doors.names)} x {cell}]"
    place, table = (cell, cell) if opaque_pointers else (f"{cell}*", f"{several}*")
    lines, first = [], []
    for number, name in enumerate(doors.names):
        given = heads[name]
        kind = "ptr" if opaque_pointers else f"void ({_types(given)})*"
        function = f"@{INNER}{name}"
        first.append(
            f"{cell} {function}"
            if opaque_pointers
            else f"{cell} bitcast ({kind} {function} to {cell})"
        )
        lines += [
            f"define void @{name}({given}) nounwind {{",
            f"  %cell = getelementptr {several}, {table} @cells, i64 0, i64 {number}",
            f"  %code = load atomic {cell}, {place} %cell acquire, align 8",
            f"  %typed = bitcast {cell} %code to {kind}",
            f"  musttail call void %typed({given})",
            "  ret void",
            "}",
        ]
    lines += [
        f"@cells = internal global {several} [{', '.join(first)}]",
        f"define {table} @{doors.cells}() nounwind {{",
        f"  ret {table} @cells",
        "}",
    ]
    return "\n".join([inner, *lines, ""])


def _parameters(text: str, name: str) -> str:
    """Those of a function that returns nothing."""
    _, _, behind = text.partition(f"define void @{name}(")
    return behind.partition("\n")[0].rpartition(") ")[0]


def _types(parameters: str) -> str:
    """Of `i64 %M, i1 zeroext %adds`: `i64, i1`."""
    return ", ".join(each.split(" ")[0] for each in parameters.split(", "))


def lead_to(doors: Doors, found: Mapping[str, int], better: Mapping[str, int]) -> None:
    """From now on the doors lead to the functions at the addresses `better`. found: the addresses of what
    `with_doors` has made."""
    cells = ctypes.CFUNCTYPE(ctypes.c_void_p)(found[doors.cells])()
    table = (ctypes.c_void_p * len(doors.names)).from_address(cells)
    for number, name in enumerate(doors.names):
        table[number] = better[name]
