"""Draw the pictures of the board's page: who finds what, and what it costs."""

import io
import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from mini_transformer import plots
from mini_transformer.board.families import find_family
from mini_transformer.board.report.summary import Line, Score, Summary, overview
from mini_transformer.board.report.table import find_rank, is_reference, sort_lines

__all__ = ["WIDEST", "draw_costs", "draw_heat_map", "draw_means", "write_svg"]

# From pale to dark, so that it also reads on a page printed in grey.
SHARE = LinearSegmentedColormap.from_list(
    "share", ["#fdf1e3", "#e9c9a0", "#8fb3d9", "#2166ac", "#0b3c6f"]
)
MARKERS = "osD^vPX*<>hp"
WIDEST = 16  # problems side by side on a page that can be read


def draw_heat_map(summary: Summary, family: str) -> Figure:
    """Draw the headline of each method on each problem.

    An x means that the method failed; a square is empty if nothing is defined; a dot marks a trap
    that the method fell for at half of the models. Problems stand across, or down if they are too
    many for the page.
    """
    scores = [score for score in summary.scores if score.family == family]
    entrants = [line.entrant for line in sort_lines(overview(summary), family)]
    problems = list(dict.fromkeys(score.problem for score in scores))
    across = len(problems) <= WIDEST
    rows, columns = (entrants, problems) if across else (problems, entrants)
    values = np.full((len(rows), len(columns)), np.nan)
    size = (3.2 + 0.42 * len(columns), 1.9 + 0.3 * len(rows))
    figure = Figure(figsize=size, layout="constrained")
    ax = figure.subplots()
    for score in scores:
        place = (entrants.index(score.entrant), problems.index(score.problem))
        i, j = place if across else place[::-1]
        values[i, j] = math.nan if score.headline is None else score.headline
        _write_score(ax, i, j, score)
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


def _write_score(ax: Axes, i: int, j: int, score: Score) -> None:
    """Write a score into its square, and mark a fall."""
    headline = score.headline
    text = "x" if score.errors else "" if headline is None else f"{headline:.2f}"
    dark = headline is not None and headline > 0.6
    colour = "white" if dark else "#b00020" if score.errors else "black"
    ax.text(j, i, text, ha="center", va="center", color=colour, fontsize=7)
    if score.fell and 2 * score.fell >= score.n:
        ax.plot(j + 0.36, i - 0.3, "o", color=plots.ORANGE, markersize=4)


def draw_means(summary: Summary, family: str) -> Figure:
    """Draw the mean headline of each entrant with its interval over models, the best on top.

    References are grey; a gap parts sets that cannot be compared.
    """
    lines = [line for line in sort_lines(overview(summary), family) if line.mean is not None]
    figure = Figure(figsize=(7, 1 + 0.24 * len(lines)), layout="constrained")
    ax = figure.subplots()
    places = [i + 0.7 * find_rank(line, lines) for i, line in enumerate(lines)]
    for place, line in zip(places, lines, strict=True):
        assert line.mean is not None
        colour = "#888888" if is_reference(family, line.entrant) else plots.LINES[0]
        mean, low, high = line.mean
        if low is not None and high is not None:
            ax.plot([low, high], [place, place], color=colour)
        ax.plot(mean, place, "o", color=colour, markersize=4)
    ax.set_yticks(places, [line.entrant for line in lines], fontsize=8.5)
    ax.invert_yaxis()
    ax.set_xlim(-0.03, 1.03)
    ax.set_xlabel(f"mean {find_family(family).headline} and its 95% interval over models")
    plots.tidy(ax)
    return figure


def draw_costs(summary: Summary, family: str) -> Figure:
    """Draw the mean headline over seconds, one marker per method.

    If the methods run models, a second panel shows it over passes.
    """
    lines = [
        line
        for line in overview(summary)
        if line.family == family and line.mean and not is_reference(family, line.entrant)
    ]
    passes = any(line.forward for line in lines)
    figure = Figure(figsize=(9.5 if passes else 6, 3.2), layout="constrained")
    axes = figure.subplots(1, 2 if passes else 1, sharey=True, squeeze=False)[0]
    if not lines:
        says = "no method has a score here"
        axes[0].text(0.5, 0.5, says, ha="center", transform=axes[0].transAxes)
        axes[0].set_axis_off()
        return figure

    _draw_markers(axes[0], lines, [max(line.seconds or 0, 1e-3) for line in lines])
    axes[0].set_xlabel("seconds per problem")
    axes[0].set_ylabel(f"mean {find_family(family).headline}")
    if passes:
        counts = [(line.forward or 0) + (line.backward or 0) for line in lines]
        _draw_markers(axes[1], lines, [max(count, 0.1) for count in counts])
        axes[1].set_xlabel("forward and backward passes per problem")
    place: dict[str, Any] = {"loc": "outside right upper", "fontsize": 8}
    plots.add_legend(figure, axes[0].get_lines(), [line.entrant for line in lines], **place)
    return figure


def _draw_markers(ax: Axes, lines: list[Line], costs: list[float]) -> None:
    """Draw each line's mean over its cost, on whole decades."""
    for i, (line, cost) in enumerate(zip(lines, costs, strict=True)):
        ax.plot(
            cost,
            line.mean.mean if line.mean else 0.0,
            label=line.entrant,
            color=plots.LINES[i % len(plots.LINES)],
            marker=MARKERS[i % len(MARKERS)],
            linestyle="none",
        )
    least = 10 ** math.floor(math.log10(min(costs)))
    most = 10 ** math.ceil(math.log10(max(costs)))
    ax.set(xscale="log", ylim=(-0.03, 1.06), xlim=(0.7 * least, 1.4 * most))
    plots.tidy(ax)


def write_svg(figure: Figure) -> str:
    """Write the figure as an SVG element; the same data gives the same text."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context(
        {"svg.hashsalt": "board", "svg.fonttype": "none", "font.family": "sans-serif"}
    ):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
