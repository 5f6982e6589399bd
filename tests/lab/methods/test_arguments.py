"""Checks take what fits in every form that it may have; what does not is tried in
`bad_inputs.py`.
"""

import pytest
import torch

from mini_transformer import Config, Transformer
from mini_transformer.methods import arguments

VALUES = torch.arange(24.0).view(2, 3, 4)


@pytest.mark.parametrize(
    "given", [1, -2, [1, 1], torch.tensor([-2, 1]), torch.tensor([1, 1]).int()]
)
def test_a_position_is_one_number_or_one_per_prompt_from_either_end(given):
    both = VALUES[arguments.find_positions(given, VALUES.shape)]
    one = VALUES[arguments.find_place(given, VALUES.shape)]
    assert torch.equal(both, VALUES[:, 1:2])
    assert torch.equal(one, VALUES[:, 1])
    assert arguments.find_place(given, VALUES.shape)[1].tolist() == [1, 1], "from the front"


def test_positions_differ_between_prompts_and_none_is_all_of_them():
    assert torch.equal(VALUES[arguments.find_positions(None, VALUES.shape)], VALUES)
    row, place = arguments.find_place([0, -1], VALUES.shape)
    assert (row.tolist(), place.tolist()) == ([0, 1], [0, 2])


def test_an_edit_at_positions_reaches_the_tensor_itself():
    for position in (1, [1, 1], None):
        values = VALUES.clone()
        values[arguments.find_positions(position, values.shape)] = -1
        assert (values[:, 1] == -1).all()
        assert (values == -1).all() == (position is None)


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool])
def test_ids_of_any_dtype_are_an_index_and_not_a_mask(dtype):
    ids = arguments.check_ids("answer", torch.tensor([1, 0, 1]).to(dtype), batch=3, size=2)
    assert torch.tensor([5, 7])[ids].tolist() == [7, 5, 7]


@pytest.mark.parametrize("dtype", [torch.int32, torch.bool])
def test_labels_are_numbers_whatever_they_were(dtype):
    labels, n = arguments.check_labels(torch.zeros(3, 2), torch.tensor([1, 0, 1]).to(dtype))
    assert labels.dtype == torch.int64
    assert (labels.tolist(), n) == ([1, 0, 1], 2)


def test_which_prompts_are_run_and_which_are_patched_in():
    clean, corrupt = torch.tensor([[1]]), torch.tensor([[2]])
    assert [x.item() for x in arguments.check_pair(clean, corrupt, "denoise")] == [2, 1]
    assert [x.item() for x in arguments.check_pair(clean, corrupt, "noise")] == [1, 2]


def test_a_metric_may_edit_its_logits_and_is_scored_in_float32():
    logits = torch.ones(2, 3, 4, dtype=torch.bfloat16)
    score = arguments.score_prompts(lambda given: given.zero_()[:, 0, 0], logits)
    assert (score.dtype, score.tolist()) == (torch.float32, [0, 0])
    assert logits.eq(1).all()


@pytest.mark.parametrize("unit", [1e-30, 1.0, 1e30])
def test_runs_are_told_apart_in_any_unit(unit):
    logits = torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(0))

    def metric(given):
        return unit * given[:, -1, 0]

    assert arguments.tell_apart(metric, logits, logits + 1)[2]
    assert not arguments.tell_apart(metric, logits, logits)[2]
    assert not arguments.tell_apart(metric, logits, logits / 0)[2]


def test_a_metric_that_holds_nothing_but_rounding_tells_no_runs_apart():
    logits = torch.randn(4, 2, 30, generator=torch.Generator().manual_seed(0))

    def lack(given):
        return given[:, -1].softmax(dim=-1).sum(dim=-1) - 1

    one, other, differs = arguments.tell_apart(lack, logits, 3 * logits)
    assert one.mean() != other.mean()
    assert not differs


def test_rounding_moves_a_metric_by_a_few_of_the_last_digits():
    logits = torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(0))
    moved = arguments.measure_metric_rounding(lambda given: given[:, -1, 0], logits)
    assert ((moved > 0) & (moved < 100 * torch.finfo(torch.float32).eps)).all()


def test_the_mlp_of_a_layer_is_that_of_the_model():
    model = Transformer(Config(d_vocab=3, n_ctx=2, d_model=4, n_layers=2, d_mlp=5))
    assert arguments.find_mlp(model, 1) is model.blocks[1].mlp
