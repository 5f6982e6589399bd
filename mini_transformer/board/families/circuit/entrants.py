"""Methods that score edges or nodes: those of the package, and some easily fooled.

The last ones of `ENTRANTS` answer another question than the one asked, or look at something cheaper
than what a part does. They are here to show what the traps are for.
"""

import functools
import itertools

from mini_transformer import methods
from mini_transformer.board.problem import Method, NotApplicable
from mini_transformer.edges import EdgeScores, list_edges

__all__ = [
    "ENTRANTS",
    "ablate_nodes",
    "patch_by_others",
    "patch_by_zeros",
    "read_patterns",
    "restore_edges",
]


def restore_edges(model, clean, corrupt, metric, ablation) -> EdgeScores:
    """Denoise each edge alone. Needs resample ablation."""
    if ablation != "resample":
        raise NotApplicable
    return methods.patch_edges(model, clean, corrupt, metric, ablation, direction="denoise")


def ablate_nodes(model, clean, corrupt, metric, ablation) -> dict[str, float]:
    """Score each node by what the metric loses without it."""
    losses = methods.split_effects(model, clean, corrupt, metric, ablation)["total"]
    return {node: loss.item() for node, loss in losses.items()}


def patch_by_zeros(model, clean, corrupt, metric, ablation) -> EdgeScores:
    """Patch edges with zeros, whatever ablation is asked for."""
    if ablation == "zero":
        raise NotApplicable  # that is edge patching
    return methods.patch_edges(model, clean, corrupt, metric, "zero", direction="noise")


def patch_by_others(model, clean, corrupt, metric, ablation) -> EdgeScores:
    """Patch edges with another prompt's values, whatever ablation is asked for."""
    if ablation == "resample":
        raise NotApplicable
    return methods.patch_edges(model, clean, corrupt, metric, "resample", direction="noise")


def read_patterns(model, clean, corrupt, metric, ablation) -> dict[str, float]:
    """Score edges by attention patterns alone, as if the circuit were induction.

    Each pair of heads in two layers is taken for a previous-token head and one that looks behind a
    match; the pair's score is the product of both scores. An edge has the score of the best pair
    that it belongs to. Needs prompts that repeat tokens.
    """
    same = (clean[:, :, None] == clean[:, None, :]).tril(-1)
    if model.config.n_layers < 2 or not same[:, :, :-1].any():
        raise NotApplicable
    previous = methods.score_previous_token(model, clean)
    match = methods.score_induction(model, clean)
    heads = list(itertools.product(range(model.config.n_layers), range(model.config.n_heads)))
    scores = dict.fromkeys(list_edges(model), 0.0)
    for first, second in itertools.product(heads, heads):
        if first[0] < second[0]:
            score = (previous[first] * match[second]).item()
            for edge in list_induction_edges(first, second):
                scores[edge] = max(scores[edge], score)
    return scores


def list_induction_edges(first: tuple[int, int], second: tuple[int, int]) -> list[str]:
    """List the edges of an induction circuit of these two heads, each (layer, head)."""
    one, other = (f"a{layer}.h{head}" for layer, head in (first, second))
    from_input = [f"input->{node}<{part}>" for node in (one, other) for part in "qkv"]
    from_input.remove(f"input->{other}<k>")
    return [*from_input, f"{one}->{other}<k>", f"{other}->logits"]


ENTRANTS: dict[str, Method] = {
    "edge_patching": functools.partial(methods.patch_edges, direction="noise"),
    "edge_patching_denoise": restore_edges,
    "eap": methods.eap,
    "eap_ig_inputs": functools.partial(methods.eap, steps=10, along="inputs"),
    "eap_ig_masks": functools.partial(methods.eap, steps=10, along="masks"),
    "acdc": functools.partial(methods.sweep_acdc, taus=(0.01, 0.03, 0.1, 0.3)),
    "edge_mask": functools.partial(methods.train_edge_mask, draws=2),
    "node_ablation": ablate_nodes,
    "edge_patching_by_zeros": patch_by_zeros,
    "edge_patching_by_others": patch_by_others,
    "attention_patterns": read_patterns,
}
