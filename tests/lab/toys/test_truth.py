"""A case says what it is, and its batches are drawn again by the same seed."""

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from mini_transformer import toys
from mini_transformer.toys import Batch


@pytest.mark.parametrize("name", toys.names())
def test_a_case_says_what_it_is_and_draws_its_circuit(name: str) -> None:
    case = toys.load(name)
    assert case.name == name
    assert case.seed == 0
    assert name in repr(case)
    assert case.task.description in repr(case)
    assert case.truth.signatures


@pytest.mark.parametrize("name", toys.names())
def test_drawing_is_reproducible_and_leaves_the_global_seed_alone(name: str) -> None:
    state, task = torch.get_rng_state(), toys.load(name).task
    for corrupt in task.corruptions:
        one, same, other = (task.draw(16, seed=seed, corrupt=corrupt) for seed in (3, 3, 4))
        assert torch.equal(one.clean, same.clean)
        assert torch.equal(one.corrupt, same.corrupt)
        assert not torch.equal(one.clean, other.clean)
    assert torch.equal(torch.get_rng_state(), state)


def list_tensors(value, path=""):
    """List every tensor of a case with its place.

    Places are fields of dataclasses, entries of dicts and tuples, and weights of modules.
    """
    if isinstance(value, Tensor):
        yield path, value
    elif isinstance(value, nn.Module):
        yield from ((f"{path}.{name}", weight) for name, weight in value.state_dict().items())
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from list_tensors(getattr(value, field.name), f"{path}.{field.name}")
    elif isinstance(value, dict | tuple | list):
        for key, entry in value.items() if isinstance(value, dict) else enumerate(value):
            yield from list_tensors(entry, f"{path}[{key}]")


@pytest.mark.parametrize("name", toys.names())
def test_no_tensor_of_a_case_or_batch_shares_its_memory_with_another(name):
    first, second = toys.load(name), toys.load(name)
    parts = [first, second, first.task.draw(4), first.task.draw(4)]
    if first.task.everything is not None:
        parts += [first.task.everything(), first.task.everything()]
    owners = {}
    for path, tensor in list_tensors(parts):
        if tensor.numel():
            owners.setdefault(tensor.untyped_storage().data_ptr(), []).append(path)
    assert [paths for paths in owners.values() if len(paths) > 1] == []


def test_a_batch_is_made_of_copies():
    prompts = torch.zeros(2, 3, dtype=torch.int64)
    answers = torch.zeros(2, dtype=torch.int64)
    batch = Batch(prompts, prompts, answers, answers, answers)
    prompts += 1
    batch.clean[:] += 2
    assert batch.corrupt.eq(0).all()


LOGITS = torch.tensor([[[9.0, 0.0, 0.0], [0.0, 3.0, 1.0], [0.0, 2.0, 4.0]]]).repeat(2, 1, 1)


def make_batch(answer, wrong, position):
    prompts = torch.zeros(len(answer), 3, dtype=torch.int64)
    return Batch(prompts, prompts, *map(torch.tensor, (answer, wrong, position)))


def test_of_several_answers_all_must_be_right_and_repeated_ones_count_once():
    batch = make_batch([[1, 2, 2], [0, 1, 1]], [[2, 1, 1], [1, 2, 2]], [[1, 2, 2], [0, 1, 1]])
    assert batch.at_answer(LOGITS).shape == (2, 3, 3)
    assert batch.correct(LOGITS).tolist() == [True, True]
    assert batch.logit_difference(LOGITS).tolist() == [(2 + 2) / 2, (9 + 2) / 2]
    half = make_batch([[1, 1], [1, 2]], [[2, 2], [2, 1]], [[1, 2], [1, 2]])
    assert half.correct(LOGITS).tolist() == [False, True]
    assert half.logit_difference(LOGITS).tolist() == [(2 - 2) / 2, (2 + 2) / 2]


def test_one_answer_and_a_row_with_one_answer_say_the_same_under_masks():
    one = make_batch([1, 2], [2, 0], [1, 2])
    row = make_batch([[1], [2]], [[2], [0]], [[1], [2]])
    masked = torch.stack([LOGITS, LOGITS.flip(2), -LOGITS])
    assert torch.equal(one.correct(masked), row.correct(masked))
    assert torch.equal(one.logit_difference(masked), row.logit_difference(masked))
    assert torch.equal(one.at_answer(masked), row.at_answer(masked).squeeze(2))


def test_a_number_is_right_within_a_hundredth_and_compared_with_the_wrong_one():
    batch = make_batch([[0.5, 1.0], [0.5, 1.0]], [[0.25, 1.0], [0.75, 0.0]], [[1, 2], [1, 2]])
    said = torch.tensor([[0.0, 0.505, 0.995], [0.0, 0.5, 0.98]]).unsqueeze(2)
    assert batch.correct(said).tolist() == [True, False]
    # |number - wrong| - |number - answer| at each position
    expected = torch.tensor([(0.255 + 0.005) / 2, (0.25 + 0.96) / 2])
    between = torch.tensor([(0.25 - 0.0) / 2, (0.25 + 0.96) / 2])
    found = batch.logit_difference(said)
    torch.testing.assert_close(found, torch.stack([expected[0], between[1]]))
