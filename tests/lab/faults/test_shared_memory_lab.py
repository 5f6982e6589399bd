"""A cached activation, a batch and a truth stay as they are when somebody edits a tensor that they gave or got."""

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from mini_transformer import Config, Transformer, toys
from mini_transformer.toys import Batch

MODEL = Transformer(Config(d_vocab=7, n_ctx=5, d_model=6, n_layers=2, n_heads=3, d_mlp=4))
TOKENS = torch.tensor([[1, 2, 6]])


def test_a_cached_activation_is_not_the_tensor_that_a_hook_returned():
    mine = torch.ones(1, 3, 6)
    with torch.no_grad(), MODEL.hooks([(("resid_post", 0), lambda value, hook: mine)]):
        output, cache = MODEL.run_with_cache(TOKENS, stop_at_layer=1)
        mine.zero_()
    assert cache["resid_post", 0].eq(1).all()
    assert output.eq(1).all()


def test_a_cached_activation_is_not_the_tensor_that_a_hook_was_given():
    seen = []
    with torch.no_grad(), MODEL.hooks([(("z", 0), lambda value, hook: seen.append(value))]):
        _, cache = MODEL.run_with_cache(TOKENS)
    expected = cache["z", 0].clone()
    seen[0].zero_()
    assert torch.equal(cache["z", 0], expected)


def test_a_cached_stream_is_not_part_of_a_tensor_that_was_given():
    both = torch.randn(2, 3, 6)
    with torch.no_grad():
        _, cache = MODEL.run_with_cache(resid=both[1:])
    expected = cache["resid_pre", 0].clone()
    both.zero_()
    assert torch.equal(cache["resid_pre", 0], expected)


def list_tensors(value, path=""):
    """Every tensor of a case with its place: fields of dataclasses, entries of dicts and tuples, weights of modules."""
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
    prompts, answers = torch.zeros(2, 3, dtype=torch.int64), torch.zeros(2, dtype=torch.int64)
    batch = Batch(prompts, prompts, answers, answers, answers)
    prompts += 1
    batch.clean[:] += 2
    assert batch.corrupt.eq(0).all()
