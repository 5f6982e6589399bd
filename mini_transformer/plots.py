"""Pictures: arrays in, Axes out.

There is one palette, and one diverging scale that is white at zero: blue is more, orange is less.
Every function takes arrays or tensors and an optional Axes, and returns the Axes it drew on. The
file is long because all pictures share the palette, the scale and the rules of what is legible.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Shaped
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from torch import Tensor

from mini_transformer.edges import Edge, EdgeScores, list_edges
from mini_transformer.model import Transformer

BLUE = "#2166ac"
ORANGE = "#d9660a"
GREEN = "#2a8a5f"
PURPLE = "#8456a3"
GREY = "#6b6b6b"
LINES = (BLUE, ORANGE, GREEN, PURPLE, GREY)
STYLES = ("-", "--", ":", "-.")  # of further curves, when every colour has been used
NOTHING = "#d9d9d9"  # a square whose number is nan
DIVERGING = LinearSegmentedColormap.from_list(
    "mini", ["#7a3500", ORANGE, "#ffffff", "#4a8cc9", "#0b3c6f"], bad=NOTHING
)

Matrix = Shaped[Tensor, "row column"] | Shaped[np.ndarray, "row column"]
NAME = 0.22  # inches, the height of a name in a legend
LETTER = 0.08  # inches, the width of a character of a label
Labels = Sequence[str]
Numbers = Sequence[float] | Sequence[int] | np.ndarray | Tensor
Number = float | int
Point = tuple[Number, Number]
# The colour of an edge says what it enters: a head's query, key or value, or an MLP or the logits.
PARTS = {"q": ORANGE, "k": PURPLE, "v": BLUE, None: GREEN}
PORTS = {"q": 0.16, "k": 0.0, "v": -0.16, None: 0.0}  # where on the reader's side


def plot_attention(
    pattern: Matrix, tokens: Labels, ax: Axes | None = None, title: str = ""
) -> Axes:
    """Draw one head's attention on one prompt: a row per query, a column per key.

    White is 0 and dark blue is 1.

    >>> ax = plot_attention(np.eye(3), ["a", "b", "c"], title="each token looks at itself")
    >>> ax.get_xlabel()
    'looks at'
    """
    if as_array(pattern).shape != (len(tokens), len(tokens)):
        raise ValueError(
            f"the pattern is {tuple(pattern.shape)}, but there are {len(tokens)} tokens: "
            "give one per row"
        )
    ax = draw_matrix(pattern, tokens, tokens, ax, title, limit=1.0)
    ax.set(xlabel="looks at", ylabel="token")
    return ax


def plot_heads(
    values: Matrix, ax: Axes | None = None, title: str = "", limit: float | int | None = None
) -> Axes:
    """Draw one number per head, (layer, head), in a square of its colour.

    >>> plot_heads(np.array([[0.9, 0.1], [0.2, -0.3]])).get_ylabel()
    'layer'
    """
    matrix = as_array(values)
    if matrix.ndim != 2:
        raise ValueError(
            f"the values are {matrix.shape}, but must be one number per head: (layer, head)"
        )
    rows, columns = ([str(i) for i in range(size)] for size in matrix.shape)
    ax = draw_matrix(matrix, rows, columns, ax, title, limit, numbers=True)
    ax.set(xlabel="head", ylabel="layer")
    return ax


def plot_patching(
    values: Matrix,
    rows: Labels,
    columns: Labels,
    ax: Axes | None = None,
    title: str = "",
    numbers: bool = False,
) -> Axes:
    """Draw a patching map: a row per layer, the first at the bottom; a column per position.

    1 means that all of the answer is restored. `rows` and `columns` say in words what was patched;
    the scale ends at the largest value, at least at 1.

    >>> ax = plot_patching(np.array([[1.0, 0.0]]), ["before layer 0"], ["A", "B"])
    >>> [label.get_text() for label in ax.get_xticklabels()]
    ['A', 'B']
    """
    ax = draw_matrix(
        values, rows, columns, ax, title, max(1.0, find_limit(as_array(values))), numbers
    )
    ax.invert_yaxis()  # information moves up, as it does through the model
    ax.set(xlabel="patched position")
    return ax


def plot_contributions(
    contributions: Mapping[str, float | int | Tensor], ax: Axes | None = None, title: str = ""
) -> Axes:
    """Draw one bar per component, from top to bottom in the order given.

    A bar is what the component adds to the logit, blue for and orange against. A tensor counts with
    its mean. Raise ValueError if nothing is given.

    >>> plot_contributions({"embed": -0.5, "a0.h0": 2.0}).get_xlabel()
    'adds to the logit difference'
    """
    if not contributions:
        raise ValueError(
            "no contributions were given, but a picture needs at least one: {name: number}"
        )
    ax = ax or pyplot.subplots(figsize=(5, 0.6 + 0.3 * len(contributions)), layout="constrained")[1]
    values = [float(as_array(value).mean()) for value in contributions.values()]
    places = range(len(values))
    # What is not finite has a label and no bar.
    lengths = np.where(np.isfinite(values), values, 0.0)
    bars = ax.barh(places, lengths, color=[BLUE if value >= 0 else ORANGE for value in values])
    ax.bar_label(bars, [write_number(value) for value in values], padding=3, color=GREY)
    ax.set_yticks(places, [str(name) for name in contributions], parse_math=False)
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
    """Draw named curves over training steps.

    `moment` marks a step with a dotted line and says what happened there. Every curve is drawn: the
    sixth has the first colour again, dashed. A value between two that are nan is a dot. Raise
    ValueError for no curve, and for one with another number of values than there are steps.

    >>> ax = plot_curves([0, 50, 100], {"loss": [3.0, 2.0, 0.1]}, moment=(50, "formed"))
    >>> ax.get_xlabel(), [line.get_label() for line in ax.get_lines()][0]
    ('training step', 'loss')
    """
    if not curves:
        raise ValueError("no curves were given, but a picture needs at least one: {name: values}")
    x = as_array(steps)
    heights = {name: as_array(values) for name, values in curves.items()}
    for name, y in heights.items():
        if y.shape != x.shape or x.ndim != 1:
            raise ValueError(
                f"the curve {name!r} has shape {y.shape}, and the steps {x.shape}: "
                "give one value per step"
            )
    many = len(curves) > len(LINES)
    ax = ax or pyplot.subplots(figsize=(6 + 3 * many, 3.5), layout="constrained")[1]
    lines = []
    for i, y in enumerate(heights.values()):
        style: dict[str, Any] = {
            "color": LINES[i % len(LINES)],
            "linestyle": STYLES[i // len(LINES) % len(STYLES)],
        }
        if alone := find_alone(y):
            style |= {"marker": "o", "markersize": 4, "markevery": alone}
        lines += ax.plot(x, y, label=list(heights)[i], linewidth=1.8, **style)
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
    names_high = max(1, int(ax.bbox.height / ax.figure.dpi / NAME))
    beside = {
        "loc": "center left",
        "bbox_to_anchor": (1.0, 0.5),
        "ncols": math.ceil(len(lines) / names_high),
    }
    add_legend(ax, lines, list(heights), **(beside if many else {}))
    return tidy(ax)


def plot_circuit(
    model: Transformer,
    edges: Collection[str] | Mapping[str, Number] | EdgeScores,
    truth: Collection[str] = (),
    roles: Mapping[str, str] | None = None,
    ax: Axes | None = None,
    title: str = "",
) -> Axes:
    """Draw a model's nodes from left to right, and some edges or the score of each.

    A letter and a colour say which of a head's inputs an edge enters. Scores are widths, dashed
    below 0; of scores by position their sum is drawn, and nothing that is below a fiftieth of the
    largest. `truth` lies behind, broad and pale. `roles` puts words under nodes; nodes without an
    edge are pale. Raise KeyError for an edge that the model does not have.

    >>> from mini_transformer import toys
    >>> model = toys.load("induction_by_hand").model
    >>> plot_circuit(model, ["a0.h0->a1.h0<k>", "a1.h0->logits"]).get_title()
    ''
    """
    if isinstance(edges, EdgeScores):
        edges = {edge: score.item() for edge, score in edges.sum().items()}
    weighed = isinstance(edges, Mapping)
    weights = dict(edges) if isinstance(edges, Mapping) else dict.fromkeys(edges, 1.0)
    unknown = {*map(str, weights), *map(str, truth)} - set(list_edges(model))
    if unknown:
        raise KeyError(f"the model has no edge {min(unknown)!r}")
    most = find_limit(np.array([*weights.values(), 0.0]))
    drawn = {Edge.parse(str(e)): w for e, w in weights.items() if abs(w) > most / 50}
    behind = [Edge.parse(str(edge)) for edge in truth]
    used = {str(node) for edge in [*drawn, *behind] for node in (edge.writer, edge.reader)}
    places = place_nodes(model)
    columns = places["logits"][0] + 1
    ax = make_bare(ax, (columns * max(1.2, min(2.0, 14 / columns)), 1 + model.config.n_heads))
    heights = [y for _, y in places.values()]
    ax.set(xlim=(-0.4, columns - 0.6), ylim=(min(heights) - 0.6, max(heights) + 0.6))
    for edge in behind:
        _draw_edge(ax, places, edge, color=GREEN, alpha=0.25, linewidth=9)
    for edge, weight in drawn.items():
        share = abs(weight) / most
        style = "-" if weight > 0 else "--"
        colour = PARTS[edge.part]
        width = 0.5 + 3 * share if weighed else 1.8
        alpha = 0.35 + 0.6 * share
        _draw_edge(ax, places, edge, color=colour, linewidth=width, alpha=alpha, linestyle=style)
    for reader, part in {(str(edge.reader), edge.part) for edge in drawn if edge.part}:
        x, y = places[reader]
        at = x - 0.33 * _measure_inch(ax), y + PORTS[part]
        ax.text(*at, str(part), color=PARTS[part], fontsize=9, ha="center", va="center")
    for name, (x, y) in places.items():
        draw_box(ax, (x, y), name, "black" if name in used else NOTHING)
        if roles and name in roles:
            side, where = (0.3, "bottom") if y >= places["input"][1] else (-0.3, "top")
            ax.text(x, y + side, roles[name], ha="center", va=where, fontsize=9)
    ax.set_title(title)
    return ax


def place_nodes(model: Transformer) -> dict[str, Point]:
    """Place the input on the left, each layer in its column, MLPs after heads, logits last."""
    config = model.config
    middle = -(config.n_heads - 1) / 2
    places = {"input": (0.0, middle)}
    x = 1.0
    for layer in range(config.n_layers):
        for head in range(config.n_heads):
            places[f"a{layer}.h{head}"] = (x, -float(head))
        x += 1.0
        if config.d_mlp:
            places[f"m{layer}"] = (x, middle)
            x += 1.0
    return places | {"logits": (x, middle)}


def _draw_edge(ax: Axes, places: Mapping[str, Point], edge: Edge, **style: Any) -> None:
    """Draw a curve from the writer to the reader's side; along a row it bows over the nodes."""
    (x, y), (end, height) = places[str(edge.writer)], places[str(edge.reader)]
    end -= (0.39 if edge.part else 0.27) * _measure_inch(ax)  # before the box, and the letter
    height += PORTS[edge.part]
    bow = 0.25 + 0.08 * (end - x) if end - x > 1 and abs(y - height) < 0.3 else 0.0
    bend = (end - x) / 2.5
    corners = [(x, y), (x + bend, y + bow), (end - bend, height + bow), (end, height)]
    curve = Path(corners, [Path.MOVETO, *[Path.CURVE4] * 3])
    ax.add_patch(PathPatch(curve, fill=False, capstyle="round", zorder=0.5, **style))


