"""Notice what a call left behind: in the models and inputs that it was given, and in the process.

A call gets copies, so nothing that it does to them reaches a grader. In real work nobody copies: a
hook that is left, a weight that is not put back or a global seed spoils what is measured next.
"""

import dataclasses
import random
import sys
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mini_transformer.isolation.limits import STATES
from mini_transformer.model import Transformer

SENTENCES = {
    "changes_weights": "changes the weights of the model that it was given ({where}): put back "
    "what you change, or work on a copy.",
    "leaves_hooks": "leaves a hook on the model that it was given ({where}): every later run goes "
    "through it. Take your hooks off again.",
    "clears_hooks": "takes away hooks that it did not set ({where}): somebody else may be "
    "listening. Remove yours, one by one.",
    "changes_requires_grad": "leaves `requires_grad` changed ({where}): who trains or "
    "differentiates next does not expect that.",
    "fills_gradients": "leaves gradients behind in `.grad` ({where}): `torch.autograd.grad` "
    "returns them and leaves nothing.",
    "changes_mode": "leaves the model in another mode, train or eval ({where}): put it back.",
    "changes_parts": "leaves the model with another part or setting ({where}): put back what you "
    "replace.",
    "changes_inputs": "changes its input in place ({where}): whoever calls it still needs that. "
    "Make a new value (`x = x / 2`, not `x /= 2`), or copy first.",
    "sets_torch_seed": "sets torch's global seed: whoever draws next gets other numbers. Give a "
    "torch.Generator of your own instead.",
    "sets_python_seed": "sets the global seed of `random`: whoever draws next gets other numbers. "
    "Use a random.Random(seed) of your own instead.",
    "sets_numpy_seed": "sets NumPy's global seed: whoever draws next gets other numbers. Use "
    "np.random.default_rng(seed) instead.",
    "changes_dtype": "leaves another default dtype: all that is computed later has it, too.",
    "changes_grad_mode": "leaves gradients switched off (or on) for all that follows: use "
    "`with torch.no_grad():`.",
    "changes_settings": "leaves a setting of the whole process changed ({where}): put it back.",
    "runs_too_often": "runs the model {where}: what you need passes by in fewer runs.",
}

# Places where a listener changes nothing about how the model computes (see HookPoint.on).
PLANTED = ("embed", "resid_pre", "resid_post", "z", "pattern", "attn_out", "mlp_out")
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
OWN_KIND = {
    "the default dtype": "changes_dtype",
    "the gradient mode": "changes_grad_mode",
    "torch's seed": "sets_torch_seed",
}
UNWATCHED = (
    "sys.stdin",
    "sys.argv",
    "the environment",
    "the depth of calls",
)
MOST_BLOCKS = 20_000  # of 624 random numbers that one call is believed to have drawn


@dataclasses.dataclass(frozen=True)
class Effect:
    """Something that a call left behind: its kind, a key of SENTENCES, and where."""

    kind: str
    where: str = ""

    def describe(self, name: str) -> str:
        """Return the sentence about the function `name`."""
        return f"{name} {SENTENCES[self.kind].format(where=self.where)}"


