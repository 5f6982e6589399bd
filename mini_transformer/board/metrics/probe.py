"""What a probe found: the label or what goes with it, and whether the model uses it.

Accuracy says that a label can be read. Selectivity takes off what the same probe reads from labels
that mean nothing. Accuracy on data where something no longer goes along with the label tells which
of the two was read. The cosine compares the directions with those the model writes. Causal use asks
whether the model does worse without them.

Sources: Hewitt & Liang 2019 (1909.03368) on selectivity; Elazar et al. 2021 (2006.00995) on use;
Haufe et al. 2014 (NeuroImage 87, 96) on why the best direction to read along is not the one that is
written.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mini_transformer.board.metrics.subspace import find_basis, measure_overlap
from mini_transformer.methods import ablate_directions
from mini_transformer.model import Transformer

__all__ = ["measure_causal_use", "measure_cosine", "measure_selectivity", "share_expected"]

Labels = Int[Tensor, "n"]


def share_expected(predicted: Labels, posterior: Float[Tensor, "n class"]) -> float:
    """Average the probability of what was predicted: the accuracy to expect on such rows.

    Where it is the probability given all that the predictor knows, none does better than to predict
    the most probable label of each row. A label that does not exist is never right.

    >>> share_expected(torch.tensor([0, 1, 7]), torch.tensor([[0.9, 0.1], [0.4, 0.6], [0.5, 0.5]]))
    0.5
    """
    if predicted.shape != posterior.shape[:1]:
        raise ValueError(
            f"{tuple(predicted.shape)} labels were predicted, but there are {len(posterior)} rows"
        )
    known = (predicted >= 0) & (predicted < posterior.shape[1])
    own = posterior[torch.arange(len(posterior)), torch.where(known, predicted, 0).long()]
    return torch.where(known, own, 0.0).mean().item()


def measure_cosine(found: Float[Tensor, "_k d"], truth: Float[Tensor, "_m d"]) -> float:
    """Measure |cos| of the angle between the probe's direction and the true one.

    For several directions this is the root of the subspaces' overlap.

    >>> measure_cosine(torch.tensor([[-2.0, 0.0]]), torch.tensor([[1.0, 0.0]]))
    1.0
    """
    return math.sqrt(measure_overlap(found, truth))


def measure_selectivity(accuracy: float, control_accuracy: float) -> float:
    """Subtract the same method's accuracy on the control task.

    There each type of input has a random label.
    """
    return accuracy - control_accuracy


def measure_causal_use(
    model: Transformer,
    tokens: Int[Tensor, "batch pos"],
    answers: Int[Tensor, "batch"],
    positions: Int[Tensor, "batch"],
    hook: str,
    directions: Float[Tensor, "_k d"],
) -> float:
    """Measure how much accuracy is lost when the directions at `hook` are set to their mean.

    Accuracy counts `answers` at `positions`. 0 if the model does not use the directions, up to 1;
    negative if it does better without.

    >>> from mini_transformer import toys
    >>> case = toys.load("unused_feature")
    >>> batch = case.task.draw(64)
    >>> prompts = batch.clean, batch.answer, batch.position
    >>> x, y = (case.truth.variables[name] for name in "xy")
    >>> measure_causal_use(case.model, *prompts, x.site, x.subspace) > 0.5
    True
    >>> measure_causal_use(case.model, *prompts, y.site, y.subspace)
    0.0
    """
    basis = find_basis(directions).to(model.W_E)
    rows = torch.arange(len(tokens))

    def measure(logits: Tensor) -> float:
        logits = logits[rows, positions]
        best = logits.clone().scatter(1, answers[:, None], -math.inf).amax(dim=1)
        right = logits[rows, answers] > best + 1e-4  # a tie is not an answer
        return right.double().mean().item()

    with torch.no_grad():
        without = ablate_directions(model, tokens, basis, "mean", [hook])
        return measure(model(tokens)) - measure(without)
