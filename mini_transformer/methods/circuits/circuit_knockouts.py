"""Knockouts: take parts K out of a circuit C and of the model M; do both lose the same?

A complete circuit contains all that does the task, so that whatever is knocked out of it hurts the
model as much: |F(C \\ K) - F(M \\ K)| is small for all K. A backup outside the circuit shows here,
and only here. A minimal circuit has no idle part: for each v there is a K after which taking v out
changes F.

Nobody can try all K of a large circuit. Drawn ones miss rare interactions, and greedy ones climb to
a near hill; what is found is a lower bound.
Sources: Wang et al. 2022 (2211.00593), sections 4.1 and 4.2.
"""

import itertools
from collections.abc import Iterable, Sequence

import torch

from mini_transformer.edges import Ablation
from mini_transformer.methods.arguments import Metric, Tokens
from mini_transformer.methods.circuits.parts import (
    Circuit,
    mask_parts,
    measure_shares,
    name_parts,
)
from mini_transformer.model import Transformer

__all__ = ["find_incompleteness", "list_knockouts", "measure_incompleteness", "measure_minimality"]

Knockout = frozenset[str]
TIE = 1e-5  # of the whole model's share: a smaller difference is rounding


def list_knockouts(circuit: Circuit, most: int = 256, seed: int = 0) -> list[Knockout]:
    """List all subsets of a circuit, or random ones if there are more than `most`.

    These are none, each part alone, and random subsets up to that number, which hold each part with
    probability 1/2. Their draws are their own: the same seed gives the same subsets.

    >>> [sorted(knockout) for knockout in list_knockouts(["m0", "m1"])]
    [[], ['m0'], ['m1'], ['m0', 'm1']]
    """
    parts = sorted({circuit} if isinstance(circuit, str) else set(circuit))
    if most < 1:
        given = f"at most {most} knockouts were asked for"
        raise ValueError(f"{given}, but there is at least the empty one")
    if 2 ** len(parts) <= most:
        subsets = (itertools.combinations(parts, size) for size in range(len(parts) + 1))
        return [frozenset(chosen) for chosen in itertools.chain.from_iterable(subsets)]
    small = [frozenset[str](), *(frozenset([part]) for part in parts)][:most]
    generator = torch.Generator().manual_seed(seed)
    shape = most - len(small), len(parts)
    drawn = torch.rand(shape, generator=generator, dtype=torch.float32, device="cpu") < 0.5
    return small + [frozenset(itertools.compress(parts, row)) for row in drawn.tolist()]


def measure_incompleteness(
    model: Transformer,
    clean: Tokens,
    corrupt: Tokens,
    metric: Metric,
    circuit: Circuit,
    ablation: Ablation = "resample",
    knockouts: Sequence[Iterable[str]] | None = None,
) -> dict[Knockout, float]:
    """Measure |F(C \\ K) - F(M \\ K)| for each K.

    F is in shares: 0 without any edges and 1 for the whole model. `knockouts` are subsets of the
    circuit, by default those of `list_knockouts`; parts are edges or nodes, as in
    `measure_faithfulness`. The circuit is as incomplete as the largest value says, or more.
    KeyError for a K that is not in the circuit.

    >>> from mini_transformer import toys
    >>> case = toys.load("backup_head")
    >>> batch = case.task.draw(64)
    >>> roles = case.truth.roles
    >>> circuit = ["input", roles["duplicate"], roles["inhibition"], roles["mover"]]
    >>> def metric(logits):
    ...     return batch.correct(logits).float()
    >>> runs = case.model, batch.clean, batch.corrupt, metric
    >>> gaps = measure_incompleteness(*runs, circuit, "zero")
    >>> worst = max(gaps, key=gaps.get)  # without the mover, the model still has its backup
    >>> sorted(worst), gaps[worst], gaps[frozenset()]
    (['a2.h0'], 1.0, 0.0)
    """
    parts, level = name_parts(model, circuit)
    chosen = choose_knockouts(parts, knockouts)
    masks = [mask_parts(model, _drop(names, out)) for names in (parts, level) for out in chosen]
    values = measure_shares(model, clean, corrupt, metric, masks, ablation).view(2, -1)
    return dict(zip(chosen, (values[0] - values[1]).abs().tolist(), strict=True))


