"""A sweep is a loop over entries, layer by layer, whose values are arranged as they are named."""

import itertools

import pytest
import torch

from mini_transformer.methods.sites import SITES, read_sites
from mini_transformer.methods.sweeps import arrange_map, sweep


def metric(logits):
    return logits[:, -1, 2]


def test_values_are_arranged_along_the_axes_in_the_order_of_their_names():
    values = [torch.tensor(float(number)) for number in range(2 * 3 * 4)]
    counted = torch.arange(24.0).view(2, 3, 4)  # layer, axis 0, axis 1
    assert torch.equal(arrange_map(values, [3, 4], [0, 1]), counted)
    assert torch.equal(arrange_map(values, [3, 4], [1, 0]), counted.transpose(1, 2))
    assert arrange_map(values[:2], [1, 1], []).tolist() == [0, 1]


@pytest.mark.parametrize("batch_size", [1, 4, None])
@pytest.mark.parametrize(
    ("site", "per"), [("z", "head pos"), ("resid_pre", "pos"), ("attn_out", "pos"), ("pattern", "")]
)
@torch.no_grad()
def test_each_value_is_that_of_one_run_with_one_entry_replaced(
    model, clean, corrupt, site, per, batch_size
):
    run = read_sites(model, clean, site, "resid_pre", "resid_post")
    source = read_sites(model, corrupt, site)[site]
    found = sweep(model, run, metric, site, per, source, batch_size)
    swept = [SITES[site].index(axis) for axis in per.split()]
    sizes = [run[site][0].shape[1 + axis] for axis in swept]
    for layer, *entry in itertools.product(range(2), *map(range, sizes)):
        place = [slice(None)] * run[site][0].ndim
        for axis, index in zip(swept, entry, strict=True):
            place[1 + axis] = index
        patched = run[site][layer].clone()
        patched[tuple(place)] = source[layer][tuple(place)]
        hooks = [((site, layer), lambda value, hook, patched=patched: patched)]
        expected = metric(model.run_with_hooks(clean, fwd_hooks=hooks)).mean()
        torch.testing.assert_close(found[(layer, *entry)], expected)
