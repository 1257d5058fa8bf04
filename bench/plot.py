"""Draws the runs that change nothing: ``python -m bench.plot FILE.svg``, with the medians as JSON on its input."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib import pyplot

matplotlib.use("svg")
matplotlib.rcParams |= {"svg.hashsalt": "lightsout", "font.size": 9}


def draw(medians: list[dict[str, Any]], picture: Path) -> None:
    """Bars, one field for each number of machines."""
    rows = [row for row in medians if row["phase"] == "again"]
    hosts = sorted({row["hosts"] for row in rows})
    figure, axes = pyplot.subplots(1, len(hosts), figsize=(9, 2.2), squeeze=False)
    for axis, count in zip(axes[0], hosts, strict=True):
        walls = {row["contender"]: row["wall"] for row in rows if row["hosts"] == count}
        colors = ["#1f6feb" if name == "Lightsout" else "#8b949e" for name in walls]
        bars = axis.barh(list(walls), list(walls.values()), color=colors)
        axis.bar_label(bars, fmt="%.1f s", padding=2)
        axis.set_title(f"{count} machine{'s' * (count > 1)}")
        axis.set_xlim(0, max(walls.values()) * 1.25)
        axis.spines[["top", "right"]].set_visible(False)
        axis.invert_yaxis()
    figure.tight_layout()
    figure.savefig(picture, metadata={"Date": None})


if __name__ == "__main__":
    draw(json.load(sys.stdin), Path(sys.argv[1]))
