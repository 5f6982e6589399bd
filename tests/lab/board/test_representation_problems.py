"""The problems of the five families of representations: right answers, wrong ones, and what known methods find."""

import functools
from importlib import import_module

import pytest
import torch

from mini_transformer.board.families import check_answer
from mini_transformer.methods import align_subspace, fit_leace, measure_interchange, train_probe

HEADLINES = {
    "features": "f1",
    "probe": "cosine",
    "variables": "overlap",
    "erasure": "balance",
    "steering": "specificity",
}
MODULES = {
    family: import_module(
        f"mini_transformer.board.problems_{family}s"
        if family == "probe"
        else f"mini_transformer.board.problems_{family}"
    )
    for family in HEADLINES
}
ALL = [(family, name) for family, module in MODULES.items() for name in module.NAMES]
each_problem = pytest.mark.parametrize(
    ("family", "name"), ALL, ids=[f"{family}-{name}" for family, name in ALL]
)


@functools.cache
def build_once(family, name, seed):
    return MODULES[family].build(name, seed)


@each_problem
def test_the_oracle_is_right_on_two_seeds(family, name):
    for seed in MODULES[family].list_seeds(name)[:2]:
        problem = build_once(family, name, seed)
        answer = check_answer(family, problem.oracle(), problem.arguments)
        assert problem.measure(answer)[HEADLINES[family]] == pytest.approx(1, abs=1e-6)


@each_problem
def test_a_random_answer_fits_and_is_not_right(family, name):
    problem = build_once(family, name, MODULES[family].list_seeds(name)[0])
    answers = [
        check_answer(family, problem.random(number), problem.arguments) for number in range(2)
    ]
    metrics = [problem.measure(answer) for answer in answers]
    assert all(torch.isfinite(torch.tensor(list(found.values()))).all() for found in metrics)
    assert all(0 <= found[HEADLINES[family]] < 1 for found in metrics)
    assert problem.measure(answers[0]) == problem.measure(
        check_answer(family, problem.random(0), problem.arguments)
    )


@each_problem
def test_a_problem_is_the_same_whenever_it_is_built_and_another_with_another_seed(family, name):
    module = MODULES[family]
    seeds = module.list_seeds(name)
    first, again, other = (
        build_once(family, name, seeds[0]),
        module.build(name, seeds[0]),
        build_once(family, name, seeds[1]),
    )
    assert all(torch.equal(a, b) for a, b in zip(flatten(first), flatten(again), strict=True))
    assert any(
        a.shape != b.shape or not torch.equal(a, b)
        for a, b in zip(flatten(first), flatten(other), strict=True)
    )
    assert len(first.note) > 20


def flatten(problem):
    """Every tensor that the method is given, models by their weights."""
    found, todo = [], list(problem.arguments)
    while todo:
        item = todo.pop(0)
        if isinstance(item, torch.Tensor):
            found.append(item)
        elif isinstance(item, torch.nn.Module):
            todo += list(item.state_dict().values())
        elif isinstance(item, dict):
            todo += list(item.values())
        elif hasattr(item, "base"):
            todo += [item.base, item.source, item.answers]
    return found


@pytest.mark.parametrize("name", MODULES["variables"].NAMES)
def test_pairs_that_are_judged_are_not_those_that_were_given_and_their_answers_are_the_model_s_own(
    name,
):
    """Whatever the whole activation of the source brings, where it differs from the base in the variable alone."""
    module = MODULES["variables"]
    case_name, variable = name.split("/")
    case = module.toys.load(case_name, 1)
    carried = case.truth.variables[variable]
    seen, fresh = module.draw_pairs(case, name, carried, dim=1)
    given = {(*a, *b) for a, b in zip(seen.base.tolist(), seen.source.tolist(), strict=True)}
    assert not given & {
        (*a, *b) for a, b in zip(fresh.base.tolist(), fresh.source.tolist(), strict=True)
    }
    same = carried.compute(fresh.base) == carried.compute(fresh.source)
    said = case.model(fresh.base)[:, -1].argmax(dim=1)
    assert torch.equal(said[same], fresh.answers[same])
    rows = module.find_rows(case, carried)
    assert (
        measure_interchange(case.model, seen.base, seen.source, seen.answers, rows, carried.site)
        == 1
    )


