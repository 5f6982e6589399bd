"""Contributions against the logits, and against what each component's output gives when it is read alone."""

import pytest
import torch

from mini_transformer import Config, Transformer, toys
from mini_transformer.methods import attribute_logits

ANSWER, WRONG = torch.tensor([1, 4, 2]), torch.tensor([0, 2, 6])
POSITION = torch.tensor([4, 1, 3])


def test_contributions_add_up_to_the_logit_difference_at_each_position(model, clean):
    logits, cache = model.run_with_cache(clean)
    row = torch.arange(3)
    for position, at in ((-1, torch.tensor([4, 4, 4])), (2, torch.tensor([2, 2, 2])), (POSITION, POSITION)):
        parts = attribute_logits(model, cache, ANSWER, WRONG, position)
        difference = logits[row, at, ANSWER] - logits[row, at, WRONG]
        torch.testing.assert_close(torch.stack(list(parts.values())).sum(dim=0), difference)
        alone = attribute_logits(model, cache, ANSWER, position=position)
        torch.testing.assert_close(torch.stack(list(alone.values())).sum(dim=0), logits[row, at, ANSWER])


def test_a_contribution_is_what_is_lost_when_a_component_is_taken_out_behind_a_frozen_norm(model, clean):
    _, cache = model.run_with_cache(clean)
    final = cache["resid_post", -1]
    for label, part in model.decompose(cache).items():
        lost = unembed_frozen(model, final) - unembed_frozen(model, final - part)  # b t v
        expected = lost[torch.arange(3), POSITION, ANSWER] - lost[torch.arange(3), POSITION, WRONG]
        torch.testing.assert_close(attribute_logits(model, cache, ANSWER, WRONG, POSITION)[label], expected)


def unembed_frozen(model, stream):
    """Logits by the formula of the norm, with the scale that the unchanged stream has; loops over prompts and positions."""
    _, cache = model.run_with_cache(torch.randint(7, (3, 5), generator=torch.Generator().manual_seed(1)))
    own, logits = cache["resid_post", -1], torch.zeros(3, 5, 7, dtype=torch.float64)
    for i in range(3):
        for t in range(5):
            x = stream[i, t]
            if model.config.norm == "layer":
                x = (x - x.mean()) / (own[i, t].var(correction=0) + 1e-5).sqrt() * model.ln_final.w + model.ln_final.b
            elif model.config.norm == "rms":
                x = x / (own[i, t].square().mean() + 1e-5).sqrt() * model.ln_final.w
            logits[i, t] = x @ model.W_U + (0 if model.b_U is None else model.b_U)
    return logits


def test_a_model_without_layers_gets_its_logits_from_the_embedding_alone():
    model = Transformer(Config(d_vocab=5, n_ctx=4, d_model=8, n_layers=0))
    logits, cache = model.run_with_cache(torch.tensor([[0, 3]]))
    parts = attribute_logits(model, cache, torch.tensor([2]))
    assert set(parts) == {"embed", "pos_embed", "bias"}
    torch.testing.assert_close(parts["embed"] + parts["pos_embed"], logits[:, -1, 2])


def test_in_the_hand_set_model_one_head_writes_the_whole_answer():
    case = toys.load("induction_by_hand")
    batch = case.task.draw(64)
    parts = attribute_logits(case.model, case.model.run_with_cache(batch.clean)[1], batch.answer, batch.wrong)
    for label, part in parts.items():
        expected = 20.0 if label == "a1.h0" else 0.0
        assert part.tolist() == pytest.approx([expected] * 64, abs=1e-3), label


def test_contributions_that_do_not_add_up_are_refused(model, clean):
    def double(value, hook):
        return 2 * value

    where = "ln_final.hook_normalized" if model.ln_final is not None else ("resid_post", -1)
    with model.hooks([(where, double)]):
        _, cache = model.run_with_cache(clean)
    with pytest.raises(ValueError, match="do not add up"):
        attribute_logits(model, cache, ANSWER, WRONG)
