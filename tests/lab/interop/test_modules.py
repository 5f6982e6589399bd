"""Hook points as modules: torch's own hooks stand in for nnsight and pyvene, which use them.

What the two libraries see of every toy is kept in tests/peers/modules.json.
"""

import json
from pathlib import Path

import pytest
import torch

from mini_transformer import Config, Transformer, toys
from mini_transformer.interop.modules import as_modules
from mini_transformer.methods import eap

SIZES = dict(d_vocab=9, n_ctx=6, d_model=8, n_layers=2, n_heads=2)
MODELS = {
    "layer norm": Config(**SIZES, d_mlp=10, norm="layer", biases=True, act="gelu"),
    "tied": Config(**SIZES, tied=True, norm="rms"),
    "fixed positions": Config(**SIZES, positions="sinusoidal", d_mlp=10),
    "positions on queries and keys": Config(**SIZES, positions_to="qk"),
}
TOKENS = torch.tensor([[1, 2, 3, 4], [8, 0, 8, 5]])


def everything(name: str) -> bool:
    return True


@pytest.mark.parametrize("config", MODELS.values(), ids=MODELS)
def test_a_torch_hook_sees_at_every_hook_point_what_a_cache_holds(config):
    model = Transformer(config)
    own = as_modules(model)
    seen = {}
    for name in model.hook_points:
        own.get_submodule(name).register_forward_hook(
            lambda module, args, value, name=name: seen.update({name: value})
        )
    logits = own(TOKENS)
    _, cache = model.run_with_cache(TOKENS, names_filter=everything)
    assert list(seen) == list(cache)
    assert all(torch.equal(seen[name], cache[name]) for name in cache)
    torch.testing.assert_close(logits, model(TOKENS))


def test_an_edit_by_a_torch_hook_is_that_of_a_hook_of_this_package():
    model = Transformer(MODELS["layer norm"])
    own = as_modules(model)
    own.blocks[0].attn.hook_z.register_forward_hook(lambda module, args, z: z * 0)
    edited = model.run_with_hooks(TOKENS, fwd_hooks=[(("z", 0), lambda z, hook: z * 0)])
    torch.testing.assert_close(own(TOKENS), edited)
    assert not torch.allclose(own(TOKENS), model(TOKENS))


def test_gradients_at_hook_points_are_those_of_a_cache():
    model = Transformer(MODELS["layer norm"])
    own = as_modules(model)
    values = []
    for module in (own.hook_embed, own.blocks[1].hook_mlp_in):
        module.register_forward_hook(lambda module, args, value: values.append(value))
    found = torch.autograd.grad(own(TOKENS).square().sum(), values)
    logits, cache = model.run_with_cache(TOKENS, names_filter=everything)
    wanted = torch.autograd.grad(logits.square().sum(), [cache["embed"], cache["mlp_in", 1]])
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("config", MODELS.values(), ids=MODELS)
def test_weights_are_shared_and_the_model_itself_is_left_alone(config):
    model = Transformer(config)
    with model.hooks([("embed", lambda x, hook: x * 0)]):
        own = as_modules(model)
        model(TOKENS)
    assert model.state_dict().keys() == own.state_dict().keys()
    assert list(map(id, model.parameters())) == list(map(id, own.parameters()))
    assert not isinstance(model.hook_embed, torch.nn.Module)
    torch.testing.assert_close(own(TOKENS), model(TOKENS))  # the hook stayed where it was


def test_techniques_find_the_same_in_it():
    case = toys.load("induction_by_hand")
    batch = case.task.draw(16, corrupt="fresh")
    given = batch.clean, batch.corrupt, batch.logit_difference
    ours, theirs = eap(case.model, *given), eap(as_modules(case.model), *given)
    torch.testing.assert_close(theirs.values, ours.values)


def test_nnsight_and_pyvene_saw_every_hook_point_of_every_toy():
    data = json.loads((Path(__file__).parents[2] / "peers" / "modules.json").read_text())
    assert {"nnsight", "pyvene", "torch"} <= data["versions"].keys()
    rows = {row["model"]: row for row in data["rows"]}
    assert {row["name"] for row in toys.describe()} <= rows.keys()
    model = toys.load("facts").model
    assert rows["facts"]["hook_points"] == len(model.hook_points)
    for row in rows.values():
        assert row["nnsight_equal"] == row["pyvene_equal"] == row["hook_points"]
        assert max(row["nnsight_patch"], row["pyvene_patch"]) < 1e-4 < row["moved"]
