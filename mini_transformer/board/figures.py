"""The pictures of the board's page: who finds what, and what it costs. Data of `summarise` in, figures out."""

import io
from typing import Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from mini_transformer import plots
from mini_transformer.board.families import FAMILIES
from mini_transformer.board.summary import overview, read_headline
from mini_transformer.board.table import is_reference

# From pale to dark, so that it also reads on a page printed in grey.
SHARE = LinearSegmentedColormap.from_list(
    "share", ["#fdf1e3", "#e9c9a0", "#8fb3d9", "#2166ac", "#0b3c6f"]
)
MARKERS = "osD^vPX*<>hp"
WIDEST = 16  # problems side by side on a page that can be read


def draw_heat_map(summary: dict[str, Any], family: str) -> Figure:
    """The headline of each method on each problem; x where the method failed, empty where nothing is defined.

    Problems stand across, or down where they are too many for the width of a page. A dot marks a trap that the method fell for.
    """
    scores = {(s["entrant"], s["problem"]): s for s in summary["scores"] if s["family"] == family}
    entrants, problems = (list(dict.fromkeys(key[i] for key in scores)) for i in (0, 1))
    rows, columns = (entrants, problems) if len(problems) <= WIDEST else (problems, entrants)
    values = np.full((len(rows), len(columns)), np.nan)
    figure = Figure(
        figsize=(3.2 + 0.42 * len(columns), 1.9 + 0.3 * len(rows)), layout="constrained"
    )
    ax = figure.subplots()
    for (entrant, problem), score in scores.items():
        row, column = (entrant, problem) if rows is entrants else (problem, entrant)
        i, j, headline = rows.index(row), columns.index(column), read_headline(score)
        values[i, j] = np.nan if headline is None else headline
        text = "x" if score["errors"] else "" if headline is None else f"{headline:.2f}"
        colour = "white" if values[i, j] > 0.6 else "#b00020" if text == "x" else "black"
        ax.text(j, i, text, ha="center", va="center", color=colour, fontsize=7)
        if score["fell"]:
            ax.plot(j + 0.36, i - 0.3, "o", color=plots.ORANGE, markersize=4)
    ax.imshow(
        np.clip(values, 0, 1), cmap=SHARE, vmin=0, vmax=1, aspect="auto", interpolation="nearest"
    )
    ax.set_xticks(
        range(len(columns)), columns, rotation=55, ha="right", rotation_mode="anchor", fontsize=8
    )
    ax.set_yticks(range(len(rows)), rows, fontsize=8.5)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return figure


def draw_costs(summary: dict[str, Any], family: str) -> Figure:
    """Mean headline over seconds (and, where models run, over passes), one marker per method."""
    lines = [
        line for line in overview(summary) if line["family"] == family and line["mean"] is not None
    ]
    lines = [line for line in lines if not is_reference(line["entrant"])]
    passes = any(line["forward"] for line in lines)
    figure = Figure(figsize=(9.5 if passes else 6, 3.2), layout="constrained")
    axes = figure.subplots(1, 2 if passes else 1, sharey=True, squeeze=False)[0]
    for i, line in enumerate(lines):
        style = {
            "color": plots.LINES[i % len(plots.LINES)],
            "marker": MARKERS[i % len(MARKERS)],
            "linestyle": "none",
        }
        axes[0].plot(max(line["seconds"] or 0, 1e-3), line["mean"], label=line["entrant"], **style)
        if passes:
            axes[1].plot(
                max((line["forward"] or 0) + (line["backward"] or 0), 0.1), line["mean"], **style
            )
    if not lines:
        axes[0].text(
            0.5, 0.5, "no method has a score here", ha="center", transform=axes[0].transAxes
        )
        axes[0].set_axis_off()
        return figure
    for ax, label in zip(
        axes, ("seconds per problem", "forward and backward passes per problem"), strict=False
    ):
        ends = [
            10 ** round_(np.log10(end))
            for round_, end in zip((np.floor, np.ceil), ax.dataLim.intervalx, strict=True)
        ]
        ax.set(xscale="log", xlabel=label, ylim=(-0.03, 1.06), xlim=(0.7 * ends[0], 1.4 * ends[1]))
        plots.tidy(ax)
    axes[0].set_ylabel(f"mean {FAMILIES[family].headline}")
    place: dict[str, Any] = {"loc": "outside right upper", "fontsize": 8}
    plots.add_legend(figure, axes[0].get_lines(), [line["entrant"] for line in lines], **place)
    return figure


def write_svg(figure: Figure) -> str:
    """The figure as an SVG element; the same data gives the same text."""
    import matplotlib

    with matplotlib.rc_context(
        {"svg.hashsalt": "board", "svg.fonttype": "none", "font.family": "sans-serif"}
    ):
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()[buffer.getvalue().index("<svg") :]
