"""The disguise: the same function, nothing readable."""

import pytest
import torch

from mini_transformer import toys
from mini_transformer.edges import list_edges, run_edges, write_outputs


@pytest.mark.parametrize("seed", [0, 1, 5])
def test_it_says_what_the_plain_construction_says_under_every_mask(seed: int) -> None:
    plain, rotated = toys.load("induction_by_hand", seed), toys.load("induction_rotated", seed)
    batch = plain.task.draw(8)
    masks = torch.randint(
        2, (64, len(list_edges(plain.model))), generator=torch.Generator().manual_seed(seed)
    ).float()
    for ablation in ("zero", "mean", "resample"):
        with torch.no_grad():
            one, other = (
                run_edges(m, batch.clean, masks, write_outputs(m, batch.corrupt, ablation))
                for m in (plain.model, rotated.model)
            )
        torch.testing.assert_close(one, other, rtol=0, atol=1e-2)


def test_hardly_a_weight_is_zero_where_nearly_all_were() -> None:
    def share_in_use(name: str) -> float:
        weights = torch.cat(
            [w.flatten() / w.abs().max() for w in toys.load(name).model.parameters()]
        )
        return (weights.abs() > 1e-3).float().mean().item()

    assert share_in_use("induction_by_hand") < 0.01
    assert share_in_use("induction_rotated") > 0.99


def test_seeds_differ_and_the_same_seed_is_the_same() -> None:
    one, same, other = (toys.load("induction_rotated", seed).model.W_E for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.allclose(one, other, atol=0.1)
