"""No technique changes the model, its hooks, the tokens, the global seed or the thread count, also
when it is interrupted.

EXAMPLES holds one call per public function. Each is run to its end, and then again with an
exception raised inside, at several of its tensor operations.
"""

import pytest
import torch
from torch.overrides import TorchFunctionMode

from mini_transformer import Config, Transformer, methods


def first_logit(logits):
    return logits[:, -1, 0]


def stream(model, tokens):
    """The stream after layer 0, one row per prompt and position: (15, 8)."""
    return model.run_with_cache(tokens)[1]["resid_post", 0].detach().flatten(0, 1)


PARITY = torch.arange(15) % 2
ZEROS = torch.zeros(8)
PAIRS = torch.arange(125.0).view(25, 5) ** 2  # all pairs of numbers modulo 5
AXES = methods.Dictionary(torch.eye(8), ZEROS, torch.eye(8), ZEROS, ZEROS, ZEROS)

EXAMPLES = {
    "ablate": lambda model, clean, corrupt: methods.ablate(
        model, clean, ["a0.h0", "a1.h2"], "resample", corrupt
    ),
    "ablate_each_head": lambda model, clean, corrupt: methods.ablate_each_head(
        model, clean, first_logit, "mean", corrupt
    ),
    "attribute_logits": lambda model, clean, corrupt: methods.attribute_logits(
        model, model.run_with_cache(clean)[1], clean[:, 0], corrupt[:, 0]
    ),
    "attribute_logits_to_neurons": lambda model, clean, corrupt: (
        methods.attribute_logits_to_neurons(
            model, model.run_with_cache(clean)[1], clean[:, 0], corrupt[:, 0]
        )
    ),
    "attribute_logits_to_sources": lambda model, clean, corrupt: (
        methods.attribute_logits_to_sources(
            model, model.run_with_cache(clean)[1], clean[:, 0], corrupt[:, 0]
        )
    ),
    "score_duplicate_token": lambda model, clean, corrupt: methods.score_duplicate_token(
        model, clean
    ),
    "score_induction": lambda model, clean, corrupt: methods.score_induction(model, clean),
    "patch_activations": lambda model, clean, corrupt: methods.patch_activations(
        model, clean, corrupt, first_logit, "z", "head", direction="denoise"
    ),
    "score_previous_token": lambda model, clean, corrupt: methods.score_previous_token(
        model, clean
    ),
    "score_heads": lambda model, clean, corrupt: methods.score_heads(
        model, clean, torch.ones(*clean.shape, clean.shape[1], dtype=torch.bool)
    ),
    "measure_share_recovered": lambda model, clean, corrupt: methods.measure_share_recovered(
        torch.zeros(2), model, clean, corrupt, first_logit
    ),
    "score_sink": lambda model, clean, corrupt: methods.score_sink(model, clean),
    "ablate_directions": lambda model, clean, corrupt: methods.ablate_directions(
        model, clean, torch.eye(8)[:2], ablation="mean", reference=corrupt
    ),
    "ablate_each": lambda model, clean, corrupt: methods.ablate_each(
        model, clean, first_logit, "post", "neuron", "zero"
    ),
    "ablate_pairs": lambda model, clean, corrupt: methods.ablate_pairs(
        model, clean, first_logit, ["a0.h1", "m1.n2"], "resample", corrupt
    ),
    "answer_early": lambda model, clean, corrupt: methods.answer_early(
        model, clean, slice(1, 3), filler=0
    ),
    "edit_rank_one": lambda model, clean, corrupt: methods.edit_rank_one(
        model, 0, torch.ones(5), torch.ones(8), torch.eye(5)
    ),
    "attribution_patch": lambda model, clean, corrupt: methods.attribution_patch(
        model, clean, corrupt, first_logit, "z", "head", steps=2, direction="denoise"
    ),
    "measure_excitation": lambda model, clean, corrupt: methods.measure_excitation(model, 1, clean),
    "read_neurons": lambda model, clean, corrupt: methods.read_neurons(model, 1),
    "read_ov": lambda model, clean, corrupt: methods.read_ov(model, "a1.h2", attended="a0.h1"),
    "read_qk": lambda model, clean, corrupt: methods.read_qk(model, "a1.h2", key="position"),
    "score_composition": lambda model, clean, corrupt: methods.score_composition(model, "k"),
    "score_copying": lambda model, clean, corrupt: methods.score_copying(model),
    "score_random_composition": lambda model, clean, corrupt: methods.score_random_composition(
        model, draws=2
    ),
    "split_circuit": lambda model, clean, corrupt: methods.split_circuit(model, "a0.h1"),
    "eap": lambda model, clean, corrupt: methods.eap(model, clean, corrupt, first_logit, steps=2),
    "make_divergence": lambda model, clean, corrupt: methods.make_divergence(model, clean)(
        model(corrupt)
    ),
    "find_circuit_acdc": lambda model, clean, corrupt: methods.find_circuit_acdc(
        model, clean, corrupt, methods.make_divergence(model, clean)
    ),
    "patch_edges": lambda model, clean, corrupt: methods.patch_edges(
        model, clean, corrupt, first_logit, "mean", direction="noise"
    ),
    "score_nodes": lambda model, clean, corrupt: methods.score_nodes(
        model, methods.eap(model, clean, corrupt, first_logit, "mean", 1, "masks")
    ),
    "sweep_acdc": lambda model, clean, corrupt: methods.sweep_acdc(
        model, clean, corrupt, methods.make_divergence(model, clean), taus=[0.1]
    ),
    "train_edge_mask": lambda model, clean, corrupt: methods.train_edge_mask(
        model, clean, corrupt, methods.make_divergence(model, clean), steps=2
    ),
    "fit_steering_vector": lambda model, clean, corrupt: methods.fit_steering_vector(
        model, clean, corrupt, ("resid_post", 0)
    ),
    "fit_value": lambda model, clean, corrupt: methods.fit_value(
        model, clean, corrupt[:, 0], 0, -1, steps=3
    ),
    "measure_doses": lambda model, clean, corrupt: methods.measure_doses(
        model, clean, first_logit, torch.ones(8), ("resid_pre", 1), [0.0, 1.0]
    ),
    "orthogonalize_weights": lambda model, clean, corrupt: methods.orthogonalize_weights(
        model, torch.eye(8)[:2]
    ),
    "patch_path": lambda model, clean, corrupt: methods.patch_path(
        model, clean, corrupt, "a0.h1->m0->a1.h2<k>->logits"
    ),
    "patch_senders": lambda model, clean, corrupt: methods.patch_senders(
        model, clean, corrupt, first_logit, ["m1", "a1.h0<v>"]
    ),
    "run_with_noise": lambda model, clean, corrupt: methods.run_with_noise(
        model, clean, clean > 2, draws=2
    ),
    "measure_reliance": lambda model, clean, corrupt: methods.measure_reliance(
        model, clean, slice(1, 3), (clean[None, :, 1:3] + 1) % 7
    ),
    "split_effects": lambda model, clean, corrupt: methods.split_effects(
        model, clean, corrupt, first_logit, "mean"
    ),
    "steer": lambda model, clean, corrupt: methods.steer(
        model, clean, torch.ones(8), ("resid_pre", 1), 2.0, -1
    ),
    "causal_trace": lambda model, clean, corrupt: methods.causal_trace(
        model, clean, first_logit, clean > 2, "mlp_out", draws=2
    ),
    "exclude_logits": lambda model, clean, corrupt: methods.exclude_logits(PAIRS, [1]),
    "keep_frequencies": lambda model, clean, corrupt: methods.keep_frequencies(PAIRS[:5], [2]),
    "measure_distance_irrelevance": lambda model, clean, corrupt: (
        methods.measure_distance_irrelevance(PAIRS)
    ),
    "measure_frequency_shares": lambda model, clean, corrupt: methods.measure_frequency_shares(
        PAIRS[:5]
    ),
    "measure_gradient_symmetry": lambda model, clean, corrupt: methods.measure_gradient_symmetry(
        model, clean, corrupt[:, 0]
    ),
    "measure_progress": lambda model, clean, corrupt: methods.measure_progress(PAIRS, [1]),
    "restrict_logits": lambda model, clean, corrupt: methods.restrict_logits(PAIRS, [1]),
    "measure_share_of_sum": lambda model, clean, corrupt: methods.measure_share_of_sum(PAIRS),
    "measure_share_of_best_frequency": lambda model, clean, corrupt: (
        methods.measure_share_of_best_frequency(PAIRS, 5)
    ),
    "write_fourier_basis": lambda model, clean, corrupt: methods.write_fourier_basis(5),
    "write_scratchpad": lambda model, clean, corrupt: methods.write_scratchpad(model, clean, 1),
    "fit_nonlinear_alignment": lambda model, clean, corrupt: methods.fit_nonlinear_alignment(
        model, clean, corrupt, corrupt[:, 0], ("resid_post", 0), dim=2, steps=2
    ),
    "swap_by_map": lambda model, clean, corrupt: methods.swap_by_map(
        model,
        clean,
        corrupt,
        methods.AlignmentMap(torch.eye(8), (), 2, torch.eye(8)[:2]),
        ("resid_post", 0),
    ),
    "fit_das": lambda model, clean, corrupt: methods.fit_das(
        model, clean, corrupt, clean[:, 0], ("resid_post", 0), dim=2, steps=2
    ),
    "fit_boundless_das": lambda model, clean, corrupt: methods.fit_boundless_das(
        model, clean, corrupt, clean[:, 0], ("resid_post", 0), steps=2
    ),
    "answer_pairs": lambda model, clean, corrupt: methods.answer_pairs(
        torch.ones(8), stream(model, clean), stream(model, corrupt)
    ),
    "draw_control_labels": lambda model, clean, corrupt: methods.draw_control_labels(
        clean[0], clean[1]
    ),
    "fit_ccs": lambda model, clean, corrupt: methods.fit_ccs(
        stream(model, clean), stream(model, corrupt), steps=2
    ),
    "fit_inlp": lambda model, clean, corrupt: methods.fit_inlp(stream(model, clean), PARITY),
    "fit_leace": lambda model, clean, corrupt: methods.fit_leace(stream(model, clean), PARITY),
    "fit_projection": lambda model, clean, corrupt: methods.fit_projection(
        stream(model, clean), PARITY
    ),
    "fit_supervised_dictionary": lambda model, clean, corrupt: methods.fit_supervised_dictionary(
        stream(model, clean), torch.eye(15)[:, :3]
    ),
    "measure_interchange": lambda model, clean, corrupt: methods.measure_interchange(
        model, clean, corrupt, clean[:, 0], torch.eye(8)[:3], ("resid_post", 0)
    ),
    "measure_selectivity": lambda model, clean, corrupt: methods.measure_selectivity(
        stream(model, clean), PARITY, torch.arange(15)
    ),
    "scale_features": lambda model, clean, corrupt: methods.scale_features(
        model, clean, ("resid_post", 0), AXES, [0, 3], position=None
    ),
    "measure_share_of_second": lambda model, clean, corrupt: methods.measure_share_of_second(
        AXES, 3
    ),
    "swap_subspace": lambda model, clean, corrupt: methods.swap_subspace(
        model, clean, corrupt, torch.eye(8)[:3], ("resid_post", 0)
    ),
    "train_crosscoder": lambda model, clean, corrupt: methods.train_crosscoder(
        stream(model, clean), stream(model, corrupt), 6, steps=3
    ),
    "train_dictionary": lambda model, clean, corrupt: methods.train_dictionary(
        stream(model, clean), 6, steps=3
    ),
    "fit_probe": lambda model, clean, corrupt: methods.fit_probe(
        stream(model, clean), PARITY, hidden=32
    ),
    "train_pursuit": lambda model, clean, corrupt: methods.train_pursuit(
        stream(model, clean), 6, steps=3
    ),
    "train_transcoder": lambda model, clean, corrupt: methods.train_transcoder(
        stream(model, clean), stream(model, corrupt), 6, steps=3
    ),
    "apply_logit_lens": lambda model, clean, corrupt: methods.apply_logit_lens(model, clean),
    "apply_patchscope": lambda model, clean, corrupt: methods.apply_patchscope(
        model, clean, corrupt, 1, 2
    ),
    "apply_tuned_lens": lambda model, clean, corrupt: methods.apply_tuned_lens(
        model, clean, methods.TunedLens(torch.zeros(5, 8, 8), torch.zeros(5, 8))
    ),
    "fit_contrast_directions": lambda model, clean, corrupt: methods.fit_contrast_directions(
        stream(model, clean), stream(model, corrupt), 2
    ),
    "fit_mean_difference": lambda model, clean, corrupt: methods.fit_mean_difference(
        stream(model, clean), stream(model, corrupt)
    ),
    "fit_principal_directions": lambda model, clean, corrupt: methods.fit_principal_directions(
        stream(model, clean), 2
    ),
    "measure_divergence": lambda model, clean, corrupt: methods.measure_divergence(
        methods.apply_logit_lens(model, clean)
    ),
    "measure_answer_rank": lambda model, clean, corrupt: methods.measure_answer_rank(
        model(clean), corrupt[:, 0]
    ),
    "measure_answer_probability": lambda model, clean, corrupt: methods.measure_answer_probability(
        model(clean), corrupt[:, 0]
    ),
    "fit_tuned_lens": lambda model, clean, corrupt: methods.fit_tuned_lens(model, clean, steps=2),
    "assess_equivalence": lambda model, clean, corrupt: methods.assess_equivalence(
        model, clean, corrupt, first_logit, ["input", "a1.h0"]
    ),
    "assess_independence": lambda model, clean, corrupt: methods.assess_independence(
        model, clean, corrupt, first_logit, ["input", "a1.h0"], "mean", permutations=3
    ),
    "assess_minimality": lambda model, clean, corrupt: methods.assess_minimality(
        model, clean, corrupt, first_logit, ["input->a1.h0<v>", "a1.h0->logits"], draws=3
    ),
    "find_incompleteness": lambda model, clean, corrupt: methods.find_incompleteness(
        model, clean, corrupt, first_logit, ["input", "a1.h0"], "zero", steps=1
    ),
    "list_knockouts": lambda model, clean, corrupt: [
        methods.list_knockouts(list("abcdef"), most=20, seed=seed) for seed in (0, 1)
    ],
    "measure_faithfulness": lambda model, clean, corrupt: methods.measure_faithfulness(
        model, clean, corrupt, first_logit, [["input", "a1.h0"]]
    ),
    "measure_incompleteness": lambda model, clean, corrupt: methods.measure_incompleteness(
        model, clean, corrupt, first_logit, ["input", "a1.h0"], "mean"
    ),
    "measure_minimality": lambda model, clean, corrupt: methods.measure_minimality(
        model, clean, corrupt, first_logit, ["input", "a1.h0"]
    ),
    "scrub": lambda model, clean, corrupt: methods.scrub(
        model,
        clean,
        corrupt,
        first_logit,
        {"a1.h0": lambda tokens: tokens[:, 0] % 2, "a0.h1": lambda tokens: tokens},
    ),
    "measure_faithfulness_curve": lambda model, clean, corrupt: methods.measure_faithfulness_curve(
        model, clean, corrupt, first_logit, torch.arange(9.0)
    ),
    "climb_by_swaps": lambda model, clean, corrupt: methods.climb_by_swaps(
        model, clean, lambda prompts: model(prompts)[:, -1, 0], free=[0, 2], shortlist=3
    ),
    "describe_unit": lambda model, clean, corrupt: methods.describe_unit(
        torch.cat([clean, corrupt]),
        model(torch.cat([clean, corrupt]))[..., 0],
        {"low": lambda tokens: tokens < 3, "odd": lambda tokens: tokens % 2 == 1},
        shuffles=1,
    ),
    "find_max_activating": lambda model, clean, corrupt: methods.find_max_activating(
        model, clean, ("post", 1), k=2, batch_size=2
    ),
    "integrate_gradients": lambda model, clean, corrupt: methods.integrate_gradients(
        model, clean, first_logit, corrupt, steps=20, tolerance=1.0
    ),
    "measure_saliency": lambda model, clean, corrupt: methods.measure_saliency(
        model, clean, first_logit
    ),
    "measure_shapley": lambda model, clean, corrupt: methods.measure_shapley(
        model, clean, first_logit, corrupt, [0, 2]
    ),
    "measure_units": lambda model, clean, corrupt: methods.measure_units(
        model, clean, ("z", 0), keep=7, batch_size=2
    ),
    "multiply_gradient": lambda model, clean, corrupt: methods.multiply_gradient(
        model, clean, first_logit, corrupt
    ),
    "occlude_each": lambda model, clean, corrupt: methods.occlude_each(
        model, clean, first_logit, torch.tensor(0)
    ),
    "read_units": lambda model, clean, corrupt: methods.read_units(
        model, clean, ("resid_post", 0), AXES
    ),
    "sample_bands": lambda model, clean, corrupt: methods.sample_bands(
        model, clean, ("pre", 0), k=2
    ),
    "sample_shapley": lambda model, clean, corrupt: methods.sample_shapley(
        model, clean, first_logit, corrupt, draws=2
    ),
    "synthesize_input": lambda model, clean, corrupt: methods.synthesize_input(
        model, clean[0], lambda prompts: model(prompts)[:, -1, 0], restarts=2, steps=2
    ),
}


