"""The tour says yes where the circuit is, no where it is not, and the same for the same seed."""

import json
from dataclasses import replace

import pytest
import torch

from mini_transformer import Transformer, toys
from mini_transformer.tour import run, run_tour
from mini_transformer.train import History


@pytest.fixture
def hand_set() -> toys.Case:
    return toys.load("induction_by_hand")


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
