"""Induction by hand in disguise: the same function with dense weights.

Nothing can be read off by eye. `induction_by_hand` with its residual stream and the inside of its
heads turned by random orthogonal matrices, and with noise wherever it changes nothing: read from
directions that nobody writes, written to directions that nobody reads. Heads, tokens and rotation
differ by seed; logits, circuits and roles are those of `induction_by_hand` with that seed.
"""

import dataclasses

import torch

from mini_transformer.model import Transformer
from mini_transformer.toys.hand_set import induction_by_hand
from mini_transformer.toys.hand_set.disguise import rotate_model
from mini_transformer.toys.truth import Case, Signature


def measure_share(model: Transformer) -> float:
    """Measure the share of weights above a thousandth of the largest in their matrix."""
    weights = [w.detach() for w in model.parameters()]
    return sum((w.abs() > 1e-3 * w.abs().max()).sum().item() for w in weights) / sum(
        w.numel() for w in weights
    )


def measure_difference(case: Case) -> float:
    """Measure the largest difference of any logit from the plain construction's."""
    tokens = case.task.draw(256, seed=1).clean
    with torch.no_grad():
        plain = induction_by_hand.build_model(case.seed)(tokens)
        return (case.model(tokens) - plain).abs().max().item()


SIGNATURES = {
    **induction_by_hand.SIGNATURES,
    "difference from induction_by_hand": Signature(
        "largest, of any logit; the logits go up to 20", measure_difference, high=1e-3
    ),
    "share of weights in use": Signature(
        "larger than 1/1000 of the largest in their matrix",
        lambda case: measure_share(case.model),
        low=0.99,
    ),
}


def load(seed: int = 0) -> Case:
    """Load `induction_by_hand` with this seed, turned by rotations drawn from it."""
    plain = induction_by_hand.load(seed)
    model, turn = rotate_model(plain.model, torch.Generator().manual_seed(seed))
    variables = {
        name: dataclasses.replace(variable, subspace=variable.subspace @ turn)
        for name, variable in plain.truth.variables.items()
    }
    truth = dataclasses.replace(plain.truth, variables=variables, signatures=SIGNATURES)
    return dataclasses.replace(plain, name="induction_rotated", model=model, truth=truth)
