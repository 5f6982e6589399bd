"""The tour's one figure: where heads look, how training went, where the answer is."""

import math

import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from mini_transformer.edges import Node
from mini_transformer.plots import (
    GREY,
    ORANGE,
    plot_attention,
    plot_curves,
    plot_heads,
    plot_patching,
)
from mini_transformer.tour.circuit import Circuit
from mini_transformer.toys import Batch, Case
from mini_transformer.train import History

SHOWN = 20  # tokens of the example prompt


def draw_tour(
    case: Case,
    circuit: Circuit,
    batch: Batch,
    aligned: Batch,
    moved: Float[Tensor, "place pos"],
    history: History | None,
) -> Figure:
    """Draw four panels.

    Without a history (a shipped model) the third shows accuracy without each head.
    """
    figure = Figure(figsize=(10, 9), layout="constrained")
    FigureCanvasAgg(figure)  # no window, and no display needed
    (top_left, top_right), (bottom_left, bottom_right) = figure.subplots(2, 2, height_ratios=(5, 4))
    draw_heads(case, circuit, batch, top_left, top_right)
    if history is None:
        plot_heads(
            circuit.accuracy_without, bottom_left, "Accuracy with one head removed", limit=1.0
        )
    else:
        draw_training(case, history, bottom_left)
    draw_map(circuit, aligned, moved, bottom_right)
    return figure


def draw_heads(case: Case, circuit: Circuit, batch: Batch, left: Axes, right: Axes) -> None:
    """Draw the attention of both heads on the prompt whose block is shortest.

    That block repeats within what is shown.
    """
    distinct = [len(set(prompt)) for prompt in batch.clean[:, :SHOWN].tolist()]
    prompt = batch.clean[distinct.index(min(distinct)), :SHOWN]
    names = [case.task.token_names[token] for token in prompt.tolist()]
    with torch.no_grad():
        _, cache = case.model.run_with_cache(prompt.unsqueeze(0))
    titles = {
        left: (circuit.previous, "looks at the token before"),
        right: (circuit.induction, "looks at what came next last time"),
    }
    for ax, (node, does) in titles.items():
        layer, head = Node.parse(node).place
        plot_attention(cache["pattern", layer][0, head], names, ax, f"Head {node} {does}")
    repeats = min(distinct)  # all tokens of the block have been seen once
    right.axhline(repeats - 0.5, color=GREY, linestyle=":")
    note = right.text(len(names) - 0.6, repeats - 0.6, "from here on, all repeats", color=GREY)
    note.set(ha="right", va="bottom")


def draw_training(case: Case, history: History, ax: Axes) -> None:
    """Draw loss as a share of what guessing costs, and accuracy.

    The step at which half of the tokens are copied is marked.
    """
    steps = list(range(history.steps))
    guessing = math.log(case.model.config.d_vocab)
    curves = {
        "loss / loss of guessing": [loss / guessing for loss in history.loss],
        "copied correctly": history.accuracy,
    }
    formed = find_formation(history)
    moment = None if formed is None else (formed, f"the circuit forms:\nstep {formed}")
    plot_curves(steps, curves, ax, "Training: nothing, then everything", moment)
    ax.legend(frameon=False, loc=(0.5, 0.4))
    ax.set(ylim=(-0.03, 1.12))


def find_formation(history: History) -> int | None:
    """Find the first step at which half of the predictable tokens are copied."""
    copied = (step for step, accuracy in enumerate(history.accuracy) if accuracy >= 0.5)
    return next(copied, None)


def draw_map(circuit: Circuit, batch: Batch, moved: Float[Tensor, "place pos"], ax: Axes) -> None:
    """Draw the patching map, with its important positions named, and both heads as arrows."""
    end = int(batch.position[0])
    earlier = int((batch.clean != batch.corrupt)[0].float().argmax())
    first = max(0, earlier - 3)
    columns = [""] * (end + 1)
    columns[earlier], columns[earlier + 1], columns[end] = "A", "B", "A"
    n_layers = len(moved) - 1
    rows = [f"before\nlayer {layer}" for layer in range(n_layers)]
    rows.append(f"after\nlayer {n_layers - 1}")
    title = "Where the answer is on its way to the end"
    plot_patching(moved[:, first : end + 1], rows, columns[first:], ax, title)
    ax.set(xlabel="patched position (blue: brings the answer back)")

    a = earlier - first
    b = a + 1
    last = end - first
    arrows = [(circuit.previous, (a, 0), (b, 1)), (circuit.induction, (b, 1), (last, 2))]
    for node, start, stop in arrows:
        style = {"arrowstyle": "->", "color": ORANGE, "linewidth": 2, "shrinkA": 0, "shrinkB": 0}
        ax.annotate("", stop, start, arrowprops=style)
        middle = (start[0] + stop[0]) / 2 + 0.8, (start[1] + stop[1]) / 2
        ax.text(*middle, f"head {node}", color=ORANGE, va="top")