class Interrupted(Exception):
    pass


# Attributes, which the shape checks read, too; and what the end of no_grad() puts back, which
# cannot be asked to survive.
NOT_COUNTED = ("__get__", "_set_grad_enabled", "set_grad_enabled")


class Interruption(TorchFunctionMode):
    """Counts tensor operations, and raises once: at operation number `at`."""

    def __init__(self, at=None):
        super().__init__()
        self.at, self.seen = at, 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.seen += getattr(function, "__name__", "") not in NOT_COUNTED
        if self.seen == self.at:
            self.at = None
            raise Interrupted
        return function(*args, **kwargs or {})


@pytest.fixture
def whole():
    """A model with MLPs, biases and norms, so that there is everything that could be changed."""
    config = Config(
        d_vocab=7,
        n_ctx=6,
        d_model=8,
        n_layers=2,
        n_heads=3,
        d_head=4,
        d_mlp=5,
        norm="layer",
        biases=True,
    )
    return Transformer(config)


def take_stock(model, *tokens):
    """Everything that a technique must leave as it was."""
    return {
        "values": [value.clone() for value in (*model.state_dict().values(), *tokens)],
        "names": list(model.state_dict()),
        "gradients": [
            (parameter.grad, parameter.requires_grad) for parameter in model.parameters()
        ],
        "listeners": [list(point.listeners) for point in model.hook_points.values()],
        "training": [module.training for module in model.modules()],
        "seed": torch.random.get_rng_state(),
        "threads": torch.get_num_threads(),
        "gradients on": torch.is_grad_enabled(),
        "precision": torch.get_default_dtype(),
    }