class Listener:
    """Somebody else's hook, which only notes the shapes of what the module is called with."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, value: Any, *others: Any) -> Any:
        given = others[0][0] if isinstance(others[0], tuple) and others[0] else None
        self.shapes.append(tuple(given.shape) if isinstance(given, Tensor) else ())
        return None if isinstance(value, nn.Module) else value

    def __deepcopy__(self, memo: object) -> "Listener":
        return self


class Watch:
    """Remember what a call is given, and the process around it; `find_effects` compares.

    `given` are the arguments by name, `sent` the copies that the call gets. Other people's hooks
    are attached to the models among them, to see whether they are still there afterwards.
    """

    def __init__(self, given: Mapping[str, Any], sent: Mapping[str, Any]) -> None:
        self.given = given
        self.sent = sent
        self.models = dict(find_models(sent))
        self.listener = Listener()
        self.top = Listener()
        for model in self.models.values():
            plant_hooks(model, self.listener, self.top)
        self.before = {name: read_model(model) for name, model in self.models.items()}
        self.process = read_process()
        self.modules = len(sys.modules)

    @property
    def runs(self) -> tuple[tuple[int, ...], ...]:
        """Return the shapes of the tokens of each forward run that the given models made."""
        return tuple(self.top.shapes)

    def find_effects(self) -> list[Effect]:
        """List what differs from before, one effect for each kind."""
        found = []
        for name, model in self.models.items():
            after = read_model(model)
            for kind, before in self.before[name].items():
                place = find_change(before, after[kind])
                if place is not None:
                    found.append(Effect(kind, place))
            found += compare_hooks(self.before[name]["hooks"], after["hooks"])
        inputs = find_change(self.given, self.sent)
        if inputs is not None:
            found.append(Effect("changes_inputs", inputs))
        found += compare_flags(self.given, self.sent)
        found += self.compare_process()
        known = {effect.kind: effect for effect in reversed(found) if effect.kind in SENTENCES}
        return [known[kind] for kind in SENTENCES if kind in known]

    def compare_process(self) -> Iterator[Effect]:
        after = read_process()
        if len(sys.modules) != self.modules:  # an import may bring filters of its own
            after["the warnings filters"] = self.process["the warnings filters"]
        for what, before in self.process.items():
            if isinstance(before, np.ndarray):
                if not was_only_drawn_from(before, after[what]):
                    yield Effect(what)
            elif before != after[what]:
                yield Effect(OWN_KIND.get(what, "changes_settings"), what)


def find_models(value: Any, path: str = "") -> Iterator[tuple[str, Transformer]]:
    """Find the models among arguments, inside lists and dicts, too."""
    if isinstance(value, Transformer):
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from find_models(item, f"{path} {key}".strip())
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from find_models(item, f"{path} {i}".strip())


def plant_hooks(model: Transformer, listener: Listener, top: Listener) -> None:
    model.register_forward_pre_hook(top)
    for module in model.modules():
        module.register_forward_hook(listener)
    for point in model.hook_points.values():
        if point.name.split("hook_")[-1] in PLANTED:
            point.listeners.append(listener)


def read_model(model: Transformer) -> dict[str, dict[str, Any]]:
    """Read all that a call may change in a model, by the kind of effect that a change is."""
    modules = dict(model.named_modules())
    parameters = dict(model.named_parameters())
    return {
        "changes_weights": {
            name: value.detach().clone()
            for name, value in (parameters | dict(model.named_buffers())).items()
        },
        "changes_requires_grad": {name: p.requires_grad for name, p in parameters.items()},
        "fills_gradients": {
            name: None if p.grad is None else p.grad.clone() for name, p in parameters.items()
        },
        "changes_mode": {name or "the model": m.training for name, m in modules.items()},
        "changes_parts": {
            f"{name}.{key}".lstrip("."): value if is_plain(value) else type(value).__name__
            for name, module in modules.items()
            for key, value in vars(module).items()
            if key != "training"
        },
        "hooks": dict(read_hooks(model)),
    }


def is_plain(value: Any) -> bool:
    is_config = dataclasses.is_dataclass(value)
    return value is None or is_config or isinstance(value, (bool, int, float, str))


def read_hooks(model: Transformer) -> Iterator[tuple[str, list[Any]]]:
    """List the hooks at each place of a model: PyTorch's own, on weights, and on hook points."""
    for name, module in model.named_modules():
        yield name or "the model", [hook for kind in HOOKS for hook in vars(module)[kind].values()]
    for name, parameter in model.named_parameters():
        yield f"the gradient of {name}", list((parameter._backward_hooks or {}).values())
    for name, point in model.hook_points.items():
        yield name, list(point.listeners)
    everywhere = nn.modules.module
    yield (
        "all modules",
        [hook for kind in HOOKS for hook in getattr(everywhere, f"_global{kind}", {}).values()],
    )


def compare_hooks(before: dict[str, list], after: dict[str, list]) -> Iterator[Effect]:
    kinds = {"leaves_hooks": (after, before), "clears_hooks": (before, after)}
    for kind, (those, others) in kinds.items():
        for place, hooks in those.items():
            kept = list(map(id, others.get(place, [])))
            if any(id(hook) not in kept for hook in hooks):
                yield Effect(kind, place)
                break


