"""Features problems: judged on what the method did not see."""

import torch

from mini_transformer.board.families.features.problems import Lookup, build, draw_dictionary


def test_a_dictionary_is_judged_on_activations_that_the_method_did_not_see():
    problem = build("planted_features/plain", 0)
    seen, right = problem.arguments[0], problem.oracle()
    by_heart = Lookup(right.W_dec, seen, right.encode(seen))
    assert problem.measure(by_heart)["mcc"] < 0.95 < problem.measure(right)["mcc"]


def test_codes_are_looked_up_from_the_nearest_activation():
    at, codes = torch.tensor([[0.0, 0.0], [4.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    table = Lookup(torch.eye(2), at, codes)
    assert table.encode(torch.tensor([[1.0, 1.0], [3.0, -1.0]])).tolist() == codes.tolist()


def test_a_random_dictionary_has_unit_directions_and_reads_along_them():
    found = draw_dictionary(5, 3, seed=1)
    assert torch.allclose(found.W_dec.norm(dim=1), torch.ones(5))
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(found.encode(x), (x @ found.W_dec.T).relu(), atol=1e-6)
    assert not torch.equal(found.W_dec, draw_dictionary(5, 3, seed=2).W_dec)
