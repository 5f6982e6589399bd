"""Contributions against the logits, and against what is lost when a component, neuron or source is
taken out by hand.

Checked against: the model's own logits, on every use, slow loops in which one neuron or one
position is taken out behind a frozen norm, and TransformerLens 3.9 on the same weights.
"""

import pytest
import torch

from mini_transformer import Config, Transformer, toys
from mini_transformer.methods import (
    attribute_logits,
    attribute_logits_to_neurons,
    attribute_logits_to_sources,
)

ANSWER, WRONG = torch.tensor([1, 4, 2]), torch.tensor([0, 2, 6])
POSITION = torch.tensor([4, 1, 3])


def test_contributions_add_up_to_the_logit_difference_at_each_position(model, clean):
    logits, cache = model.run_with_cache(clean)
    row = torch.arange(3)
    for position, at in (
        (-1, torch.tensor([4, 4, 4])),
        (2, torch.tensor([2, 2, 2])),
        (POSITION, POSITION),
    ):
        parts = attribute_logits(model, cache, ANSWER, WRONG, position)
        difference = logits[row, at, ANSWER] - logits[row, at, WRONG]
        torch.testing.assert_close(torch.stack(list(parts.values())).sum(dim=0), difference)
        alone = attribute_logits(model, cache, ANSWER, position=position)
        torch.testing.assert_close(
            torch.stack(list(alone.values())).sum(dim=0), logits[row, at, ANSWER]
        )


def test_a_contribution_is_what_is_lost_when_a_component_is_taken_out_behind_a_frozen_norm(
    model, clean
):
    _, cache = model.run_with_cache(clean)
    final = cache["resid_post", -1]
    for label, part in model.decompose(cache).items():
        lost = unembed_frozen(model, final) - unembed_frozen(model, final - part)  # b t v
        expected = lost[torch.arange(3), POSITION, ANSWER] - lost[torch.arange(3), POSITION, WRONG]
        torch.testing.assert_close(
            attribute_logits(model, cache, ANSWER, WRONG, POSITION)[label], expected
        )


def unembed_frozen(model, stream):
    """Logits by the formula of the norm, with the scale that the unchanged stream has; loops over
    prompts and positions.
    """
    _, cache = model.run_with_cache(
        torch.randint(7, (3, 5), generator=torch.Generator().manual_seed(1))
    )
    own, logits = cache["resid_post", -1], torch.zeros(3, 5, 7, dtype=torch.float64)
    for i in range(3):
        for t in range(5):
            x = stream[i, t]
            if model.config.norm == "layer":
                x = (x - x.mean()) / (
                    own[i, t].var(correction=0) + 1e-5
                ).sqrt() * model.ln_final.w + model.ln_final.b
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
    parts = attribute_logits(
        case.model, case.model.run_with_cache(batch.clean)[1], batch.answer, batch.wrong
    )
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


WITH_MLP = pytest.mark.parametrize(
    "model",
    ["mlp_layer_norm_biases", "mlp_positions_to_qk_rms_full"],
    indirect=True,
    ids=["layer norm", "rms"],
)


def take_out(model, cache, written, wrong=WRONG):
    """What the logit difference loses when `written`, (b, d), is taken out of the last stream at
    POSITION.
    """
    final, row = cache["resid_post", -1], torch.arange(3)
    without = final.clone()
    without[row, POSITION] -= written
    lost = unembed_frozen(model, final) - unembed_frozen(model, without)
    return lost[row, POSITION, ANSWER] - (0.0 if wrong is None else lost[row, POSITION, wrong])


@WITH_MLP
def test_the_share_of_a_neuron_is_what_is_lost_when_it_is_taken_out_behind_a_frozen_norm(
    model, clean
):
    _, cache = model.run_with_cache(clean)
    found, row = attribute_logits_to_neurons(model, cache, ANSWER, WRONG, POSITION), torch.arange(3)
    assert found.shape == (3, 2, 5)
    for layer in range(2):
        for neuron in range(5):
            fires = cache["post", layer][row, POSITION, neuron]
            written = fires[:, None] * model.blocks[layer].mlp.W_out[neuron]
            torch.testing.assert_close(found[:, layer, neuron], take_out(model, cache, written))


