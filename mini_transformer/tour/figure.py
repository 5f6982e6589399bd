"""The tour's one figure: where both heads look, how training went, and where the answer is inside the model."""

import math

import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from mini_transformer.plots import GREY, ORANGE, plot_attention, plot_curves, plot_heads, plot_patching
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
    """Four panels; without a history (a shipped model) the third shows accuracy without each head instead."""
    figure = Figure(figsize=(10, 9), layout="constrained")
    FigureCanvasAgg(figure)  # no window, and no display needed
    (top_left, top_right), (bottom_left, bottom_right) = figure.subplots(2, 2, height_ratios=(5, 4))
    draw_heads(case, circuit, batch, top_left, top_right)
    if history is None:
        plot_heads(circuit.accuracy_without, bottom_left, "Accuracy with one head removed", limit=1.0)
    else:
        draw_training(case, history, bottom_left)
    draw_map(circuit, aligned, moved, bottom_right)
    return figure


def draw_heads(case: Case, circuit: Circuit, batch: Batch, left: Axes, right: Axes) -> None:
    """Attention of both heads on the prompt whose block is shortest, so that it repeats within what is shown."""
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
        layer, head = (int(part) for part in node[1:].split(".h"))
        plot_attention(cache["pattern", layer][0, head], names, ax, f"Head {node} {does}")
    repeats = min(distinct)  # all tokens of the block have been seen once
    right.axhline(repeats - 0.5, color=GREY, linestyle=":")
    right.text(len(names) - 0.6, repeats - 0.6, "from here on, all repeats", ha="right", va="bottom", color=GREY)


def draw_training(case: Case, history: History, ax: Axes) -> None:
    """Loss as a share of what guessing costs, and accuracy; marked where half of the tokens are copied."""
    steps, guessing = list(range(history.steps)), math.log(case.model.config.d_vocab)
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
    """The first step at which half of the predictable tokens are copied."""
    return next((step for step, accuracy in enumerate(history.accuracy) if accuracy >= 0.5), None)


def draw_map(circuit: Circuit, batch: Batch, moved: Float[Tensor, "place pos"], ax: Axes) -> None:
    """The patching map, with the positions that play a part named, and both heads as arrows."""
    end, earlier = int(batch.position[0]), int((batch.clean != batch.corrupt)[0].float().argmax())
    first = max(0, earlier - 3)
    columns = [""] * (end + 1)
    columns[earlier], columns[earlier + 1], columns[end] = "A", "B", "A"
    rows = [f"before\nlayer {layer}" for layer in range(len(moved) - 1)] + [f"after\nlayer {len(moved) - 2}"]
    plot_patching(moved[:, first : end + 1], rows, columns[first:], ax, "Where the answer is on its way to the end")
    ax.set(xlabel="patched position (blue: brings the answer back)")
    a, b, last = earlier - first, earlier + 1 - first, end - first
    for node, start, stop in ((circuit.previous, (a, 0), (b, 1)), (circuit.induction, (b, 1), (last, 2))):
        style = {"arrowstyle": "->", "color": ORANGE, "linewidth": 2, "shrinkA": 0, "shrinkB": 0}
        ax.annotate("", stop, start, arrowprops=style)
        middle = (start[0] + stop[0]) / 2 + 0.8, (start[1] + stop[1]) / 2
        ax.text(*middle, f"head {node}", color=ORANGE, va="top")
