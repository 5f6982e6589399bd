"""Compiled models against Tracr's own: the stream after every half layer.

It is stored, with how it was made, in reference/.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from mini_transformer.toys.tracr.compiled import find_file, load_compiled
from mini_transformer.toys.tracr.programs import PROGRAMS

STORED = dict(np.load(Path(__file__).parent / "reference" / "tracr_streams.npz"))


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_stream_is_tracrs_after_every_half_layer(name):
    model = load_compiled(find_file(name)).model
    tokens, expected = (torch.tensor(STORED[f"{name} {what}"]) for what in ("tokens", "stream"))
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens)
    stream = [cache["resid_pre", 0]]
    for layer in range(model.config.n_layers):
        stream += [cache["resid_mid", layer], cache["resid_post", layer]]
    assert expected.abs().max() >= 1
    torch.testing.assert_close(torch.stack(stream), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_direction_has_one_name_and_the_output_is_read_off(name):
    compiled = load_compiled(find_file(name))
    rows = torch.cat(list(compiled.directions.values()))
    assert torch.equal(rows.sum(dim=0), torch.ones(compiled.model.config.d_model))
    assert torch.equal(compiled.model.W_U.T, compiled.directions[PROGRAMS[name].output])
    assert {key: len(own) for key, own in compiled.values.items()} == {
        key: len(own) for key, own in compiled.directions.items()
    }


def test_heads_see_what_comes_later():
    model = load_compiled(find_file("reverse")).model
    one, other = (model(torch.tensor([tokens]))[0, 1] for tokens in ([0, 2, 3, 1], [0, 2, 4, 1]))
    assert one.argmax() != other.argmax()
