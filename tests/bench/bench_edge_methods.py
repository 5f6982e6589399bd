"""ACDC, edge attribution and exact edge patching against one plain forward of the same batch.

ACDC and exact patching are counted per edge. Models have LayerNorm, biases and MLPs; prompts are 8 x 16.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from timing import make_row, take_turns
from torch import Tensor

from mini_transformer import Config, Transformer
from mini_transformer.edges import list_edges, run_edges, write_outputs
from mini_transformer.methods import (
    attribute_edges,
    divergence_from,
    find_circuit_acdc,
    patch_edges,
)
from mini_transformer.methods.edge_attribution import find_mask_slopes

BATCH, LENGTH = 8, 16
FORWARDS = 20  # plain forwards that are timed together: one is too short for the clock
SIZES = (4, 8)  # as many layers as heads
TAUS = (0.05, 0.001)
ATTRIBUTION = {0: 8.0, 5: 25.0}  # steps, bound
ACDC, PATCHING = 2.0, 0.31


def metric(logits: Tensor) -> Tensor:
    return logits[:, -1, 3] - logits[:, -1, 5]


def build(size: int) -> tuple[Transformer, Tensor, Tensor]:
    config = Config(
        d_vocab=50,
        n_ctx=LENGTH,
        d_model=64,
        n_layers=size,
        n_heads=size,
        d_mlp=256,
        norm="layer",
        biases=True,
        act="gelu",
    )
    clean, corrupt = torch.randint(
        50, (2, BATCH, LENGTH), generator=torch.Generator().manual_seed(0)
    )
    return Transformer(config), clean, corrupt


@torch.no_grad()
def prune_in_a_loop(
    model: Transformer, clean: Tensor, corrupt: Tensor, tau: float
) -> frozenset[str]:
    """Prune by one run of the edge engine per edge."""
    edges, off, target = (
        list_edges(model),
        write_outputs(model, corrupt),
        divergence_from(model, clean),
    )

    def measure(mask: Tensor) -> float:
        return target(run_edges(model, clean, mask.unsqueeze(0), off)[0]).mean().item()

    mask = torch.ones(len(edges))
    value = measure(mask)
    limit = tau * (value - measure(torch.zeros_like(mask)))
    for i in reversed(range(len(edges))):
        trial = mask.clone()
        trial[i] = 0.0
        found = measure(trial)
        if value - found < limit:
            mask, value = trial, found
    return frozenset(edge for edge, on in zip(edges, mask.tolist(), strict=True) if on)


def compare_with_forwards(
    name: str,
    model: Transformer,
    clean: Tensor,
    run: Callable[[], object],
    per: int,
    bound: float,
    turns: int,
) -> dict[str, Any]:
    """Make a row from the time of `run`, divided by `per`, and that of a plain forward."""

    @torch.no_grad()
    def run_plainly() -> None:
        for _ in range(FORWARDS):
            model(clean)

    times = take_turns({"ours": run, "a plain forward": run_plainly}, turns, warm_up=1)
    scale = {"ours": per, "a plain forward": FORWARDS}
    return make_row(
        name, {who: [time / scale[who] for time in own] for who, own in times.items()}, bound
    )


def rows() -> list[dict[str, Any]]:
    """Compare results with those of slower ways first."""
    found = []
    for size in SIZES:
        model, clean, corrupt = build(size)
        edges = len(list_edges(model))
        runs = model, clean, corrupt
        slopes = find_mask_slopes(model, clean, write_outputs(model, corrupt).detach(), metric, 1.0)
        torch.testing.assert_close(attribute_edges(*runs, metric), slopes, rtol=1e-3, atol=1e-5)
        for steps, bound in ATTRIBUTION.items():
            name = f"attribute_edges, {edges} edges, {steps} steps"
            attribute = partial(attribute_edges, *runs, metric, steps=steps)
            found.append(compare_with_forwards(name, model, clean, attribute, 1, bound, turns=15))
        if size == SIZES[0]:
            found += compare_per_edge(*runs)
    return found


def compare_per_edge(model: Transformer, clean: Tensor, corrupt: Tensor) -> list[dict[str, Any]]:
    """Compare ACDC, at two thresholds, and exact patching, per edge."""
    edges, target = len(list_edges(model)), divergence_from(model, clean)
    found = []
    for tau in TAUS:
        circuit = find_circuit_acdc(model, clean, corrupt, target, tau=tau)
        assert circuit == prune_in_a_loop(model, clean, corrupt, tau)
        name = f"find_circuit_acdc, {edges} edges, {len(circuit)} kept, each"
        prune = partial(find_circuit_acdc, model, clean, corrupt, target, tau=tau)
        found.append(compare_with_forwards(name, model, clean, prune, edges, ACDC, turns=5))
    name = f"patch_edges, {edges} edges, each"
    patch = partial(patch_edges, model, clean, corrupt, metric)
    return [*found, compare_with_forwards(name, model, clean, patch, edges, PATCHING, turns=5)]
