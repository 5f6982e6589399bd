"""Scores against a loop over prompts and queries, and on heads that were set by hand.

Checked against: a slow loop over prompts and queries, and heads that were set by hand.
"""

import pytest
import torch

from mini_transformer import toys
from mini_transformer.methods import (
    score_duplicate_token,
    score_heads,
    score_induction,
    score_previous_token,
    score_sink,
)

# kind -> does the query at i look for the key at j (at or before i, or anywhere in a model that is
# not causal)?
LOOKS_FOR = {
    score_previous_token: lambda tokens, i, j: j == i - 1,
    score_induction: lambda tokens, i, j: 0 < j <= i and tokens[j - 1] == tokens[i],
    score_duplicate_token: lambda tokens, i, j: j < i and tokens[j] == tokens[i],
    score_sink: lambda tokens, i, j: j == 0 and i > 0,
}


@pytest.fixture
def repetitive() -> torch.Tensor:
    return torch.tensor([[1, 1, 2, 1, 2, 3], [4, 5, 4, 5, 4, 0], [0, 1, 2, 3, 4, 5]])


@pytest.mark.parametrize("score", LOOKS_FOR, ids=lambda score: score.__name__)
@pytest.mark.parametrize("queries", [slice(None), slice(2, 5), slice(-2, None)], ids=str)
def test_a_score_is_the_mean_over_the_queries_that_have_something_to_look_for(
    model, repetitive, score, queries
):
    _, cache = model.run_with_cache(repetitive)
    for layer in range(model.config.n_layers):
        for head in range(model.config.n_heads):
            found = []
            for row, tokens in enumerate(repetitive.tolist()):
                for i in range(6)[queries]:
                    keys = [j for j in range(6) if LOOKS_FOR[score](tokens, i, j)]
                    if keys:
                        found.append(
                            sum(cache["pattern", layer][row, head, i, j].item() for j in keys)
                        )
            assert score(model, repetitive, queries)[layer, head].item() == pytest.approx(
                sum(found) / len(found)
            )


def test_heads_set_by_hand_score_what_they_were_set_to_do():
    case = toys.load("induction_by_hand")
    tokens = case.task.draw(64).clean
    previous, induction = (
        score_previous_token(case.model, tokens),
        score_induction(case.model, tokens),
    )
    torch.testing.assert_close(previous[0], torch.ones(2), atol=1e-4, rtol=0)
    assert induction[1, 0] > 0.9999
    assert induction[0].max() < 1e-4
    assert previous[1].max() < 0.2


def test_a_decoy_that_writes_nothing_scores_as_high_as_the_head_that_works():
    case = toys.load("induction_by_hand")
    scores = score_previous_token(case.model, case.task.draw(64).clean)
    assert scores[0, 1] == pytest.approx(scores[0, 0].item())
    assert not case.model.OV(0, 1).any()


def test_all_keys_together_get_all_the_attention(model, clean):
    everything = torch.ones(*clean.shape, clean.shape[1], dtype=torch.bool)
    torch.testing.assert_close(
        score_heads(model, clean, everything), torch.ones(2, 3, dtype=torch.float64)
    )
