"""What a probe found: the label, or something that goes with it; and whether the model uses what was found.

Accuracy says that a label can be read. Selectivity takes off what the same probe reads from labels that mean nothing; accuracy where
something that went along with the label no longer does tells which of the two was read; the cosine compares the directions with those the
model writes; causal use asks whether the model does worse without them.
Sources: Hewitt & Liang 2019 (1909.03368) on selectivity; Elazar et al. 2021 (2006.00995) on use; Haufe et al. 2014 (NeuroImage 87, 96)
on why the best direction to read along is not the one that is written.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mini_transformer.board.subspace_metrics import find_basis, measure_overlap
from mini_transformer.methods import ablate_directions
from mini_transformer.model import Transformer

Labels = Int[Tensor, "n"]


def share_equal(predicted: Labels, labels: Labels) -> float:
    """Accuracy: the share of rows whose predicted class is the label.

    >>> share_equal(torch.tensor([0, 1, 1, 0]), torch.tensor([0, 1, 0, 0]))
    0.75
    """
    if predicted.shape != labels.shape:
        raise ValueError(
            f"{tuple(predicted.shape)} labels were predicted, but there are {tuple(labels.shape)}"
        )
    return (predicted == labels).double().mean().item()


def measure_cosine(found: Float[Tensor, "_k d"], truth: Float[Tensor, "_m d"]) -> float:
    """|cos| of the angle between the probe's direction and the true one; for several, the root of the subspaces' overlap.

    >>> measure_cosine(torch.tensor([[-2.0, 0.0]]), torch.tensor([[1.0, 0.0]]))
    1.0
    """
    return math.sqrt(measure_overlap(found, truth))


def measure_selectivity(accuracy: float, control_accuracy: float) -> float:
    """Accuracy minus that of the same method on the control task, where each type of input has a random label."""
    return accuracy - control_accuracy


def measure_causal_use(
    model: Transformer,
    tokens: Int[Tensor, "batch pos"],
    answers: Int[Tensor, "batch"],
    positions: Int[Tensor, "batch"],
    hook: str,
    directions: Float[Tensor, "_k d"],
) -> float:
    """Accuracy on `answers` at `positions`, minus that with the directions at `hook` set to their mean.

    0 if the model does not use them, up to 1. Negative where it does better without.

    >>> from mini_transformer import toys
    >>> case = toys.load("unused_feature")
    >>> batch, x, y = case.task.draw(64), case.truth.variables["x"], case.truth.variables["y"]
    >>> prompts = batch.clean, batch.answer, batch.position
    >>> measure_causal_use(case.model, *prompts, x.site, x.subspace) > 0.5, measure_causal_use(case.model, *prompts, y.site, y.subspace)
    (True, 0.0)
    """
    basis, rows = find_basis(directions).to(model.W_E), torch.arange(len(tokens))

    def measure(logits: Tensor) -> float:
        logits = logits[rows, positions]
        best = logits.clone().scatter(1, answers[:, None], -math.inf).amax(dim=1)
        return (
            (logits[rows, answers] > best + 1e-4).double().mean().item()
        )  # a tie is not an answer

    with torch.no_grad():
        return measure(model(tokens)) - measure(
            ablate_directions(model, tokens, basis, [hook], ablation="mean")
        )
