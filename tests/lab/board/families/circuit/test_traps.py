"""Traps for circuit: who falls, who does not, and that each is built as it says."""

import pytest
import torch
from trap_checks import check_trap

from mini_transformer.board.families.circuit import FAMILY
from mini_transformer.board.families.circuit.traps import LEAST, TRAPS, tell_apart, watch_order
from mini_transformer.edges import Edge, list_edges

# Who falls and who does not, with a fast one of each.
MET = {
    "backup/zero": ("node_ablation", "eap"),
    "both/resample": ("edge_patching_denoise", "edge_patching"),
    "cancelling/resample": ("eap", "edge_patching"),
    "needed/resample": ("edge_patching", "edge_patching_by_zeros"),
    "period/zero": ("attention_patterns", "edge_patching"),
    "second_way/several": ("acdc", "eap_ig_inputs"),
    "second_way/zero": ("edge_patching", "node_ablation"),
    "sharp/resample": ("eap", "edge_patching"),
    "silent/zero": ("attention_patterns", "edge_patching"),
    "unread/resample": ("activation_changes", "edge_patching"),
    "varying/zero": ("edge_patching", "edge_patching_by_others"),
}


def test_every_trap_is_tried_here() -> None:
    assert set(TRAPS) == set(MET)


DEAR = ("second_way/several", "second_way/zero", "backup/zero", "unread/resample")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in DEAR)) for name in MET]
)
def test_a_method_that_the_trap_is_built_for_falls_and_another_does_not(name: str) -> None:
    check_trap("circuit", name, *MET[name])


def test_told_apart_counts_pairs_and_nodes_at_the_ends_of_edges() -> None:
    model = TRAPS["cancelling/resample"]("cancelling/resample", 0).arguments[0]
    edges = list_edges(model)
    scores = torch.randint(4, (len(edges),), generator=torch.Generator().manual_seed(0)).float()
    above, below = set(edges[2:6]), set(edges[8:13])
    by_name = dict(zip(edges, scores.tolist(), strict=True))
    counts = [
        (by_name[high] > by_name[low]) + 0.5 * (by_name[high] == by_name[low])
        for high in above
        for low in below
    ]
    assert tell_apart(model, scores, above, below) == pytest.approx(sum(counts) / len(counts))
    nodes = {str(Edge.parse(edge).writer): 0.0 for edge in edges} | {"a0.h0": 1.0}
    assert tell_apart(model, nodes, {"input->a0.h0<v>"}, {"a0.h1->logits"}) == 1
    nodes["a0.h1"] = 2.0
    assert tell_apart(model, nodes, {"input->a0.h0<v>"}, {"a0.h1->logits"}) == 0
    assert tell_apart(model, nodes, {"input->a0.h0<v>"}, {"input->logits"}) is None
    both = {"a0.h0->m0", "a0.h1->m0"}
    shared = {"a0.h0->logits", "m0->logits"}  # so that a0.h1 alone is above
    assert tell_apart(model, nodes, both, {"a0.h2->logits"}, shared) == 1
    nodes["a0.h2"] = 1.5
    assert tell_apart(model, nodes, both, {"a0.h2->logits"}, shared) == 1
    assert tell_apart(model, nodes, both, {"a0.h2->logits"}) == 1 / 3


def test_the_best_of_several_alternatives_counts_and_a_method_falls_up_to_the_limit() -> None:
    plain = FAMILY.build("cancelling/resample", 0)
    edges = list_edges(plain.arguments[0])
    problem = watch_order(plain, [{edges[0]}, {edges[1]}], "It hides.", "it is idle", {edges[2]})
    scores = torch.zeros(len(edges))
    assert problem.measure(scores)["told_apart"] == 0.5
    assert problem.trap.falls(problem.measure(scores))
    scores[1] = 1  # one of the two is enough
    assert problem.measure(scores)["told_apart"] == 1
    assert not problem.trap.falls(problem.measure(scores))
    assert problem.trap.falls({"told_apart": LEAST})
    assert not problem.trap.falls({})
