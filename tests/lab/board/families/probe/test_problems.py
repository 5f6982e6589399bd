"""Probe problems: no probe reads more than Bayes' rule, trivial ones lose, and who asks the model
knows what it uses.
"""

import inspect

import pytest
import torch
from family_means import check_margins, measure_means

from mini_transformer.board.families.probe.entrants import ENTRANTS, ask_model
from mini_transformer.board.families.probe.problems import SETTINGS, build
from mini_transformer.methods import fit_probe


def ask(problem, method):
    known = inspect.signature(method).parameters
    options = {key: value for key, value in problem.options.items() if key in known}
    return problem.measure(method(*problem.arguments, **options))


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_no_probe_reads_more_than_the_oracle_whatever_it_is_fitted_to(name):
    for seed in range(100, 112):
        problem = build(name, seed)
        best = problem.measure(problem.oracle())
        for method in ENTRANTS.values():
            found = ask(problem, method)
            assert found["reading"] <= best["reading"] == 1
            assert found["ood_accuracy"] <= best["ood_accuracy"]


def test_not_even_a_probe_fitted_to_the_judged_rows_is_better():
    problem = build("planted/read", 7)
    seen = []

    class Spy:
        directions = torch.eye(32)[:1]

        def predict(self, x):
            seen.append(x)
            return torch.zeros(len(x), dtype=torch.long)

    problem.measure(Spy())
    truth = problem.oracle().predict(seen[0])
    for penalty in (0.01, 1.0):
        assert problem.measure(fit_probe(seen[0], truth, penalty=penalty))["reading"] <= 1


@pytest.mark.slow
def test_trivial_answers_lose():
    check_margins("probe", measure_means("probe", 4), data_free=("constant",))


def test_who_asks_the_model_does_not_say_that_it_uses_what_nothing_reads():
    for seed in range(4):
        problem = build("planted/unread", seed)
        falls = problem.trap.falls
        assert falls(ask(problem, fit_probe))
        asked = ask(problem, ask_model)
        assert asked["reading"] > 0.8
        assert asked["causal_use"] < 0.1
        assert not falls(asked)
        assert not falls(problem.measure(problem.oracle()))
    assert ask(build("planted/read", 0), ask_model)["says_used"] == 1


def test_the_sum_of_three_directions_is_no_direction_of_the_model():
    problem = build("planted/xor", 1)
    found = problem.measure(problem.oracle())
    assert found["cosine"] == pytest.approx(1)
    assert not problem.trap.falls(found)
    assert problem.trap.falls({**found, "cosine": 0.5})


def test_the_control_task_takes_off_what_a_probe_reads_from_labels_that_mean_nothing():
    problem = build("planted/read", 0)
    activations, labels = problem.control.arguments
    assert activations is problem.arguments[0]
    assert not torch.equal(labels, problem.arguments[1])
    added = problem.control.add({"accuracy": 1.0}, fit_probe(activations, labels))
    guessed = problem.control.add({"accuracy": 1.0}, fit_probe(activations, labels.roll(1)))
    assert 0 < added["selectivity"] < guessed["selectivity"] < 1
