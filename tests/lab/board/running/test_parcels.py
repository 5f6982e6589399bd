"""What crosses to whoever answers, and what comes back, is what it was, and nothing more."""

import numpy as np
import pytest
import torch
from sample_problem import make_problem

from mini_transformer.board.families import find_family
from mini_transformer.board.running.parcels import open_answer, pack, pack_answer, unpack
from mini_transformer.edges import Edge, EdgeScores, list_edges
from mini_transformer.isolation.wire import WireError

CIRCUIT, FEATURES, PROBE = map(find_family, ("circuit", "features", "probe"))


def cross(family, answer, call=max):
    return open_answer(unpack(pack(pack_answer(family, answer))), call)


def test_the_arguments_of_a_problem_compute_the_same_on_the_other_side() -> None:
    given = make_problem().arguments
    model, clean, _, metric, ablation = unpack(pack(given))
    assert torch.equal(model(clean), given[0](given[1]))
    assert torch.equal(metric(model(clean)), given[3](given[0](given[1])))
    assert ablation == "zero"


def test_dataclasses_that_a_family_declares_cross_by_their_fields() -> None:
    pairs = find_family("variables").build(find_family("variables").names[0]).arguments[2]
    again = unpack(pack(pairs))
    assert type(again) is type(pairs)
    assert torch.equal(again.base, pairs.base)


def test_numbers_in_any_form_arrive_as_numbers() -> None:
    model = make_problem().arguments[0]
    scores = torch.rand(len(list_edges(model)))
    for answer in (EdgeScores(model, scores), scores.numpy(), torch.nn.Parameter(scores), scores):
        found = cross(CIRCUIT, answer)
        assert torch.equal(found, scores)
        assert type(found) is torch.Tensor
    by_edge = {Edge.parse(name): np.float32(1.5) for name in list_edges(model)}
    assert cross(CIRCUIT, by_edge) == dict.fromkeys(list_edges(model), 1.5)
    assert cross(CIRCUIT, [1, (2.5, None)]) == [1, (2.5, None)]


def test_of_an_object_the_declared_fields_and_calls_arrive_and_its_name() -> None:
    class Thing:
        W_dec = np.eye(2)
        secret = 5

        def encode(self, x):
            raise AssertionError("it runs where it was returned")

    found = cross(FEATURES, Thing(), lambda name, *arguments: (name, arguments))
    assert type(found).__name__ == "Thing"
    assert torch.equal(found.W_dec, torch.eye(2).double())
    assert found.encode(3) == ("encode", (3,))
    assert not hasattr(found, "secret")
    assert not hasattr(found, "decode")
    assert not callable(found)


def test_what_is_optional_and_absent_stays_absent() -> None:
    class Probe:
        directions = torch.eye(2)

    assert not hasattr(cross(PROBE, Probe()), "used")


def test_what_cannot_cross_is_said() -> None:
    with pytest.raises(WireError, match="a Probe cannot be sent"):
        pack(pack_answer(CIRCUIT, [type("Probe", (), {})()]))
