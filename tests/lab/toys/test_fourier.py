"""Waves modulo p: against numpy's FFT, and on functions whose waves are known."""

import math

import numpy as np
import torch

from mini_transformer.toys import fourier

P = 13
A, B = torch.cartesian_prod(torch.arange(P), torch.arange(P)).T


def wave(x, k=1):
    return torch.cos(2 * math.pi * k * x / P)


def test_shares_are_those_of_the_fft():
    x = torch.randn(P, 5, generator=torch.Generator().manual_seed(0))
    power = (np.abs(np.fft.fft(x.numpy(), axis=0)) ** 2).sum(axis=1)
    torch.testing.assert_close(
        fourier.measure_shares(x), torch.tensor(2 * power[1 : P // 2 + 1] / power.sum(), dtype=torch.float32)
    )


def test_a_function_of_the_sum_is_explained_and_one_of_the_difference_is_not():
    targets = torch.arange(P)
    assert abs(fourier.measure_explained(wave(A[:, None] + B[:, None] - targets)) - 1) < 1e-5
    assert abs(fourier.measure_explained(wave(A[:, None] - B[:, None] - targets))) < 1e-5


def test_restricted_and_excluded_logits_add_up():
    logits = torch.randn(P * P, P, generator=torch.Generator().manual_seed(0))
    restricted, excluded = (f(logits, [2, 5]) for f in (fourier.restrict_logits, fourier.exclude_logits))
    torch.testing.assert_close(restricted + excluded, logits + logits.mean(dim=0))


def test_restricting_keeps_just_the_named_waves_of_the_sum():
    targets = torch.arange(P)
    two, five = (wave(A[:, None] + B[:, None] - targets, k) for k in (2, 5))
    noise = wave(A[:, None] - B[:, None] + targets, 2)
    torch.testing.assert_close(fourier.restrict_logits(two + five + noise, [2]), two, atol=1e-5, rtol=0)


def test_a_neuron_of_one_frequency_is_told_from_one_of_two():
    one = torch.relu(wave(A, 3) + wave(B, 3))  # its harmonics are other frequencies
    product = wave(A, 3) * wave(B, 3) + 2 * wave(A, 3) + 7
    mixed = wave(A, 3) + wave(B, 4)
    single = fourier.measure_single(torch.stack([one, product, mixed], dim=1), P)
    assert 0.85 < single[0] < 1
    torch.testing.assert_close(single[1:], torch.tensor([1.0, 0.5]), atol=1e-5, rtol=0)


def test_pairs_are_averaged_by_their_sum_as_in_a_loop():
    x = torch.randn(P * P, 2, generator=torch.Generator().manual_seed(0))
    slow = [torch.stack([x[P * a + (s - a) % P] for a in range(P)]).mean(dim=0) for s in range(P)]
    torch.testing.assert_close(fourier.average_by_sum(x, P), torch.stack(slow))
