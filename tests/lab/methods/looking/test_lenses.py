"""What lenses share: the streams of a model, and reading logits off them."""

import torch
from drawn_models import add_up_streams

from mini_transformer.methods.looking.lenses import (
    compute_divergence,
    decode,
    list_streams,
    read_streams,
)


def test_the_names_of_the_streams_are_sites_in_the_order_of_computation(model, clean):
    _, cache = model.run_with_cache(clean)
    for site, stream in zip(list_streams(model), add_up_streams(model, cache), strict=True):
        torch.testing.assert_close(cache[site], stream)


def test_what_is_read_and_decoded_at_the_end_is_what_the_model_says(model, clean):
    streams, logits = read_streams(model, clean)
    assert len(streams) == len(list_streams(model))
    torch.testing.assert_close(decode(model, streams[-1]), logits)


def test_a_token_that_can_never_come_counts_nothing_also_in_the_gradient():
    target = torch.tensor([0.5, 0.5, 0.0]).log()
    other = torch.tensor([0.25, 0.5, 0.25], requires_grad=True)
    divergence = compute_divergence(target, other.log())
    (slope,) = torch.autograd.grad(divergence, other)
    torch.testing.assert_close(divergence, 0.5 * torch.tensor(2.0).log())
    torch.testing.assert_close(slope, torch.tensor([-2.0, -1.0, 0.0]))
