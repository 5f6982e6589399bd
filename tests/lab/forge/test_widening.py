"""A widened model computes the same, under every mask, and nothing of what was added is read."""

import re

import pytest
import torch

from mini_transformer import Config, Transformer, forge
from mini_transformer.edges import list_edges, run_edges, write_outputs
from mini_transformer.forge.widening import widen

SIZES = {"n_layers": 7, "n_heads": 8, "d_head": 16, "d_mlp": 64, "d_model": 112}


def draw_generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)


@pytest.mark.parametrize("ablation", ["zero", "mean", "resample"])
def test_every_mask_gives_the_same_logits_whatever_the_added_edges_do(ablation: str) -> None:
    case = forge.make(2, size=2, hidden=False)
    batch = case.task.draw(6, seed=0)
    wide, layers = widen(case.model, draw_generator(), **SIZES)

    def move(found: re.Match) -> str:
        return str(layers[int(found[0])])

    moved = [re.sub(r"(?<=[am])\d+", move, edge) for edge in list_edges(case.model)]
    columns = {edge: i for i, edge in enumerate(list_edges(wide))}
    generator = draw_generator()
    masks = (torch.rand(20, len(moved), generator=generator) < 0.7).float()
    wide_masks = (torch.rand(20, len(columns), generator=generator) < 0.5).float()
    wide_masks[:, [columns[edge] for edge in moved]] = masks
    with torch.no_grad():
        expected = run_edges(
            case.model, batch.clean, masks, write_outputs(case.model, batch.corrupt, ablation)
        )
        found = run_edges(
            wide, batch.clean, wide_masks, write_outputs(wide, batch.corrupt, ablation)
        )
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)


def test_what_is_added_is_read_and_written() -> None:
    case = forge.make(2, size=2, hidden=False)
    wide, layers = widen(case.model, draw_generator(), **SIZES)
    tokens = case.task.draw(6, seed=0).clean
    with torch.no_grad():
        _, cache = wide.run_with_cache(tokens)
    added = [layer for layer in range(7) if layer not in layers]
    assert added
    c = case.model.config
    for layer in added:
        assert (wide.blocks[layer].attn.W_V != 0).all()
        assert (wide.blocks[layer].mlp.W_in != 0).all()
    for layer in range(7):
        written = cache["mlp_out", layer]
        assert written[..., c.d_model :].std() > 0.05
        assert cache["resid_post", layer].abs().max() < 100  # and it does not grow with the layers


@pytest.mark.parametrize(
    ("options", "sizes", "words"),
    [
        ({"norm": "layer"}, {}, "without norms"),
        ({"tied": True}, {}, "without norms, with free embeddings"),
        ({}, {"d_model": 4}, "d_model is 4, but the model has 8"),
        ({}, {"d_mlp": 4}, "d_mlp is 4, but the model has 0"),
    ],
)
def test_what_cannot_be_widened_is_told(options: dict, sizes: dict, words: str) -> None:
    model = Transformer(Config(d_vocab=5, n_ctx=4, d_model=8, n_layers=1, **options))
    with pytest.raises(ValueError, match=words):
        widen(model, draw_generator(), **sizes)
