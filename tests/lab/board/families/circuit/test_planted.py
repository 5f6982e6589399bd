"""Planted circuits: they do the task, nothing of them can be spared, and slopes cancel as said."""

import pytest
import torch

from mini_transformer.board.families.circuit.planted import plant_cancelling, plant_period
from mini_transformer.edges import mask_of, run_masks, write_outputs


@pytest.mark.parametrize("plant", [plant_cancelling, plant_period])
def test_planted_circuits_suffice_and_nothing_of_them_can_be_spared(plant) -> None:
    for seed in range(4):
        made = plant(seed)
        ablation = "resample" if plant is plant_cancelling else "zero"
        off = write_outputs(made.model, made.batch.corrupt, ablation)
        assert made.batch.accuracy(made.model) == 1
        for circuit in made.circuits:
            whole = mask_of(made.model, circuit)
            less = [whole - mask_of(made.model, [edge]) for edge in sorted(circuit)]
            with torch.no_grad():
                runs = run_masks(made.model, made.batch.clean, torch.stack([whole, *less]), off)
                right = torch.cat([made.batch.correct(run) for run in runs]).all(dim=1)
            assert right.tolist() == [True] + [False] * len(less)


def test_the_slopes_of_the_two_paths_cancel_and_the_paths_do_not() -> None:
    for seed in range(4):
        made = plant_cancelling(seed)
        model, batch = made.model, made.batch
        streams = [model(tokens, stop_at_layer=0) for tokens in (batch.clean, batch.corrupt)]
        slopes = []
        for share in (0.0, 0.5):
            at = torch.tensor(share, requires_grad=True)
            logits = model(resid=torch.lerp(*streams, at))
            slopes.append(torch.autograd.grad(batch.logit_difference(logits).sum(), at)[0])
        assert slopes[0].abs() < 0.3 * slopes[1].abs()
