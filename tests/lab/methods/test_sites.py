"""What is read at a site in parts is what one run has there, and a run resumed there ends the
same.
"""

import pytest
import torch

from mini_transformer import Config, Transformer
from mini_transformer.methods import sites

MODEL = Transformer(Config(d_vocab=7, n_ctx=5, d_model=6, n_layers=2, n_heads=2, d_mlp=4))
TOKENS = torch.randint(7, (5, 4), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("site", sites.SITES)
def test_a_site_is_the_hook_of_its_name_with_these_axes_in_every_layer(site):
    hooks = [(site, layer) for layer in range(2)]
    cache = MODEL.run_with_cache(TOKENS, names_filter=hooks)[1]
    found = sites.read_sites(MODEL, TOKENS, site, batch_size=2)[site]
    assert len(found) == 2
    for layer, value in enumerate(found):
        torch.testing.assert_close(value, cache[site, layer])
        assert value.ndim == 1 + len(sites.SITES[site])


def test_the_stream_may_be_given_in_place_of_tokens():
    stream = MODEL(TOKENS, stop_at_layer=0).detach()
    for site in ("z", "resid_post"):
        from_tokens = sites.read_sites(MODEL, TOKENS, site)[site]
        from_stream = sites.read_sites(MODEL, stream, site)[site]
        torch.testing.assert_close(from_stream, from_tokens)


def test_axes_are_those_that_per_names_in_its_order():
    assert sites.find_axes("z", "head pos") == [1, 0]
    assert sites.find_axes("pattern", "head key") == [0, 2]
    assert sites.find_axes("resid_pre", "") == []


@pytest.mark.parametrize("site", ["resid_pre", "q", "pattern", "post"])
def test_a_run_resumed_with_its_own_value_ends_in_the_same_logits(site):
    read = sites.read_sites(MODEL, TOKENS, "resid_pre", site)
    for layer in range(2):
        resid, value = read["resid_pre"][layer], read[site][layer]
        with torch.no_grad():
            logits = sites.run_with(MODEL, layer, site, resid, value)
            torch.testing.assert_close(logits, MODEL(TOKENS))
            assert not torch.allclose(
                sites.run_with(MODEL, layer, site, resid, value + 1), MODEL(TOKENS)
            )


@pytest.mark.parametrize("batch_size", [None, 1, 3, 99])
def test_logits_do_not_depend_on_how_many_prompts_run_at_a_time(batch_size):
    logits = sites.run_in_parts(MODEL, TOKENS, batch_size)
    assert not logits.requires_grad
    torch.testing.assert_close(logits, MODEL(TOKENS))
