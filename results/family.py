"""What tells the tests of one family apart: degree weights of their kernels, and slices beside their limit."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from results import style

WEIGHTS, SLICES = "degree_weights.csv", "slices.csv"


def write(folder: Path) -> list[Path]:
    """Draw both tables of a folder, each as PNG and PDF; returns the files."""
    style.use_style()
    weights, slices = (pd.read_csv(folder / name) for name in (WEIGHTS, SLICES))
    figures = {"degree_weights": partial(_degree_weights, weights), "slices": partial(_slices, slices)}
    return [path for name, draw in figures.items() for path in style.save(draw, folder, name)]


def _degree_weights(weights: pd.DataFrame) -> Figure:
    """A bar a kernel, of what each degree has of φ(1) − b_0; a panel a dimension."""
    dimensions, degrees = weights["embedding_dim"].unique(), [*weights.columns[2:]]
    figure, panels = style.grid(len(dimensions), columns=2, height=2.7)
    colours = {degree: look.color for degree, look in style.shades(degrees).items()}
    for panel, dim in zip(panels, dimensions, strict=True):
        own = weights[weights["embedding_dim"] == dim].iloc[::-1]
        before = 0.0 * own[degrees[0]]
        for degree in degrees:
            panel.barh(own["kernel"], own[degree], left=before, color=colours[degree], edgecolor="white", linewidth=0.4)
            before = before + own[degree]
        panel.set(xlim=(0, 1), xlabel=r"Share of $\varphi(1) - b_0$", title=f"$D = {dim}$")
    for panel in panels[1:]:
        panel.set_yticklabels([])
    legend = [Patch(color=colour, label=degree) for degree, colour in colours.items()]
    figure.legend(handles=legend, loc="outside lower center", ncols=len(legend), frameon=False, title="Degree")
    sns.despine(figure)
    return figure


def _slices(slices: pd.DataFrame) -> Figure:
    """Errors of value and gradient over the number of directions, and time, each beside the exact test's."""
    exact, own = slices[slices["slices"].isna()].iloc[0], slices.dropna(subset="slices")
    look = style.shades(["value", "gradient"], dash="-")
    figure, (errors, times) = style.grid(2, columns=2, height=2.5)
    for name, line in look.items():
        errors.plot(own["slices"], own[f"{name}_error"], **line.line(label=name))
    root = own["value_error"].iloc[0] * (own["slices"].iloc[0] / own["slices"]) ** 0.5
    errors.plot(own["slices"], root, **style.grey(1).line(label="one over the root of directions"))
    errors.set(ylabel="Relative error, root mean square")
    times.plot(own["slices"], own["milliseconds"], **look["value"].line(label="sliced"))
    times.axhline(exact["milliseconds"], **{**style.grey(0).line(), "label": "exact, over all directions"})
    times.set(ylabel="Time of loss and gradient (ms)")
    for panel in (errors, times):
        panel.set(xscale="log", yscale="log", xlabel="Directions")
        style.fixed_ticks(panel.xaxis, own["slices"].astype(int).tolist())
        style.plain_numbers(panel.yaxis)
        panel.legend(frameon=False, loc="lower left" if panel is errors else "upper left")
    shown = "SUSReg at N = D = 256, one thread; errors over 16 draws against the mean over all directions"
    return style.captioned(figure, shown)
