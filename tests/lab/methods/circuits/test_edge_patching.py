"""Exact edge patching.

Checked against: the edge engine with one switch off per mask, one hooked run per edge, and the
circuits of hand-set models.
"""

import pytest
import torch

from mini_transformer import Config, Transformer, toys
from mini_transformer.edges import (
    EdgeScores,
    list_edges,
    list_writers,
    run_edges,
    run_masks,
    write_outputs,
)
from mini_transformer.methods import patch_edges, score_nodes

ABLATIONS = ["zero", "mean", "resample"]


def metric(logits):
    return logits[:, -1, 2] - logits[:, 1, 3] ** 2


def read_written(model, tokens):
    """Read what each node writes from a plain cache."""
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens, names_filter=lambda name: True)
    parts = model.decompose(cache)
    return {
        name: cache["resid_pre", 0] if name == "input" else parts[name]
        for name in list_writers(model)
    }


def run_hooked(model, tokens, reader, change, position=None):
    """Run while one reader, and no other, hears `change` on top, at one position or at all."""
    if position is not None:
        change = change * torch.eye(tokens.shape[1]).to(change)[position].unsqueeze(-1)
    if reader == "logits":
        hook = ("resid_post", 1), lambda value, hook: value + change
    elif reader.startswith("m"):
        hook = ("mlp_in", int(reader[1])), lambda value, hook: value + change
    else:

        def add(value, hook):
            value[:, :, int(reader[4])] += change

        hook = (f"{reader[6]}_input", int(reader[1])), add
    with torch.no_grad():
        return model.run_with_hooks(tokens, fwd_hooks=[hook])


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_noising_is_the_edge_engine_with_one_switch_off(model, clean, corrupt, ablation):
    off = write_outputs(model, corrupt, ablation)
    count = len(list_edges(model))
    with torch.no_grad():
        without = run_edges(model, clean, 1 - torch.eye(count), off)
        expected = metric(model(clean)).mean() - torch.stack(
            [metric(logits).mean() for logits in without]
        )
    got = patch_edges(model, clean, corrupt, metric, ablation, direction="noise").values
    assert expected.abs().min() > 1e-6, "an edge does nothing, so that its place could be wrong"
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_noising_is_one_hooked_run_per_edge(model, clean, corrupt, ablation):
    on, other = read_written(model, clean), read_written(model, corrupt)
    start = metric(model(clean)).mean().detach()
    expected = []
    for edge in list_edges(model):
        writer, reader = edge.split("->")
        value = {"zero": 0.0, "mean": other[writer].mean(dim=0), "resample": other[writer]}[
            ablation
        ]
        expected.append(start - metric(run_hooked(model, clean, reader, value - on[writer])).mean())
    got = patch_edges(model, clean, corrupt, metric, ablation, direction="noise")
    torch.testing.assert_close(got.values, torch.stack(expected))


def test_denoising_puts_one_clean_value_into_the_corrupt_run(model, clean, corrupt):
    on, other = read_written(model, clean), read_written(model, corrupt)
    start = metric(model(corrupt)).mean().detach()
    expected = []
    for edge in list_edges(model):
        writer, reader = edge.split("->")
        expected.append(
            metric(run_hooked(model, corrupt, reader, on[writer] - other[writer])).mean() - start
        )
    got = patch_edges(model, clean, corrupt, metric, direction="denoise")
    torch.testing.assert_close(got.values, torch.stack(expected))


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_by_position_it_is_the_edge_engine_with_one_switch_off(model, clean, corrupt, ablation):
    off = write_outputs(model, corrupt, ablation)
    shape = len(list_edges(model)), clean.shape[1]
    switches = torch.eye(shape[0] * shape[1]).unflatten(1, shape)
    with torch.no_grad():
        without = torch.cat(list(run_masks(model, clean, 1 - switches, off)))
        expected = metric(model(clean)).mean() - torch.stack(
            [metric(logits).mean() for logits in without]
        )
    got = patch_edges(
        model, clean, corrupt, metric, ablation, direction="noise", by_position=True
    ).values
    assert expected.unflatten(0, shape).abs().amax(dim=1).min() > 1e-6
    torch.testing.assert_close(got, expected.view(shape))


@pytest.mark.parametrize("direction", ["noise", "denoise"])
def test_by_position_it_is_one_hooked_run_per_edge_and_position(model, clean, corrupt, direction):
    base, source = (clean, corrupt) if direction == "noise" else (corrupt, clean)
    on, other = read_written(model, base), read_written(model, source)
    start = metric(model(base)).mean().detach()
    sign = -1 if direction == "noise" else 1
    got = patch_edges(model, clean, corrupt, metric, direction=direction, by_position=True)
    for edge in list_edges(model):
        writer, reader = edge.split("->")
        change = other[writer] - on[writer]
        for position, score in enumerate(got[edge]):
            run = run_hooked(model, base, reader, change, position)
            torch.testing.assert_close(score, sign * (metric(run).mean() - start))


