"""Trivial scores of edges: each is what it says, and none asks the model anything."""

import pytest

from mini_transformer.board.families.circuit import FAMILY
from mini_transformer.board.families.circuit.references import (
    REFERENCES,
    find_best_paths,
    find_kind,
    follow_paths,
)
from mini_transformer.edges import Edge, list_edges, list_writers, write_outputs

RESAMPLE = FAMILY.build("cancelling/resample", 0).arguments


def test_what_changes_is_measured_by_the_length_of_the_difference() -> None:
    model, clean, corrupt, *_ = RESAMPLE
    found = REFERENCES["activation_changes"](*RESAMPLE)
    assert list(found) == list_writers(model)
    differences = write_outputs(model, clean) - write_outputs(model, corrupt)
    for score, difference in zip(found.values(), differences, strict=True):
        lengths = [vector.norm().item() for prompt in difference for vector in prompt]
        assert score == pytest.approx(sum(lengths) / len(lengths), rel=1e-4)


def test_trivial_scores_name_every_edge_and_a_path_is_as_strong_as_its_edges_together() -> None:
    for name, method in REFERENCES.items():
        scores = FAMILY.check_answer(method(*RESAMPLE), RESAMPLE)
        assert len(scores) == len(
            (list_writers if isinstance(scores, dict) else list_edges)(RESAMPLE[0])
        ), name


def test_a_path_is_as_strong_as_its_edges_together_and_paths_add_up() -> None:
    strengths = {"input->a0.h0<v>": 2.0, "a0.h0->m0": 3.0, "a0.h0->logits": 5.0, "m0->logits": 7.0}
    assert list(follow_paths(strengths).values()) == [52.0, 21.0, 5.0, 7.0]
    assert list(follow_paths(strengths, best=True).values()) == [42.0, 21.0, 5.0, 7.0]
    assert list(find_best_paths(strengths).values()) == [42.0, 42.0, 10.0, 42.0]
    assert find_kind(Edge.parse("a0.h1->a2.h0<k>")) == "head headk"
