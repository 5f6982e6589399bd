"""Test that editing what was given changes nothing returned, nor the other way round."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass, replace

import pytest
import torch
from every_call import CALLS, make_arguments, name_function, use
from odd_models import edit_floats, list_leaves, set_up, vary
from torch import Tensor

from mini_transformer import Transformer, methods

MODELS = {
    "LayerNorm, biases": vary(norm="layer", biases=True),
    "no norm": vary(act="gelu"),
    "no layers": vary(n_layers=0),
    "one layer, tied": vary(n_layers=1, d_mlp=0, tied=True),
}


def list_tensors(given) -> list[Tensor]:
    """List every tensor in arguments, in caches too, but for the weights of models."""
    if isinstance(given, Tensor):
        return [given]
    if isinstance(given, Mapping):
        return [tensor for value in given.values() for tensor in list_tensors(value)]
    if is_dataclass(given) and not isinstance(given, type):
        return [
            tensor for field in fields(given) for tensor in list_tensors(getattr(given, field.name))
        ]
    return (
        [tensor for value in given for tensor in list_tensors(value)]
        if isinstance(given, list | tuple)
        else []
    )


def edit(tensor: Tensor) -> None:
    with torch.no_grad():
        tensor.logical_not_() if tensor.dtype == torch.bool else tensor.add_(1)


def distinct(tensors: list[Tensor]) -> list[Tensor]:
    """Keep one tensor per piece of memory.

    What holds one number many times is left out, as it cannot be edited.
    """
    dense = [tensor for tensor in tensors if 0 not in tensor.stride() and tensor.numel()]
    return list({tensor.data_ptr(): tensor for tensor in dense}.values())


class Prepared:
    """Hold a call on one model that does not refuse it, and all tensors it is given."""

    def __init__(self, config, call: str) -> None:
        self.model = set_up(config).model
        self.args, self.kwargs = make_arguments(call, replace(set_up(config), model=self.model))
        self.function, self.given = (
            getattr(methods, name_function(call)),
            list_tensors((self.args, self.kwargs)),
        )

    def run(self):
        return self.function(*self.args, **self.kwargs)


def prepare(call: str) -> Iterator[Prepared]:
    for config in MODELS.values():
        try:
            prepared = Prepared(config, call)
            prepared.run()
        except (ValueError, KeyError):
            continue
        yield prepared


def list_results(found) -> dict[str, Tensor]:
    return {path: leaf for path, leaf in list_leaves(found) if isinstance(leaf, Tensor)}


def copy_leaves(found, s) -> list[tuple[str, object]]:
    """Copy all that a result says, by itself and in use, to compare with later."""
    leaves = list_leaves((found, use(found, s)))
    return [
        (path, leaf.detach().clone() if isinstance(leaf, Tensor) else leaf) for path, leaf in leaves
    ]


def list_changed(before, after) -> list[str]:
    def same(old, new) -> bool:
        if isinstance(old, str):
            return old == new
        return torch.equal(torch.as_tensor(old).nan_to_num(), torch.as_tensor(new).nan_to_num())

    return [path for (path, old), (_, new) in zip(before, after, strict=True) if not same(old, new)]


@pytest.mark.parametrize("call", CALLS)
def test_a_result_stays_when_what_was_given_is_edited(call):
    for prepared in prepare(call):
        found = prepared.run()
        fresh = set_up(prepared.model.config)
        before = copy_leaves(found, fresh)
        for tensor in distinct(prepared.given):
            edit(tensor)
        assert list_changed(before, copy_leaves(found, fresh)) == []


@pytest.mark.parametrize("call", CALLS)
def test_a_result_stays_when_the_models_weights_are_edited(call):
    for prepared in prepare(call):
        found = prepared.run()
        fresh = set_up(prepared.model.config)
        before = copy_leaves(found, fresh)
        for weight in prepared.model.state_dict().values():
            edit(weight)
        assert list_changed(before, copy_leaves(found, fresh)) == []


@pytest.mark.parametrize("call", CALLS)
def test_what_was_given_stays_when_a_result_is_edited(call):
    for prepared in prepare(call):
        kept = [*prepared.given, *prepared.model.state_dict().values()]
        before = [tensor.detach().clone() for tensor in kept]
        found = prepared.run()
        results = list_results(found)
        first = [(path, tensor.detach().clone()) for path, tensor in results.items()]
        for tensor in results.values():
            edit(tensor)
        assert [
            tuple(old.shape)
            for old, new in zip(before, kept, strict=True)
            if not torch.equal(old, new)
        ] == []
        twice = [path for path, old in first if not moved_once(old, results[path])]
        assert twice == [], "two parts of the result share memory"
        again = [(path, tensor.detach()) for path, tensor in list_results(prepared.run()).items()]
        assert list_changed(first, again) == [], "the next result is another one"


@pytest.mark.parametrize("call", CALLS)
def test_a_result_says_the_same_after_what_it_said_is_edited(call):
    for prepared in prepare(call):
        found = prepared.run()
        fresh = set_up(prepared.model.config)
        rows = fresh.rows.clone()
        before = copy_leaves(found, fresh)
        for tensor in distinct(list(list_results(use(found, fresh)).values())):
            edit(tensor)
        assert torch.equal(fresh.rows, rows)
        assert list_changed(before, copy_leaves(found, fresh)) == []


TWO = torch.eye(2)
RECORDS = {
    "AlignmentMap": (
        (TWO, ((TWO[:1], TWO[0], TWO[:, :1]),), 1, TWO[:1]),
        lambda made: made.swap(TWO, 2 * TWO),
    ),
    "Dictionary": (
        (TWO, TWO[0], TWO, TWO[0], TWO[0], TWO[0]),
        lambda made: made.decode(made.encode(TWO)),
    ),
    "Eraser": ((TWO, TWO[0]), lambda made: made(3 * TWO)),
    "PrincipalDirections": ((TWO, TWO[0], TWO[0], TWO[0]), lambda made: made.project(TWO)),
    "Probe": ((((TWO, TWO[0]),),), lambda made: (made.score(TWO), made.directions)),
    "TunedLens": ((TWO[None], TWO[:1]), lambda made: made.translate(TWO.view(1, 1, 2, 2))),
}


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_stays_when_the_tensors_that_it_was_made_of_are_edited(name):
    parts, read = RECORDS[name]
    mine = edit_floats(parts, torch.clone)
    made = getattr(methods, name)(*mine)
    before = [(path, leaf.clone()) for path, leaf in list_results(read(made)).items()]
    for tensor in distinct(list_tensors(mine)):
        edit(tensor)
    assert list_changed(before, list(list_results(read(made)).items())) == []


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_stays_when_what_it_said_is_edited(name):
    parts, read = RECORDS[name]
    made = getattr(methods, name)(*edit_floats(parts, torch.clone))
    said = list_results(read(made))
    before = [(path, leaf.clone()) for path, leaf in said.items()]
    for tensor in said.values():
        edit(tensor)
    assert list_changed(before, list(list_results(read(made)).items())) == []


def moved_once(old: Tensor, new: Tensor) -> bool:
    expected = ~old if old.dtype == torch.bool else old + 1
    return torch.equal(expected.nan_to_num(), new.detach().nan_to_num())


def test_a_function_that_returns_a_view_of_what_it_was_given_is_found(monkeypatch):
    monkeypatch.setattr(methods, "fit_mean_difference", lambda positive, negative: positive[0])
    for test in (
        test_a_result_stays_when_what_was_given_is_edited,
        test_what_was_given_stays_when_a_result_is_edited,
    ):
        with pytest.raises(AssertionError):
            test("fit_mean_difference")


def test_a_function_that_returns_a_view_of_the_weights_is_found(monkeypatch):
    monkeypatch.setattr(
        methods, "read_neurons", lambda model, layer: model.blocks[layer].mlp.W_out.detach()
    )
    with pytest.raises(AssertionError):
        test_a_result_stays_when_the_models_weights_are_edited("read_neurons")


def test_models_are_not_taken_for_tensors_that_were_given():
    assert list_tensors((Transformer(vary()), {"a": [torch.zeros(1)]})) == [torch.zeros(1)]
