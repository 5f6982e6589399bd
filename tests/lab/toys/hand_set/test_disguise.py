"""A disguised model computes the same with weights that say nothing."""

import torch

from mini_transformer import toys
from mini_transformer.toys.hand_set.disguise import draw_rotation, rotate_model


def test_rotations_keep_lengths_and_angles_and_leave_the_global_seed_alone() -> None:
    state = torch.get_rng_state()
    q = draw_rotation(7, torch.Generator().manual_seed(3))
    toys.load("induction_rotated")
    torch.testing.assert_close(q.T @ q, torch.eye(7, dtype=q.dtype))
    assert torch.equal(torch.get_rng_state(), state)


def test_the_turned_stream_holds_the_old_one_in_other_directions() -> None:
    plain = toys.load("induction_by_hand").model
    rotated, turn = rotate_model(plain, torch.Generator().manual_seed(1))
    tokens = torch.tensor([[0, 3, 1, 4, 3]])
    streams = [model.run_with_cache(tokens)[1]["resid_post", 1] for model in (plain, rotated)]
    torch.testing.assert_close(streams[1] @ turn.T, streams[0], rtol=0, atol=1e-3)
    assert rotated.W_E.abs().min() > 0
