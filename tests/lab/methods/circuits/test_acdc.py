"""ACDC.

Checked against: the same algorithm written as a loop with one run per edge, all subsets of edges of
small hand-set models, the edges that auto-circuit 1.0.1 keeps on the same weights, and a trained
circuit.
"""

import functools
import time

import pytest
import torch
from drawn_models import CONFIGS, draw_tokens, scramble

from mini_transformer import Config, toys
from mini_transformer.board.running.passes import counting
from mini_transformer.edges import list_edges, mask_of, run_edges, write_outputs
from mini_transformer.methods import find_circuit_acdc, make_divergence, sweep_acdc

ABLATIONS = ["zero", "mean", "resample"]


def metric(logits):
    return logits[:, -1, 2] - logits[:, 1, 3] ** 2


def prune_slowly(model, clean, corrupt, metric, ablation, tau):
    """Algorithm 1 of the paper: one run per decision."""
    edges = list_edges(model)
    off = write_outputs(model, corrupt, ablation)

    @functools.cache
    def measure(on):
        with torch.no_grad():
            return (
                metric(run_edges(model, clean, mask_of(model, on).unsqueeze(0), off)[0])
                .mean()
                .item()
            )

    on = frozenset(edges)
    limit = tau * (measure(on) - measure(frozenset()))
    for edge in reversed(edges):
        if measure(on) - measure(on - {edge}) < limit:
            on -= {edge}
    return on


@pytest.mark.parametrize(
    ("ablation", "tau", "batch_size"),
    [("zero", 0.05, 4), ("mean", 0.2, None), ("resample", 0.01, None)],
)
def test_the_edges_are_those_of_one_run_per_decision(
    model, clean, corrupt, ablation, tau, batch_size
):
    target = make_divergence(model, clean, position=None)
    expected = prune_slowly(model, clean, corrupt, target, ablation, tau)
    assert 0 < len(expected) < len(list_edges(model))
    assert find_circuit_acdc(model, clean, corrupt, target, ablation, tau, batch_size) == expected


@pytest.mark.parametrize("name", CONFIGS)
def test_every_kind_of_model_gives_the_circuits_and_scores_of_one_run_per_decision(name):
    model = scramble(CONFIGS[name])
    index = list(CONFIGS).index(name)
    clean, corrupt = draw_tokens(model.config, seed=1), draw_tokens(model.config, seed=2)
    ablation = ABLATIONS[index % 3]
    taus = [0.05, 0.003]
    circuits = {}
    for tau, batch_size in zip(taus, (None, 2), strict=True):
        target = (
            rising(metric, model, clean, corrupt, ablation)
            if index % 2
            else make_divergence(model, clean, position=None)
        )
        circuits[tau] = prune_slowly(model, clean, corrupt, target, ablation, tau)
        assert (
            find_circuit_acdc(model, clean, corrupt, target, ablation, tau, batch_size)
            == circuits[tau]
        )
    assert len(circuits[0.05]) < len(circuits[0.003]) or name == "no_layers"
    scores = [
        max([tau for tau in taus if edge in circuits[tau]], default=0.0)
        for edge in list_edges(model)
    ]
    got = sweep_acdc(model, clean, corrupt, target, ablation, taus)
    torch.testing.assert_close(got.values, torch.tensor(scores))


def rising(metric, model, clean, corrupt, ablation):
    """The metric, or its opposite, so that it is higher with all edges on than with all off."""
    ends = torch.tensor([[1.0], [0.0]]).expand(2, len(list_edges(model)))
    with torch.no_grad():
        high, low = run_edges(model, clean, ends, write_outputs(model, corrupt, ablation))
    sign = (metric(high).mean() - metric(low).mean()).sign()
    return lambda logits: sign * metric(logits)


EDITS = {
    "q": lambda value, hook: value * 0.5,
    "pattern": lambda value, hook: value * 0.7,
    "result": lambda value, hook: value * 2.0,
    "mlp_out": lambda value, hook: torch.ones_like(value),
    "resid_pre": lambda value, hook: value * 0.5,
}


@pytest.mark.parametrize("site", EDITS)
def test_in_a_model_with_hooks_it_prunes_what_one_run_per_decision_prunes(site):
    config = CONFIGS["layer_norm_biases"]
    model, clean, corrupt = (
        scramble(config),
        draw_tokens(config, seed=1),
        draw_tokens(config, seed=2),
    )
    target = make_divergence(model, clean, position=None)
    plain = prune_slowly(model, clean, corrupt, target, "resample", 0.01)
    with model.hooks([((site, 0), EDITS[site])]):
        expected = prune_slowly(model, clean, corrupt, target, "resample", 0.01)
        assert find_circuit_acdc(model, clean, corrupt, target, tau=0.01) == expected
    assert expected != plain or site == "resid_pre"


def test_a_run_that_no_decision_needs_may_be_nan():
    """Both of the last two edges are tried off in one batch, but the last one stays on."""
    config = CONFIGS["plain"]
    model, clean, corrupt = (
        scramble(config),
        draw_tokens(config, seed=1),
        draw_tokens(config, seed=2),
    )
    mask = torch.ones(1, len(list_edges(model)))
    target = make_divergence(model, clean, position=None)
    mask[:, -2:] = 0.0
    with torch.no_grad():
        without = run_edges(model, clean, mask, write_outputs(model, corrupt))[0]

    def judge(logits):
        return target(logits) + (torch.nan if torch.allclose(logits, without) else 0.0)

    expected = prune_slowly(model, clean, corrupt, target, "resample", 1e-4)
    assert {list_edges(model)[-1], list_edges(model)[-2]} <= expected
    assert find_circuit_acdc(model, clean, corrupt, judge, tau=1e-4) == expected


