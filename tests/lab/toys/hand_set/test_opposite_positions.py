"""Effects that cancel between positions: on every pair, and what that does to circuits found."""

import pytest
import torch
from cheaters import score_by_names, score_by_nothing, score_by_weights
from torch import Tensor

from mini_transformer import toys
from mini_transformer.board.metrics.circuit import compare_sets, keep_highest
from mini_transformer.edges import mask_of, run_edges, write_outputs
from mini_transformer.methods import eap, patch_edges
from mini_transformer.toys.find_circuits import find_circuits, list_live_switches

SEEDS = [0, 1, 6]
ABLATIONS = ["zero", "mean", "resample"]


def load(seed: int) -> tuple[toys.Case, tuple]:
    case = toys.load("opposite_positions", seed)
    batch = case.task.everything()
    return case, (case.model, batch.clean, batch.corrupt, batch.logit_difference)


def measure_f1(scores: Tensor, truth: Tensor) -> float:
    return compare_sets(keep_highest(scores.flatten(), int(truth.sum())), truth.flatten())["f1"]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_first_capital_is_said(seed: int) -> None:
    model = toys.load("opposite_positions", seed).model
    for x in range(8):
        for y in range(8):
            capitals = [token for token in (x, y) if token >= 4]
            logits = model(torch.tensor([[x, y, 9]]))[0, -1]
            assert logits.argmax() == (capitals[0] if capitals else 8)


def test_everything_flips_both_cases_and_changes_the_answer() -> None:
    batch = toys.load("opposite_positions").task.everything()
    assert len(batch.clean) == 896
    assert ((batch.clean < 4) != (batch.corrupt < 4))[:, :2].all()
    assert (batch.answer != batch.wrong).all()


@pytest.mark.parametrize("ablation", ABLATIONS)
@pytest.mark.parametrize("seed", SEEDS)
def test_circuits_by_position_are_those_of_all_subsets(seed: int, ablation: str) -> None:
    case, _ = load(seed)
    batch = case.task.everything()
    claimed = case.truth.by_position[ablation]
    assert set(find_circuits(case.model, batch, ablation, "positions")) == set(claimed.edges)
    (by_edge,) = case.truth.circuits[ablation].edges
    assert {name.split(" @")[0] for name in claimed.edges[0]} == by_edge


@pytest.mark.parametrize("ablation", ABLATIONS)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_switch_that_is_not_live_changes_nothing(seed: int, ablation: str) -> None:
    case, _ = load(seed)
    batch = case.task.draw(32) if ablation == "resample" else case.task.everything().distinct()
    live = mask_of(case.model, list_live_switches(case.model, batch, ablation), 3)
    generator = torch.Generator().manual_seed(0)
    masks = torch.randint(2, (32, *live.shape), generator=generator).float()
    others = masks * live + torch.randint(2, masks.shape, generator=generator) * (1 - live)
    source = batch.corrupt if ablation == "resample" else batch.clean
    with torch.no_grad():
        off = write_outputs(case.model, source, ablation)
        runs = [run_edges(case.model, batch.clean, some, off) for some in (masks, others)]
    one, other = (batch.at_answer(logits) for logits in runs)
    torch.testing.assert_close(one, other, rtol=0, atol=1e-3)


@pytest.mark.parametrize("seed", SEEDS)
def test_effects_cancel_between_the_positions_on_every_pair_of_prompts(seed: int) -> None:
    case, _ = load(seed)
    batch = case.task.draw(60, seed=3)
    edges = ["input->m0", f"m0->{case.truth.roles['look']}<k>"]
    seen = 0
    for i in range(60):
        pair = toys.Batch(*(part[i : i + 1] for part in vars(batch).values()))
        scores = eap(case.model, pair.clean, pair.corrupt, pair.logit_difference, by_position=True)
        for edge in edges:
            first, second, last = scores[edge].tolist()
            assert abs(first + second) < 1e-4
            assert last == 0
            capitals = pair.clean[0, :2].unique()
            if capitals.min() >= 4 and len(capitals) == 2:
                assert first > 100
                seen += 1
    assert seen >= 10


@pytest.mark.parametrize("ablation", ["mean", "resample"])
@pytest.mark.parametrize("seed", SEEDS)
def test_gradients_find_the_circuit_by_position_and_half_of_it_in_the_sum(
    seed: int, ablation: str
) -> None:
    case, runs = load(seed)
    truth = mask_of(case.model, case.truth.circuits[ablation].edges[0]).bool()
    by_position = eap(*runs, ablation, by_position=True)
    assert measure_f1(by_position.values.amax(dim=1), truth) == 1.0
    switches = mask_of(case.model, case.truth.by_position[ablation].edges[0], 3).bool()
    assert measure_f1(by_position.values.abs(), switches) == 1.0
    plain = eap(*runs, ablation)
    assert measure_f1(plain.values, truth) == 0.5
    lost = ["input->m0", f"m0->{case.truth.roles['look']}<k>"]
    distractor = f"{case.truth.roles['faint']}->logits"
    assert max(abs(plain[edge]) for edge in lost) < 1e-5
    assert plain[distractor] > 0.05
    exact = patch_edges(*runs, ablation, direction="noise", by_position=True)
    assert measure_f1(exact.values.amax(dim=1), truth) == 1.0


@pytest.mark.parametrize("seed", SEEDS)
def test_with_zeros_the_constants_count_and_weights_tell_them(seed: int) -> None:
    case, runs = load(seed)
    truth = mask_of(case.model, case.truth.circuits["zero"].edges[0]).bool()
    by_position = eap(*runs, "zero", by_position=True).values.amax(dim=1)
    assert measure_f1(by_position, truth) == pytest.approx(0.86, abs=0.01)
    assert measure_f1(eap(*runs, "zero").values, truth) == pytest.approx(0.62, abs=0.01)
    guesses = {name: measure_f1(x, truth) for name, x in score_by_weights(case.model).items()}
    assert max(guesses.values()) == pytest.approx(0.71, abs=0.01)


@pytest.mark.parametrize("seed", SEEDS)
def test_guesses_without_a_run_find_at_most_a_quarter_of_the_circuit(seed: int) -> None:
    case, _ = load(seed)
    model = case.model
    truth = mask_of(model, case.truth.circuits["resample"].edges[0]).bool()
    guesses = score_by_weights(model) | score_by_names(model) | score_by_nothing(model)
    for name, guess in guesses.items():
        assert measure_f1(guess, truth) <= 0.25, name
