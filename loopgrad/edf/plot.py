"""The picture of a model as pixels, by matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from loopgrad.edf.picture import COLOURS, LINE, MARGIN, Picture

INCH = 72.0  # pixels


def draw(picture: Picture, path: Path) -> None:
    """Writes the picture as what the file's ending says.

    Raises ImportError where matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.patches import Rectangle
    except ImportError as error:
        raise ImportError(
            f"{path} needs matplotlib (pip install 'loopgrad[plot]'); an .svg or a .dot does not"
        ) from error
    figure = Figure(figsize=(picture.width / INCH, picture.height / INCH))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, picture.width), ylim=(picture.height, 0))
    axes.axis("off")
    for source, box, _ in picture.arrows():
        ends: dict[str, Any] = {
            "xy": (box.x, box.y),
            "xytext": (source.x, source.y + source.height),
        }
        axes.annotate("", **ends, arrowprops={"arrowstyle": "->", "color": "#666666"})
    for box in picture.boxes:
        corner = (box.x - box.width / 2, box.y)
        colours: dict[str, Any] = {"facecolor": COLOURS[box.kind], "edgecolor": "#666666"}
        axes.add_patch(Rectangle(corner, box.width, box.height, **colours))
        for number, line in enumerate(box.lines, 1):
            place = (box.x, box.y + MARGIN + number * LINE - 4)
            weight = "bold" if number == 1 else "normal"
            font: dict[str, Any] = {
                "family": "monospace",
                "fontsize": 8,
                "ha": "center",
                "weight": weight,
            }
            axes.text(*place, line.replace("$", r"\$"), **font)
    figure.savefig(path, dpi=150)
