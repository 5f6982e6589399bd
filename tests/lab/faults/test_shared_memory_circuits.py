"""Test that edited logits and results reach nothing that somebody else holds."""

import pytest
import torch
from torch import Tensor

from mini_transformer import Config, Transformer, methods

CONFIG = Config(d_vocab=7, n_ctx=6, d_model=8, n_layers=2, n_heads=2, d_mlp=5)
CLEAN = torch.tensor([[1, 2, 3, 4], [4, 0, 6, 5], [2, 2, 1, 0]])
CORRUPT = CLEAN.flip(1)


def first(logits: Tensor) -> Tensor:
    return logits[:, -1, 0].clone()


def spoil(logits: Tensor) -> Tensor:
    score = first(logits)
    logits.mul_(-3).add_(1)
    return score


MEASURES = {
    "ablate_each": lambda m, f: methods.ablate_each(m, CLEAN, f, "post", "neuron", "zero"),
    "patch_activations": lambda m, f: methods.patch_activations(
        m, CLEAN, CORRUPT, f, "z", "head", direction="denoise"
    ),
    "measure_share_recovered": lambda m, f: methods.measure_share_recovered(
        torch.ones(2), m, CLEAN, CORRUPT, f
    ),
    "attribution_patch": lambda m, f: methods.attribution_patch(
        m, CLEAN, CORRUPT, f, steps=1, direction="denoise"
    ),
    "eap": lambda m, f: methods.eap(m, CLEAN, CORRUPT, f).values,
    "train_edge_mask": lambda m, f: methods.train_edge_mask(m, CLEAN, CORRUPT, f, steps=2).values,
    "sweep_acdc": lambda m, f: methods.sweep_acdc(m, CLEAN, CORRUPT, f, taus=[0.1]).values,
    "patch_edges": lambda m, f: methods.patch_edges(m, CLEAN, CORRUPT, f, direction="noise").values,
    "measure_faithfulness": lambda m, f: methods.measure_faithfulness(
        m, CLEAN, CORRUPT, f, [["input"]]
    ),
    "causal_trace": lambda m, f: methods.causal_trace(m, CLEAN, f, CLEAN > 2, draws=2),
    "integrate_gradients": lambda m, f: methods.integrate_gradients(m, CLEAN, f, torch.tensor(0)),
    "measure_shapley": lambda m, f: methods.measure_shapley(m, CLEAN, f, torch.tensor(0)),
    "scrub": lambda m, f: torch.tensor(methods.scrub(m, CLEAN, CORRUPT, f, {}).random),
    "assess_equivalence": lambda m, f: torch.tensor(
        methods.assess_equivalence(m, CLEAN, CORRUPT, f, ["input"]).statistic
    ),
}


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES.keys())
def test_a_metric_may_edit_the_logits_in_place(measure):
    model = Transformer(CONFIG)
    assert torch.equal(measure(model, spoil), measure(model, first))


def test_neurons_are_not_the_weights_of_the_model():
    model = Transformer(CONFIG)
    before = model.W_in.clone(), model.W_out.clone()
    found = methods.read_neurons(model, 0)
    found.reads.zero_()
    found.writes.zero_()
    assert torch.equal(model.W_in, before[0])
    assert torch.equal(model.W_out, before[1])


def test_a_scratchpad_of_no_tokens_is_not_the_prompts_themselves():
    prompts = CLEAN.clone()
    methods.write_scratchpad(Transformer(CONFIG), prompts, 0).zero_()
    assert torch.equal(prompts, CLEAN)


def test_a_curve_stays_when_what_it_was_made_of_is_edited():
    share, height = torch.tensor([0.0, 1.0]), torch.tensor([0.5, 1.0])
    curve = methods.FaithfulnessCurve(share, height)
    height.zero_()
    share.zero_()
    assert curve.cpr() == 0.5