@pytest.mark.parametrize("by_position", [False, True])
@pytest.mark.parametrize("batch_size", [1, 2, 4, 30, 1000])
def test_the_batch_size_changes_nothing(model, clean, corrupt, batch_size, by_position):
    how = {"direction": "noise", "by_position": by_position}
    expected = patch_edges(model, clean, corrupt, metric, **how)
    got = patch_edges(model, clean, corrupt, metric, batch_size=batch_size, **how)
    torch.testing.assert_close(got.values, expected.values)


@pytest.mark.parametrize("by_position", [False, True])
def test_a_smaller_batch_size_means_smaller_forwards(model, clean, corrupt, by_position):
    sizes = []

    def look(value, hook):
        sizes.append(len(value))

    for batch_size in (1, 1000):
        with model.hooks([(("q", 1), look)]):
            how = {"direction": "noise", "by_position": by_position}
            patch_edges(model, clean, corrupt, metric, batch_size=batch_size, **how)
        sizes.append(0)
    small, large = sizes[: sizes.index(0)], sizes[sizes.index(0) + 1 :]
    # One prompt, one writer, every head's q, k or v.
    assert max(small) <= max(3 * model.config.n_heads, len(clean))
    assert max(large) > max(small)
    if by_position:  # several writers at all positions, each in q, k or v, go through one forward
        assert max(large) > 3 * model.config.n_heads * clean.numel()


def test_a_model_without_layers_has_one_edge(clean, corrupt):
    model = Transformer(Config(d_vocab=7, n_ctx=6, d_model=8, n_layers=0, norm="layer"))
    with torch.no_grad():
        expected = metric(model(clean)).mean() - metric(model(corrupt)).mean()
    got = patch_edges(model, clean, corrupt, metric, direction="noise")
    torch.testing.assert_close(got["input->logits"], expected)
    assert list(got) == ["input->logits"]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("ablation", ABLATIONS)
def test_the_edges_that_matter_are_the_circuit_of_the_hand_set_model(ablation, seed):
    case = toys.load("induction_by_hand", seed)
    batch = case.task.draw(64, corrupt="fresh")
    other = batch.corrupt if ablation == "resample" else batch.clean
    drops = patch_edges(
        case.model, batch.clean, other, batch.logit_difference, ablation, direction="noise"
    )
    circuit = case.truth.circuits[ablation].edges[0]
    assert min(drops[edge] for edge in circuit) > 5
    assert max(abs(drop) for edge, drop in drops.items() if edge not in circuit) < 1e-3


def test_noising_misses_the_edges_of_a_backup():
    """The backup acts only when the mover is silent.

    Each of the two is a way to the answer (zero ablation).
    """
    case = toys.load("backup_head")
    batch = case.task.draw(64)
    drops = patch_edges(
        case.model,
        batch.clean,
        batch.clean,
        lambda x: batch.correct(x).float(),
        "zero",
        direction="noise",
    )
    for role, drop in (("mover", 1.0), ("backup", 0.0)):
        edge = f"{case.truth.roles[role]}->logits"
        assert any(edge in circuit for circuit in case.truth.circuits["zero"].edges)
        assert drops[edge] == drop


def test_a_node_scores_as_high_as_the_highest_edge_out_of_it(model):
    edges = list_edges(model)
    scores = EdgeScores(model, torch.randn(len(edges), generator=torch.Generator().manual_seed(0)))
    found = score_nodes(model, scores)
    for node, score in found.items():
        own = [value for edge, value in scores.items() if edge.startswith(f"{node}->")]
        assert score == max(own)
    assert list(found) == list_writers(model)
    named = {edge: value.item() for edge, value in scores.items()}
    assert score_nodes(model, named) == score_nodes(model, scores.values) == found


def test_nodes_are_scored_by_scores_of_all_edges(model):
    scores = dict.fromkeys(list_edges(model), 1.0)
    del scores["input->logits"]
    with pytest.raises(ValueError, match=f"given by {len(scores)} names, expected a number for"):
        score_nodes(model, scores)
    with pytest.raises(ValueError, match=rf"scores are \({len(list_writers(model))},\), expected"):
        score_nodes(model, dict.fromkeys(list_writers(model), 1.0))
