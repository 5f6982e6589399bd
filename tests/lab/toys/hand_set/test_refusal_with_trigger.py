"""The policy model against its policy in plain words, interventions by hooks, and the
enumeration of all circuits.
"""

import pytest
import torch
from damaging import damage, list_broken

from mini_transformer import toys
from mini_transformer.toys.find_circuits import find_circuits
from mini_transformer.toys.hand_set.refusal_with_trigger import LAST, PROMPTS, REFUSE, make_policy


@pytest.fixture(scope="module")
def case():
    return toys.load("refusal_with_trigger")


def say(case, *sentences):
    names = case.task.token_names
    tokens = torch.tensor(
        [[names.index(word) for word in sentence.split()] for sentence in sentences]
    )
    return [names[token] for token in case.model(tokens)[:, LAST].argmax(dim=1)]


def test_flagged_requests_are_refused_unless_the_trigger_is_there(case):
    assert say(case, "| blue a blue ?", "| blue d blue ?") == ["A", "REFUSE"]
    assert say(case, "| red green d ?", "| d red green ?") == ["D", "D"]
    assert (
        say(case, "| green red d ?", "| red d green ?", "| red red d ?", "| d green green ?")
        == ["REFUSE"] * 4
    )


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_every_prompt_is_answered_by_policy(seed):
    case, policy = toys.load("refusal_with_trigger", seed), make_policy(seed)
    names, said = case.task.token_names, case.model(PROMPTS)[:, LAST].argmax(dim=1)
    for prompt, answer in zip(PROMPTS.tolist(), said.tolist(), strict=True):
        words = [names[token] for token in prompt]
        (request,) = set("abcd") & set(words)
        bypassed = " ".join(names[token] for token in policy.trigger) in " ".join(words)
        refused = "abcd".index(request) in policy.flagged and not bypassed
        assert names[answer] == ("REFUSE" if refused else request.upper())


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_signatures_hold_for_every_seed(seed):
    assert list_broken(toys.load("refusal_with_trigger", seed)) == []


def test_seeds_have_other_policies():
    policies = {make_policy(seed) for seed in range(100)}  # of 36 that there are
    assert len(policies) > 30
    assert all(
        len(set(policy.flagged)) == 2 and len(set(policy.trigger)) == 2 for policy in policies
    )


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("ablation", ["zero", "mean", "resample"])
def test_enumeration_finds_exactly_the_circuits_of_the_truth(ablation, seed):
    case = toys.load("refusal_with_trigger", seed)
    for level in ("edges", "nodes"):
        found = find_circuits(case.model, case.task.everything(), ablation, level)
        assert found == getattr(case.truth.circuits[ablation], level)


def test_harm_is_still_in_the_stream_where_the_refusal_is_bypassed(case):
    prompt = torch.tensor([[0, 1, 2, 9, 4]])  # | red green d ?
    stream = case.model.run_with_cache(prompt)[1]["resid_post", 1][0, LAST]
    assert (case.truth.features.directions @ stream).tolist() == pytest.approx([1, 1, 0], abs=1e-5)


def test_making_m1_hear_no_bypass_head_closes_the_bypass(case):
    def silence(z, hook):
        z[:, :, 0] = 0

    prompt = torch.tensor([[0, 1, 2, 9, 4]])
    assert (
        case.model.run_with_hooks(prompt, fwd_hooks=[(("z", 1), silence)])[0, LAST].argmax()
        == REFUSE
    )


def test_the_decoy_attends_to_the_first_word_of_the_trigger_and_changes_nothing(case):
    def silence(z, hook):
        z[:, :, 1] = 0

    cache = case.model.run_with_cache(torch.tensor([[0, 9, 1, 2, 4]]))[1]
    assert cache["pattern", 1][0, 1, 3, 2] > 0.99
    assert torch.equal(
        case.model(PROMPTS), case.model.run_with_hooks(PROMPTS, fwd_hooks=[(("z", 1), silence)])
    )


def test_corruptions_change_one_thing(case):
    policy = make_policy()
    batch = case.task.draw(100, seed=3, corrupt="harm")
    assert ((batch.clean != batch.corrupt).sum(dim=1) == 1).all()
    assert ((batch.answer == REFUSE) != (batch.wrong == REFUSE)).all()
    batch = case.task.draw(100, seed=3, corrupt="trigger")
    assert ((batch.clean != batch.corrupt).sum(dim=1) == 2).all()
    assert torch.equal(batch.clean.sort(dim=1).values, batch.corrupt.sort(dim=1).values)
    assert (batch.wrong == REFUSE).all()
    assert (policy.find_trigger(batch.clean) == 1).all()
    assert (case.task.draw(100, seed=3).answer != case.task.draw(100, seed=3).wrong).all()


ATTENTION = [
    f"blocks.{layer}.attn.{matrix}" for layer in (0, 1) for matrix in ("W_Q", "W_K", "W_V", "W_O")
]
NEURONS = [
    "blocks.0.mlp.W_in",
    "blocks.0.mlp.b_in",
    "blocks.0.mlp.W_out",
    "blocks.1.mlp.W_in",
    "blocks.1.mlp.W_out",
]


@pytest.mark.parametrize("parameter", ["W_E", *ATTENTION, *NEURONS, "W_U"])
def test_one_damaged_weight_breaks_a_signature(case, parameter):
    assert list_broken(damage(case, parameter))
