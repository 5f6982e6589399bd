"""Steering problems: which vector, added where, changes one thing and nothing else?

A method sees activations at two hooks on prompts that have a bit and on others; four more bits go
along with it there, and the model answers with all five. Its vector is added to fresh prompts that
do not have the bit, where nothing goes along with it, at strengths up to .9 of the length of the
difference in means at that hook, whatever the vector's own length. `specificity` is exp(-damage)
where half of the effect is reached; damage is the KL divergence of the other four bits. The right
vector is the one along which the bit is written: it moves that bit alone.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from mini_transformer.board.answers import read_tensor
from mini_transformer.board.metrics.steering import (
    measure_kl,
    measure_kl_at,
    measure_specificity,
)
from mini_transformer.board.planted import HOOK, LATE_HOOK, build_reader, draw_world
from mini_transformer.board.problem import Build, Metrics, Problem
from mini_transformer.hooks import HookPoint
from mini_transformer.isolation.explaining import describe_kind
from mini_transformer.model import Transformer

__all__ = ["PROBLEMS", "build", "read_answer"]

N_SEEN = {"planted/many": 400, "planted/few": 80}
N_FRESH = 300
READS = (0, 1, 2, 3, 4)  # the bit to steer, and those that should stay
SIZE = 3.5
STRENGTHS = torch.linspace(0, 0.9, 13)  # in lengths of the difference in means
AGREEMENT = 0.65, 0.85  # of each other bit with the one to steer, in what is shown

Steering = tuple[Tensor, str]


def build(name: str, seed: int) -> Problem:
    """Build the problem of steering a bit in a planted world.

    >>> problem = build("planted/many", 0)
    >>> found = problem.measure(problem.oracle())
    >>> [round(found[figure], 2) for figure in ("specificity", "off_target_kl")]
    [1.0, 0.0]
    """
    world = draw_world(seed, size=SIZE)
    generator = torch.Generator().manual_seed(seed)
    low, high = AGREEMENT
    drawn = low + (high - low) * torch.rand(len(READS), generator=generator)
    n = N_SEEN[name]
    seen = world.draw(n, world.make_chances(dict(enumerate(drawn.tolist()))), 16 * seed + 1)
    fresh = world.draw(N_FRESH, world.make_chances({}), 16 * seed + 2)
    model, _ = build_reader(world, seen, READS, seed)
    judged, _ = build_reader(world, fresh, READS, seed)
    tokens = torch.arange(n)[:, None]
    has = seen.bits[:, 0] == 1
    tried = torch.arange(N_FRESH)[fresh.bits[:, 0] == 0][:, None]
    positive, negative = (read_hooks(model, tokens[which]) for which in (has, ~has))
    shuffled = tokens[torch.randperm(n, generator=generator)]
    before = run_steered(judged, tried, torch.zeros(model.config.d_model), HOOK)
    base = measure_target(before)

    def try_out(vector: Tensor, hook: str) -> tuple[float, float]:
        """Measure the effect, as a share of what there can be, and the damage."""
        logits = run_steered(judged, tried, vector, hook)
        effect = (measure_target(logits) - base) / (1 - base)
        return effect, measure_kl(measure_rest(before), measure_rest(logits))

    def measure(steering: Steering) -> Metrics:
        vector, hook = steering
        longest = (positive[hook].mean(dim=0) - negative[hook].mean(dim=0)).norm()
        points = [try_out(by * longest * normalize(vector, dim=0), hook) for by in STRENGTHS]
        effects, damages = torch.tensor(points).T
        damage = measure_kl_at(STRENGTHS, effects, damages)
        on_target, off_target = try_out(vector, hook)
        metrics = {
            "specificity": measure_specificity(damage),
            "on_target": on_target,
            "off_target_kl": off_target,
        }
        return metrics if damage is None else {**metrics, "kl_at_half_effect": damage}

    def draw_steering(draw: int) -> Steering:
        generator = torch.Generator().manual_seed(draw)
        hook = (HOOK, LATE_HOOK)[draw % 2]
        difference = positive[hook].mean(dim=0) - negative[hook].mean(dim=0)
        noise = torch.randn(len(difference), generator=generator)
        return noise / noise.norm() * difference.norm(), hook

    return Problem(
        "steering",
        name,
        seed,
        arguments=(positive, negative),
        untrained=tuple(read_hooks(model, some) for some in shuffled.split(n // 2)),
        options={
            "model": model,
            "positive_prompts": tokens[has],
            "negative_prompts": tokens[~has],
        },
        untrained_options={},
        measure=measure,
        oracle=lambda: (world.written[0].float(), HOOK),
        random=draw_steering,
        n_prompts=n,
        note="four bits go along with the one to steer in what is shown; right is the direction "
        "along which it is written, before the MLP",
    )


PROBLEMS: dict[str, Build] = dict.fromkeys(N_SEEN, build)


def measure_target(logits: Tensor) -> float:
    """Measure the mean probability of an answer with the bit."""
    return logits.softmax(dim=1)[:, logits.shape[1] // 2 :].sum(dim=1).mean().item()


def measure_rest(logits: Tensor) -> Tensor:
    """Compute the log probabilities of the other bits, whatever the one to steer is."""
    return logits.unflatten(1, (2, -1)).log_softmax(dim=2).logsumexp(dim=1).log_softmax(dim=1)


def run_steered(model: Transformer, tokens: Tensor, vector: Tensor, hook: str) -> Tensor:
    """Return the logits (n, outcome), with the vector added at the hook."""

    def add(value: Tensor, point: HookPoint) -> None:
        value += vector

    with torch.no_grad():
        return model.run_with_hooks(tokens, fwd_hooks=[(hook, add)])[:, 0]


def read_hooks(model: Transformer, tokens: Tensor) -> Mapping[str, Tensor]:
    """Return the activations of prompts by hook."""
    with torch.no_grad():
        cache = model.run_with_cache(tokens, names_filter=[HOOK, LATE_HOOK])[1]
    return {hook: cache[hook][:, 0] for hook in (HOOK, LATE_HOOK)}


def read_answer(
    answer: Any, positive: Mapping[Any, Tensor], negative: Mapping[Any, Tensor]
) -> tuple[Tensor, Any]:
    """Return the vector and the hook where it is added, one of those given."""
    if not isinstance(answer, (tuple, list)) or len(answer) != 2:
        raise ValueError(f"the answer is {describe_kind(answer)}, expected a pair (vector, hook)")
    vector, hook = answer
    if not isinstance(hook, (str, tuple)) or hook not in positive:
        raise ValueError(f"the hook is {hook!r}, expected one of {', '.join(map(repr, positive))}")
    return read_tensor(vector, "a vector as wide as the hook", positive[hook].shape[1]), hook