def _measure_inch(ax: Axes) -> float:
    """Measure an inch in units of the x axis."""
    low, high = ax.get_xlim()
    return (high - low) * ax.figure.dpi / ax.bbox.width


def draw_box(ax: Axes, at: Point, text: str, colour: str = "black") -> None:
    box = {"boxstyle": "round,pad=0.35", "facecolor": "white", "edgecolor": colour}
    shown = GREY if colour == NOTHING else colour
    ax.text(*at, text, ha="center", va="center", fontsize=10, color=shown, bbox=box)


def make_bare(ax: Axes | None, size: Point) -> Axes:
    """Take these axes, or new ones, without frame and ticks."""
    ax = ax or pyplot.subplots(figsize=size, layout="constrained")[1]
    ax.set_axis_off()
    return ax


def add_legend(
    where: Axes | Figure, lines: Sequence[Any], names: Sequence[str], **style: Any
) -> None:
    """Name all lines in a legend.

    matplotlib would leave out those whose names begin with an underscore.
    """
    shown = [f" {name}" if str(name).startswith("_") else str(name) for name in names]
    legend = where.legend(lines, shown, frameon=False, **style)
    for text in legend.get_texts():
        text.set_parse_math(False)  # a name with dollar signs is a name


def find_alone(y: np.ndarray) -> list[int]:
    """Find the finite values with none beside them: no line leads there, so they need a dot."""
    there = np.pad(np.isfinite(y), 1)
    return np.flatnonzero(there[1:-1] & ~there[:-2] & ~there[2:]).tolist()


