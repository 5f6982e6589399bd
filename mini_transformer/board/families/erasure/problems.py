"""Erasure problems: take a label out of activations, and leave the others in.

A method sees activations with one label. Its eraser is judged on fresh ones by fresh probes for
that label and for bits that it was not told about. The right eraser is known from the distribution:
the smallest change after which no covariance with the label is left, from the exact moments
(Belrose et al. 2023, 2306.03819, section 4). An eraser must treat each row for itself: one that
changes its mind with the rows beside it is refused. What is left counts whether it can be read
linearly or not. `balance` is the share of the label that is gone less the share of the other bits
that is gone, so that erasing without looking earns nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import one_hot

from mini_transformer.board.answers import read_tensor
from mini_transformer.board.metrics.erasure import (
    balance,
    check_rows,
    measure_change,
    measure_leakage,
    measure_share,
)
from mini_transformer.board.planted import HOOK, World, build_reader, draw_world
from mini_transformer.board.problem import Build, Metrics, Problem
from mini_transformer.isolation.explaining import describe_kind
from mini_transformer.methods import Eraser

__all__ = ["PROBLEMS", "build", "find_right", "read_answer"]

N_SEEN = 500
N_JUDGED = 1000  # to train fresh probes, and as many to test them


@dataclass(frozen=True)
class Setting:
    """What to erase: a label made of `bits`; bit 1 is equal to bit 0 with this probability."""

    bits: tuple[int, ...]
    agree: float
    note: str

    def label(self, world: World) -> Tensor:
        """Return the label of each combination."""
        return world.bits[:, list(self.bits)] @ 2 ** torch.arange(len(self.bits))


SETTINGS = {
    "planted/apart": Setting((0,), 0.5, "a bit; four others are independent of it"),
    "planted/together": Setting((0,), 0.75, "a bit; one of four others equals it 3 times in 4"),
    "planted/four": Setting((0, 2), 0.5, "two bits as one label of four; three others are kept"),
}


def build(name: str, seed: int) -> Problem:
    """Build the problem of a label in a planted world.

    >>> problem = build("planted/apart", 0)
    >>> problem.measure(problem.oracle())["balance"]
    1.0
    """
    setting = SETTINGS[name]
    world = draw_world(seed)
    chances = world.make_chances({1: setting.agree})
    labels = setting.label(world)
    seen, train, test = (
        world.draw(n, chances, 16 * seed + i)
        for i, n in enumerate((N_SEEN, N_JUDGED, N_JUDGED), start=1)
    )
    of = {"": labels} | {str(i): bit for i, bit in enumerate(world.bits.T) if i not in setting.bits}
    known = {name: world.find_posterior(test.x, chances, label) for name, label in of.items()}
    right = find_right(world, chances, labels)
    shuffled = torch.randperm(N_SEEN, generator=torch.Generator().manual_seed(seed))

    def leak(erase: Callable[[Tensor], Tensor], nonlinear: bool = False) -> dict[str, float]:
        """Measure what fresh probes read: linear ones of all, or a nonlinear one of the label."""
        before, after = erase(train.x), erase(test.x)
        return {
            name: measure_leakage(before, label[train.combos], after, known[name], nonlinear)
            for name, label in of.items()
            if not (name and nonlinear)
        }

    @cache
    def find_bounds() -> list[dict[str, float]]:
        return [leak(e, kind) for e in (lambda x: x, right) for kind in (False, True)]

    def measure(erase: Callable[[Tensor], Tensor]) -> Metrics:
        erased = check_rows(erase, test.x)
        before, before_any, least, least_any = find_bounds()
        after, after_any = leak(erase), leak(erase, nonlinear=True)
        left = max(
            measure_share(now[""] - low[""], high[""] - low[""])
            for now, low, high in ((after, least, before), (after_any, least_any, before_any))
        )
        others = [name for name in of if name]
        kept = sum(measure_share(after[name], least[name]) for name in others) / len(others)
        return {
            "balance": balance(1 - left, kept),
            "leakage": after[""],
            "nonlinear_leakage": after_any[""],
            "change": measure_change(test.x, erased),
            "erased": 1 - left,
            "kept": kept,
        }

    return Problem(
        "erasure",
        name,
        seed,
        arguments=(seen.x, labels[seen.combos]),
        untrained=(seen.x[shuffled], labels[seen.combos]),
        options={
            "model": build_reader(world, seen, (0, 1, 2), seed)[0],
            "hook": HOOK,
            "prompts": torch.arange(N_SEEN)[:, None],
        },
        untrained_options={},
        measure=measure,
        oracle=lambda: right,
        random=lambda draw: draw_eraser(seen.x, int(labels.max()), draw),
        n_prompts=N_SEEN,
        note=f"{setting.note}; right: the least-squares eraser of the planted distribution",
    )


PROBLEMS: dict[str, Build] = dict.fromkeys(SETTINGS, build)


def find_right(world: World, chances: Tensor, labels: Tensor) -> Eraser:
    """Find the least-squares eraser from the exact mean and covariances."""
    z = one_hot(labels).double()
    mean = chances @ world.means
    apart = world.means - mean
    cross = apart.T @ (chances[:, None] * (z - chances @ z))
    values, axes = torch.linalg.eigh(world.covariance + apart.T @ (chances[:, None] * apart))
    whiten = (axes / values.sqrt()) @ axes.T
    basis = torch.linalg.svd(whiten @ cross, full_matrices=False).U[:, : int(labels.max())]
    M = (axes * values.sqrt()) @ axes.T @ basis @ basis.T @ whiten
    return Eraser(M.float(), mean.float())


def draw_eraser(activations: Float[Tensor, "n d"], n: int, seed: int) -> Eraser:
    """Draw an eraser that projects out `n` random directions."""
    d = activations.shape[1]
    basis = torch.linalg.qr(torch.randn(d, n, generator=torch.Generator().manual_seed(seed)))[0]
    return Eraser(basis @ basis.T, activations.mean(dim=0))


def read_answer(answer: Any, activations: Tensor, labels: Tensor) -> Any:
    """Return the eraser: a function from activations to as many of the same width."""
    if not callable(answer):
        raise ValueError(
            f"the answer is {describe_kind(answer)}, expected a function of activations"
        )
    read_tensor(answer(activations), "erased activations of the same shape", *activations.shape)
    return answer