def test_the_share_of_a_source_is_what_is_lost_when_nothing_is_moved_from_there(model, clean):
    _, cache = model.run_with_cache(clean)
    found = attribute_logits_to_sources(model, cache, ANSWER, WRONG, POSITION)
    assert found.shape == (3, 2, 3, 5)
    for layer in range(2):
        for head in range(3):
            for source in range(5):
                attention = cache["pattern", layer][torch.arange(3), head, POSITION, source]
                value = cache["v", layer][:, source, head]
                written = attention[:, None] * (value @ model.blocks[layer].attn.W_O[head])
                torch.testing.assert_close(
                    found[:, layer, head, source], take_out(model, cache, written)
                )


@pytest.mark.parametrize("wrong", [None, WRONG], ids=["one logit", "a difference"])
def test_sources_add_up_to_heads_and_neurons_with_the_bias_to_mlps(model, clean, wrong):
    _, cache = model.run_with_cache(clean)
    parts = attribute_logits(model, cache, ANSWER, wrong, POSITION)
    sources = attribute_logits_to_sources(model, cache, ANSWER, wrong, POSITION)
    for layer in range(2):
        for head in range(3):
            torch.testing.assert_close(
                sources[:, layer, head].sum(dim=-1), parts[f"a{layer}.h{head}"]
            )
    if model.config.d_mlp:
        neurons = attribute_logits_to_neurons(model, cache, ANSWER, wrong, POSITION).sum(dim=-1)
        with torch.no_grad():
            biases = [
                None if block.mlp.b_out is None else block.mlp.b_out.expand(3, 8)
                for block in model.blocks
            ]
        for layer, bias in enumerate(biases):
            expected = (
                parts[f"m{layer}"]
                if bias is None
                else parts[f"m{layer}"] - take_out(model, cache, bias, wrong)
            )
            torch.testing.assert_close(neurons[:, layer], expected)


def test_by_hand_the_answer_is_moved_from_the_token_after_the_earlier_occurrence():
    case = toys.load("induction_by_hand")
    batch = case.task.draw(
        64, corrupt="answer"
    )  # differs from the clean prompts where the answer stands
    _, cache = case.model.run_with_cache(batch.clean)
    found = attribute_logits_to_sources(case.model, cache, batch.answer, batch.wrong)
    expected = torch.zeros(64, 2, 2, 16)
    expected[:, 1, int(case.truth.roles["match"][4])] = 20.0 * (batch.clean != batch.corrupt)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)


def test_xor_is_a_tent_of_two_neurons():
    case = toys.load("boolean_xor")
    prompts = torch.tensor([[0, 0, 2, 2, 2, 3], [0, 1, 2, 2, 2, 3], [1, 1, 2, 2, 2, 3]])
    one = torch.ones(3, dtype=torch.int64)
    found = attribute_logits_to_neurons(case.model, case.model.run_with_cache(prompts)[1], one)
    expected = torch.tensor([[0.0, 0.0], [20.0, 0.0], [40.0, -40.0]])
    torch.testing.assert_close(found[:, 0], expected, rtol=0, atol=1e-3)


def test_shares_that_do_not_add_up_are_refused(clean):
    model = Transformer(Config(7, 6, 8, n_layers=2, n_heads=3, d_head=4, d_mlp=5))
    refusals = {"z": attribute_logits_to_sources, "mlp_out": attribute_logits_to_neurons}
    for site, attribute in refusals.items():
        with model.hooks([((site, 0), lambda value, hook: 2 * value)]):
            _, cache = model.run_with_cache(clean)
        attribute_logits(model, cache, ANSWER, WRONG)
        with pytest.raises(ValueError, match=r"do not add up .*: a hook changed what"):
            attribute(model, cache, ANSWER, WRONG)
