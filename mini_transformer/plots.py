"""Arrays in, Axes out. One palette, and one diverging scale that is white at zero: blue is more, orange is less.

Every function takes arrays or tensors and an optional Axes, and returns the Axes it drew on.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from torch import Tensor

BLUE, ORANGE, GREEN, PURPLE, GREY = "#2166ac", "#d9660a", "#2a8a5f", "#8456a3", "#6b6b6b"
LINES = (BLUE, ORANGE, GREEN, PURPLE, GREY)
DIVERGING = LinearSegmentedColormap.from_list("mini", ["#7a3500", ORANGE, "#ffffff", "#4a8cc9", "#0b3c6f"])

Matrix = Float[Tensor, "row column"] | Float[np.ndarray, "row column"]
Labels = Sequence[str]
Numbers = Sequence[float] | Sequence[int] | np.ndarray | Tensor


def plot_attention(pattern: Matrix, tokens: Labels, ax: Axes | None = None, title: str = "") -> Axes:
    """One head's attention on one prompt: a row per query, a column per key; white is 0 and dark blue is 1.

    >>> ax = plot_attention(np.eye(3), ["a", "b", "c"], title="each token looks at itself")
    >>> ax.get_xlabel()
    'looks at'
    """
    if as_array(pattern).shape != (len(tokens), len(tokens)):
        raise ValueError(f"the pattern is {tuple(pattern.shape)}, but there are {len(tokens)} tokens: give one per row")
    ax = draw_matrix(pattern, tokens, tokens, ax, title, limit=1.0)
    ax.set(xlabel="looks at", ylabel="token")
    return ax


def plot_heads(values: Matrix, ax: Axes | None = None, title: str = "", limit: float | int | None = None) -> Axes:
    """One number per head, (layer, head), written into a square of its colour.

    >>> plot_heads(np.array([[0.9, 0.1], [0.2, -0.3]])).get_ylabel()
    'layer'
    """
    layers, heads = as_array(values).shape
    rows, columns = [str(i) for i in range(layers)], [str(i) for i in range(heads)]
    ax = draw_matrix(values, rows, columns, ax, title, limit, numbers=True)
    ax.set(xlabel="head", ylabel="layer")
    return ax


def plot_patching(
    values: Matrix, rows: Labels, columns: Labels, ax: Axes | None = None, title: str = "", numbers: bool = False
) -> Axes:
    """A patching map: a row per layer (the first at the bottom), a column per position; 1 is all of the answer restored.

    `rows` and `columns` say in words what was patched; the scale ends at the largest value, at least at 1.

    >>> ax = plot_patching(np.array([[1.0, 0.0]]), ["before layer 0"], ["A", "B"])
    >>> [label.get_text() for label in ax.get_xticklabels()]
    ['A', 'B']
    """
    ax = draw_matrix(
        values, rows, columns, ax, title, limit=max(1.0, float(np.abs(as_array(values)).max())), numbers=numbers
    )
    ax.invert_yaxis()  # information moves up, as it does through the model
    ax.set(xlabel="patched position")
    return ax


def plot_contributions(
    contributions: Mapping[str, float | int | Tensor], ax: Axes | None = None, title: str = ""
) -> Axes:
    """One bar per component, in the order given (top to bottom): what it adds to the logit, blue for and orange against.

    >>> plot_contributions({"embed": -0.5, "a0.h0": 2.0}).get_xlabel()
    'adds to the logit difference'
    """
    ax = ax or pyplot.subplots(figsize=(5, 0.6 + 0.3 * len(contributions)), layout="constrained")[1]
    values = [float(as_array(value).mean()) for value in contributions.values()]
    bars = ax.barh(list(contributions), values, color=[BLUE if value >= 0 else ORANGE for value in values])
    ax.bar_label(bars, [f"{value:.2f}" for value in values], padding=3, color=GREY)
    ax.axvline(0, color=GREY, linewidth=0.8)
    ax.margins(x=0.15)
    ax.invert_yaxis()
    ax.set(xlabel="adds to the logit difference", title=title)
    return tidy(ax)


def plot_curves(
    steps: Numbers,
    curves: Mapping[str, Numbers],
    ax: Axes | None = None,
    title: str = "",
    moment: tuple[float | int, str] | None = None,
) -> Axes:
    """Named curves over training steps; `moment` marks a step with a dotted line and says what happened there.

    >>> ax = plot_curves([0, 50, 100], {"loss": [3.0, 2.0, 0.1]}, moment=(50, "formed"))
    >>> ax.get_xlabel(), [line.get_label() for line in ax.get_lines()][0]
    ('training step', 'loss')
    """
    ax = ax or pyplot.subplots(figsize=(6, 3.5), layout="constrained")[1]
    for (name, values), colour in zip(curves.items(), LINES, strict=False):
        ax.plot(as_array(steps), as_array(values), label=name, color=colour, linewidth=1.8)
    if moment is not None:
        ax.axvline(moment[0], color=GREY, linestyle=":")
        ax.annotate(
            moment[1],
            (moment[0], 0.65),
            xycoords=("data", "axes fraction"),
            xytext=(16, 0),
            textcoords="offset points",
            va="top",
            color=GREY,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )
    ax.set(xlabel="training step", title=title)
    ax.legend(frameon=False)
    return tidy(ax)


def draw_matrix(
    values: Matrix,
    rows: Labels,
    columns: Labels,
    ax: Axes | None = None,
    title: str = "",
    limit: float | int | None = None,
    numbers: bool = False,
) -> Axes:
    """Labelled squares on the diverging scale from -limit to limit (default: the largest absolute value)."""
    matrix = as_array(values)
    if matrix.shape != (len(rows), len(columns)):
        raise ValueError(f"the matrix is {matrix.shape}, but it has {len(rows)} row and {len(columns)} column labels")
    if ax is None:
        size = 1.5 + 0.3 * len(columns), 1.2 + 0.3 * len(rows)
        ax = pyplot.subplots(figsize=size, layout="constrained")[1]
    limit = limit or float(np.abs(matrix).max()) or 1.0
    ax.imshow(matrix, cmap=DIVERGING, vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest")
    ax.set_xticks(range(len(columns)), columns)
    ax.set_yticks(range(len(rows)), rows)
    ax.tick_params(length=0)
    for i, j in np.ndindex(matrix.shape) if numbers else ():
        colour = "white" if abs(matrix[i, j]) > 0.6 * limit else "black"
        ax.text(j, i, f"{matrix[i, j]:.2f}", ha="center", va="center", color=colour)
    ax.set_title(title)
    return ax


def tidy(ax: Axes) -> Axes:
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def as_array(values: Any) -> np.ndarray:
    """Numbers, lists, arrays or tensors (also with gradients) as an array."""
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
