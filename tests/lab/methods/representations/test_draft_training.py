"""What all kinds of dictionaries share in training. Checked against its definition."""

import pytest
import torch

from mini_transformer.methods.representations.draft_training import (
    check_training,
    standardize,
    train_draft,
)
from mini_transformer.methods.representations.sparse_losses import LOSSES, Draft


def test_standardized_rows_have_no_mean_and_a_mean_squared_length_of_1():
    values = 7 + 3 * torch.randn(50, 4, generator=torch.Generator().manual_seed(0)).double()
    rows, mean, scale = standardize(values)
    assert rows.dtype == torch.float32
    assert torch.allclose(rows.mean(dim=0), torch.zeros(4), atol=1e-6)
    assert torch.isclose(rows.square().sum(dim=1).mean(), torch.tensor(1.0))
    assert torch.allclose(rows.double() * scale + mean, values, atol=1e-5)


def test_rows_that_do_not_vary_stay_finite():
    rows, _, scale = standardize(torch.full((8, 3), 0.1))
    assert rows.eq(0).all()
    assert scale == 1


def test_training_keeps_directions_of_length_1_and_lowers_the_loss():
    generator = torch.Generator().manual_seed(0)
    x = standardize((torch.rand(400, 6, generator=generator) - 0.8).relu())[0]
    draft = Draft.start(6, 6, 6, (6,), 2, 0.0, generator, x.device)
    before = LOSSES["topk"](draft, x, x)[0].item()
    used = (draft.W_enc, draft.b_enc, draft.W_dec, draft.b_dec)
    parameters = [value.requires_grad_() for value in used]
    train_draft(draft, x, x, LOSSES["topk"], parameters, 200, 64, 3e-3, generator)
    after = LOSSES["topk"](draft, x, x)[0].item()
    assert after < 0.8 * before
    assert torch.allclose(draft.W_dec.detach().norm(dim=1), torch.ones(6), atol=1e-5)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"architecture": "magic"}, "architecture is 'magic', but must be one of: "),
        ({"k": 9}, "n_latents is 4 and k is 9"),
        ({"batch": 0}, "penalty is 0.1 and batch 0"),
        ({"widths": (1, 1)}, "must add up to the outputs' width 3"),
        ({"y": torch.ones(4, 3)}, "there are 5 activations and 4 outputs"),
    ],
)
def test_what_cannot_be_trained_is_one_sentence(change, says):
    given = {
        "x": torch.rand(5, 3),
        "y": torch.rand(5, 3),
        "n": 4,
        "architecture": "topk",
        "k": 2,
        "penalty": 0.1,
        "batch": 8,
        "widths": (),
    }
    with pytest.raises(ValueError, match=says):
        check_training(**{**given, **change})
