"""The package's erasers as entrants: each returns a function that takes the label out."""

import pytest
import torch

from mini_transformer.board.families.erasure.entrants import ENTRANTS


@pytest.mark.parametrize("name", ENTRANTS)
def test_class_means_are_equal_after_erasure(name):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(80) % 2
    x = torch.randn(80, 5, generator=generator) + 3 * labels[:, None]
    erased = ENTRANTS[name](x, labels)(x)
    gap = [y[labels == 1].mean(dim=0) - y[labels == 0].mean(dim=0) for y in (x, erased)]
    assert gap[1].norm() < 0.15 * gap[0].norm()
