"""Models for the traps: each does its task, and in the way that its trap needs."""

import pytest
import torch

from mini_transformer import toys
from mini_transformer.board.families.circuit import trap_models


def test_the_slopes_cancel_where_they_are_measured_and_the_paths_do_not():
    model, x = trap_models.build_cancelling(), torch.tensor([[0, 2], [1, 2]])
    model.requires_grad_(False)
    share, outputs = torch.linspace(0, 1, 101, requires_grad=True), []
    stream = model(x, stop_at_layer=0)
    for s in share:
        logits = model(resid=((1 - s) * stream[0] + s * stream[1])[None])[0, -1]
        outputs.append(logits[1] - logits[0])
    (slope,) = torch.autograd.grad(torch.stack(outputs).sum(), share)
    assert slope[[0, -1]].abs().max() < 1e-3
    assert (outputs[-1] - outputs[0]).item() == pytest.approx(20, abs=1e-3)


def test_the_sharp_model_answers_as_before_and_its_attention_has_no_gradient():
    case, plain = trap_models.load_sharp_induction(1), toys.load("induction_by_hand", 1)
    batch = case.task.draw(64, 0, "fresh")
    assert case.task.draw(256).accuracy(case.model) == 1
    (slope,) = torch.autograd.grad(
        batch.logit_difference(case.model(batch.clean)).sum(), [case.model.blocks[1].attn.W_Q]
    )
    assert slope.abs().max() == 0
    (slope,) = torch.autograd.grad(
        batch.logit_difference(plain.model(batch.clean)).sum(), [plain.model.blocks[1].attn.W_Q]
    )
    assert slope.abs().max() > 0


def test_the_shortcut_fails_at_another_period():
    model, tokens = trap_models.build_shortcut(), trap_models.draw_repeats(32, seed=3)
    assert (model(tokens[:, :-1])[:, -1].argmax(dim=1) == tokens[:, -1]).all()
    period = trap_models.PERIOD - 2
    block = tokens[:, :period].repeat(1, 3)[:, : tokens.shape[1]]
    assert (model(block[:, :-1])[:, -1].argmax(dim=1) == block[:, -1]).float().mean() == 0
