"""Test inputs that nobody drew.

They are constants, zeros, repeats, tokens that can never come, empty and whole circuits.
"""

import math

import pytest
import torch
from torch import Tensor

from mini_transformer import Config, Transformer, methods
from mini_transformer.edges import list_edges
from mini_transformer.methods.circuits import circuit_tests

CONFIG = Config(d_vocab=7, n_ctx=6, d_model=8, n_layers=2, n_heads=2, d_mlp=5)
CLEAN = torch.tensor([[1, 2, 3, 4], [4, 0, 6, 5], [2, 2, 1, 0]])
CORRUPT = CLEAN.flip(1)
P = 7
A, B = torch.cartesian_prod(torch.arange(P), torch.arange(P)).T


@pytest.fixture
def model() -> Transformer:
    return Transformer(CONFIG)


@pytest.fixture
def zeros() -> Transformer:
    model = Transformer(CONFIG)
    with torch.no_grad():
        for weights in model.parameters():
            weights.zero_()
    return model


@pytest.fixture
def forbidding() -> Transformer:
    """Make a model whose token 4 can never come."""
    model = Transformer(Config(d_vocab=5, n_ctx=4, d_model=8, n_layers=1, biases=True))
    with torch.no_grad():
        model.b_U[4] = -math.inf
    return model


def first(logits: Tensor) -> Tensor:
    return logits[:, -1, 0]


def test_a_token_that_can_never_come_counts_nothing_in_a_divergence(forbidding):
    tokens = torch.tensor([[1, 2, 3]])
    divergence = methods.make_divergence(forbidding, tokens, position=None)
    assert divergence(forbidding(tokens)).item() == 0
    others = forbidding(tokens.flip(1)).detach()
    expected, found = (
        logits[..., :4].log_softmax(dim=-1) for logits in (forbidding(tokens), others)
    )
    by_hand = -(expected.exp() * (expected - found)).sum(dim=-1).mean(dim=-1)
    torch.testing.assert_close(divergence(others), by_hand)
    assert methods.find_circuit_acdc(forbidding, tokens, tokens.flip(1), divergence)
    for slopes in (
        methods.eap(forbidding, tokens, tokens.flip(1), divergence, steps=3),
        methods.train_edge_mask(forbidding, tokens, tokens.flip(1), divergence, steps=3),
    ):
        assert slopes.values.isfinite().all()


def test_ruling_out_what_the_model_does_not_diverges_without_bound(forbidding):
    tokens = torch.tensor([[1, 2, 3]])
    allowing = Transformer(forbidding.config)
    assert (
        methods.make_divergence(allowing, tokens, position=None)(forbidding(tokens)).item()
        == -math.inf
    )


def test_a_divergence_from_other_prompts_is_refused(model):
    with pytest.raises(
        ValueError, match=r"logits are \(3, 4, 7\), but those to diverge from \(1, 4, 7\)"
    ):
        methods.make_divergence(model, CLEAN[:1], position=None)(model(CLEAN))


def test_a_token_that_is_listed_twice_counts_once_in_a_copying_score(model):
    expected = methods.score_copying(model, [1, 2, 3])
    assert torch.equal(methods.score_copying(model, [1, 2, 3, 3, 1, 3]), expected)


def test_pairs_that_are_listed_twice_count_once_and_a_mask_says_the_same():
    logits = torch.randn(P * P, P, generator=torch.Generator().manual_seed(0))
    expected = methods.measure_progress(logits, [1], torch.tensor([3, 5]))
    mask = torch.zeros(P * P, dtype=torch.bool)
    mask[[3, 5]] = True
    for seen in (torch.tensor([3, 5, 3, 3]), mask):
        assert methods.measure_progress(logits, [1, 1], seen) == expected
    with pytest.raises(
        ValueError, match=r"seen is torch.bool \(3,\), but must have one entry for each of 49 pairs"
    ):
        methods.measure_progress(logits, [1], mask[:3])


NOT_FINITE = {"nan": math.nan, "minus infinity": -math.inf}


