"""Answers that do not look at what a forged model does earn little.

F1 of the highest-scoring edges, as many as the circuits have, against all circuits' edges together.
Where a circuit's edges stand in a model is no secret (they seldom go from head to head), so AUROC
of a guess from names alone is higher; F1 counts which edges it finds.
"""

from collections import defaultdict

import pytest
import torch
from cheaters import learn_names, score_by_names, score_by_nothing, score_by_weights

from mini_transformer import forge
from mini_transformer.board.metrics.circuit import compare_sets, keep_highest
from mini_transformer.edges import mask_of
from mini_transformer.methods import patch_edges


def measure_cheaters(n: int) -> dict[str, float]:
    """Mean F1 of every cheater, and of exact patching, with resampling."""
    scores: dict[str, list[float]] = defaultdict(list)
    learned = learn_names(forge.many(2 * n, seed=9), "resample")
    for case in forge.many(n):
        model = case.model
        circuits = case.truth.circuits["resample"].edges
        truth = torch.stack([mask_of(model, one) for one in circuits]).bool().any(dim=0)
        batch = case.task.draw(16, seed=1)
        answers = score_by_weights(model) | score_by_names(model) | score_by_nothing(model)
        answers["learned names"] = learned(model)
        answers["everything"] = torch.arange(len(truth)).flip(0).float()
        runs = model, batch.clean, batch.corrupt, batch.logit_difference
        answers["patching"] = patch_edges(*runs, direction="noise").values
        for name, answer in answers.items():
            kept = keep_highest(answer, int(truth.sum()))
            scores[name].append(compare_sets(kept, truth)["f1"])
    return {name: sum(own) / len(own) for name, own in scores.items()}


def assert_cheaters_lose(n: int) -> dict[str, float]:
    found = measure_cheaters(n)
    patching = found.pop("patching")
    assert patching > 0.9
    for name, score in found.items():
        assert score < patching - 0.25, (name, score)
    return found


def test_cheaters_lose() -> None:
    assert_cheaters_lose(2)


@pytest.mark.slow
def test_cheaters_are_hardly_better_than_chance_over_100_models() -> None:
    """All but who has learned from 200 models where circuits like to be."""
    found = assert_cheaters_lose(100)
    del found["learned names"]
    assert max(found.values()) < found["random"] + 0.1


def test_no_coordinate_of_the_stream_carries_a_variable() -> None:
    for case in forge.many(3, seed=2):
        for variable in case.truth.variables.values():
            assert variable.subspace.square().sum(dim=0).max() < 0.5  # 1 is a whole coordinate
