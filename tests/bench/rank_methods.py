"""Rank circuit methods on models set by hand, on forged ones and on trained twins.

Prints the mean F1 of each method (the highest-scoring edges, as many as the circuit has, against
the circuit that fits best) with resampling, and Kendall's tau between the three rankings.

python tests/bench/rank_methods.py [forged models, 20]
"""

import functools
import sys
from collections import defaultdict
from collections.abc import Iterable
from itertools import combinations
from pathlib import Path

import torch
from scipy.stats import kendalltau

sys.path.insert(0, str(Path(__file__).parents[1] / "lab" / "forge"))
from cheaters import score_by_names, score_by_nothing, score_by_weights

from mini_transformer import forge, methods, toys
from mini_transformer.board.metrics.circuit import compare_sets, keep_highest
from mini_transformer.edges import mask_of
from mini_transformer.toys.truth import Batch, Case

MOST = 32  # prompts
BY_HAND = (
    "induction_by_hand",
    "induction_rotated",
    "boolean_and",
    "boolean_or",
    "boolean_xor",
    "boolean_redundant_or",
    "backup_head",
    "unused_feature",
    "clock_by_hand",
    "refusal_with_trigger",
    "scratchpad_faithful",
    "scratchpad_unfaithful",
)
METHODS = {
    "exact patching": functools.partial(methods.patch_edges, direction="noise"),
    "exact patching, denoising": functools.partial(methods.patch_edges, direction="denoise"),
    "EAP": methods.eap,
    "EAP-IG, inputs, 5 steps": functools.partial(methods.eap, steps=5, along="inputs"),
    "EAP-IG, masks, 5 steps": functools.partial(methods.eap, steps=5, along="masks"),
    "ACDC, 12 thresholds": methods.sweep_acdc,
}


def draw_batch(case: Case) -> Batch:
    """Return all pairs of prompts if they are few, otherwise a sample."""
    everything = case.task.everything() if case.task.everything else None
    if everything is not None and len(everything.clean) <= MOST:
        return everything
    return case.task.draw(MOST, 0, case.truth.circuits["resample"].corrupt)


def measure(cases: Iterable[Case]) -> dict[str, float]:
    """Return the mean F1 of every method, and of answers that look at no run."""
    scores = defaultdict(list)
    for case in cases:
        batch = draw_batch(case)
        runs = case.model, batch.clean, batch.corrupt, batch.logit_difference, "resample"
        found = {name: method(*runs).values.detach() for name, method in METHODS.items()}
        found |= score_by_weights(case.model) | score_by_names(case.model)
        found["random"] = score_by_nothing(case.model)["random"]
        circuits = [
            mask_of(case.model, one).bool() for one in case.truth.circuits["resample"].edges
        ]
        for name, values in found.items():
            values = values.nan_to_num()  # weights that are all zero have no relative size
            kept = [keep_highest(values, int(one.sum())) for one in circuits]
            fits = [compare_sets(*both)["f1"] for both in zip(kept, circuits, strict=True)]
            scores[name].append(max(fits))
    return {name: sum(own) / len(own) for name, own in scores.items()}


def keep_best(groups: dict[str, dict[str, float]]) -> list[str]:
    """Name the methods, and the one form of each kind of guess that is best in all groups."""
    names = list(next(iter(groups.values())))
    kept = list(METHODS)
    for kind in ("weights", "names"):
        forms = [name for name in names if name.startswith(f"{kind}: ")]
        kept.append(max(forms, key=lambda name: sum(group[name] for group in groups.values())))
    return [*kept, "random"]


def main(n_forged: int = 20) -> None:
    torch.set_num_threads(1)
    groups = {
        "set by hand": measure(toys.load(name) for name in BY_HAND),
        "forged": measure(forge.many(n_forged, seed=0)),
        "twins": measure(forge.twins()),
    }
    kept = keep_best(groups)
    print(f"| method | {' | '.join(groups)} |\n|{'---|' * (len(groups) + 1)}")
    for name in kept:
        print(f"| {name} | {' | '.join(f'{group[name]:.3f}' for group in groups.values())} |")
    print()
    for first, second in combinations(groups, 2):
        ranked = [[groups[group][name] for name in kept] for group in (first, second)]
        tau = kendalltau(*ranked).statistic
        only = kendalltau(*(values[: len(METHODS)] for values in ranked)).statistic
        print(f"tau of {first} and {second}: {tau:.2f}, of the methods alone {only:.2f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