def find_change(before: Any, after: Any, place: str = "") -> str | None:
    """Find the first place where two values differ, such as `weights W_Q`.

    Models are left out, and what a NamedModel became. Return None if there is no such place.
    """
    if isinstance(before, Tensor) or isinstance(after, Tensor):
        return None if is_same_tensor(before, after) else place
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        if list(before) != list(after):
            return place or next((str(key) for key in set(before) ^ set(after)), "the order")
        pairs = ((f"{place} {key}".strip(), before[key], after[key]) for key in before)
    elif isinstance(before, (list, tuple)) and isinstance(after, (list, tuple)):
        if len(before) != len(after):
            return place
        pairs = ((f"{place} {i}", *both) for i, both in enumerate(zip(before, after, strict=True)))
    elif isinstance(after, nn.Module):
        return None
    else:
        return None if before is after or before == after else place
    found = (find_change(old, new, where) for where, old, new in pairs)
    return next((where for where in found if where is not None), None)


def is_same_tensor(before: Any, after: Any) -> bool:
    """Say whether two tensors have the same kind, shape and, but for rounding, numbers."""
    if not (isinstance(before, Tensor) and isinstance(after, Tensor)):
        return False
    if before.shape != after.shape or before.dtype != after.dtype:
        return False
    return torch.allclose(before.detach(), after.detach(), rtol=1e-5, atol=1e-7, equal_nan=True)


def compare_flags(given: Any, sent: Any) -> Iterator[Effect]:
    """Compare the flags and gradients of the tensors among the arguments."""
    for place, before, after in pair_tensors(given, sent):
        if before.requires_grad != after.requires_grad:
            yield Effect("changes_requires_grad", place)
        # A caller that asks for gradients gets them.
        if not before.requires_grad and after.is_leaf and after.grad is not None:
            yield Effect("fills_gradients", place)


def pair_tensors(before: Any, after: Any, place: str = "") -> Iterator[tuple[str, Tensor, Tensor]]:
    if isinstance(before, Tensor) and isinstance(after, Tensor):
        yield place, before, after
    elif isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in before.keys() & after.keys():
            yield from pair_tensors(before[key], after[key], f"{place} {key}".strip())
    elif isinstance(before, (list, tuple)) and isinstance(after, (list, tuple)):
        for i, (old, new) in enumerate(zip(before, after, strict=False)):
            yield from pair_tensors(old, new, f"{place} {i}")


def read_process() -> dict[str, Any]:
    """Read the settings of this process that a call may change, by their words or kind."""
    settings = {words: read() for words, (read, _) in STATES.items() if words not in UNWATCHED}
    return settings | {
        "the gradient mode": torch.is_grad_enabled(),
        "the warnings filters": list(warnings.filters),
        "torch's seed": torch.initial_seed(),
        "sets_python_seed": np.array(random.getstate()[1][:-1], dtype=np.uint32),
        "sets_numpy_seed": np.random.get_state(legacy=False)["state"]["key"].copy(),
    }


def was_only_drawn_from(before: np.ndarray, after: np.ndarray) -> bool:
    """Say whether drawing numbers leads a Mersenne twister from one state to the other.

    If not, it has a new seed. All that NumPy and `random` draw comes in blocks of 624 numbers.

    >>> state = np.random.RandomState(1)
    >>> before = state.get_state()[1].copy()
    >>> drawn = state.rand(5000) is not None and state.get_state()[1].copy()
    >>> was_only_drawn_from(before, drawn), was_only_drawn_from(drawn, before)
    (True, False)
    """
    if np.array_equal(before, after):
        return True
    twister: Any = np.random.MT19937()
    twister.state = {"bit_generator": "MT19937", "state": {"key": before, "pos": 624}}
    for _ in range(MOST_BLOCKS):
        twister.random_raw(624, output=False)
        if np.array_equal(twister.state["state"]["key"], after):
            return True
    return False