@pytest.mark.parametrize("value", NOT_FINITE.values(), ids=NOT_FINITE.keys())
@pytest.mark.parametrize(
    "judge",
    [
        lambda m, f: methods.measure_share_recovered(torch.zeros(2), m, CLEAN, CORRUPT, f),
        lambda m, f: methods.find_circuit_acdc(m, CLEAN, CORRUPT, f),
        lambda m, f: methods.train_edge_mask(m, CLEAN, CORRUPT, f, steps=1),
        lambda m, f: methods.measure_faithfulness(m, CLEAN, CORRUPT, f, [[]]),
        lambda m, f: methods.scrub(m, CLEAN, CORRUPT, f, {}),
        lambda m, f: methods.assess_equivalence(m, CLEAN, CORRUPT, f, []),
        lambda m, f: methods.integrate_gradients(m, CLEAN, f, torch.tensor(0)),
    ],
)
def test_a_metric_that_is_not_finite_decides_nothing_and_is_told_so(model, judge, value):
    with pytest.raises(ValueError, match="finite"):
        judge(model, lambda logits: first(logits) * 0 + value)


def test_acdc_says_so_where_the_metric_is_nan_in_a_run_between(model):
    plain = first(model(CLEAN)).detach()
    below = first(model(CORRUPT)).detach().mean() < plain.mean()

    def gap(logits):
        ends = (
            (first(logits) - plain).abs() < 1e-5,
            (first(logits) - first(model(CORRUPT))).abs() < 1e-5,
        )
        return torch.where(ends[0] | ends[1], first(logits) if below else -first(logits), math.nan)

    with pytest.raises(ValueError, match="the metric is nan in a run with some edges off"):
        methods.find_circuit_acdc(model, CLEAN, CORRUPT, gap)


def test_a_metric_that_does_not_hang_on_the_logits_has_no_gradient(model):
    def detached(logits):
        return first(logits).detach() * torch.ones(1, requires_grad=True)

    for find in (
        lambda: methods.attribution_patch(model, CLEAN, CORRUPT, detached, direction="denoise"),
        lambda: methods.eap(model, CLEAN, CORRUPT, detached),
        lambda: methods.measure_saliency(model, CLEAN, detached),
    ):
        with pytest.raises(ValueError, match="the metric has no gradient"):
            find()


def test_empty_and_whole_circuits_have_the_values_of_their_definition(model):
    edges = list_edges(model)
    shares = methods.measure_faithfulness(
        model, CLEAN, CORRUPT, first, [[], edges, edges + edges[:3]]
    )
    assert shares.tolist() == [0, 1, 1]
    assert methods.measure_minimality(model, CLEAN, CORRUPT, first, []) == {}
    assert methods.find_incompleteness(model, CLEAN, CORRUPT, first, []) == {frozenset(): 1}
    gaps = methods.measure_incompleteness(model, CLEAN, CORRUPT, first, edges, knockouts=[(), ()])
    assert gaps == {frozenset(): 0}


def test_knockouts_that_differ_by_rounding_are_a_tie_for_the_first(model, monkeypatch):
    from mini_transformer.methods.circuits import circuit_knockouts

    def pretend(*arguments):
        return {out: 0.5 + 1e-7 * ("m0" in out) for out in map(frozenset, arguments[-1])}

    monkeypatch.setattr(circuit_knockouts, "measure_incompleteness", pretend)
    found = methods.find_incompleteness(model, CLEAN, CORRUPT, first, ["a0.h0", "m0"], steps=1)
    assert list(found)[-1] == frozenset({"a0.h0"})


def test_a_curve_of_several_circuits_of_one_size_counts_the_last():
    curve = methods.FaithfulnessCurve(
        torch.tensor([0, 0.5, 0.5, 1]), torch.tensor([0, 9.0, 0.5, 1])
    )
    assert curve.cpr(bounded=False) == 0.25
    with pytest.raises(ValueError, match="share must rise from size to size"):
        methods.FaithfulnessCurve(torch.tensor([0.5, 0]), torch.tensor([0.0, 1]))


