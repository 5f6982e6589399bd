"""The tour's analysis finds the known circuit, and is not taken in by a decoy."""

import pytest
import torch

from mini_transformer import toys
from mini_transformer.tour.circuit import align, find_circuit, map_information, mark_targets


@pytest.fixture
def hand_set() -> toys.Case:
    return toys.load("induction_by_hand")


def draw(case: toys.Case) -> toys.Batch:
    return case.task.draw(128, seed=4, corrupt="source")


def test_the_analysis_finds_the_known_circuit_of_the_hand_set_model(hand_set):
    found, truth = find_circuit(hand_set.model, draw(hand_set)), hand_set.truth.circuits["mean"]
    assert {found.previous, found.induction} == truth.nodes[0] - {"input", "logits"}
    assert {f"{found.previous}->{found.induction}<{part}>" for part in found.parts} <= truth.edges[
        0
    ]
    assert found.parts == {"k"}
    assert found.control == "a0.h1"


def test_a_decoy_that_looks_one_back_and_writes_nothing_is_not_taken_for_the_head(hand_set):
    attn = hand_set.model.blocks[0].attn
    with torch.no_grad():
        for weight in (attn.W_Q, attn.W_K, attn.W_V, attn.W_O):
            weight.copy_(weight.flip(0))  # now a0.h0 is the decoy
    found = find_circuit(hand_set.model, draw(hand_set))
    assert found.previous_scores[0].tolist() == pytest.approx([1.0, 1.0], abs=1e-4)
    assert found.previous == "a0.h1"


def test_targets_are_the_earlier_a_and_the_token_after_it(hand_set):
    batch = draw(hand_set)
    back, match = mark_targets(batch)
    for row, prompt in enumerate(batch.clean.tolist()):
        earlier = [i for i in range(15) if prompt[i] == prompt[15]]
        assert back[row].nonzero().tolist() == [[i + 1, i] for i in earlier]
        assert match[row].nonzero().tolist() == [[15, i + 1] for i in earlier]
        assert all(prompt[i + 1] == batch.answer[row] for i in earlier)


def test_aligned_prompts_have_their_one_earlier_a_in_one_place(hand_set):
    batch = draw(hand_set)
    aligned = align(batch)
    moved = aligned.clean != aligned.corrupt
    assert (moved.sum(dim=1) == 1).all()
    assert (moved == moved[0]).all()
    places = (batch.clean != batch.corrupt).float().argmax(dim=1)
    assert len(aligned.clean) == places.bincount().max()


def test_information_moves_one_place_per_layer_and_then_to_the_end(hand_set):
    aligned = align(draw(hand_set))
    earlier = int((aligned.clean != aligned.corrupt)[0].float().argmax())
    moved = map_information(hand_set.model, aligned)
    assert moved.argmax(dim=1).tolist() == [earlier, earlier + 1, 15]
    assert moved.max(dim=1).values.tolist() == pytest.approx([1.0, 1.0, 1.0], abs=1e-3)