def draw_matrix(
    values: Matrix,
    rows: Labels,
    columns: Labels,
    ax: Axes | None = None,
    title: str = "",
    limit: float | int | None = None,
    numbers: bool = False,
) -> Axes:
    """Draw labelled squares on the diverging scale from -limit to limit.

    The default limit is the largest absolute value. A square without a number (nan) is grey. Raise
    ValueError unless there is one label per row and column, and a square.
    """
    matrix = as_array(values)
    if not matrix.size:
        raise ValueError(f"the matrix is {matrix.shape}, but a picture needs at least one number")
    if matrix.shape != (len(rows), len(columns)):
        raise ValueError(
            f"the matrix is {matrix.shape}, but it has {len(rows)} row and {len(columns)} "
            "column labels"
        )
    if ax is None:
        wide, high = (LETTER * max(len(str(name)) for name in names) for names in (rows, columns))
        width = 1.5 + 0.3 * len(columns) + max(0.0, wide - 1.0)
        height = 1.2 + 0.3 * len(rows) + max(0.0, high - 0.5)
        ax = pyplot.subplots(figsize=(width, height), layout="constrained")[1]
    limit = limit or find_limit(matrix) or 1.0
    ax.imshow(
        matrix, cmap=DIVERGING, vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest"
    )
    ax.set_xticks(range(len(columns)), columns, parse_math=False)
    ax.set_yticks(range(len(rows)), rows, parse_math=False)
    ax.tick_params(length=0)
    longest = max(len(line) for name in columns for line in str(name).split("\n"))
    if longest * LETTER > ax.bbox.width / ax.figure.dpi / len(columns):
        ax.tick_params(axis="x", rotation=90)
    for i, j in np.ndindex(matrix.shape) if numbers else ():
        colour = "white" if abs(matrix[i, j]) > 0.45 * limit else "black"
        ax.text(j, i, write_number(float(matrix[i, j])), ha="center", va="center", color=colour)
    ax.set_title(title)
    return ax


def find_limit(matrix: np.ndarray) -> float:
    """Find the largest absolute value among the finite ones, 0.0 if there is none."""
    return float(np.abs(matrix).max(where=np.isfinite(matrix), initial=0.0))


def write_number(value: float) -> str:
    """Write two digits after the point where they say something, else the magnitude.

    >>> [write_number(x) for x in (0.5, -0.25, 0.0, 0.0004, 12345.6, float("nan"))]
    ['0.50', '-0.25', '0.00', '4e-04', '1e+04', 'nan']
    """
    plain = not np.isfinite(value) or value == 0 or 0.005 <= abs(value) < 1000
    return f"{value:.2f}" if plain else f"{value:.0e}"


def tidy(ax: Axes) -> Axes:
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def as_array(values: Any) -> np.ndarray:
    """Turn numbers, lists, arrays or tensors (also with gradients) into an array."""
    if isinstance(values, Tensor):
        values = values.detach().cpu().resolve_conj()
        is_bfloat16 = values.dtype == torch.bfloat16  # NumPy has none
        return (values.float() if is_bfloat16 else values).numpy()
    return np.asarray(values)
