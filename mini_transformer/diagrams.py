"""Drawings of a model's parts: the stream with its writers, a head, a prompt's arcs.

They are drawn from a model: its layers and heads, its widths, and numbers that were measured on it.
"""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes

from mini_transformer.model import Transformer
from mini_transformer.plots import (
    BLUE,
    GREY,
    LINES,
    NOTHING,
    ORANGE,
    Number,
    Point,
    draw_box,
    make_bare,
)

STREAM = "#e9e4d8"


def draw_stream(
    model: Transformer,
    writes: Mapping[str, Number] | None = None,
    ax: Axes | None = None,
    title: str = "",
) -> Axes:
    """Draw the residual stream at one position as a band, and every writer that adds to it.

    Thin arrows read from the band, thick ones add to it. `writes` gives numbers by writer
    (`embed`, `pos_embed`, `a0.h0`, `m0`): they stand beside the arrow, which is blue above 0,
    orange below, and grey at 0 or without a number.

    >>> from mini_transformer import toys
    >>> draw_stream(toys.load("induction_by_hand").model, {"a1.h0": 20.0}).get_title()
    ''
    """
    config = model.config
    layers = [
        [f"a{layer}.h{head}" for head in range(config.n_heads)]
        + ([f"m{layer}"] if config.d_mlp else [])
        for layer in range(config.n_layers)
    ]
    groups = [["embed", "pos_embed"], *layers]
    width = sum(len(group) + 0.5 for group in groups) + 1
    ax = make_bare(ax, (width, 2.9))
    ax.annotate(
        "", (width - 0.9, 0), (-0.6, 0), arrowprops={"width": 16, "headwidth": 30, "color": STREAM}
    )
    ax.text(-0.5, 0, f"stream: {config.d_model} numbers", va="center", color=GREY, fontsize=9)
    draw_box(ax, (width - 0.4, 0), "W_U\nlogits")
    x = 0.0
    for number, group in enumerate(groups):
        start = x
        for name in group:
            _draw_writer(ax, x, name, writes, reads=number > 0)
            x += 1
        label = f"layer {number - 1}" if number else "what starts it"
        ax.text((start + x - 1) / 2, 1.62, label, ha="center", color=GREY, fontsize=9)
        x += 0.5
    ax.set(xlim=(-0.7, width + 0.2), ylim=(-0.35, 1.8))
    ax.set_title(title)
    return ax


def draw_head(
    model: Transformer,
    layer: int,
    head: int,
    key: str,
    query: str,
    attention: Number,
    ax: Axes | None = None,
    title: str = "",
) -> Axes:
    """Draw one head's two circuits between two positions.

    The QK circuit (orange) compares both streams; the OV circuit (blue) moves something from the
    key's stream to the query's. `key` and `query` say what stands there, `attention` how much the
    query pays to the key.
    """
    d_model, d_head = model.config.d_model, model.config.d_head
    ax = make_bare(ax, (8.5, 3.4))
    for x, label in ((0, f"at the key\n{key}"), (6, f"at the query\n{query}")):
        ax.annotate(
            "", (x, 3.2), (x, -0.2), arrowprops={"width": 16, "headwidth": 30, "color": STREAM}
        )
        ax.text(x, -0.3, label, ha="center", va="top", fontsize=10)
    draw_box(ax, (3, 0.6), f"QK circuit: do they match?\nattention {attention:.2f}", ORANGE)
    draw_box(ax, (3, 2.2), f"OV circuit: what is moved?\ntimes {attention:.2f}", BLUE)
    sizes = f"{d_model} to {d_head}"
    _draw_arrow(ax, (0.15, 0.6), (1.6, 0.6), ORANGE, f"W_K\n{sizes}", (0.85, 0.72))
    _draw_arrow(ax, (5.85, 0.6), (4.4, 0.6), ORANGE, f"W_Q\n{sizes}", (5.15, 0.72))
    _draw_arrow(ax, (0.15, 2.2), (1.6, 2.2), BLUE, f"W_V\n{sizes}", (0.85, 2.32))
    _draw_arrow(ax, (4.4, 2.2), (5.85, 2.2), BLUE, f"W_O\n{d_head} to {d_model}", (5.15, 2.32))
    _draw_arrow(ax, (3, 1.0), (3, 1.8), GREY, "how much", (3.55, 1.32))
    ax.set(xlim=(-1.2, 7.2), ylim=(-1.0, 3.4))
    ax.set_title(title or f"a{layer}.h{head}")
    return ax


def draw_arcs(
    tokens: Sequence[str],
    arcs: Mapping[str, tuple[int, int]],
    ax: Axes | None = None,
    title: str = "",
) -> Axes:
    """Draw a prompt, and an arc from each place that a head looks at to where it writes.

    `arcs` gives these two positions, the first before the second, by what the legend says.

    >>> draw_arcs("| e f e".split(), {"a0.h0 notes": (1, 2), "a1.h0 copies": (2, 3)}).get_title()
    ''
    """
    ax = make_bare(ax, (0.6 * len(tokens), 1.9))
    for number, (label, (start, end)) in enumerate(arcs.items()):
        colour = LINES[number % len(LINES)]
        # A longer arc is flatter, so that all stay within the picture.
        bend = f"arc3,rad={-1.5 / (end - start + 1):.2f}"
        arrow = {"arrowstyle": "-|>", "color": colour, "linewidth": 2, "connectionstyle": bend}
        ax.annotate("", (end, 0.2), (start, 0.2), arrowprops=arrow)
        ax.plot([], [], color=colour, label=label)
    for place, token in enumerate(tokens):
        ax.text(place, 0, token, ha="center", va="center", fontsize=13)
    ax.set(xlim=(-0.7, len(tokens) - 0.3), ylim=(-0.3, 1.7))
    ax.legend(frameon=False, loc="upper left")
    ax.set_title(title)
    return ax


def _draw_writer(
    ax: Axes, x: Number, name: str, writes: Mapping[str, Number] | None, reads: bool
) -> None:
    """Draw one writer over the stream, the arrow that it reads by, and the one that it adds by."""
    number = (writes or {}).get(name)
    colour = NOTHING if not number else BLUE if number > 0 else ORANGE
    if writes is None:
        colour = BLUE
    draw_box(ax, (x, 1.25), name)
    if reads:
        _draw_arrow(ax, (x - 0.2, 0.12), (x - 0.2, 1.05), GREY, width=0.8)
    _draw_arrow(ax, (x + 0.1, 1.05), (x + 0.1, 0.12), colour, width=3)
    if number is not None:
        ax.text(x + 0.2, 0.55, f"{number:.3g}", va="center", fontsize=10)


def _draw_arrow(
    ax: Axes,
    start: Point,
    end: Point,
    colour: str,
    label: str = "",
    at: Point = (0, 0),
    width: Number = 2,
) -> None:
    arrow = {"arrowstyle": "-|>", "color": colour, "linewidth": width, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", end, start, arrowprops=arrow)
    if label:
        ax.text(*at, label, ha="center", va="bottom", fontsize=9, color=colour)