def test_what_did_not_change_is_not_run_again():
    """Counted in runs of the batch through all layers, where most edges stay or all go."""
    config = Config(d_vocab=11, n_ctx=5, d_model=12, n_layers=4, n_heads=4, d_mlp=16, norm="layer")
    model, clean, corrupt = (
        scramble(config),
        draw_tokens(config, seed=1),
        draw_tokens(config, seed=2),
    )
    edges = len(list_edges(model))
    target = make_divergence(model, clean, position=None)
    for tau, share, most in ((1e-4, 0.5, 1.2 * edges), (0.01, 0.1, 0.65 * edges), (2.0, 0.0, 10.0)):
        with counting() as cost:
            circuit = find_circuit_acdc(model, clean, corrupt, target, tau=tau)
        assert len(circuit) >= share * edges
        # Measured: 1.15 edges, 0.62 edges, 4.
        assert cost.count_passes(config.n_layers, len(clean))[0] < most


GATES = ["boolean_and", "boolean_or", "boolean_xor", "boolean_redundant_or"]


@pytest.mark.parametrize("ablation", ABLATIONS)
@pytest.mark.parametrize("name", GATES)
def test_on_small_models_the_circuit_is_one_of_those_that_all_subsets_of_edges_give(name, ablation):
    """With accuracy as metric, an edge is kept if it costs a single answer.

    That is what the enumeration calls minimal.
    """
    case = toys.load(name)
    batch = case.task.everything()

    def accuracy(logits):
        return batch.correct(logits).float()

    other = batch.corrupt if ablation == "resample" else batch.clean
    assert (
        find_circuit_acdc(case.model, batch.clean, other, accuracy, ablation, tau=1e-3)
        in case.truth.circuits[ablation].edges
    )


@pytest.mark.parametrize("seed", range(5))
def test_on_the_trained_induction_model_it_finds_the_induction_circuit(seed):
    """The token before, written by the previous-token head, is the key of both match heads.

    Tokens are their query and value. Positions are the same in every prompt, so that resampling
    does not show the edges that carry nothing else.
    """
    case = toys.load("induction", seed)
    batch = case.task.draw(32, corrupt="fresh")
    previous = case.truth.roles["previous"]
    expected = {f"input->{previous}<v>"}
    for match in (case.truth.roles["match"], case.truth.roles["second"]):
        expected |= {
            f"{previous}->{match}<k>",
            f"input->{match}<q>",
            f"input->{match}<v>",
            f"{match}->logits",
        }
    start = time.process_time()
    circuit = find_circuit_acdc(
        case.model, batch.clean, batch.corrupt, batch.logit_difference, tau=0.1
    )
    assert time.process_time() - start < 20
    assert circuit == expected
    with torch.no_grad():
        masks = mask_of(case.model, circuit).unsqueeze(0)
        logits = run_edges(
            case.model, batch.clean, masks, write_outputs(case.model, batch.corrupt)
        )[0]
    assert batch.correct(logits).float().mean() > 0.95


def test_what_is_corrupted_decides_which_half_of_the_circuit_is_found():
    case = toys.load("induction")
    for corrupt, parts in (("source", "k"), ("answer", "v")):
        batch = case.task.draw(32, corrupt=corrupt)
        circuit = find_circuit_acdc(case.model, batch.clean, batch.corrupt, batch.logit_difference)
        heard = {edge.split("->")[1][-2] for edge in circuit if "->a1" in edge}
        assert heard == set(parts)


def test_of_two_parts_that_back_each_other_up_one_is_kept():
    case = toys.load("backup_head")
    batch = case.task.draw(64)

    def accuracy(logits):
        return batch.correct(logits).float()

    circuit = find_circuit_acdc(case.model, batch.clean, batch.clean, accuracy, "zero", tau=1e-3)
    kept = {f"{case.truth.roles[role]}->logits" in circuit for role in ("mover", "backup")}
    assert kept == {True, False}


@pytest.mark.parametrize("model", ["mlp_layer_norm_biases"], indirect=True)
def test_the_score_of_an_edge_is_the_highest_threshold_that_keeps_it(model, clean, corrupt):
    taus = [0.3, 0.01, 0.1]
    target = make_divergence(model, clean, position=None)
    scores = sweep_acdc(model, clean, corrupt, target, "mean", taus).values
    circuits = {tau: find_circuit_acdc(model, clean, corrupt, target, "mean", tau) for tau in taus}
    expected = [
        max([tau for tau in taus if edge in circuits[tau]], default=0.0)
        for edge in list_edges(model)
    ]
    torch.testing.assert_close(scores, torch.tensor(expected))
    assert len(set(scores.tolist())) > 2


@pytest.mark.parametrize("position", [None, 1, -1])
def test_the_divergence_is_summed_over_the_vocabulary_in_nats(model, clean, corrupt, position):
    with torch.no_grad():
        p, q = (model(tokens).softmax(dim=-1) for tokens in (clean, corrupt))
        got = make_divergence(model, clean, position)(model(corrupt))
    for row in range(len(clean)):
        places = range(clean.shape[1]) if position is None else [position]
        each = [
            sum(p[row, t, v] * (p[row, t, v] / q[row, t, v]).log() for v in range(7))
            for t in places
        ]
        torch.testing.assert_close(got[row], -sum(each) / len(each))
