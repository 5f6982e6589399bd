"""Every exercise rejects the right answer if it leaves something behind, and says what."""

import functools
import inspect
import itertools
import random

import numpy as np
import pytest
import torch
from test_every_exercise import COURSE, GRADERS, MATERIAL, judge

from mini_transformer import Transformer
from mini_transformer.course.grading.effects import SENTENCES
from mini_transformer.course.material import load_module

SOLUTIONS = {key: load_module(MATERIAL.solutions / f"ex{key}.py") for key in GRADERS}


def spoil_weights(model):
    model.W_E.data[0] += 1


def leave_hook(model):
    model.blocks[-1].register_forward_hook(lambda *args: None)


def clear_hooks(model):
    for module in model.modules():
        module._forward_hooks.clear()


def fill_gradients(model):
    model.W_E.grad = torch.ones_like(model.W_E)


def divide_in_place(tensor):
    tensor.div_(2) if tensor.is_floating_point() else tensor.add_(1)


ON_MODELS = {
    "changes_weights": spoil_weights,
    "leaves_hooks": leave_hook,
    "clears_hooks": clear_hooks,
    "changes_requires_grad": lambda model: model.requires_grad_(False),
    "fills_gradients": fill_gradients,
    "changes_mode": lambda model: model.eval(),
    "changes_parts": lambda model: setattr(model, "forward", model.forward),
}
SEEDS = itertools.count(1)  # a seed that is there already changes nothing
ON_PROCESS = {
    "sets_torch_seed": lambda: torch.manual_seed(next(SEEDS)),
    "sets_python_seed": lambda: random.seed(next(SEEDS)),
    "sets_numpy_seed": lambda: np.random.seed(next(SEEDS)),
    "changes_dtype": lambda: torch.set_default_dtype(torch.float64),
    "changes_grad_mode": lambda: torch.set_grad_enabled(False),
    "changes_settings": lambda: torch.set_printoptions(precision=2),
}


def find_all(value, kind):
    """All values of this kind among arguments."""
    if isinstance(value, kind):
        yield value
    elif isinstance(value, (list, tuple, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from find_all(item, kind)


def leave(kind, args):
    if kind in ON_PROCESS:
        ON_PROCESS[kind]()
    elif kind == "changes_inputs":
        divide_in_place(next(find_all(args, torch.Tensor)))
    else:
        ON_MODELS[kind](next(find_all(args, Transformer)))


def copy_tensors(value):
    """Copies of tensors in a tuple, which may be the arguments themselves."""
    tensors = isinstance(value, tuple) and all(isinstance(part, torch.Tensor) for part in value)
    return tuple(part.clone() for part in value) if tensors else value


def spoil(answer, kind):
    """The right answer, and after it an effect of this kind, if it can occur here."""

    @functools.wraps(answer)
    def spoiled(*args, **kwargs):
        value = copy_tensors(answer(*args, **kwargs))
        leave(kind, args)
        return value

    return spoiled


def list_cases():
    for n, exercise in enumerate(COURSE):
        answer = getattr(SOLUTIONS[exercise.key], exercise.name)
        given = str(inspect.signature(answer))
        kinds = list(ON_PROCESS)
        kinds += ["changes_inputs"] * ("Tensor" in given.split("->")[0])
        kinds += list(ON_MODELS) * ("model:" in given)
        # All of them take minutes; each kind comes to one exercise in 24 every time.
        for i, kind in enumerate(kinds):
            marks = [pytest.mark.slow] * ((i + n) % 24 != 0)
            name = f"ex{exercise.key}-{exercise.name}-{kind}"
            yield pytest.param(exercise, kind, marks=marks, id=name)


@pytest.mark.parametrize(("exercise", "kind"), list(list_cases()))
def test_a_right_answer_that_leaves_something_behind_is_told_what(exercise, kind):
    allowed = getattr(GRADERS[exercise.key], "ALLOWED", {}).get(exercise.name, ())
    answer = getattr(SOLUTIONS[exercise.key], exercise.name)
    failed = judge(exercise.key, exercise.name, spoil(answer, kind))
    if kind in allowed:
        assert failed is None
    else:
        assert failed is not None
        assert failed.mistake == kind, failed.sentence
        assert failed.earned == 0.5
        assert failed.sentence.startswith(f"{exercise.name} {SENTENCES[kind].split('{')[0]}")


@pytest.mark.parametrize("key", GRADERS)
def test_graders_allow_only_effects_and_exercises_that_exist(key):
    names = {exercise.name for exercise in COURSE if exercise.key == key}
    allowed = getattr(GRADERS[key], "ALLOWED", {})
    assert set(allowed) | set(getattr(GRADERS[key], "RUNS", {})) <= names
    assert {kind for kinds in allowed.values() for kind in kinds} <= set(SENTENCES)
