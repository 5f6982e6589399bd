"""Gradients in parts are those of the whole batch at once, also of a metric that mixes prompts.

Checked against: torch.autograd through the whole batch.
"""

import pytest
import torch

from mini_transformer.methods.gradients import differentiate, find_slopes


def metric(logits):
    """One number per prompt that hangs on the other prompts, too."""
    return logits[:, -1, 2] * logits[:, -1].detach().mean() + logits[:, 0].square().mean(dim=-1)


@pytest.mark.parametrize("rows", [1, 2, 99])
def test_slopes_do_not_depend_on_how_many_prompts_are_in_one_graph(model, clean, rows):
    names = [("z", 0), ("resid_pre", 1)]
    _, cache = model.run_with_cache(clean, names_filter=names)
    values = [cache[name].detach() for name in names]

    def run(part, own):
        hooks = [
            (name, lambda value, hook, own=value: own)
            for name, value in zip(names, own, strict=True)
        ]
        return model.run_with_hooks(clean[part], fwd_hooks=hooks)

    with torch.no_grad():  # as a caller may have it
        found = find_slopes(run, values, metric, rows)
    leaves = [value.clone().requires_grad_() for value in values]
    expected = torch.autograd.grad(
        metric(run(slice(None), leaves)).mean(), leaves, materialize_grads=True
    )
    for slope, right in zip(found, expected, strict=True):
        torch.testing.assert_close(slope, right)
    assert all(weight.grad is None for weight in model.parameters())


def test_an_input_that_changes_nothing_has_slope_zero_and_no_slope_at_all_is_refused():
    x, y = torch.ones(2, requires_grad=True), torch.ones(3, requires_grad=True)
    assert [slope.tolist() for slope in differentiate((x**2).sum(), [x, y])] == [[2, 2], [0, 0, 0]]
    for value in (x.detach().sum(), y.sum()):
        with pytest.raises(ValueError, match="the metric has no gradient: use a logit difference"):
            differentiate(value, [x])
