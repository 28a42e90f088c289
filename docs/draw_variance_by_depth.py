"""Draw docs/variance_by_depth.svg: what each of the two layers does to a deep network.

    .venv/bin/python -m pip install -q -r requirements.txt -r docs/requirements.txt
    .venv/bin/python docs/draw_variance_by_depth.py

Every line is one run of `variance_by_depth`: random weights, a random batch, real dropout masks.
The same versions of NumPy and matplotlib write the same bytes. Names no formula, as the figure
stands above the place where the README first gives one.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from variance_dropout_task import (
    BUGGY_IMPLEMENTATION,
    REFERENCE_IMPLEMENTATION,
    variance_by_depth,
)

FIGURE = Path(__file__).resolve().parent / "variance_by_depth.svg"
DEPTH = 30
RATE = 0.5
SEEDS = range(12)

# The background is transparent. These three keep a contrast of 3.5 to 1 or better on white and on
# GitHub's dark #0d1117; orange and blue stay apart for colour-blind readers.
INK, ORANGE, BLUE = "#767e87", "#db6013", "#2a7de1"


def main() -> None:
    """Run both layers and write the figure."""
    matplotlib.rcParams.update({"svg.hashsalt": "variance_by_depth", "svg.fonttype": "path"})
    figure = Figure(figsize=(7.6, 4.1), layout="constrained")
    axes = figure.subplots()
    buggy = draw_runs(axes, BUGGY_IMPLEMENTATION, ORANGE)
    reference = draw_runs(axes, REFERENCE_IMPLEMENTATION, BLUE)
    axes.fill_between(range(DEPTH + 1), reference, buggy, color=ORANGE, alpha=0.07, linewidth=0)
    middle = DEPTH // 2
    growth = times((buggy[-1] / buggy[0]) ** (1 / DEPTH))
    start = f"the starting file\n{growth} in every layer"
    label(axes, start, (middle, buggy[middle]), (-16, 14), ORANGE, "right")
    label(axes, "repaired", (middle, reference[middle]), (0, 12), BLUE, "center")
    label(axes, times(buggy[-1]), (DEPTH, buggy[-1]), (10, 0), ORANGE, "left")
    label(axes, times(reference[-1]), (DEPTH, reference[-1]), (10, 0), BLUE, "left")
    dress(axes)
    # No date and no version among the metadata: they would change the bytes.
    figure.savefig(FIGURE, transparent=True, metadata={"Date": None, "Creator": None})
    print(f"Wrote {FIGURE}.")


def draw_runs(axes: Axes, source: str, colour: str) -> list[float]:
    """Draw one line a seed; returns their geometric mean by depth."""
    runs = np.array([variance_by_depth(source, DEPTH, rate=RATE, seed=seed) for seed in SEEDS])
    axes.semilogy(runs.T, color=colour, alpha=0.4, linewidth=1.6, solid_capstyle="round")
    return [float(value) for value in np.exp(np.mean(np.log(runs), axis=0))]


def label(
    axes: Axes,
    text: str,
    at: tuple[float, float],
    offset: tuple[int, int],
    colour: str,
    side: str,
) -> None:
    """Write beside a point of a line, in the line's colour: that takes the place of a legend."""
    axes.annotate(
        text,
        at,
        xytext=offset,
        textcoords="offset points",
        color=colour,
        fontsize=11,
        fontweight="bold",
        horizontalalignment=side,
        verticalalignment="center",
        annotation_clip=False,
    )


def times(ratio: float) -> str:
    """A growth as a reader says it."""
    number = f"{ratio:.1f}" if ratio < 1000 else f"{ratio / 1e9:.1f} billion"
    return f"\N{MULTIPLICATION SIGN} {number}"


def dress(axes: Axes) -> None:
    """Axes, grid and title."""
    axes.set_title(
        f"Variance of activations, dropout at rate {RATE}, {len(SEEDS)} random networks",
        color=INK,
        fontsize=11,
        loc="left",
        pad=12,
    )
    axes.set_xlabel("linear layers, each with dropout", color=INK)
    axes.set_xlim(0, DEPTH)
    axes.set_ylim(0.2, 1e10)
    axes.set_xticks(range(0, DEPTH + 1, 5))
    axes.set_yticks([1, 1e3, 1e6, 1e9], labels=["1", "thousand", "million", "billion"])
    axes.minorticks_off()
    axes.grid(axis="y", color=INK, alpha=0.25, linewidth=0.6)
    axes.tick_params(colors=INK, length=0)
    for side in axes.spines.values():
        side.set_visible(False)


if __name__ == "__main__":
    main()