def find_incompleteness(
    model: Transformer,
    clean: Tokens,
    corrupt: Tokens,
    metric: Metric,
    circuit: Circuit,
    ablation: Ablation = "resample",
    steps: int = 10,
) -> dict[Knockout, float]:
    """Find knockouts that open a wide gap, as `measure_incompleteness` measures it, greedily.

    Each takes out one part more, the one that opens the widest gap, up to `steps` parts; ties go to
    the part that the circuit names first. Unlike the published search it tries every part in each
    step, not a sample, and so has nothing to draw.

    >>> from mini_transformer import toys
    >>> case = toys.load("boolean_redundant_or")
    >>> batch = case.task.everything()
    >>> def metric(logits):
    ...     return batch.correct(logits).float()
    >>> copy = ["input", "a0.h0", "a0.h1", "m0"]  # the other copy is m1
    >>> runs = case.model, batch.clean, batch.corrupt, metric
    >>> gaps = find_incompleteness(*runs, copy, "zero", steps=1)
    >>> [(sorted(knockout), gap) for knockout, gap in gaps.items()]
    [([], 0.0), (['m0'], 0.75)]
    """
    if steps < 1:
        fits = "at least 1: the parts that are knocked out together"
        raise ValueError(f"steps is {steps}, but must be {fits}")
    parts, _ = name_parts(model, circuit)
    found = measure_incompleteness(model, clean, corrupt, metric, parts, ablation, [()])
    for _ in range(min(steps, len(parts))):
        grown = list(found)[-1]
        tried = [grown | {part} for part in parts if part not in grown]
        gaps = measure_incompleteness(model, clean, corrupt, metric, parts, ablation, tried)
        widest = max(gaps.values())
        worst = next(out for out in tried if gaps[out] > widest - TIE)
        found[worst] = gaps[worst]
    return found


def measure_minimality(
    model: Transformer,
    clean: Tokens,
    corrupt: Tokens,
    metric: Metric,
    circuit: Circuit,
    ablation: Ablation = "resample",
    knockouts: Sequence[Iterable[str]] | None = None,
) -> dict[str, float]:
    """Measure, for each part v, the largest |F(C \\ (K + v)) - F(C \\ K)| over the K.

    A part that scores 0 is idle, as far as was tried. F is in shares as in
    `measure_incompleteness`; `knockouts` are those of `list_knockouts` by default, and v is taken
    out of each first.

    >>> from mini_transformer import toys
    >>> case = toys.load("induction_by_hand")
    >>> batch = case.task.draw(64, corrupt="fresh")
    >>> heads = ["input", "a0.h0", "a0.h1", "a1.h0"]  # a0.h1 is a decoy
    >>> runs = case.model, batch.clean, batch.corrupt, batch.logit_difference
    >>> changes = measure_minimality(*runs, heads)
    >>> [part for part, change in changes.items() if change < 0.01]
    ['a0.h1']
    """
    parts, _ = name_parts(model, circuit)
    chosen = choose_knockouts(parts, knockouts)
    without: dict[str, list[Knockout]] = {part: [out - {part} for out in chosen] for part in parts}
    pairs = (out | v for part in parts for out in without[part] for v in (set(), {part}))
    needed = list(dict.fromkeys(pairs))
    masks = [mask_parts(model, _drop(parts, out)) for out in needed]
    shares = measure_shares(model, clean, corrupt, metric, masks, ablation).tolist()
    value = dict(zip(needed, shares, strict=True))
    changes = dict[str, float]()
    for part in parts:
        changes[part] = max(abs(value[out | {part}] - value[out]) for out in without[part])
    return changes


def choose_knockouts(
    parts: Sequence[str], knockouts: Sequence[Iterable[str]] | None
) -> list[Knockout]:
    """Choose the given subsets, by default those of `list_knockouts`.

    ValueError if there are none, KeyError if one is not in the circuit.
    """
    chosen = list(map(frozenset, list_knockouts(parts) if knockouts is None else knockouts))
    if not chosen:
        raise ValueError("no knockouts were given, but at least one is needed: the empty one is ()")
    if outside := sorted(frozenset().union(*chosen) - set(parts)):
        given = f"{outside[0]!r} is to be knocked out"
        raise KeyError(f"{given}, but is not in the circuit; it has {len(parts)} parts")
    return chosen


def _drop(names: Sequence[str], out: Knockout) -> list[str]:
    return [name for name in names if name not in out]