def test_a_dictionary_is_judged_on_activations_that_the_method_did_not_see():
    problem = MODULES["features"].build("planted_features/plain", 0)
    seen, right = problem.arguments[0], problem.oracle()
    by_heart = MODULES["features"].Lookup(right.W_dec, seen, right.encode(seen))
    assert problem.measure(by_heart)["mcc"] < 0.95 < problem.measure(right)["mcc"]


def test_a_subspace_that_moves_every_answer_need_not_be_the_one_that_carries_the_variable():
    problem = MODULES["variables"].build("refusal_with_trigger/harm", 0)
    model, hook, pairs = problem.arguments
    found = problem.measure(
        align_subspace(model, pairs.base, pairs.source, pairs.answers, hook, pairs.dim)
    )
    assert found["interchange"] == 1
    assert found["overlap"] < 0.5  # the request goes with the harm, and is not read


def test_a_probe_reads_what_nothing_uses():
    problem = MODULES["probe"].build("unused_feature/y", 0)
    found = problem.measure(train_probe(*problem.arguments))
    assert (found["accuracy"], found["ood_accuracy"], found["causal_use"]) == (1, 1, 0)


def test_a_probe_that_was_shown_no_trigger_reads_the_harm_and_not_the_refusal():
    problem = MODULES["probe"].build("refusal_with_trigger/refusal", 0)
    found = problem.measure(train_probe(*problem.arguments))
    assert (found["accuracy"], found["ood_accuracy"]) == (1, 0.5)
    assert found["cosine"] == pytest.approx(
        3**-0.5, abs=0.01
    )  # harm, refusal and request are one and the same there


def test_the_control_task_takes_off_what_a_probe_reads_from_labels_that_mean_nothing():
    problem = MODULES["probe"].build("style_grammar/sentiment", 0)
    activations, labels = problem.control.arguments
    assert activations is problem.arguments[0]
    assert not torch.equal(labels, problem.arguments[1])
    added = problem.control.add({"accuracy": 1.0}, train_probe(activations, labels))
    guessed = problem.control.add({"accuracy": 1.0}, train_probe(activations, labels.roll(1)))
    assert 0 < added["selectivity"] < guessed["selectivity"] < 1


def test_a_request_has_different_control_labels_at_different_places():
    """Else the control task would be as easy as the task: the request can be read, its place cannot."""
    problem = MODULES["probe"].build("refusal_with_trigger/refusal", 0)
    found = problem.control.add({"accuracy": 1.0}, train_probe(*problem.control.arguments))
    assert found["selectivity"] > 0.2


def test_taking_everything_out_or_nothing_is_no_erasure():
    problem = MODULES["erasure"].build("unused_feature/y", 0)
    nothing, everything = (
        problem.measure(lambda x: x),
        problem.measure(lambda x: x.mean(dim=0).expand_as(x)),
    )
    assert (nothing["balance"], nothing["leakage"], nothing["damage"]) == (0, 1, 0)
    assert (everything["balance"], everything["leakage"], everything["damage"]) == (0, 0, 1)
    assert everything["change"] == pytest.approx(1)


def test_what_no_line_can_read_an_mlp_still_can():
    problem = MODULES["erasure"].build("style_grammar/sentiment", 0)
    found = problem.measure(fit_leace(*problem.arguments))
    assert found["leakage"] < 0.15
    assert found["mlp_leakage"] > 0.9


def test_a_difference_in_means_steers_and_takes_more_along_than_the_right_vector():
    problem = MODULES["steering"].build("refusal_with_trigger/refuse", 0)
    positive, negative = problem.arguments
    hook = ("resid_post", 1)
    found = problem.measure((positive[hook].mean(dim=0) - negative[hook].mean(dim=0), hook))
    assert found["on_target"] > 0.9
    assert found["off_target_kl"] > 0.5
    assert problem.measure(problem.oracle())["off_target_kl"] == pytest.approx(
        0, abs=1e-6
    )  # by construction
    assert found["specificity"] < 0.95
