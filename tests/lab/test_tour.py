"""The tour says yes where the circuit is, no where it is not, and the same for the same seed."""

import json
from dataclasses import replace

import pytest
import torch

from mini_transformer import Transformer, toys
from mini_transformer.tour import run, run_tour
from mini_transformer.tour.circuit import align, find_circuit, map_information, mark_targets
from mini_transformer.train import History


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


def test_the_tour_says_yes_to_a_model_that_has_the_circuit_and_draws_it(hand_set, tmp_path):
    tour = run.examine(hand_set, None, tmp_path / "figure.png", start=0.0)
    assert tour.ok, tour
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert "The circuit is there." in repr(tour)


def cut_output_of_previous(model):
    model.blocks[0].attn.W_O[0] = 0


def cut_keys_of_the_match(model):
    model.blocks[1].attn.W_K[0] = 0


def look_two_back(model):
    model.blocks[0].attn.W_K[0] = model.blocks[0].attn.W_K[0].roll(1, dims=1)


def say_another_token(model):
    model.W_U.copy_(model.W_U.roll(1, dims=1))


def silence_everything(model):
    for parameter in model.parameters():
        parameter.zero_()


@pytest.mark.parametrize(
    "damage",
    [
        cut_output_of_previous,
        cut_keys_of_the_match,
        look_two_back,
        say_another_token,
        silence_everything,
    ],
)
def test_the_tour_says_no_to_a_damaged_model(hand_set, tmp_path, damage):
    with torch.no_grad():
        damage(hand_set.model)
    tour = run.examine(hand_set, None, tmp_path / "figure.png", start=0.0)
    assert not tour.ok
    assert "The circuit is NOT there" in repr(tour)
    assert any(not expected.holds(value) for expected, value in tour.numbers)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_tour_says_no_to_an_untrained_model(hand_set, tmp_path, seed):
    untrained = replace(hand_set, model=Transformer(hand_set.model.config, seed=seed))
    assert not run.examine(untrained, None, tmp_path / "figure.png", start=0.0).ok


def test_with_json_the_tour_prints_data_and_nothing_else(hand_set, tmp_path, monkeypatch, capsys):
    history = History(loss=[2.7, 1.0, 0.0], accuracy=[0.0, 0.6, 1.0])
    monkeypatch.setattr(
        run,
        "train_case",
        lambda seed, progress: pytest.fail("a progress bar") if progress else (hand_set, history),
    )
    tour = run_tour(json=True, out=tmp_path / "new" / "folder")
    printed = capsys.readouterr()
    data = json.loads(printed.out)
    assert printed.err == ""
    assert data["ok"] is True
    assert data["heads"] == {"previous": "a0.h0", "induction": "a1.h0", "control": "a0.h1"}
    assert data["steps"] == 3
    assert tour.figure.exists()


def test_the_story_ends_with_the_claim_the_figure_and_what_to_do_next(
    hand_set, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(
        run, "train_case", lambda seed, progress: (hand_set, History(loss=[1.0], accuracy=[0.0]))
    )
    run_tour(out=tmp_path)
    story = capsys.readouterr().out
    for part in (
        "previous-token head a0.h0",
        "refuted by",
        "verdict       holds",
        "tour-seed-0.png",
        "minilab init",
    ):
        assert part in story


def test_a_folder_that_cannot_be_written_is_found_before_training(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(run, "train_case", lambda seed, progress: pytest.fail("trained first"))
    with pytest.raises(
        ValueError, match=r"cannot write to .*file.* choose another folder with --out"
    ):
        run_tour(out=tmp_path / "file" / "out")


def test_the_quick_tour_finds_the_circuit_in_the_shipped_model(tmp_path):
    tour = run_tour(quick=True, out=tmp_path)
    assert tour.ok, tour
    assert tour.steps is None
    assert tour.circuit.previous.startswith("a0.")
    assert tour.circuit.parts == {"k"}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_the_whole_tour_finds_the_circuit_from_scratch(tmp_path, seed):
    tour = run_tour(seed=seed, json=True, out=tmp_path)
    assert tour.ok, tour
    assert tour.seconds < 60


@pytest.mark.slow
def test_the_same_seed_gives_the_same_tour(tmp_path):
    first, second = (
        run_tour(seed=0, json=True, out=tmp_path).to_data() | {"seconds": 0} for _ in range(2)
    )
    assert first == second
