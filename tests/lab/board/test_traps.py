"""Every trap: built as it says, the right answer walks past it, a method that it is built to fool falls, another does not."""

from importlib import import_module

import pytest
import torch

from mini_transformer import toys
from mini_transformer.board import problems, trap_models, traps
from mini_transformer.board.families import FAMILIES, check_answer
from mini_transformer.board.jobs import Job, run_job
from mini_transformer.edges import list_edges
from mini_transformer.toys.enumerate import find_circuits, list_live_edges

# Who falls and who does not, with a fast one of each; None: nobody.
MET = {
    ("circuit", "backup_head/zero"): ("node_ablation", "edge_patching"),
    ("circuit", "boolean_and/both_bits"): ("edge_patching_denoise", "edge_patching"),
    ("circuit", "boolean_and/informative_by_zero"): ("edge_patching", "edge_patching_by_others"),
    ("circuit", "boolean_and/needed_by_resample"): ("edge_patching", "edge_patching_by_zeros"),
    ("circuit", "boolean_or/both_bits"): ("edge_patching", "edge_patching_denoise"),
    ("circuit", "boolean_or/two_circuits"): ("acdc", "eap_ig_inputs"),
    ("circuit", "cancelling/resample"): ("eap", "edge_patching"),
    ("circuit", "fixed_period/zero"): ("attention_patterns", "edge_patching"),
    ("circuit", "induction_by_hand/sharp"): ("eap", "edge_patching"),
    ("circuit", "induction_by_hand/zero"): ("attention_patterns", "edge_patching"),
    ("circuit", "unused_feature/resample"): ("activation_changes", "edge_patching"),
    ("features", "planted_correlated/narrow"): ("sae_l1", "principal_axes"),
    ("features", "planted_features/plain"): ("principal_axes", "sae_l1"),
    ("features", "planted_hierarchical/families"): ("sae_l1", "sae_matryoshka"),
    ("probe", "refusal_with_trigger/harm_xor_trigger"): ("linear", "class_means"),
    ("probe", "unused_feature/y"): ("linear", None),
    ("variables", "dormant/x"): ("das", "read_axes"),
    ("variables", "unused_feature/x_beside_untrained"): ("nonlinear_map", "das"),
}
each_trap = pytest.mark.parametrize(
    ("family", "name"), MET, ids=["-".join(problem) for problem in MET]
)
NEW_CIRCUITS = {
    "induction_by_hand/sharp",
    "cancelling/resample",
    "boolean_or/both_bits",
    "boolean_and/both_bits",
    "boolean_or/two_circuits",
    "fixed_period/zero",
}


def fell(family, name, entrant, seed=1):
    row = run_job(Job(family, name, entrant, seed))
    assert row["error"] is None
    return row["fell"]


def list_traps():
    """The problems that the table of traps names, and all of the modules that hold nothing else."""
    modules = {
        (family, import_module(f"mini_transformer.board.{module}"))
        for family, names in problems.MODULES.items()
        for module in names
        if module.startswith("traps")
    }
    return {*traps.TRAPS, *((family, name) for family, module in modules for name in module.NAMES)}


def test_every_trap_is_tried_here():
    assert list_traps() == set(MET)


@each_trap
def test_a_method_that_the_trap_is_built_for_falls_and_another_does_not(family, name):
    faller, other = MET[family, name]
    assert fell(family, name, faller) is True
    assert other is None or fell(family, name, other) is False


@each_trap
def test_the_right_answer_does_not_fall(family, name):
    unread = (family, name) == (
        "probe",
        "unused_feature/y",
    )  # no direction shows who reads it, not even the right one
    for seed in range(3):
        problem = problems.build(family, name, seed)
        found = problem.measure(check_answer(family, problem.oracle(), problem.arguments))
        assert found[FAMILIES[family].headline] == pytest.approx(1, abs=1e-6)
        assert problem.trap.falls(found) == unread


@each_trap
def test_a_trap_says_why_and_which_verdict_is_false(family, name):
    trap = problems.build(family, name).trap
    assert trap.what.endswith(".")
    assert 10 < len(trap.verdict) < 90
    assert not trap.verdict.endswith(".")


@pytest.mark.parametrize("name", sorted(NEW_CIRCUITS))
def test_the_circuits_are_all_that_trying_every_subset_of_edges_finds(name):
    for seed in range(2):
        problem = problems.build("circuit", name, seed)
        model, _, _, metric, ablation = problem.arguments
        circuits, right = find_circuits(model, metric.__self__, ablation), problem.oracle()
        first = {
            edge
            for edge, score in zip(list_edges(model), right, strict=True)
            if score == right.max()
        }
        union = {edge for edge, score in zip(list_edges(model), right, strict=True) if score > 0}
        assert first in circuits
        assert union == set().union(*circuits)
        assert len(circuits) == (2 if name.startswith("boolean_or") else 1)


