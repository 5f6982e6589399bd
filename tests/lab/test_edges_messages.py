"""What the edge engine says to edges, masks and values that do not fit: one sentence."""

import re

import pytest
import torch

from mini_transformer import Config, Transformer
from mini_transformer.edges import EdgeScores, mask_of, run_edges, write_outputs

SIZES = {"d_vocab": 7, "n_ctx": 6, "d_model": 8}
MODEL = Transformer(Config(**SIZES, n_layers=2, n_heads=2))
NO_LAYERS = Transformer(Config(**SIZES, n_layers=0))
CLEAN = torch.tensor([[1, 2, 3]])
LONGER = torch.tensor([[1, 2, 3, 4]])


def run(masks, tokens=CLEAN):
    return run_edges(NO_LAYERS, CLEAN, masks, write_outputs(NO_LAYERS, tokens))


GIVEN = {
    "no edge is called 'a1.h0->a0.h0<k>' in this model; edges look like": lambda: mask_of(
        MODEL, ["a1.h0->a0.h0<k>"]
    ),
    "masks have shape (2, 5), expected (mask, 1): one column per edge": lambda: run(
        torch.ones(2, 5)
    ),
    "masks have shape (1,), expected": lambda: run(torch.ones(1)),
    "masks have shape (1, 1, 2), expected (mask, 1): one column per edge, or (mask, 1, 3): by": (
        lambda: run(torch.ones(1, 1, 2))
    ),
    "'input->logits @3' was asked for, but here are positions 0 to 2": lambda: mask_of(
        MODEL, ["input->logits @3"], n_positions=3
    ),
    "'input->logits @3' was asked for, but here are no positions": lambda: mask_of(
        MODEL, ["input->logits @3"]
    ),
    "scores are (3, 5), expected (1,): one per edge of this model, or (edge, position)": (
        lambda: EdgeScores(NO_LAYERS, torch.ones(3, 5))
    ),
    "scores are (1, 2, 3), expected (1,): one per edge of this model, or (edge, position)": (
        lambda: EdgeScores(NO_LAYERS, torch.ones(1, 2, 3))
    ),
    "off has shape (1, 1, 4, 8), expected (1, 1, 3, 8): what write_outputs returns": lambda: run(
        torch.ones(1, 1), LONGER
    ),
    "ablation is 'median', but must be": lambda: write_outputs(MODEL, CLEAN, "median"),
}


@pytest.mark.parametrize("sentence", GIVEN)
def test_what_does_not_fit_is_answered_with_one_sentence(sentence):
    with pytest.raises((ValueError, KeyError), match=re.escape(sentence)) as raised:
        GIVEN[sentence]()
    assert "\n" not in str(raised.value)
