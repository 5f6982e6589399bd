"""Path patching.

Checked against: hooks on the readers' own inputs and on the last stream, which know nothing of the
edge engine, ablation of nodes, and the circuit of a hand-set model.
"""

import itertools

import pytest
import torch

from mini_transformer import toys
from mini_transformer.edges import list_writers
from mini_transformer.methods import ablate, patch_path, patch_senders, split_effects

ABLATIONS = ["zero", "mean", "resample"]


def metric(logits):
    return logits[:, -1, 2] - logits[:, 1, 3] ** 2


def read_written(model, tokens):
    """Read what each node writes from a plain cache."""
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens, names_filter=lambda name: True)
    return {name: part for name, part in model.decompose(cache).items() if ".bias" not in name} | {
        "input": cache["resid_pre", 0]
    }


def corrupted(model, tokens, node, ablation):
    value = read_written(model, tokens)[node]
    return {
        "zero": 0 * value,
        "mean": value.mean(dim=0, keepdim=True).expand_as(value),
        "resample": value,
    }[ablation]


def add_at(reader, change):
    """Make a hook that adds to what one reader hears, and to nothing else."""
    if reader == "logits":
        return ("resid_post", 1), lambda value, hook: value + change
    if reader.startswith("m"):
        return ("mlp_in", int(reader[1])), lambda value, hook: value + change
    layer, head, part = int(reader[1]), int(reader[4]), reader[6]

    def add(value, hook):
        value[:, :, head] += change

    return (f"{part}_input", layer), add


def pick_paths(model):
    chains = [
        "input->logits",
        "a0.h1->logits",
        "input->a0.h2<v>->logits",
        "a0.h0->a1.h2<k>->logits",
    ]
    chains += ["a0.h1->a1.h0<q>", "input->a1.h1<v>", "input->a0.h0<k>->a1.h1<q>->logits"]
    if model.config.d_mlp:
        chains += [
            "a0.h1->m0->logits",
            "a0.h2->m0->a1.h0<v>->m1->logits",
            "m0->m1",
            "input->m0->a1.h1<k>",
        ]
    return chains


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_only_the_next_node_on_the_path_hears_the_one_before(model, clean, corrupt, ablation):
    """In a hooked run per edge, the reader hears a change, and writes the next one."""
    own = read_written(model, clean)
    for path in pick_paths(model):
        first, *readers = path.split("->")
        change = corrupted(model, corrupt, first, ablation) - own[first]
        for i, reader in enumerate(readers):
            hook = add_at(reader, change)
            with torch.no_grad(), model.hooks([hook]):
                logits, cache = model.run_with_cache(clean, names_filter=lambda name: True)
            if i < len(readers) - 1:
                node = reader.split("<")[0]
                layer = int(node[1])
                new = (
                    cache["mlp_out", layer]
                    if node[0] == "m"
                    else cache["result", layer][:, :, int(node[4])]
                )
                change = new - own[node]
        torch.testing.assert_close(
            patch_path(model, clean, corrupt, path, ablation), logits, msg=lambda m, p=path: p + m
        )


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_the_total_effect_is_that_of_ablating_the_node(model, clean, corrupt, ablation):
    start = metric(model(clean)).mean().detach()
    effects = split_effects(model, clean, corrupt, metric, ablation)
    for node in list_writers(model)[1:]:
        expected = start - metric(ablate(model, clean, [node], ablation, corrupt)).mean()
        torch.testing.assert_close(effects["total"][node], expected)


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_direct_is_a_change_of_the_last_stream_alone_and_indirect_everything_but_that(
    model, clean, corrupt, ablation
):
    own = read_written(model, clean)
    start = metric(model(clean)).mean().detach()
    effects = split_effects(model, clean, corrupt, metric, ablation)
    for node in list_writers(model)[1:]:
        change = corrupted(model, corrupt, node, ablation) - own[node]
        layer, site = int(node[1]), "mlp_out" if node[0] == "m" else "attn_out"
        for effect, hooks in {
            "direct": [add_at("logits", change)],
            "indirect": [
                ((site, layer), lambda x, hook, c=change: x + c),
                add_at("logits", -change),
            ],
        }.items():
            with torch.no_grad():
                expected = start - metric(model.run_with_hooks(clean, fwd_hooks=hooks)).mean()
            torch.testing.assert_close(effects[effect][node], expected)


def test_a_sender_that_several_receivers_hear_is_corrupted_for_all_of_them(model, clean, corrupt):
    own = read_written(model, clean)
    start = metric(model(clean)).mean().detach()
    receivers = ["a1.h0<k>", "a1.h2<q>", "logits"]
    found = patch_senders(model, clean, corrupt, metric, receivers)
    assert list(found) == list_writers(model)  # all of them write to the logits
    for node, value in found.items():
        change = corrupted(model, corrupt, node, "resample") - own[node]
        hears = [
            r
            for r in receivers
            if r == "logits" or node in ("input", "m0") or node.startswith("a0")
        ]
        with torch.no_grad():
            logits = model.run_with_hooks(
                clean, fwd_hooks=[add_at(reader, change) for reader in hears]
            )
        torch.testing.assert_close(value, start - metric(logits).mean())
    assert set(patch_senders(model, clean, corrupt, metric, ["a0.h1<q>"])) == {"input"}


def test_the_hand_set_circuit_is_found_by_asking_who_is_heard():
    for seed in (0, 1):
        case = toys.load("induction_by_hand", seed)
        batch = case.task.draw(128, corrupt="fresh")
        roles = case.truth.roles
        for part, sender in (("k", roles["previous"]), ("q", "input"), ("v", "input")):
            receiver = f"{roles['match']}<{part}>"
            found = patch_senders(
                case.model, batch.clean, batch.corrupt, batch.logit_difference, [receiver]
            )
            strong = {node for node, value in found.items() if value > 1}
            assert strong == {sender}, (seed, part)
        effects = split_effects(case.model, batch.clean, batch.corrupt, batch.logit_difference)
        assert {node for node, value in effects["direct"].items() if value > 1} == {roles["match"]}
        assert {node for node, value in effects["indirect"].items() if value > 1} == {
            "input",
            roles["previous"],
        }
        for head, part in itertools.product(("previous", "silent"), "qkv"):
            path = f"{roles[head]}->{roles['match']}<{part}>->logits"
            right = (
                batch.correct(patch_path(case.model, batch.clean, batch.corrupt, path))
                .float()
                .mean()
            )
            assert (right < 0.5) == (head == "previous" and part == "k"), path
