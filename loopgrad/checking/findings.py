"""What a check says: findings, each with its place and its mend, and the judgement as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from loopgrad.diagnostics import Diagnostic, Span, listing, render

# What a fault is, in two words; docs/checking.md has a line for each.
Kind: TypeAlias = Literal[
    "notation",
    "unbound index",
    "unknown name",
    "wrong rank",
    "wrong extent",
    "out of range",
    "read before complete",
    "written twice",
    "wrong subscript",
    "transposed",
    "sign",
    "missing factor",
    "superfluous factor",
    "too large by a factor",
    "too small by a factor",
    "wrong power",
    "wrong number",
    "wrong function",
    "wrong tensor",
    "wrong operation",
    "wrong range",
    "wrong condition",
    "missing term",
    "superfluous term",
    "missing gradient",
    "undefined",
    "wrong value",
    "not judged",
]

# What is done with `right`: it stands in the place of the statement, on a line of its own behind or
# before it; or the statement goes, or goes to another place, as `note` says; or `right` is one more
# input of the header; or it is the first line of the block around the statement.
How: TypeAlias = Literal[
    "replace", "replace block", "insert after", "insert before", "delete", "move", "input"
]


@dataclass(frozen=True)
class Counterexample:
    """A call on which the claim is wrong, of the smallest sizes found.

    sizes, constants, and inputs (arrays by name: those of the claim, and of the forward). The element
    `result[element]` is `claimed` in the claim, or "an error: ..." in words, and ought to be `right`.
    """

    sizes: Mapping[str, int]
    constants: Mapping[str, int | float]
    inputs: Mapping[str, NDArray[Any]]
    result: str
    element: tuple[int, ...]
    claimed: float | int | str
    right: float | int

    @property
    def where(self) -> str:
        return self.result + (f"[{','.join(map(str, self.element))}]" if self.element else "")

    def __str__(self) -> str:
        given = [f"{name} = {value}" for name, value in self.sizes.items()]
        given += [f"{name} = {_number(value)}" for name, value in self.constants.items()]
        given += [f"{name} = {_array(value)}" for name, value in self.inputs.items()]
        said = self.claimed if isinstance(self.claimed, str) else _number(self.claimed)
        return (
            f"`{self.where}` is {said}, and right is {_number(self.right)}, for {', '.join(given)}"
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "sizes": dict(self.sizes),
            "constants": dict(self.constants),
            "inputs": {name: _plain(value) for name, value in self.inputs.items()},
            "result": self.result,
            "element": list(self.element),
            "claimed": _plain(self.claimed),
            "right": _plain(self.right),
        }


@dataclass(frozen=True)
class Finding:
    """One fault of a claim.

    kind: one of the words of `Kind`. message: what is wrong, in a sentence. right: the statement (or
    statements, a line each) that is right, to be put where `how` says; None where nothing is, or
    none was found. note: what else there is to know of the mend.
    """

    kind: Kind
    message: str
    span: Span | None = None
    right: str | None = None
    how: How = "replace"
    note: str | None = None
    counterexample: Counterexample | None = None

    @property
    def line(self) -> int | None:
        return self.span.line if self.span else None

    @property
    def column(self) -> int | None:
        return self.span.column if self.span else None

    def __str__(self) -> str:
        lines = [render(Diagnostic(self.message, self.span))]
        mend = _mend(self)
        lines += [f"   = help: {mend}"] if mend else []
        lines += [f"   = note: {self.note}"] if self.note else []
        if self.counterexample is not None:
            lines.append(f"   = note: {self.counterexample}")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "message": self.message,
            "line": self.line,
            "column": self.column,
            "end_column": self.column + self.span.end - self.span.start
            if self.span and self.column
            else None,
            "right": self.right,
            "how": self.how,
            "note": self.note,
            "counterexample": self.counterexample and self.counterexample.to_json(),
        }


def _mend(finding: Finding) -> str | None:
    right = finding.right
    if finding.how == "delete":
        return "leave the statement out"
    if right is None:
        return None
    verb = {
        "replace": "right is",
        "replace block": "right is",
        "insert after": "put behind this statement",
        "insert before": "put before this statement",
        "move": "move it",
        "input": "add to the inputs",
    }[finding.how]
    if "\n" not in right:
        return f"{verb} `{right}`"
    return f"{verb}\n" + "\n".join(f"       {line}" for line in right.split("\n"))


@dataclass(frozen=True)
class Judgement:
    """What `lg.check` answers: true where the claim is right.

    findings: the faults, in the order of the text. method: "proved", or "tested" where it rests on
    random inputs; reason: why it is not proved, in words. judged: the results that were judged;
    not_given: those that the claim does not return. mended: the claim's text with every finding
    mended, checked to be right; None where it is right already, or no mend was found.
    """

    findings: tuple[Finding, ...] = ()
    method: Literal["proved", "tested"] = "tested"
    judged: tuple[str, ...] = ()
    not_given: tuple[str, ...] = ()
    reason: str = ""
    mended: str | None = field(default=None, repr=False)

    def __bool__(self) -> bool:
        return not self.findings

    def __str__(self) -> str:
        if self.findings:
            lines = "\n\n".join(map(str, self.findings))
            return lines + (f"\n\n{self._others()}" if self.not_given else "")
        because = f" ({self.reason})" if self.reason and self.method == "tested" else ""
        said = f"right, {self.method}{because}: {listing(self.judged)}"
        return said + (f"\n{self._others()}" if self.not_given else "")

    def _others(self) -> str:
        return f"not given: {listing(self.not_given)}"

    def to_json(self) -> dict[str, Any]:
        """As plain data; `loopgrad check --json` prints it (docs/checking.md)."""
        return {
            "right": bool(self),
            "method": self.method if self else None,
            "reason": self.reason or None,
            "judged": list(self.judged),
            "not_given": list(self.not_given),
            "findings": [finding.to_json() for finding in self.findings],
            "mended": self.mended,
        }


def _number(value: float | int) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _array(value: NDArray[Any]) -> str:
    array = np.asarray(value)
    text = np.array2string(array, precision=4, separator=", ", threshold=24, edgeitems=2)
    return " ".join(text.split()).replace("[ ", "[")


def _plain(value: Any) -> Any:
    """Numbers and lists of them; what JSON has no number for, as a text."""
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list):
        return [_plain(v) for v in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value)
    return value
