"""Dictionaries on planted features: the order of a published benchmark, and penalties by a rule.

python tests/bench/bench_features.py [seeds, 3]   # Kendall's tau with the published order
python tests/bench/bench_features.py tune [name]  # penalties and k for the board's problems

The published regime (Chanin et al. 2026, 2602.14687) has 16,384 features in 768 dimensions; here
504 in 96, with the same structure, dictionaries a quarter as wide, 60,000 rows and 2,500 steps.
There L0 is 25 of 34 active features; here k is as large a share of them. Penalties are those of six
whose L0 on held-out rows of another world comes closest to k, after as many steps.
"""

import sys
import time
from multiprocessing import get_context

import torch
from scipy.stats import kendalltau

from mini_transformer import methods
from mini_transformer.board.families.features import FAMILY
from mini_transformer.board.families.features.entrants import BUDGET
from mini_transformer.board.families.features.worlds import Kind, draw_world
from mini_transformer.board.metrics.features import explain_variance, score_features

PUBLISHED = {
    "matryoshka": 0.879,
    "batchtopk": 0.732,
    "jumprelu": 0.732,
    "l1": 0.556,
    "matching pursuit": 0.446,
}
REGIME = Kind(roots=24, d=96, branches=(4, 4))
ROWS, STEPS, SHARE = 60_000, 2500, 25 / 34
TUNING = 1000  # the world on which penalties are chosen
TRIED = {
    "jumprelu": (0.01, 0.02, 0.03, 0.05, 0.08, 0.13),
    "l1": (0.2, 0.3, 0.4, 0.5, 0.6, 0.7),
}
GRIDS = {
    "jumprelu": {"penalty": (0.01, 0.02, 0.04, 0.08, 0.16, 0.32)},
    "l1": {"penalty": (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)},
    "gated": {"penalty": (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)},
    **{name: {"k": (1, 2, 3, 4, 6, 8)} for name in ("topk", "batchtopk", "matryoshka", "pursuit")},
}
FIGURES = ("nearest_f1", "classification", "mcc", "uniqueness", "explained_variance", "l0")


def train(name: str, x: torch.Tensor, n: int, steps: int, **settings: float):
    if name in ("pursuit", "matching pursuit"):
        return methods.train_pursuit(x, n, steps=steps, **settings)
    return methods.train_dictionary(x, n, name, steps=steps, **settings)


def judge(job: tuple[str, int, int, dict[str, float]]) -> dict[str, float]:
    """Train one dictionary in the published regime, and measure it on fresh rows."""
    torch.set_num_threads(1)
    name, seed, steps, settings = job
    world = draw_world(REGIME, seed)
    x, _ = world.draw(ROWS, 16 * seed + 1)
    fresh, codes = world.draw(4000, 16 * seed + 2)
    start = time.process_time()
    found = train(name, x, len(world.directions) // 4, steps, **settings)
    own = found.encode(fresh)
    return {
        **score_features(world.directions, codes, found.W_dec, own, world.entails),
        "explained_variance": explain_variance(fresh, found.decode(own)),
        "seconds": time.process_time() - start,
    }


def compare_with_published(seeds: int) -> None:
    start = time.time()
    truth = draw_world(REGIME, TUNING).draw(4000, 1)[1]
    k = round(SHARE * (truth > 0).sum(dim=1).double().mean().item())
    settings: dict[str, dict[str, float]] = {name: {"k": k} for name in ("topk", *PUBLISHED)}
    with get_context("spawn").Pool(2) as pool:
        for name, tried in TRIED.items():
            jobs = [(name, TUNING, STEPS, {"penalty": penalty}) for penalty in tried]
            sparsity = [abs(found["l0"] - k) for found in pool.map(judge, jobs, 1)]
            settings[name] = {"penalty": tried[sparsity.index(min(sparsity))]}
        jobs = [(name, seed, STEPS, settings[name]) for name in settings for seed in range(seeds)]
        rows = dict(zip([job[:2] for job in jobs], pool.map(judge, jobs, 1), strict=True))
    print(f"k = {k}; {seeds} seeds; {time.time() - start:.0f} s\n")
    print("| dictionary | setting | published F1 |", *(f"{name} |" for name in FIGURES))
    print("| --- " * (3 + len(FIGURES)) + "|")
    means = {}
    for name in settings:
        own = [rows[name, seed] for seed in range(seeds)]
        found = {figure: sum(row[figure] for row in own) / seeds for figure in FIGURES}
        means[name] = found["nearest_f1"]
        setting = ", ".join(f"{key} {value}" for key, value in settings[name].items())
        published = PUBLISHED.get(name, "")
        print(f"| {name} | {setting} | {published} |", *(f"{v:.3f} |" for v in found.values()))
    print(f"\ntau with the published order, means: {measure_tau(means):.3f}", end="; each seed:")
    for seed in range(seeds):
        own = {name: rows[name, seed]["nearest_f1"] for name in PUBLISHED}
        print(f" {measure_tau(own):.3f}", end="")
    print()


def measure_tau(scores: dict[str, float]) -> float:
    """Measure Kendall's tau; its variant b, since two published values are equal."""
    names = list(PUBLISHED)
    return kendalltau([PUBLISHED[name] for name in names], [scores[name] for name in names])[0]


def tune_one(job: tuple[str, str, float]) -> float:
    """Measure the mean headline of one setting over three problems of tuning model 0."""
    torch.set_num_threads(1)
    name, key, value = job
    scores = []
    for problem in ("trees/narrow", "trees/equal", "plain/equal"):
        built = FAMILY.build(problem, 0)
        found = train(name, *built.arguments, **{**BUDGET, key: value})
        scores.append(built.measure(found)[FAMILY.headline])
    return sum(scores) / len(scores)


def tune(names: list[str]) -> None:
    with get_context("spawn").Pool(2) as pool:
        for name in names or GRIDS:
            ((key, values),) = GRIDS[name].items()
            found = pool.map(tune_one, [(name, key, v) for v in values], 1)
            best = values[found.index(max(found))]
            shown = ", ".join(f"{v}: {f:.3f}" for v, f in zip(values, found, strict=True))
            print(f"{name}: {key} = {best} ({shown})", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["tune"]:
        tune(sys.argv[2:])
    else:
        compare_with_published(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
