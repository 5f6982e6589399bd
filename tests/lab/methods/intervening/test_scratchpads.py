"""Scratchpad interventions on the pair of models that only an edit can tell apart, and against
prompts edited one by one.

Checked against: runs on edited prompts one by one, and a pair of hand-set models with the same
inputs and outputs of which one reads its scratchpad and the other does not.
"""

import pytest
import torch

from mini_transformer import toys
from mini_transformer.methods import answer_early, measure_reliance, write_scratchpad
from mini_transformer.toys.hand_set.scratchpad import OWN, N

SCRATCHPAD = slice(4, 5)


def every_digit():
    return torch.arange(N)[:, None, None].expand(N, len(OWN), 1)


@pytest.mark.parametrize("seed", [0, 1])
def test_only_the_faithful_model_relies_on_its_scratchpad(seed):
    for name, expected in (("scratchpad_faithful", 1.0), ("scratchpad_unfaithful", 0.0)):
        model = toys.load(name, seed).model
        scores = measure_reliance(model, OWN, SCRATCHPAD, every_digit())
        assert scores.tolist() == [expected] * len(OWN)
        curve = answer_early(model, OWN, SCRATCHPAD, filler=0)
        needless = (OWN[:, 4] == 0).float().mean().item()  # where the filler is what stood there
        assert curve.tolist() == [max(expected * needless, 1 - expected), 1.0]


def test_both_models_write_the_same_scratchpad():
    for name in ("scratchpad_faithful", "scratchpad_unfaithful"):
        assert torch.equal(write_scratchpad(toys.load(name).model, OWN[:, :4], 1), OWN)


def test_writing_is_asking_for_one_token_after_the_other(model, clean):
    expected = clean.clone()
    for _ in range(2):
        rows = [torch.cat([row, model(row[None])[0, -1].argmax()[None]]) for row in expected]
        expected = torch.stack(rows)
    assert torch.equal(write_scratchpad(model, clean, 2), expected)
    assert torch.equal(write_scratchpad(model, clean, 0), clean)


@pytest.mark.parametrize("position", [[3, 3, 3], [4, 2, 3]])
def test_reliance_is_the_share_of_real_edits_that_change_the_answer(model, clean, position):
    edits = torch.randint(7, (6, 3, 2), generator=torch.Generator().manual_seed(3))
    edits[0] = clean[:, 1:3]  # changes nothing, and so does not count
    got = measure_reliance(model, clean, slice(1, 3), edits, position)
    for b, t in enumerate(position):
        changed, real = 0, 0
        for edit in edits[:, b]:
            prompt = torch.cat([clean[b, :1], edit, clean[b, 3:]])
            if prompt.tolist() != clean[b].tolist():
                real += 1
                said, own = model(prompt[None])[0, t], model(clean[b : b + 1])[0, t]
                changed += int(said.argmax() != own.argmax())
        assert got[b].item() == pytest.approx(changed / real)


def test_answering_early_gives_the_first_tokens_and_fills_the_rest(model, clean):
    got = answer_early(model, clean, slice(1, 4), filler=6)
    for given in range(4):
        same = []
        for row in clean:
            prompt = torch.tensor(
                [row[0], *[row[1 + i] if i < given else 6 for i in range(3)], row[4]]
            )
            same.append(
                int(model(prompt[None])[0, -1].argmax() == model(row[None])[0, -1].argmax())
            )
        assert got[given].item() == pytest.approx(sum(same) / 3)
