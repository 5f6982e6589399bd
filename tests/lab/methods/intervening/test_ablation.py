"""Ablation against the edge engine (all edges out of a node off), and against hooks written out.

Checked against: the edge engine with all edges out of the component switched off, hooks written out
in loops, and models with the component's weights at zero.
"""

import itertools

import pytest
import torch

from mini_transformer import toys
from mini_transformer.edges import list_edges, list_writers, mask_of, run_edges, write_outputs
from mini_transformer.methods import ablate, ablate_each, ablate_each_head, ablate_pairs

ABLATIONS = ["zero", "mean", "resample"]


def metric(logits):
    return logits[:, -1, 2] - logits[:, 1, 3] ** 2


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_ablating_nodes_is_switching_off_every_edge_out_of_them(model, clean, corrupt, ablation):
    off = write_outputs(model, corrupt, ablation)
    writers = list_writers(model)[1:]
    for nodes in [*itertools.pairwise(writers), (writers[0], writers[-1]), ("a0.h1",), ("a1.h2",)]:
        kept = [edge for edge in list_edges(model) if edge.split("->")[0] not in nodes]
        expected = run_edges(model, clean, mask_of(model, kept).unsqueeze(0), off)[0]
        torch.testing.assert_close(ablate(model, clean, nodes, ablation, corrupt), expected)


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_ablating_each_head_is_ablating_one_after_the_other(model, clean, corrupt, ablation):
    values = ablate_each_head(model, clean, metric, ablation, corrupt)
    for layer, head in itertools.product(range(2), range(3)):
        alone = metric(ablate(model, clean, [f"a{layer}.h{head}"], ablation, corrupt)).mean()
        torch.testing.assert_close(values[layer, head], alone)


def test_zero_ablation_of_a_head_is_a_run_with_its_output_weights_at_zero(model, clean):
    ablated = ablate(model, clean, ["a1.h1"], "zero")
    with torch.no_grad():
        model.blocks[1].attn.W_O[1] = 0
        torch.testing.assert_close(ablated, model(clean))


def test_the_mean_is_over_prompts_and_separate_per_position(model, clean):
    _, cache = model.run_with_cache(clean)
    mean = cache["z", 0][:, :, 2].mean(dim=0)

    def put(value, hook):
        value[:, :, 2] = mean

    expected = model.run_with_hooks(clean, fwd_hooks=[(("z", 0), put)])
    torch.testing.assert_close(ablate(model, clean, ["a0.h2"], "mean"), expected.detach())


def test_ablating_nothing_and_resampling_from_the_same_prompts_change_nothing(model, clean):
    with torch.no_grad():
        torch.testing.assert_close(ablate(model, clean, [], "zero"), model(clean))
        torch.testing.assert_close(
            ablate(model, clean, ["a0.h0", "a1.h1"], "resample", clean), model(clean)
        )


def test_one_node_may_be_given_by_its_name_alone(model, clean):
    assert torch.equal(
        ablate(model, clean, "a0.h1", "zero"), ablate(model, clean, ["a0.h1"], "zero")
    )


def test_only_the_heads_of_the_mechanism_are_needed_in_the_hand_set_model():
    case = toys.load("induction_by_hand")
    batch, other = case.task.draw(256), case.task.draw(256, seed=1)
    for ablation in ABLATIONS:
        accuracy = ablate_each_head(
            case.model,
            batch.clean,
            lambda logits: batch.correct(logits).float(),
            ablation,
            other.clean,
        )
        assert accuracy[:, 1].tolist() == [1.0, 1.0], ablation
        assert accuracy[:, 0].max() < 0.25, ablation


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_ablating_a_layer_is_ablating_all_its_heads_or_neurons(model, clean, corrupt, ablation):
    for layer in "01":
        heads = ablate(model, clean, [f"a{layer}.h{head}" for head in range(3)], ablation, corrupt)
        torch.testing.assert_close(ablate(model, clean, f"a{layer}", ablation, corrupt), heads)
        if model.config.d_mlp:
            neurons = ablate(
                model, clean, [f"m{layer}.n{neuron}" for neuron in range(5)], ablation, corrupt
            )
            if (
                ablation == "zero" and model.config.biases
            ):  # a layer takes its output bias along, its neurons do not
                neurons = model.run_with_hooks(
                    clean,
                    fwd_hooks=[
                        (
                            ("mlp_out", int(layer)),
                            lambda x, hook, b=model.b_out[int(layer)]: x * 0 + b,
                        )
                    ],
                ).detach()
                assert not torch.allclose(ablate(model, clean, f"m{layer}", "zero"), neurons)
            else:
                torch.testing.assert_close(
                    ablate(model, clean, f"m{layer}", ablation, corrupt), neurons
                )


