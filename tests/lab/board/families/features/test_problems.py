"""Features problems: worlds are what they say, and dictionaries are judged on unseen rows."""

import pytest
import torch

from mini_transformer.board.families.features.problems import (
    KINDS,
    PROBLEMS,
    Lookup,
    build,
    draw_dictionary,
)
from mini_transformer.board.families.features.worlds import Kind, draw_world


def test_a_child_comes_with_its_parent_and_without_its_siblings():
    world = draw_world(KINDS["trees"], 3)
    _, codes = world.draw(4000, 1)
    active = codes > 0
    children = dict[int, list[int]]()
    for child, parent in world.entails:
        assert not (active[:, child] & ~active[:, parent]).any()
        children.setdefault(parent, []).append(child)
    assert len(world.entails) == 96
    for siblings in children.values():
        assert active[:, siblings].sum(dim=1).max() <= 1
    frequent = int(world.frequencies.argmax())
    kept = active[:, children[frequent]].any(dim=1)[active[:, frequent]]
    assert kept.double().mean().item() == pytest.approx(0.7, abs=0.05)
    assert active[:, :8].double().mean(dim=0).tolist() == pytest.approx(
        world.frequencies.tolist(), abs=0.04
    )


def test_roots_are_as_frequent_as_words_and_pairs_come_together():
    world = draw_world(KINDS["pairs"], 0)
    _, codes = world.draw(20_000, 1)
    shares = (codes > 0).double().mean(dim=0)
    together = (codes[:, ::2] > 0) & (codes[:, 1::2] > 0)
    of_first = together.double().mean(dim=0) / shares[::2]
    assert of_first.mean().item() == pytest.approx(0.75 + 0.25 * shares.mean().item(), abs=0.03)
    assert world.correlated[:2] == ((0, 1), (2, 3))
    ranked = draw_world(KINDS["plain"], 0).frequencies.sort(descending=True).values
    assert (ranked[0] / ranked[3]).item() == pytest.approx(2)  # rank 4, exponent 1/2
    assert (ranked[0] / ranked[-1]).item() == pytest.approx(96**0.5)


def test_activations_are_sums_with_noise_a_background_and_a_bias():
    world = draw_world(Kind(roots=4, d=40, noise=0.1, dense=0.5, n_dense=2), 0)
    x, codes = world.draw(20_000, 1)
    rest = x - codes @ world.directions - world.bias
    assert rest.mean(dim=0).abs().max() < 0.02
    sizes = torch.linalg.eigvalsh(torch.cov(rest.T)).sqrt()
    assert sizes[:38].tolist() == pytest.approx([0.1] * 38, abs=0.02)
    assert sizes[38:].min() > 0.3


def test_a_dictionary_is_judged_on_activations_that_the_method_did_not_see():
    problem = build("trees/narrow", 0)
    seen, right = problem.arguments[0], problem.oracle()
    by_heart = Lookup(right.W_dec, seen, right.encode(seen))
    found = problem.measure(by_heart)["classification"]
    assert found < 0.95 < problem.measure(right)["classification"]


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_oracle_is_right_and_a_random_answer_is_not(name):
    problem = build(name, 2**40 + 1)
    best = problem.measure(problem.oracle())
    assert best["classification"] == pytest.approx(1)
    assert best["recall"] > 0.2
    assert problem.trap is None or not problem.trap.falls(best)
    assert problem.measure(problem.random(0))["classification"] < 0.2


def test_a_random_dictionary_has_unit_directions_and_reads_along_them():
    found = draw_dictionary(5, 3, seed=1)
    assert torch.allclose(found.W_dec.norm(dim=1), torch.ones(5))
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(found.encode(x), (x @ found.W_dec.T).relu(), atol=1e-6)
    assert not torch.equal(found.W_dec, draw_dictionary(5, 3, seed=2).W_dec)
