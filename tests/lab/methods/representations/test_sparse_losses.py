"""The losses of dictionaries are those of the papers, written out.

Checked against: planted features, codes and gradients written out, and codes and thresholds'
gradients of SAELens 6.54 on the same weights.
"""

import pytest
import torch

from mini_transformer.methods.representations.sparse_losses import BANDWIDTH, LOSSES, Draft, Jump


def draw_draft(k=2, penalty=0.3):
    generator = torch.Generator().manual_seed(0)
    draft = Draft.start(5, 5, 8, (2, 3), k, penalty, generator)
    draft.b_enc, draft.b_gate, draft.b_dec = (
        0.2 * torch.randn(n, generator=generator) for n in (8, 8, 5)
    )
    draft.log = 0.3 * torch.randn(8, generator=generator) - 1
    return draft, torch.randn(6, 5, generator=generator)


def expected_codes(architecture, draft, x):
    """The codes of each architecture by the formulas of the papers, one number at a time."""
    pre = [[(row @ draft.W_enc[:, j] + draft.b_enc[j]).item() for j in range(8)] for row in x]
    codes = torch.tensor(pre).clamp(min=0)
    if architecture == "topk":
        cut = codes.sort(dim=1, descending=True).values[:, draft.k]
        codes[codes <= cut[:, None]] = 0
    elif architecture in ("batchtopk", "matryoshka"):
        cut = codes.flatten().sort(descending=True).values[draft.k * len(x)]
        codes[codes <= cut] = 0
    elif architecture == "jumprelu":
        codes[codes <= draft.log.exp()] = 0
    elif architecture == "gated":
        on = (x @ draft.W_enc + draft.b_gate) > 0
        codes = on * (x @ (draft.W_enc * draft.log.exp()) + draft.b_enc).clamp(min=0)
    return codes


@pytest.mark.parametrize("architecture", LOSSES)
def test_codes_and_losses_are_those_of_the_paper(architecture):
    draft, x = draw_draft()
    codes = expected_codes(architecture, draft, x)

    def error(codes):
        return sum(
            ((row @ draft.W_dec + draft.b_dec - y) ** 2).sum()
            for row, y in zip(codes, x, strict=True)
        ) / len(x)

    norms = draft.W_dec[:, :2].norm(dim=1) + draft.W_dec[:, 2:].norm(dim=1)
    gate = (x @ draft.W_enc + draft.b_gate).clamp(min=0)
    expected = {
        "l1": lambda: error(codes) + 0.3 * (codes * norms).sum(dim=1).mean(),
        "matryoshka": lambda: (
            sum(error(torch.cat([codes[:, :n], codes[:, n:] * 0], 1)) for n in (1, 2, 4, 8)) / 4
        ),
        "gated": lambda: error(codes) + 0.3 * (gate * norms).sum(dim=1).mean() + error(gate),
        "jumprelu": lambda: error(codes) + 0.3 * (codes > 0).float().sum(dim=1).mean(),
    }.get(architecture, lambda: error(codes))()
    loss, found = LOSSES[architecture](draft, x, x)
    torch.testing.assert_close(found, codes)
    torch.testing.assert_close(loss, expected)
    assert (codes > 0).any()


@pytest.mark.parametrize("architecture", LOSSES)
def test_a_finished_dictionary_encodes_as_its_draft_did(architecture):
    draft, x = draw_draft()
    one, zero = torch.tensor(1.0), torch.zeros(5)
    finished = draft.finish(architecture, zero, one, zero, one)
    pre = (x @ finished["W_enc"] + finished["b_enc"]).relu()
    if architecture in ("l1", "gated", "jumprelu"):
        torch.testing.assert_close(
            torch.where(pre > finished["threshold"], pre, 0.0),
            expected_codes(architecture, draft, x),
        )
    else:
        torch.testing.assert_close(pre, draft.pre(x).relu())


def test_a_jump_is_differentiable_in_its_threshold_through_the_kernel():
    pre = torch.linspace(0, 1, 11).unsqueeze(1).requires_grad_()
    threshold = torch.tensor([0.5], requires_grad=True)
    codes, above = Jump.apply(pre, threshold)
    (2 * codes + 3 * above).sum().backward()
    assert pre.grad.flatten().tolist() == [0.0] * 6 + [2.0] * 5
    # One entry lies within half a bandwidth of the threshold: -(2 threshold + 3) / bandwidth
    # (2407.14435, section 3).
    assert threshold.grad.item() == pytest.approx(-(2 * 0.5 + 3) / BANDWIDTH)


def test_batchtopk_keeps_a_running_mean_of_its_smallest_code_as_the_threshold():
    draft, x = draw_draft()
    lowest = []
    for rows in (x, 2 * x):
        _, codes = LOSSES["batchtopk"](draft, rows, rows)
        lowest.append(codes[codes > 0].min().item())
        assert draft.floor == pytest.approx(lowest[0] + 0.01 * (lowest[-1] - lowest[0]))
    assert lowest[0] != lowest[1]


def test_dead_latents_are_pointed_at_what_is_rebuilt_badly():
    draft, x = draw_draft()
    before, dead = draft.W_dec.clone(), torch.arange(8) < 2
    generator = torch.Generator().manual_seed(0)
    errors = torch.nn.functional.normalize(
        x - (LOSSES["topk"](draft, x, x)[1] @ draft.W_dec + draft.b_dec)
    )
    draft.restart(dead, x, x, LOSSES["topk"], generator)
    assert torch.equal(draft.W_dec[~dead], before[~dead])
    assert (errors @ draft.W_dec[dead].T).amax(dim=0).min() > 0.999
