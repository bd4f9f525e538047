"""The graph of a model as a picture: what is drawn, and where."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from statistics import mean
from typing import Literal

import numpy as np

from loopgrad.edf.graph import Array, Computed, Model, Parameter, Step, Value

Kind = Literal["Input", "Parameter", "Computed"]

CHARACTER, LINE, MARGIN = 6.7, 15.0, 8.0  # of the text in a box, in pixels
BESIDE, BETWEEN = 24.0, 46.0  # boxes of a row; rows
COLOURS: dict[Kind, str] = {"Input": "#e8f1e4", "Parameter": "#fbeed5", "Computed": "#e6ecf8"}
SHAPES: dict[Kind, str] = {"Input": "ellipse", "Parameter": "box", "Computed": "box"}
SWEEPS = 4  # in which rows are put into order


@dataclass(eq=False)
class Box:
    """An input, a parameter or a step, and the boxes that it reads, with the names of its arguments."""

    kind: Kind
    lines: list[str]
    reads: list[tuple[str, Box]] = field(default_factory=list)
    row: int = 0
    x: float = 0.0  # the middle
    y: float = 0.0  # the top

    @property
    def width(self) -> float:
        return max(map(len, self.lines)) * CHARACTER + 2 * MARGIN

    @property
    def height(self) -> float:
        return len(self.lines) * LINE + 2 * MARGIN


class Picture:
    """The boxes of a model, in rows: each below all that it reads."""

    def __init__(self, model: Model) -> None:
        self.boxes: list[Box] = []
        self.height = self.width = 2 * MARGIN
        boxes: dict[Value | Step, Box] = {}
        for leaf in model.inputs:
            kind: Kind = "Parameter" if isinstance(leaf, Parameter) else "Input"
            boxes[leaf] = Box(kind, [f"{kind} {leaf.name}".strip(), *_measures(leaf)])
        for step in model.steps:
            box = boxes[step] = Box("Computed", [step.component.name, *_results(step)])
            for name, x in zip(step.component.inputs, step.inputs, strict=True):
                box.reads.append((name, boxes[x.step if isinstance(x, Computed) else x]))
            box.row = 1 + max((b.row for _, b in box.reads), default=0)
        self.boxes = list(boxes.values())
        self._place()

    def _place(self) -> None:
        read_by: dict[Box, list[Box]] = {box: [] for box in self.boxes}
        for box in self.boxes:
            for _, source in box.reads:
                read_by[source].append(box)
        for box in self.boxes:
            if box.kind != "Computed" and read_by[box]:
                box.row = min(b.row for b in read_by[box]) - 1
        rows: dict[int, list[Box]] = {}
        for box in self.boxes:
            rows.setdefault(box.row, []).append(box)
        for sweep in range(SWEEPS):
            for number in sorted(rows, reverse=sweep % 2 == 0):
                for box in rows[number]:
                    near = (
                        [b.x for b in read_by[box]]
                        if sweep % 2 == 0
                        else [b.x for _, b in box.reads]
                    )
                    box.x = mean(near) if near else box.x
                rows[number].sort(key=lambda box: box.x)
                _spread(rows[number])
        y = MARGIN
        for number in sorted(rows):
            for box in rows[number]:
                box.y = y
            y += max(box.height for box in rows[number]) + BETWEEN
        left = min((box.x - box.width / 2 for box in self.boxes), default=0.0) - MARGIN
        for box in self.boxes:
            box.x -= left
        self.width = max((box.x + box.width / 2 for box in self.boxes), default=0.0) + MARGIN
        self.height = max((box.y + box.height for box in self.boxes), default=0.0) + MARGIN

    def arrows(self) -> Iterator[tuple[Box, Box, str]]:
        """From, to, and the argument."""
        for box in self.boxes:
            for name, source in box.reads:
                yield source, box, name

    def to_dot(self) -> str:
        """In the language of Graphviz."""
        numbers = {box: f"n{n}" for n, box in enumerate(self.boxes)}
        lines = ["digraph model {", '  node [fontname="monospace", fontsize=10, style=filled];']
        for box, number in numbers.items():
            text = "\\n".join(line.replace("\\", "\\\\").replace('"', '\\"') for line in box.lines)
            lines.append(
                f'  {number} [label="{text}", shape={SHAPES[box.kind]}, fillcolor="{COLOURS[box.kind]}"];'
            )
        for source, box, name in self.arrows():
            lines.append(f'  {numbers[source]} -> {numbers[box]} [label="{name}", fontsize=9];')
        return "\n".join([*lines, "}", ""])

    def to_svg(self) -> str:
        """As a drawing that a browser shows."""
        width, height = f"{self.width:.0f}", f"{self.height:.0f}"
        size = f'width="{width}" height="{height}"'
        lines = [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {width} {height}">',
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" '
            'orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="#666"/></marker></defs>',
            f'<rect {size} fill="white"/>',
        ]
        for source, box, name in self.arrows():
            x, y, u, v = source.x, source.y + source.height, box.x, box.y
            bend = (v - y) / 2
            path = (
                f"M{x:.1f},{y:.1f} C{x:.1f},{y + bend:.1f} {u:.1f},{v - bend:.1f} {u:.1f},{v:.1f}"
            )
            lines.append(
                f'<path d="{path}" fill="none" stroke="#666" marker-end="url(#tip)">'
                f"<title>{escape(name)}</title></path>"
            )
        for box in self.boxes:
            left = box.x - box.width / 2
            lines.append(
                f'<rect x="{left:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" height="{box.height:.1f}" '
                f'rx="{12 if box.kind == "Input" else 2}" fill="{COLOURS[box.kind]}" stroke="#666"/>'
            )
            for number, line in enumerate(box.lines, 1):
                weight = ' font-weight="bold"' if number == 1 else ""
                lines.append(
                    f'<text x="{box.x:.1f}" y="{box.y + MARGIN + number * LINE - 4:.1f}" font-size="11" '
                    f'font-family="monospace" text-anchor="middle"{weight}>{escape(line)}</text>'
                )
        return "\n".join([*lines, "</svg>", ""])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes it; see `Model.save`."""
        target = Path(path)
        match target.suffix.lower():
            case ".svg":
                target.write_text(self.to_svg(), encoding="utf-8")
            case ".dot" | ".gv":
                target.write_text(self.to_dot(), encoding="utf-8")
            case ".png" | ".pdf":
                from loopgrad.edf.plot import draw

                draw(self, target)
            case other:
                raise ValueError(f"a picture is an .svg, .dot, .png or .pdf file, not {other!r}")


def _spread(row: Sequence[Box]) -> None:
    """Moves the boxes of a row apart, with as much room on its left as on its right."""
    wanted = mean(box.x for box in row)
    right = None
    for box in row:
        if right is not None:
            box.x = max(box.x, right + BESIDE + box.width / 2)
        right = box.x + box.width / 2
    shift = wanted - mean(box.x for box in row)
    for box in row:
        box.x += shift


def _results(step: Step) -> Iterator[str]:
    for y in step.results:
        shape, *more = _measures(y)
        yield f"{y.name}: {shape}"
        yield from more


def _measures(x: Value) -> list[str]:
    """Its shape, and the norms of its value and its gradient, as far as there are any."""
    if x.value is None:
        return ["no value"]
    lines = [f"{x.value.dtype} {x.value.shape}"]
    if x.value.dtype.kind == "f":
        lines.append(f"|value| {_norm(x.value)}")
    if x.grad is not None:
        lines.append(f"|grad| {_norm(x.grad)}")
    return lines


def _norm(array: Array) -> str:
    with np.errstate(over="ignore", invalid="ignore"):
        return f"{float(np.sqrt(np.sum(np.square(array, dtype=np.float64)))):.3g}"
