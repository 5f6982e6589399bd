"""Circuits of compiled programs, derived again by trying all sets of edges and of nodes."""

import pytest

from mini_transformer import toys
from mini_transformer.toys.find_by_node import find_circuits_by_node
from mini_transformer.toys.find_circuits import find_circuits, list_live_edges
from mini_transformer.toys.tracr.programs import PROGRAMS

ABLATIONS = ["zero", "mean", "resample"]
SMALL = [name for name in PROGRAMS if name != "shuffle_dyck2"]


@pytest.mark.parametrize("ablation", ABLATIONS)
@pytest.mark.parametrize("name", SMALL)
def test_circuits_are_the_smallest_of_all_sets_that_work(name, ablation):
    case = toys.load(f"tracr_{name}", seed=1)
    batch = case.task.everything()
    stated = case.truth.circuits[ablation]
    assert find_circuits(case.model, batch, ablation) == stated.edges
    assert find_circuits(case.model, batch, ablation, "nodes") == stated.nodes


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("ablation", ABLATIONS)
def test_circuits_among_forty_edges_are_found_node_by_node(ablation, seed):
    case = toys.load("tracr_shuffle_dyck2", seed)
    assert len(list_live_edges(case.model)) == 40
    batch = case.task.everything()
    stated = case.truth.circuits[ablation]
    assert find_circuits_by_node(case.model, batch, ablation) == stated.edges
    assert find_circuits_by_node(case.model, batch, ablation, "nodes") == stated.nodes


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_carries_differences_is_needed_under_every_ablation(name):
    circuits = toys.load(f"tracr_{name}").truth.circuits
    (zero,), (mean,), (resample,) = (circuits[ablation].edges for ablation in ABLATIONS)
    assert mean < zero
    assert mean <= resample
