"""Copies that nobody else can edit."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mini_transformer.tensors import copy_fields, make_ordinary


@dataclass(frozen=True)
class Record:
    one: Tensor
    several: tuple[tuple[Tensor, ...], str]


def test_a_records_tensors_are_its_own_also_in_tuples_within_tuples():
    given = torch.zeros(2)
    record = Record(given, ((given, given), "name"))
    copy_fields(record)
    given += 1
    (first, second), name = record.several
    first += 2
    assert [tensor.tolist() for tensor in (record.one, first, second)] == [[0, 0], [2, 2], [0, 0]]
    assert name == "name"


def test_a_tensor_of_inference_mode_becomes_one_that_gradients_may_pass():
    with torch.inference_mode():
        made = torch.ones(2)
    ordinary = make_ordinary(made)
    weight = torch.ones(2, requires_grad=True)
    (weight * ordinary).sum().backward()
    assert weight.grad.tolist() == [1, 1]
    assert make_ordinary(weight) is weight