@pytest.mark.parametrize("asked", ["needed_by_resample", "informative_by_zero"])
def test_the_two_questions_have_different_circuits_and_are_asked_with_the_other_ablation(asked):
    case, problem = toys.load("boolean_and"), problems.build("circuit", f"boolean_and/{asked}")
    ablation = problem.arguments[4]
    wanted, other = (
        case.truth.circuits["zero" if ablation == "resample" else "resample"],
        case.truth.circuits[ablation],
    )
    found = {
        e for e, score in zip(list_edges(case.model), problem.oracle(), strict=True) if score > 0
    }
    assert found == set(wanted.edges[0]) != set(other.edges[0])


def test_told_apart_counts_pairs():
    model = toys.load("boolean_and").model
    edges = list_edges(model)
    scores = torch.randint(4, (len(edges),), generator=torch.Generator().manual_seed(0)).float()
    above, below = set(edges[2:6]), set(edges[8:13])
    by_name, counts = dict(zip(edges, scores.tolist(), strict=True)), []
    for high in above:
        for low in below:
            counts.append((by_name[high] > by_name[low]) + 0.5 * (by_name[high] == by_name[low]))
    assert traps.tell_apart(model, scores, above, below) == pytest.approx(sum(counts) / len(counts))


def test_scores_of_nodes_are_told_apart_by_the_ends_of_the_edges():
    model = toys.load("boolean_and").model
    above, below = {"input->a0.h0<v>"}, {"a0.h1->logits", "input->logits"}
    scores = {"input": 9.0, "a0.h0": 1.0, "a0.h1": 0.0, "m0": 5.0}
    assert traps.tell_apart(model, scores, above, below) == 1
    assert traps.tell_apart(model, {**scores, "a0.h1": 2.0}, above, below) == 0
    assert traps.tell_apart(model, scores, above, {"input->logits"}) is None


def test_who_has_nothing_to_say_neither_falls_nor_stands():
    assert fell("circuit", "boolean_and/needed_by_resample", "node_ablation") is None
    assert fell("circuit", "boolean_and/informative_by_zero", "attention_patterns") is None
    assert (
        fell("circuit", "boolean_or/both_bits", "node_ablation") is None
    )  # every node belongs to the circuit


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


def test_nobody_writes_the_dormant_direction_and_nobody_reads_the_shadow():
    model, stream, prompts = (
        trap_models.build_dormant(),
        trap_models.make_dormant_stream(),
        trap_models.list_bits(),
    )
    last = model.run_with_cache(prompts)[1]["resid_post", 0][:, -1]
    assert (last @ stream["dormant"].T).abs().max() == 0
    assert (stream["shadow"] @ model.W_U).abs().max() == 0
    assert (stream["dormant"] @ model.W_U).abs().max() > (stream["carried"] @ model.W_U).abs().max()
    assert (model(prompts)[:, -1].argmax(dim=1) == prompts[:, 0]).all()
    read = {edge for edge in list_live_edges(model) if edge.endswith("->logits")}
    assert read == {"input->logits", "a0.h0->logits"}


def test_the_shortcut_fails_at_another_period():
    model, tokens = trap_models.build_shortcut(), trap_models.draw_repeats(32, seed=3)
    assert (model(tokens[:, :-1])[:, -1].argmax(dim=1) == tokens[:, -1]).all()
    period = trap_models.PERIOD - 2
    block = tokens[:, :period].repeat(1, 3)[:, : tokens.shape[1]]
    assert (model(block[:, :-1])[:, -1].argmax(dim=1) == block[:, -1]).float().mean() == 0


def test_harm_xor_trigger_is_a_sum_of_what_the_model_writes_and_each_combination_is_as_frequent():
    problem = problems.build("probe", "refusal_with_trigger/harm_xor_trigger", 1)
    activations, labels = problem.arguments
    harm, trigger, refusal = (activations @ problem.oracle().directions.T).T
    assert torch.allclose(trigger - harm + 2 * refusal, labels.float(), atol=1e-4)
    assert torch.equal((harm > 0.5) ^ (trigger > 0.5), labels.bool())
    assert (2 * (harm > 0.5) + (trigger > 0.5)).bincount().tolist() == [12] * 4


def test_hedging_counts_latents_that_lie_between_two_features_of_a_pair():
    problem = problems.build("features", "planted_correlated/narrow")
    features, right = toys.load("planted_correlated").truth.features, problem.oracle()
    first, second = torch.tensor(features.correlated).T
    between = torch.nn.functional.normalize(
        features.directions[first] + features.directions[second], dim=1
    )
    half = torch.cat([between[:16], features.directions[first[16:]]])
    mixed = problem.measure(type(right)(half, right.activations, right.codes))
    assert mixed["hedging"] == 0.5
    assert mixed["f1"] == pytest.approx(0.5)


def test_a_third_of_all_pairs_is_not_given_and_left_to_judge_by():
    for name in ("dormant/x", "unused_feature/x_beside_untrained"):
        problem = problems.build("variables", name, 1)
        pairs = problem.arguments[2]
        given = {(*a, *b) for a, b in zip(pairs.base.tolist(), pairs.source.tolist(), strict=True)}
        n_prompts = len({tuple(prompt) for prompt in pairs.base.tolist()})
        assert (
            len(given) == len(pairs.base) == 2 * n_prompts * (n_prompts - 1) // 3
        )  # the others are what is judged
