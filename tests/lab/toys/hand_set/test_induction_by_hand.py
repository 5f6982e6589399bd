"""Induction set by hand: its attention and answers against plain loops over the prompt."""

import pytest
import torch

from mini_transformer import toys
from mini_transformer.edges import mask_of, run_edges, write_outputs
from mini_transformer.toys.hand_set.induction_by_hand import LENGTH, N_TOKENS

SEEDS = [0, 1, 2, 7]


@pytest.mark.parametrize("corrupt", ["source", "answer", "fresh"])
def test_prompts_are_what_the_task_says(corrupt: str) -> None:
    batch = toys.load("induction_by_hand").task.draw(100, seed=3, corrupt=corrupt)
    for clean, corrupted, answer, wrong in zip(
        *(part.tolist() for part in (batch.clean, batch.corrupt, batch.answer, batch.wrong)),
        strict=True,
    ):
        assert len(clean) == LENGTH
        assert clean[0] == 0
        assert 0 not in clean[1:]
        source = clean.index(clean[-1])  # the earlier occurrence
        assert source < LENGTH - 1
        assert clean[source + 1] == answer
        changed = [i for i in range(LENGTH) if clean[i] != corrupted[i]]
        if corrupt == "fresh":
            assert corrupted[corrupted.index(corrupted[-1]) + 1] == wrong != answer
        else:
            assert changed == [source + (corrupt == "answer")]
            assert corrupted[changed[0]] == wrong not in clean


@pytest.mark.parametrize("seed", SEEDS)
def test_it_copies_what_followed_the_earlier_occurrence_at_every_position_that_has_one(
    seed: int,
) -> None:
    case = toys.load("induction_by_hand", seed)
    tokens = case.task.draw(50, seed=5).clean
    said = case.model(tokens).argmax(dim=-1)
    for prompt, words in zip(tokens.tolist(), said.tolist(), strict=True):
        for i in range(1, LENGTH):
            if prompt[i] in prompt[:i]:
                assert words[i] == prompt[prompt.index(prompt[i]) + 1]


def test_other_seeds_put_heads_and_tokens_in_other_places() -> None:
    roles = {tuple(toys.load("induction_by_hand", seed).truth.roles.values()) for seed in range(12)}
    assert len(roles) == 4  # both orders in both layers
    rows = {
        tuple(toys.load("induction_by_hand", seed).model.W_E[3].nonzero().flatten().tolist())
        for seed in range(12)
    }
    assert len(rows) > 4
    tokens = toys.load("induction_by_hand").task.draw(20).clean
    one, other = (toys.load("induction_by_hand", seed).model(tokens) for seed in (0, 7))
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize("seed", SEEDS)
def test_each_edge_of_the_circuit_is_needed_and_no_other(seed: int) -> None:
    """All pairs of removals, too: the whole circuit works, no part of it does."""
    case = toys.load("induction_by_hand", seed)
    for ablation, circuits in case.truth.circuits.items():
        batch = case.task.draw(32, seed=9, corrupt=circuits.corrupt)
        off = write_outputs(
            case.model, batch.corrupt if ablation == "resample" else batch.clean, ablation
        )
        (edges,) = circuits.edges
        parts = [edges, *(edges - {one, other} for one in edges for other in edges)]
        masks = torch.stack([mask_of(case.model, part) for part in parts])
        with torch.no_grad():
            right = (
                batch.correct(run_edges(case.model, batch.clean, masks, off)).float().mean(dim=1)
            )
        assert right[0] == 1
        assert right[1:].max() < 0.5


@pytest.mark.parametrize("seed", SEEDS)
def test_the_previous_token_is_written_along_its_own_direction(seed: int) -> None:
    case = toys.load("induction_by_hand", seed)
    tokens = torch.randint(N_TOKENS, (20, 24), generator=torch.Generator().manual_seed(0))
    variable = case.truth.variables["previous token"]
    stream = case.model.run_with_cache(tokens)[1][variable.site]
    for b in range(20):
        for i in range(24):
            wrote = variable.subspace @ stream[b, i]
            assert wrote.argmax() == tokens[b, max(i - 1, 0)]
            assert wrote.max() > 0.99


def test_printing_a_case_draws_its_circuit() -> None:
    drawn = repr(toys.load("induction_by_hand", seed=0))
    assert "a0.h0 --k (previous token)--> a1.h0" in drawn
