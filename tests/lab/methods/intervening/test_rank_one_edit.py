"""The rank-one edit against the constrained problem that it solves, and on a model of which every
fact can be asked.

Checked against: the constrained least-squares problem solved by its own linear system, and one fact
out of 256 edited in a trained model, where all others can be asked.
"""

import pytest
import torch

from mini_transformer import Config, Transformer, toys
from mini_transformer.methods import edit_rank_one, fit_value
from mini_transformer.toys.trained.facts import (
    ATTRIBUTE,
    N_ATTRIBUTES,
    N_RELATIONS,
    list_answers,
    list_keys,
    list_prompts,
)


@pytest.fixture(params=[False, True], ids=["plain", "biases"])
def model(request) -> Transformer:
    config = Config(
        d_vocab=7, n_ctx=6, d_model=4, n_layers=2, n_heads=2, d_mlp=9, biases=request.param
    )
    model = Transformer(config).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn(
                parameter.shape, generator=generator, dtype=torch.float64
            )
    return model


@pytest.fixture
def keys() -> torch.Tensor:
    return torch.randn(
        30, 9, generator=torch.Generator().manual_seed(2), dtype=torch.float64
    ).relu()


def write(model, layer, keys):
    mlp = model.blocks[layer].mlp
    return (keys @ mlp.W_out + (0 if mlp.b_out is None else mlp.b_out)).detach()


def test_the_edit_is_the_least_change_on_the_keys_that_gives_the_new_value(model, keys):
    """The Lagrange conditions as one linear system: minimise tr(D' C D) subject to k D = change,
    ridge included.
    """
    key, value, ridge = keys[3], torch.arange(4.0, dtype=torch.float64), 0.01
    edited = edit_rank_one(model, 1, key, value, keys, ridge)
    torch.testing.assert_close(write(edited, 1, key), value)
    moment = (
        sum(torch.outer(k, k) for k in keys) / 30
        + ridge * keys.square().mean() * torch.eye(9).double()
    )
    system, right = torch.zeros(10, 10).double(), torch.zeros(10, 4).double()
    system[:9, :9], system[:9, 9], system[9, :9] = moment, key, key
    right[9] = value - write(model, 1, key)
    best = torch.linalg.solve(system, right)[:9]
    change = (edited.blocks[1].mlp.W_out - model.blocks[1].mlp.W_out).detach()
    torch.testing.assert_close(change, best)
    assert torch.linalg.matrix_rank(change) == 1
    names = [
        name
        for name, old in model.state_dict().items()
        if not torch.equal(old, edited.state_dict()[name])
    ]
    assert names == ["blocks.1.mlp.W_out"]


def test_no_other_change_with_the_same_effect_on_the_key_moves_the_other_keys_less(model, keys):
    key, value = keys[0], torch.ones(4, dtype=torch.float64)
    edited = edit_rank_one(model, 0, key, value, keys, ridge=1e-9)
    least = (write(edited, 0, keys) - write(model, 0, keys)).square().sum()
    for seed in range(20):
        other = torch.randn(
            9, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
        )
        other = 0.01 * (
            other - torch.outer(key, key @ other) / (key @ key)
        )  # leaves the key's value as it is
        moved = (write(edited, 0, keys) + keys @ other - write(model, 0, keys)).square().sum()
        assert moved > least


@pytest.mark.parametrize("position", [2, [2, 1]])
def test_the_value_that_is_found_makes_the_model_give_the_answers(position):
    model = Transformer(Config(d_vocab=7, n_ctx=6, d_model=16, n_layers=2, n_heads=2, d_mlp=9))
    prompts, answers = torch.tensor([[1, 2, 3], [4, 2, 3]]), torch.tensor([5, 5])
    value = fit_value(model, prompts, answers, layer=0, position=position)

    def put(x, hook):
        x[torch.arange(2), position] = value

    logits = model.run_with_hooks(prompts, fwd_hooks=[(("mlp_out", 0), put)])
    assert logits[:, -1].argmax(dim=1).tolist() == [5, 5]


def test_one_fact_is_rewritten_and_the_255_others_stay():
    """The entity's other relations are held where they are while the value is looked for, as the
    key is the entity's.
    """
    case, prompts = toys.load("facts"), list_prompts()
    keys = list_keys(case.model)
    for fact in (5, 130):
        wanted, (entity, _) = list_answers(), divmod(fact, N_RELATIONS)
        wanted[fact] += 1 if wanted[fact] % N_ATTRIBUTES != (ATTRIBUTE - 1) % N_ATTRIBUTES else -1
        own = slice(entity * N_RELATIONS, (entity + 1) * N_RELATIONS)
        value = fit_value(case.model, prompts[own], wanted[own], layer=0, position=1)
        edited = edit_rank_one(case.model, 0, keys[entity], value, keys, ridge=1e-6)
        with torch.no_grad():
            before, after = (model(prompts)[:, -1].argmax(dim=1) for model in (case.model, edited))
        assert (before == list_answers()).all()
        assert after[fact] == wanted[fact]
        assert (after == wanted).sum() >= 255
