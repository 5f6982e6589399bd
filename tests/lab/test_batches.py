"""The budget of a forward: how many prompts go through it."""

import pytest
import torch
from sample_models import CONFIGS

from mini_transformer import batches
from mini_transformer.batches import choose_rows, join


def test_the_rows_of_a_forward_follow_what_a_prompt_takes():
    config = CONFIGS["layer_norm_relu_biases"]
    plain = choose_rows(config, 5)
    assert choose_rows(config, 5, batch_size=3) == 3
    assert choose_rows(config, 5, runs=10) == pytest.approx(plain / 10, abs=1)
    assert choose_rows(config, 5, streams=80) < plain
    assert choose_rows(config, 5, blocks=4) < plain
    assert choose_rows(config, 5, runs=10**9) == 1


def test_no_logits_and_no_attention_of_a_forward_are_larger_than_the_budget(monkeypatch):
    config = CONFIGS["layer_norm_relu_biases"]
    for budget in (1e4, 1e6, 1e9):
        monkeypatch.setattr(batches, "BUDGET", budget)
        for length in (1, 5, 500):
            rows = choose_rows(config, length)
            logits = 4 * rows * length * config.d_vocab_out
            patterns = 4 * rows * config.n_heads * length**2
            assert rows == 1 or logits + patterns < budget


def test_a_batch_size_below_one_is_refused():
    with pytest.raises(ValueError, match="batch_size is 0, but must be at least 1, or None"):
        choose_rows(CONFIGS["plain"], 5, batch_size=0)


def test_parts_are_joined_and_a_single_one_is_not_copied():
    one = torch.arange(6).view(2, 3)
    assert join([one]) is one
    assert torch.equal(join([one[:, :1], one[:, 1:]], dim=1), one)
