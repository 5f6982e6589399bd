"""What one does with a case of the zoo, done with a forged one."""

import copy

import pytest
import torch
from typer.testing import CliRunner

from mini_transformer import forge, plots, weights
from mini_transformer.board.families import find_family
from mini_transformer.board.families.circuit.problems import make_problem
from mini_transformer.claims import ClaimCard, Measurement
from mini_transformer.cli import app
from mini_transformer.methods import ablate_each_head, patch_activations, patch_edges
from mini_transformer.tour.circuit import map_information
from mini_transformer.toys import Batch
from mini_transformer.toys.ablated_accuracy import measure_accuracy
from mini_transformer.toys.verify import measure_effect, measure_readable


@pytest.fixture(scope="module")
def case() -> forge.ForgedCase:
    return forge.make(7, size=2, positions="fixed")


@pytest.fixture(scope="module")
def batch(case: forge.ForgedCase) -> Batch:
    return case.task.draw(16, seed=2)


def test_a_claim_card_about_it_is_checked(case: forge.ForgedCase) -> None:
    card = ClaimCard(
        claim="the last table gives the answer, a decoy does not",
        model=case.name,
        task=case.task.description,
        data="all prompts",
        components=case.truth.roles["look_up 0"],
        intervention="zero ablation of all edges out of it",
        refuted_by="an accuracy that stays",
        effect=Measurement("accuracy", lambda: measure_accuracy(case, ["look_up 0"]), high=0.6),
        control=Measurement("accuracy", lambda: measure_accuracy(case, ["decoy 0"]), low=1.0),
    )
    assert card.check()
    assert case.name in repr(card)


def test_all_that_is_claimed_is_measured_again_from_the_terminal() -> None:
    ran = CliRunner().invoke(app, ["forge", "--seed", "3", "--size", "1", "--verify"])
    assert ran.exit_code == 0, ran.output
    assert "forged_3" in ran.output
    assert "zero circuits of edges" in ran.output
    assert "claims hold." in ran.output


def test_it_is_drawn(case: forge.ForgedCase, batch: Batch) -> None:
    _, cache = case.model.run_with_cache(batch.clean)
    tokens = case.task.read(batch.clean[0]).split()
    assert plots.plot_attention(cache["pattern", 0][0, 0], tokens).get_xlabel() == "looks at"
    runs = case.model, batch.clean
    effects = ablate_each_head(*runs, batch.logit_difference, "zero")
    assert plots.plot_heads(effects).get_ylabel() == "layer"
    shares = patch_activations(
        *runs, batch.corrupt, batch.logit_difference, "resid_pre", direction="denoise"
    )
    layers = [f"before layer {layer}" for layer in range(len(shares))]
    assert plots.plot_patching(shares, layers, tokens).get_xlabel() == "patched position"


def test_the_tours_map_ends_at_the_answer(case: forge.ForgedCase, batch: Batch) -> None:
    shares = map_information(case.model, batch)
    assert shares.shape == (case.model.config.n_layers + 1, case.model.config.n_ctx)
    assert shares[-1, -1] == pytest.approx(1.0, abs=1e-3)
    assert shares[-1, :-1].abs().max() < 1e-3


@pytest.mark.parametrize("ablation", ["zero", "mean", "resample"])
def test_the_board_makes_a_problem_of_it(
    case: forge.ForgedCase, batch: Batch, ablation: str
) -> None:
    right = case.truth.circuits[ablation]
    problem = make_problem(
        case.name, 0, case.model, batch, ablation, right.edges, right.note, right.nodes
    )
    family = find_family("circuit")
    scores = {
        name: problem.measure(family.check_answer(answer, problem.arguments))["f1_best"]
        for name, answer in {
            "oracle": problem.oracle(),
            "random": problem.random(0),
            "patching": patch_edges(*problem.arguments, direction="noise"),
        }.items()
    }
    assert scores["oracle"] == 1.0
    assert scores["random"] < 0.2 < 0.8 < scores["patching"]


def test_its_variables_are_found_and_moved(case: forge.ForgedCase, batch: Batch) -> None:
    every = case.task.everything().distinct()
    with torch.no_grad():
        _, found = case.model.run_with_cache(every.clean)
        own, _ = case.model.run_with_cache(batch.clean)
        _, corrupt = case.model.run_with_cache(batch.corrupt)
        for variable in case.truth.variables.values():
            assert measure_readable(variable, every, found[variable.site]) == 1.0
            assert measure_effect(case, variable, batch, own, corrupt[variable.site]) > 0.5


def test_it_is_copied_and_rewritten(case: forge.ForgedCase, batch: Batch) -> None:
    with torch.no_grad():
        logits = case.model(batch.clean)
        torch.testing.assert_close(copy.deepcopy(case).model(batch.clean), logits)
        centred = weights.center_unembed(case.model)(batch.clean)
    centred_logits = logits - logits.mean(dim=-1, keepdim=True)
    torch.testing.assert_close(centred, centred_logits, rtol=0, atol=1e-3)
