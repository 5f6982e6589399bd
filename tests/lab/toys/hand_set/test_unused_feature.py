"""The variable that nobody reads: by patching every prompt, and by an ordinary probe."""

import pytest
import torch
from sklearn.linear_model import LogisticRegression

from mini_transformer import toys


@pytest.mark.parametrize("seed", [0, 1, 6])
def test_the_answer_is_the_successor_of_x_whatever_y_is(seed: int) -> None:
    model = toys.load("unused_feature", seed).model
    for x in range(8):
        for y in range(8):
            assert model(torch.tensor([[x, y, 8]]))[0, -1].argmax() == (x + 1) % 8


@pytest.mark.parametrize("seed", [0, 1])
def test_a_probe_reads_both_variables_and_the_unused_one_is_louder(seed: int) -> None:
    case = toys.load("unused_feature", seed)
    clean = case.task.everything().distinct().clean
    stream = case.model.run_with_cache(clean)[1]["resid_mid", 0][:, -1].detach()
    for place, name in enumerate("xy"):
        seen = clean[:, 1 - place] < 4  # prompts by the other digit
        probe = LogisticRegression().fit(stream[seen].numpy(), clean[seen, place].numpy())
        assert probe.score(stream[~seen].numpy(), clean[~seen, place].numpy()) == 1.0
        variable = case.truth.variables[name]
        norm = (stream @ variable.subspace.T).norm(dim=-1)
        torch.testing.assert_close(norm, torch.full((64,), 1.0 + place))


@pytest.mark.parametrize("seed", [0, 1])
def test_resampling_y_changes_no_logit_and_resampling_x_changes_the_answer(seed: int) -> None:
    case = toys.load("unused_feature", seed)
    batch = case.task.everything()
    other = case.model.run_with_cache(batch.corrupt)[1]["resid_mid", 0][:, -1]
    clean = case.model(batch.clean)
    for name in "xy":
        rows = case.truth.variables[name].subspace

        def resample(value: torch.Tensor, hook: object, rows: torch.Tensor = rows) -> None:
            value[:, -1] += (other - value[:, -1]) @ rows.T @ rows

        changed = case.model.run_with_hooks(batch.clean, fwd_hooks=[(("resid_mid", 0), resample)])
        if case.truth.variables[name].used:
            assert (changed[:, -1].argmax(-1) == (batch.corrupt[:, 0] + 1) % 8).all()
        else:
            assert torch.equal(changed, clean)


def test_everything_differs_in_both_digits() -> None:
    batch = toys.load("unused_feature").task.everything()
    assert len(batch.clean) == 64 * 49
    assert (batch.clean[:, :2] != batch.corrupt[:, :2]).all()
    for corrupt, changed in (("x", [True, False]), ("y", [False, True])):
        drawn = toys.load("unused_feature").task.draw(50, corrupt=corrupt)
        assert ((drawn.clean != drawn.corrupt)[:, :2] == torch.tensor(changed)).all()
