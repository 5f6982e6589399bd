"""Configuration and weights say all that decides what a model computes.

A toy that kept a mask, a buffer, a hook or a changed method beside them would be another model once
it is saved, copied or rewritten.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from mini_transformer import Config, Transformer, forge, toys
from mini_transformer.toys import Case
from mini_transformer.toys.trained.shipped import list_seeds

TOYS = [(name, seed) for name in toys.names() for seed in list_seeds(name) or [0, 1]]
KNOBS = (
    {},
    {"size": 1, "decoys": None, "tasks": 0},
    {"positions": "drawn", "hidden": False},
    {"redundancy": "backup", "positions": "fixed", "saturation": 8},
)
CASES: dict[str, Callable[[], Case]] = {
    f"{name}-{seed}": lambda name=name, seed=seed: toys.load(name, seed) for name, seed in TOYS
} | {f"forged-{i}": lambda i=i: forge.make(0, **KNOBS[i]) for i in range(len(KNOBS))}


def rebuild(model: Transformer) -> Transformer:
    fresh = Transformer(Config(**vars(model.config)), seed=99).to(model.W_E.dtype)
    fresh.load_state_dict(model.state_dict())
    return fresh


def list_prompts(case: Case) -> list[Tensor]:
    """All prompts, if they are few, and drawn ones, clean and corrupt in every way."""
    batches = [case.task.draw(64, seed=1, corrupt=corrupt) for corrupt in case.task.corruptions]
    if case.task.everything is not None:
        batches.append(case.task.everything())
    return [tokens for batch in batches for tokens in (batch.clean, batch.corrupt)]


def list_own(module: nn.Module) -> set[str]:
    """The attributes that an instance has for itself; a changed method would be one of them."""
    return set(vars(module)) | set(module._parameters) | set(module._modules)


def check_logits(case: Case) -> None:
    fresh = rebuild(case.model)
    with torch.no_grad():
        for tokens in list_prompts(case):
            torch.testing.assert_close(fresh(tokens), case.model(tokens), rtol=0, atol=0)


def check_modules(case: Case) -> None:
    fresh = rebuild(case.model)
    assert type(case.model) is Transformer
    expected = dict(fresh.named_modules())
    assert list(dict(case.model.named_modules())) == list(expected)
    for name, module in case.model.named_modules():
        assert type(module) is type(expected[name]), name
        assert list_own(module) == list_own(expected[name]), name
        hooks = [value for attribute, value in vars(module).items() if "hooks" in attribute]
        assert not any(hooks), name
    buffers = dict(fresh.named_buffers())
    assert dict(case.model.named_buffers()).keys() == buffers.keys()
    for name, value in case.model.named_buffers():
        assert torch.equal(value, buffers[name]), name


@pytest.mark.parametrize("which", CASES)
def test_a_model_made_of_the_configuration_and_the_weights_computes_the_same(which: str) -> None:
    check_logits(CASES[which]())


@pytest.mark.parametrize("which", CASES)
def test_nothing_is_hidden_in_a_model(which: str) -> None:
    check_modules(CASES[which]())


def hide_scale(model: Transformer) -> None:
    model.blocks[0].attn.scale *= 2


def hide_mask(model: Transformer) -> None:
    model.blocks[0].attn.mask[-1, 0] = True  # hidden


def hide_method(model: Transformer) -> None:
    forward = model.blocks[0].mlp.forward
    model.blocks[0].mlp.forward = lambda x: 0.5 * forward(x)


def hide_hook(model: Transformer) -> None:
    model.blocks[0].register_forward_hook(lambda module, args, output: 0.5 * output)


def hide_buffer(model: Transformer) -> None:
    model.register_buffer("table", torch.ones(3), persistent=False)


@pytest.mark.parametrize(
    ("hide", "check"),
    [
        (hide_scale, check_logits),
        (hide_mask, check_logits),
        (hide_mask, check_modules),
        (hide_method, check_logits),
        (hide_method, check_modules),
        (hide_hook, check_logits),
        (hide_hook, check_modules),
        (hide_buffer, check_modules),
    ],
)
def test_what_is_hidden_is_found(
    hide: Callable[[Transformer], None], check: Callable[[Case], None]
) -> None:
    case = toys.load("boolean_xor")
    check(case)
    hide(case.model)
    with pytest.raises(AssertionError):
        check(case)