def list_changed(before, after):
    same = {
        name: all(map(torch.equal, old, after[name])) if name == "values" else old == after[name]
        for name, old in before.items()
        if name != "seed"
    }
    same["seed"] = torch.equal(before["seed"], after["seed"])
    return [name for name, unchanged in same.items() if not unchanged]


def test_every_public_technique_has_an_example():
    functions = {name for name in methods.__all__ if not isinstance(getattr(methods, name), type)}
    assert functions <= set(EXAMPLES), sorted(functions - set(EXAMPLES))
    assert set(EXAMPLES) <= functions, sorted(set(EXAMPLES) - functions)


@pytest.mark.parametrize("technique", EXAMPLES.values(), ids=EXAMPLES.keys())
def test_a_technique_leaves_everything_as_it_was(whole, clean, corrupt, technique):
    before, count = take_stock(whole, clean, corrupt), Interruption()
    with count:
        technique(whole, clean, corrupt)
    assert list_changed(before, take_stock(whole, clean, corrupt)) == []
    assert count.seen > 3
    for share in (0.3, 0.6, 0.9):
        with pytest.raises(Interrupted), Interruption(at=1 + int(share * count.seen)):
            technique(whole, clean, corrupt)
        assert list_changed(before, take_stock(whole, clean, corrupt)) == []
