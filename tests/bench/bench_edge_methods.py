"""Compare ACDC, edge attribution and exact edge patching with one plain forward.

All run on the same batch. ACDC and exact patching are counted per edge. Models have LayerNorm,
biases and MLPs; prompts are 8 x 16.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from timing import STYLE, make_row, take_turns
from torch import Tensor

from mini_transformer import Config, Transformer
from mini_transformer.edges import list_edges, run_edges, write_outputs
from mini_transformer.methods import eap, find_circuit_acdc, make_divergence, patch_edges
from mini_transformer.methods.circuits.eap import find_mask_slopes

BATCH, LENGTH = 8, 16
FORWARDS = 20  # plain forwards that are timed together: one is too short for the clock
SIZES = (4, 8)  # as many layers as heads
TAUS = (0.05, 0.001)
ATTRIBUTION = {0: 8.0, 5: 25.0}  # steps, bound
ACDC, PATCHING = 2.0, 0.31


def metric(logits: Tensor) -> Tensor:
    return logits[:, -1, 3] - logits[:, -1, 5]


def build(size: int) -> tuple[Transformer, Tensor, Tensor]:
    config = Config(50, LENGTH, d_model=64, n_layers=size, n_heads=size, d_mlp=256, **STYLE)
    clean, corrupt = torch.randint(
        50, (2, BATCH, LENGTH), generator=torch.Generator().manual_seed(0)
    )
    return Transformer(config), clean, corrupt


@torch.no_grad()
def prune_in_a_loop(
    model: Transformer, clean: Tensor, corrupt: Tensor, tau: float
) -> frozenset[str]:
    """Prune by one run of the edge engine per edge."""
    edges = list_edges(model)
    off = write_outputs(model, corrupt)
    target = make_divergence(model, clean, position=None)

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
            mask = trial
            value = found
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
    """Compare results with those of slower ways, then time them."""
    found = []
    for size in SIZES:
        model, clean, corrupt = build(size)
        edges = len(list_edges(model))
        runs = model, clean, corrupt
        slopes = find_mask_slopes(model, clean, write_outputs(model, corrupt).detach(), metric, 1.0)
        torch.testing.assert_close(eap(*runs, metric).values, slopes, rtol=1e-3, atol=1e-5)
        for steps, bound in ATTRIBUTION.items():
            name = f"eap, {edges} edges, {steps} steps"
            attribute = partial(eap, *runs, metric, steps=steps)
            found.append(compare_with_forwards(name, model, clean, attribute, 1, bound, turns=15))
        if size == SIZES[0]:
            found += compare_per_edge(*runs)
    return found


def compare_per_edge(model: Transformer, clean: Tensor, corrupt: Tensor) -> list[dict[str, Any]]:
    """Compare ACDC, at two thresholds, and exact patching, per edge."""
    edges = len(list_edges(model))
    target = make_divergence(model, clean, position=None)
    found = []
    for tau in TAUS:
        circuit = find_circuit_acdc(model, clean, corrupt, target, tau=tau)
        assert circuit == prune_in_a_loop(model, clean, corrupt, tau)
        name = f"find_circuit_acdc, {edges} edges, {len(circuit)} kept, each"
        prune = partial(find_circuit_acdc, model, clean, corrupt, target, tau=tau)
        found.append(compare_with_forwards(name, model, clean, prune, edges, ACDC, turns=5))
    name = f"patch_edges, {edges} edges, each"
    patch = partial(patch_edges, model, clean, corrupt, metric, direction="noise")
    return [*found, compare_with_forwards(name, model, clean, patch, edges, PATCHING, turns=5)]
