"""Probe problems: what goes along with the label, what nothing uses, and the control task."""

import pytest
import torch

from mini_transformer.board.families.probe.problems import build, make_probe
from mini_transformer.methods import fit_probe


def test_a_probe_reads_what_nothing_uses():
    problem = build("unused_feature/y", 0)
    found = problem.measure(fit_probe(*problem.arguments))
    assert (found["accuracy"], found["ood_accuracy"], found["causal_use"]) == (1, 1, 0)


def test_a_probe_that_was_shown_no_trigger_reads_the_harm_and_not_the_refusal():
    problem = build("refusal_with_trigger/refusal", 0)
    found = problem.measure(fit_probe(*problem.arguments))
    assert (found["accuracy"], found["ood_accuracy"]) == (1, 0.5)
    assert found["cosine"] == pytest.approx(
        3**-0.5, abs=0.01
    )  # harm, refusal and request are one and the same there


def test_the_control_task_takes_off_what_a_probe_reads_from_labels_that_mean_nothing():
    problem = build("style_grammar/sentiment", 0)
    activations, labels = problem.control.arguments
    assert activations is problem.arguments[0]
    assert not torch.equal(labels, problem.arguments[1])
    added = problem.control.add({"accuracy": 1.0}, fit_probe(activations, labels))
    guessed = problem.control.add({"accuracy": 1.0}, fit_probe(activations, labels.roll(1)))
    assert 0 < added["selectivity"] < guessed["selectivity"] < 1


def test_a_request_has_different_control_labels_at_different_places():
    """Else the control task would be as easy as the task: the request can be read, its place
    cannot.
    """
    problem = build("refusal_with_trigger/refusal", 0)
    found = problem.control.add({"accuracy": 1.0}, fit_probe(*problem.control.arguments))
    assert found["selectivity"] > 0.2


def test_a_probe_along_one_direction_decides_in_the_middle_between_its_classes():
    x, labels = torch.tensor([[0.0, 5.0], [2.0, 5.0], [10.0, 5.0]]), torch.tensor([0, 0, 1])
    probe = make_probe(torch.tensor([[1.0, 0.0]]), x, labels)
    assert probe.predict(torch.tensor([[5.4, 0.0], [5.6, 0.0]])).tolist() == [0, 1]
    several = make_probe(torch.eye(2), x, labels)
    assert several.predict(torch.tensor([[1.0, 0.0], [0.0, 1.0]])).tolist() == [0, 1]
