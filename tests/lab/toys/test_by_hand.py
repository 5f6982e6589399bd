"""The building blocks of models set by hand do what their names say."""

import pytest
import torch

from mini_transformer import Config
from mini_transformer.toys import by_hand


def test_directions_with_names_are_orthonormal() -> None:
    stream = by_hand.Stream(token=3, position=2, out=4)
    everything = torch.cat([stream["token"], stream["position"], stream["out"]])
    assert torch.equal(everything @ everything.T, torch.eye(9))


def test_blocks_do_what_their_names_say() -> None:
    stream = by_hand.Stream(token=4, position=6, previous=4, looked_up=1)
    config = Config(
        d_vocab=4, n_ctx=6, d_model=15, n_layers=1, d_head=6, d_mlp=1, attn_scale=3.0, biases=True
    )
    model = by_hand.make_blank(config)
    assert model(torch.tensor([[0, 1, 2]])).abs().max() == 0
    by_hand.write_embedding(model, stream["token"], stream["position"])
    by_hand.attend_to_previous(model, 0, 0, stream["position"], strength=20.0)
    by_hand.copy_directions(model, 0, 0, stream["token"], stream["previous"])
    reads = stream["token"][1] + stream["previous"][3]
    by_hand.look_up(model, 0, 0, reads=reads, bias=-1.0, writes=stream["looked_up"][0])
    tokens = torch.tensor([[2, 3, 1, 0, 1]])
    _, cache = model.run_with_cache(tokens)
    assert cache["attn_scores", 0][0, 0, 3, 2].item() == pytest.approx(
        20.0
    )  # whatever the scale is
    assert cache["pattern", 0][0, 0].diagonal(-1).min() > 0.99
    assert (cache["resid_post", 0][0, 1:] @ stream["previous"].T).argmax(-1).tolist() == tokens[
        0, :-1
    ].tolist()
    found = cache["resid_post", 0][0] @ stream["looked_up"][0]
    torch.testing.assert_close(
        found, torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0]), rtol=0, atol=1e-4
    )  # 3, then 1


def test_places_are_in_order_for_seed_0_and_permutations_for_all_others() -> None:
    assert by_hand.place_heads(0, 3, 4) == [[0, 1, 2, 3]] * 3
    places = [by_hand.place_heads(seed, 3, 4) for seed in range(1, 20)]
    assert all(sorted(heads) == [0, 1, 2, 3] for place in places for heads in place)
    assert places[0] == by_hand.place_heads(1, 3, 4)
    assert len({tuple(map(tuple, place)) for place in places}) > 15