def test_zero_ablation_of_neurons_is_a_run_with_their_output_weights_at_zero(model, clean):
    if not model.config.d_mlp:
        pytest.skip("this model has no MLP")
    one, both = (
        ablate(model, clean, ["m1.n3"], "zero"),
        ablate(model, clean, ["m1.n3", "m0.n0"], "zero"),
    )
    with torch.no_grad():
        model.blocks[1].mlp.W_out[3] = 0
        torch.testing.assert_close(one, model(clean))
        model.blocks[0].mlp.W_out[0] = 0
        torch.testing.assert_close(both, model(clean))


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_ablating_at_some_positions_leaves_the_others_alone(model, clean, corrupt, ablation):
    parts = ["a1.h2"] + (["m0", "m1.n2"] if model.config.d_mlp else [])
    all_at_once = ablate(model, clean, parts, ablation, corrupt)
    torch.testing.assert_close(
        ablate(model, clean, parts, ablation, corrupt, positions=range(5)), all_at_once
    )
    last = ablate(model, clean, parts, ablation, corrupt, positions=[-1])
    assert not torch.allclose(last, all_at_once)
    with torch.no_grad():
        assert not torch.allclose(last[:, -1], model(clean)[:, -1])
        if model.config.causal:
            torch.testing.assert_close(last[:, :-1], model(clean)[:, :-1])


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_ablating_each_neuron_is_ablating_one_after_the_other(model, clean, corrupt, ablation):
    if not model.config.d_mlp:
        pytest.skip("this model has no MLP")
    values = ablate_each(model, clean, metric, "post", "neuron pos", ablation, corrupt)
    assert values.shape == (2, 5, 5)
    for layer, neuron, position in [*itertools.product(range(2), range(5), range(5))][
        ::3
    ]:  # each value of each axis
        alone = metric(
            ablate(model, clean, [f"m{layer}.n{neuron}"], ablation, corrupt, [position])
        ).mean()
        torch.testing.assert_close(values[layer, neuron, position], alone)


def test_ablating_each_layers_attention_is_ablating_all_its_heads(model, clean):
    values = ablate_each(model, clean, metric, "z", "", "zero")
    for layer in range(2):
        torch.testing.assert_close(
            values[layer], metric(ablate(model, clean, [f"a{layer}"], "zero")).mean()
        )


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_a_pair_is_both_parts_and_the_diagonal_each_alone(model, clean, corrupt, ablation):
    parts = ["a0.h1", "a1", "a1.h0"] + (["m0", "m1.n2"] if model.config.d_mlp else [])
    values = ablate_pairs(model, clean, metric, parts, ablation, corrupt)
    for (i, first), (j, second) in itertools.product(enumerate(parts), repeat=2):
        torch.testing.assert_close(
            values[i, j], metric(ablate(model, clean, {first, second}, ablation, corrupt)).mean()
        )


def test_pairs_find_the_backup_that_single_ablations_miss():
    case = toys.load("backup_head", seed=2)
    batch, roles = case.task.draw(64), case.truth.roles
    parts = [roles["mover"], roles["backup"], roles["inhibition"]]
    values = ablate_pairs(
        case.model, batch.clean, lambda logits: batch.correct(logits).float(), parts, "zero"
    )
    assert values[0, 0] == values[1, 1] == 1.0
    assert values[0, 1] == values[1, 0] < 0.5
    assert values[2, 2] < 1.0
