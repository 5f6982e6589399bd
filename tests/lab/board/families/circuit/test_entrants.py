"""Methods for circuits that are not the package's own: each against what it stands for."""

import pytest
import torch

from mini_transformer import methods
from mini_transformer.board.families.circuit import FAMILY, entrants
from mini_transformer.board.families.circuit.planted import plant_period
from mini_transformer.board.problem import NotApplicable

ZERO = FAMILY.build("period/zero", 0).arguments
RESAMPLE = FAMILY.build("cancelling/resample", 0).arguments


def test_a_method_says_that_an_ablation_is_not_for_it() -> None:
    for method, arguments in (
        (entrants.restore_edges, ZERO),
        (entrants.patch_by_zeros, ZERO),
        (entrants.patch_by_others, RESAMPLE),
    ):
        with pytest.raises(NotApplicable):
            method(*arguments)


def test_patching_by_another_ablation_is_that_of_the_other_problem() -> None:
    model, clean, corrupt, metric, _ = RESAMPLE
    by_zeros, by_others = (
        methods.patch_edges(model, clean, corrupt, metric, kind, direction="noise").values
        for kind in ("zero", "resample")
    )
    assert torch.equal(entrants.patch_by_zeros(*RESAMPLE).values, by_zeros)
    others = entrants.patch_by_others(model, clean, corrupt, metric, "zero")
    assert torch.equal(others.values, by_others)


def test_nodes_are_scored_by_what_is_lost_without_them() -> None:
    model, clean, _, metric, _ = ZERO
    found = entrants.ablate_nodes(*ZERO)
    whole = metric(model(clean)).mean().item()
    for head in range(model.config.n_heads):

        def silence(value, hook, head=head):
            value[:, :, head] = 0

        left = metric(model.run_with_hooks(clean, fwd_hooks=[(("z", 0), silence)])).mean().item()
        assert found[f"a0.h{head}"] == pytest.approx(whole - left, abs=1e-4)


def test_patterns_point_at_the_two_heads_that_look_like_induction() -> None:
    previous, behind = plant_period(0).nodes
    scores = entrants.read_patterns(*ZERO)
    assert scores[f"{previous}->{behind}<k>"] == max(scores.values()) > 0.8
    assert scores["input->logits"] == 0
    edges = entrants.list_induction_edges((0, int(previous[-1])), (1, int(behind[-1])))
    assert {scores[edge] for edge in edges} == {max(scores.values())}
    assert len(edges) == 7
