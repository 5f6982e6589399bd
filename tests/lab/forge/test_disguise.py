"""The disguise: the same function for every kind of model, and nothing readable where that can
be.
"""

from itertools import product

import pytest
import torch

from mini_transformer import Config, Transformer, toys
from mini_transformer.edges import list_edges, run_edges, write_outputs
from mini_transformer.forge.disguise import disguise, find_null_space, measure_share


def make_model(seed: int = 0, zero_gain: bool = False, **kind: object) -> Transformer:
    """A small model in which every weight counts."""
    generator = torch.Generator().manual_seed(seed)
    size = {"d_vocab": 7, "n_ctx": 6, "d_model": 20, "n_layers": 2, "n_heads": 2, "d_head": 5}
    model = Transformer(Config(**size, **kind), seed=seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".b" in name or "b_" in name or name.endswith(".w"):
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
            if zero_gain and name.endswith(".w"):
                parameter[3] = 0.0
    return model


NORMS, POSITIONS = ("none", "layer", "rms"), ("learned", "sinusoidal", "none")


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("norm", NORMS)
def test_logits_stay_for_every_kind_of_model(norm: str, positions: str) -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(7, (8, 6), generator=generator)
    for act, to, biases, tied, d_mlp, zero in product(
        ("relu", "gelu"), ("stream", "qk"), (False, True), (False, True), (0, 12), (False, True)
    ):
        if (to == "qk" and positions == "none") or (zero and norm == "none"):
            continue
        kind = {"norm": norm, "positions": positions, "act": act, "positions_to": to}
        model = make_model(zero_gain=zero, biases=biases, tied=tied, d_mlp=d_mlp, **kind)
        hidden = disguise(model, generator).model
        with torch.no_grad():
            torch.testing.assert_close(hidden(tokens), model(tokens), rtol=0, atol=1e-4)


@pytest.mark.parametrize("ablation", ["zero", "mean", "resample"])
@pytest.mark.parametrize("norm", NORMS)
def test_logits_stay_under_every_mask_of_edges(norm: str, ablation: str) -> None:
    generator = torch.Generator().manual_seed(0)
    model = make_model(norm=norm, biases=True, d_mlp=12)
    found = disguise(model, generator)
    index = {edge: i for i, edge in enumerate(list_edges(found.model))}
    order = [index[found.rename(edge)] for edge in list_edges(model)]
    masks = (torch.rand(16, len(order), generator=generator) < 0.6).float()
    renamed = torch.zeros_like(masks)
    renamed[:, order] = masks
    clean, corrupt = torch.randint(7, (2, 4, 6), generator=generator)
    with torch.no_grad():
        one = run_edges(model, clean, masks, write_outputs(model, corrupt, ablation))
        off = write_outputs(found.model, corrupt, ablation)
        other = run_edges(found.model, clean, renamed, off)
    torch.testing.assert_close(one, other, rtol=0, atol=1e-3)


def test_what_was_readable_is_not() -> None:
    plain = toys.load("boolean_and").model
    found = disguise(plain, torch.Generator().manual_seed(0))
    assert measure_share(plain) < 0.1
    assert measure_share(found.model) > 0.95


def test_directions_of_the_stream_are_where_the_turn_says() -> None:
    case = toys.load("boolean_xor")
    tokens = case.task.everything().clean
    found = disguise(case.model, torch.Generator().manual_seed(0))
    with torch.no_grad():
        _, old = case.model.run_with_cache(tokens)
        _, new = found.model.run_with_cache(tokens)
    back = new["resid_post", -1] @ found.turn.T
    torch.testing.assert_close(back, old["resid_post", -1], rtol=0, atol=1e-4)


def test_layer_norm_keeps_the_ones_vector_and_unequal_gains_that_must_stay_are_not_mixed() -> None:
    ones = torch.ones(20)
    turn = disguise(make_model(norm="layer"), torch.Generator().manual_seed(0)).turn
    torch.testing.assert_close(ones @ turn, ones, rtol=0, atol=1e-5)
    assert (turn - torch.eye(20)).abs().max() > 0.1
    tied = make_model(norm="rms", tied=True)  # the last norm's gain cannot be moved
    turn = disguise(tied, torch.Generator().manual_seed(0)).turn
    torch.testing.assert_close(turn, torch.eye(20), rtol=0, atol=1e-6)


def test_a_null_space_is_what_the_rows_do_not_feel() -> None:
    rows = torch.randn(3, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    free = find_null_space(torch.cat([rows, rows[:1]]))
    assert free.shape == (5, 8)
    torch.testing.assert_close(free @ rows.T, torch.zeros(5, 3).double(), rtol=0, atol=1e-9)


def test_skew_stretches_the_stream_and_keeps_every_masked_run() -> None:
    generator = torch.Generator().manual_seed(0)
    model = make_model(biases=True, d_mlp=12)
    plain = disguise(model, generator)
    skewed = disguise(model, generator, skew=0.5)
    for found, least, most in ((plain, -1e-5, 1e-5), (skewed, 0.1, 1.0)):
        overlap = found.turn @ found.turn.T - torch.eye(20)
        assert least < overlap.fill_diagonal_(0).abs().max() < most
    tokens = torch.randint(7, (4, 6), generator=generator)
    order = [list_edges(skewed.model).index(skewed.rename(edge)) for edge in list_edges(model)]
    masks = (torch.rand(16, len(order), generator=generator) < 0.6).float()
    renamed = torch.zeros_like(masks)
    renamed[:, order] = masks
    with torch.no_grad():
        expected = run_edges(model, tokens, masks, write_outputs(model, tokens.flip(0)))
        off = write_outputs(skewed.model, tokens.flip(0))
        found = run_edges(skewed.model, tokens, renamed, off)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", [{"norm": "rms"}, {"tied": True}, {"positions": "sinusoidal"}])
def test_skew_is_refused_where_it_would_be_felt(kind: dict) -> None:
    with pytest.raises(ValueError, match=r"skew is 0\.5, but must be 0 for a model like"):
        disguise(make_model(**kind), torch.Generator().manual_seed(0), skew=0.5)
