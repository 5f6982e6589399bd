"""Arrays over all pairs of numbers modulo p, against loops."""

import torch

from mini_transformer.methods.weights.pairs import add_pairs, average_by_sum, vary

P = 13


def test_pairs_are_added_modulo_p_with_the_second_number_running_fastest():
    assert add_pairs(P).tolist() == [(a + b) % P for a in range(P) for b in range(P)]


def test_pairs_are_averaged_by_their_sum_as_in_a_loop():
    x = torch.randn(P * P, 2, generator=torch.Generator().manual_seed(0))
    slow = [torch.stack([x[P * a + (s - a) % P] for a in range(P)]).mean(dim=0) for s in range(P)]
    torch.testing.assert_close(average_by_sum(x, P), torch.stack(slow))


def test_a_column_varies_where_its_numbers_differ_by_more_than_rounding():
    one = torch.ones(4)
    rounded = one + torch.tensor([0.0, 0.0, 0.0, torch.finfo(one.dtype).eps])
    apart = one + torch.tensor([0.0, 0.0, 0.0, 1e-5])
    assert vary(torch.stack([one, rounded, apart], dim=1)).tolist() == [False, False, True]