def test_a_mask_of_parts_is_a_score_with_two_levels(model):
    mask = torch.arange(7) > 3
    found = methods.measure_faithfulness_curve(model, CLEAN, CORRUPT, first, mask)
    torch.testing.assert_close(found.share, torch.tensor([0, 3 / 7, 1]))


def test_scores_that_say_nothing_of_each_other_are_independent_with_certainty(model, monkeypatch):
    scores = [torch.tensor([0.0, 0, 1, 1]).numpy(), torch.tensor([0.0, 1, 0, 1]).numpy()]
    monkeypatch.setattr(circuit_tests, "compare_runs", lambda *arguments: scores)
    found = methods.assess_independence(model, CLEAN, CORRUPT, first, [])
    assert (found.statistic, found.p_value) == (0, 1)


def test_a_neuron_or_logits_that_do_not_vary_have_no_share_of_a_wave():
    constant = torch.full((P * P, 2), 0.3)
    constant[::3, 1] = torch.nextafter(constant[::3, 1], torch.tensor(1.0))  # but for rounding
    assert methods.measure_share_of_best_frequency(constant, P).isnan().all()
    with pytest.raises(ValueError, match="are the same for all pairs"):
        methods.measure_share_of_sum((0.1 * torch.arange(P)).expand(P * P, P))
    with pytest.raises(ValueError, match=r"the correct logit is 0\.1 for all pairs"):
        methods.measure_distance_irrelevance(torch.full((P * P, P), 0.1))
    with pytest.raises(ValueError, match=r"logits \(49, 7\) hold numbers that are not finite"):
        methods.measure_progress(torch.full((P * P, P), -math.inf), [1])


def test_a_prompt_without_a_gradient_has_no_cosine_and_is_left_out(model, zeros):
    targets = torch.tensor([0, 1, 2])
    assert math.isnan(methods.measure_gradient_symmetry(zeros, CLEAN, targets))
    alone = methods.measure_gradient_symmetry(
        model, CLEAN[1:], targets[1:], first_position=0, second_position=3, position=3
    )
    with torch.no_grad():
        model.W_U[:, 0] = 0  # the logit of the first prompt's target depends on nothing
    found = methods.measure_gradient_symmetry(
        model, CLEAN, targets, first_position=0, second_position=3, position=3
    )
    assert found == pytest.approx(alone, abs=1e-6)


def test_weights_of_zero_score_zero_and_split_into_finite_parts(zeros):
    assert not methods.score_composition(zeros, "v").any()
    assert not methods.score_copying(zeros).any()
    assert all(part.isfinite().all() for part in methods.split_circuit(zeros, "a1.h0", "qk"))
    assert not methods.read_neurons(zeros, 0).excited_by.any()


def test_embeddings_that_are_all_the_same_give_noise_no_size(zeros):
    with pytest.raises(
        ValueError, match="all entries of W_E are the same, which gives noise no size: give `noise`"
    ):
        methods.causal_trace(zeros, CLEAN, first, CLEAN > 1)


def test_keys_that_are_zero_or_repeated_leave_a_rank_one_edit_exact(model):
    key = torch.tensor([1.0, -2, 0, 3, 1])
    for keys in (
        torch.zeros(3, 5),
        torch.ones(4, 5),
        torch.eye(5) * torch.tensor([1e6, 1, 1, 1, 1]),
    ):
        edited = methods.edit_rank_one(model, 0, key, torch.ones(8), keys)
        torch.testing.assert_close(
            key @ edited.blocks[0].mlp.W_out, torch.ones(8), atol=1e-5, rtol=1e-5
        )


def test_prompts_without_tokens_are_refused_in_one_sentence(model):
    with pytest.raises(ValueError, match=r"tokens are \(3, 0\): prompts without tokens"):
        methods.patch_activations(model, CLEAN[:, :0], CLEAN[:, :0], first, direction="denoise")
