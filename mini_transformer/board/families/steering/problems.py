"""Steering problems: which vector, added where, changes one thing and nothing else?

A method sees activations at several hooks on prompts that have a property and on others. Its vector
is added, at the place of the answer, to prompts that do not have it, at strengths up to the length
of the difference in means at that hook (in the trained model twice that, as in the toy's
signatures), whatever the vector's own length. `specificity` is exp(-damage) where half of the
effect is reached. Set by hand, the right vector does no damage; in the trained model the right one
is the toy's own difference in means on balanced texts, and damage counts beyond that.
"""

from collections.abc import Callable
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from mini_transformer import toys
from mini_transformer.board.families.steering.settings import SETTINGS, Setting, Steering
from mini_transformer.board.metrics.steering import (
    measure_kl,
    measure_kl_at,
    measure_monotone_range,
    measure_specificity,
)
from mini_transformer.board.problem import Build, Metrics, Problem
from mini_transformer.hooks import HookName, HookPoint
from mini_transformer.model import Transformer

__all__ = ["PROBLEMS", "build", "run_steered"]

STRENGTHS = torch.linspace(0, 1, 9)  # in units of `reach`
N_RANDOM = 5  # random directions of the same norm

Activations = dict[HookName, Tensor]


def build(name: str, seed: int) -> Problem:
    """Build the problem of a toy and what to change about it, `toy/property`.

    >>> problem = build("refusal_with_trigger/refuse", 0)
    >>> found = problem.measure(problem.oracle())
    >>> [round(found[figure], 2) for figure in ("specificity", "on_target", "off_target_kl")]
    [1.0, 0.98, 0.0]
    """
    setting = SETTINGS[name](toys.load(name.split("/")[0], seed))
    model = setting.case.model
    untrained = Transformer(model.config, seed)
    positive, negative = read_hooks(setting, model)
    return Problem(
        "steering",
        name,
        seed,
        arguments=(positive, negative),
        untrained=read_hooks(setting, untrained),
        measure=make_measure(setting, model),
        oracle=lambda: setting.right,
        random=lambda draw: draw_steering(setting, positive, negative, draw),
        n_prompts=len(setting.positive.labels) + len(setting.negative.labels),
        note=f"{setting.note}; hooks to choose from: {setting.hooks}",
        measure_untrained=make_measure(setting, untrained),
    )


PROBLEMS: dict[str, Build] = dict.fromkeys(SETTINGS, build)


def make_measure(setting: Setting, model: Transformer) -> Callable[[Steering], Metrics]:
    """Make the function that judges a vector in this model.

    The damage that the right vector does is found once.
    """
    positive, negative = read_hooks(setting, model)
    before = run_steered(setting, model, (torch.zeros(model.config.d_model), setting.hooks[0]))
    base = setting.target(before).mean()

    def try_out(steering: Steering) -> tuple[float, float]:
        """Measure the effect, as a share of what there can be, and the damage."""
        logits = run_steered(setting, model, steering)
        effect = (setting.target(logits).mean() - base) / (1 - base)
        return effect.item(), measure_kl(setting.rest(before), setting.rest(logits))

    def draw_curves(steering: Steering) -> tuple[Tensor, Tensor]:
        """Measure effect and damage at each strength."""
        vector, hook = steering
        longest = setting.reach * (positive[hook].mean(dim=0) - negative[hook].mean(dim=0)).norm()
        unit = torch.nn.functional.normalize(vector, dim=0)
        points = [try_out((strength * longest * unit, hook)) for strength in STRENGTHS]
        effects, damages = torch.tensor(points).T
        return effects, damages

    @cache
    def find_least() -> float:
        return measure_kl_at(STRENGTHS, *draw_curves(setting.right)) or 0.0

    def measure(steering: Steering) -> Metrics:
        effects, damages = draw_curves(steering)
        damage = measure_kl_at(STRENGTHS, effects, damages)
        on_target, off_target = try_out(steering)
        metrics = {
            "specificity": measure_specificity(damage, find_least()),
            "on_target": on_target,
            "random_on_target": measure_random(try_out, steering),
            "off_target_kl": off_target,
            "monotone_range": measure_monotone_range(STRENGTHS, effects),
        }
        return metrics if damage is None else {**metrics, "kl_at_half_effect": damage}

    return measure


def measure_random(try_out: Callable[[Steering], tuple[float, float]], steering: Steering) -> float:
    """Average the effect of random directions of the same norm at the same hook."""
    vector, hook = steering
    noise = torch.randn(N_RANDOM, len(vector), generator=torch.Generator().manual_seed(0))
    rows = torch.nn.functional.normalize(noise, dim=1) * vector.norm()
    return sum(try_out((row, hook))[0] for row in rows) / N_RANDOM


def run_steered(setting: Setting, model: Transformer, steering: Steering) -> Float[Tensor, "n v"]:
    """Return the logits at the answer, with the vector added there."""
    vector, hook = steering
    positions = setting.tried.positions
    rows = torch.arange(len(positions))

    def add(value: Tensor, hook: HookPoint) -> None:
        value[rows, positions] += vector

    with torch.no_grad():
        logits = model.run_with_hooks(setting.tried.tokens, fwd_hooks=[(hook, add)])
    return logits[rows, positions] / setting.temperature


def read_hooks(setting: Setting, model: Transformer) -> tuple[Activations, Activations]:
    """Return the activations of positive and of negative prompts by hook."""
    positive, negative = (
        {hook: prompts.read(model, hook) for hook in setting.hooks}
        for prompts in (setting.positive, setting.negative)
    )
    return positive, negative


def draw_steering(
    setting: Setting, positive: Activations, negative: Activations, seed: int
) -> Steering:
    """Draw a random direction as long as the difference in means, at a random hook."""
    generator = torch.Generator().manual_seed(seed)
    hook = setting.hooks[int(torch.randint(len(setting.hooks), (1,), generator=generator))]
    difference = positive[hook].mean(dim=0) - negative[hook].mean(dim=0)
    noise = torch.randn(len(difference), generator=generator)
    return noise / noise.norm() * difference.norm(), hook
