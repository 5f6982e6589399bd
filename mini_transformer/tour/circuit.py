"""Find an induction circuit in any model that copies.

It consists of two heads; measure what they are needed for, and what runs between them.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mini_transformer.edges import Edge, list_edges, mask_of, run_edges, write_outputs
from mini_transformer.methods import (
    ablate_each_head,
    measure_share_recovered,
    patch_activations,
    score_heads,
)
from mini_transformer.model import Transformer
from mini_transformer.toys import Batch

Heads = Float[Tensor, "layer head"]


@dataclass(frozen=True)
class Circuit:
    """What was found in one model: heads by name, and the numbers that pointed to them."""

    previous: str  # the head that looks from the token after an earlier A back to that A
    induction: str  # the head that looks from the last A to the tokens after earlier A's
    control: str  # the neighbour of `previous` that looks back least
    previous_scores: Heads
    score_induction: Heads
    accuracy: float
    accuracy_without: Heads  # each head alone
    # With the edges from `previous` to the q, k or v of all later heads cut.
    accuracy_cut: dict[str, float]

    @property
    def parts(self) -> set[str]:
        """Which inputs of later heads bring them what the answer needs from `previous`."""
        needed = self.accuracy / 2
        return {part for part, accuracy in self.accuracy_cut.items() if accuracy < needed}


def find_circuit(model: Transformer, batch: Batch) -> Circuit:
    """Find both heads by where they look, and measure what the answer needs.

    `corrupt` replaces the earlier A's. Attention is measured where the mechanism needs it and
    nowhere else. Of several heads that look one back, the one is taken whose ablation costs most: a
    head may look and write nothing.
    """
    back, match = mark_targets(batch)
    previous = score_heads(model, batch.clean, back)
    induction = score_heads(model, batch.clean, match)
    without = ablate_each_head(
        model, batch.clean, lambda logits: batch.correct(logits).float(), "zero"
    )
    # Looking there is not yet writing.
    looks_back = previous > previous.max() - 0.1
    needed = torch.where(looks_back, -without, float("-inf"))
    layer, head = divmod(int(needed.argmax()), model.config.n_heads)
    others = previous[layer].clone()
    others[head] = float("inf")
    return Circuit(
        previous=f"a{layer}.h{head}",
        induction="a{}.h{}".format(*divmod(int(induction.argmax()), model.config.n_heads)),
        control=f"a{layer}.h{int(others.argmin())}",
        previous_scores=previous,
        score_induction=induction,
        accuracy=batch.accuracy(model),
        accuracy_without=without,
        accuracy_cut=cut_edges(model, batch, f"a{layer}.h{head}"),
    )


def mark_targets(batch: Batch) -> Bool[Tensor, "2 batch query key"]:
    """Mark where the two heads should look.

    The first looks from each token after an earlier A back to it, the second from the last A to
    those tokens.
    """
    row, key = (batch.clean != batch.corrupt)[:, :-1].nonzero(as_tuple=True)  # the earlier A's
    targets = torch.zeros(2, *batch.clean.shape, batch.clean.shape[1], dtype=torch.bool)
    targets[0, row, key + 1, key] = True
    targets[1, row, batch.position[row], key + 1] = True
    return targets


@torch.no_grad()
def cut_edges(model: Transformer, batch: Batch, sender: str) -> dict[str, float]:
    """Measure accuracy when one head no longer reaches later queries, or keys, or values."""
    out = [edge for edge in map(Edge.parse, list_edges(model)) if str(edge.writer) == sender]
    cut = {part: [edge for edge in out if edge.part == part] for part in "qkv"}
    masks = torch.stack([1 - mask_of(model, edges) for edges in cut.values()])
    logits = run_edges(model, batch.clean, masks, write_outputs(model, batch.clean, "zero"))
    return dict(zip(cut, batch.correct(logits).float().mean(dim=1).tolist(), strict=True))


def map_information(model: Transformer, batch: Batch) -> Float[Tensor, "place pos"]:
    """Measure the share of the answer that one clean stream at one position restores.

    Rows are before each layer, and after the last. All zeros for a model to which the corruption
    makes no difference.
    """
    pair = model, batch.clean, batch.corrupt, batch.logit_difference
    pre, post = (
        patch_activations(*pair, site, direction="denoise") for site in ("resid_pre", "resid_post")
    )
    values = torch.cat([pre, post[-1:]])
    try:
        return measure_share_recovered(values, *pair)
    except ValueError:
        return torch.zeros_like(values)


def align(batch: Batch) -> Batch:
    """Select the prompts with one earlier A, in the place where most of them have it.

    A map can average over them.
    """
    earlier = batch.clean != batch.corrupt
    place = torch.where(earlier.sum(dim=1) == 1, earlier.float().argmax(dim=1), -1)
    if not (place >= 0).any():
        raise ValueError(
            "every prompt has several earlier occurrences of its last token, "
            "but a map needs exactly one"
        )
    same = place == place[place >= 0].mode().values
    names = ("clean", "corrupt", "answer", "wrong", "position")
    return Batch(*(getattr(batch, name)[same] for name in names))
