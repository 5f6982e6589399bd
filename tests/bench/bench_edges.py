"""Compare exact edge patching of `induction_by_hand` with one run per edge.

All 29 edges are patched; the runs are those of the edge engine, and of the hooked model. Beside
them stands what the engine itself gains from 29 masks in one call: the arithmetic stays the same,
so only the overhead is shared.
"""

from collections.abc import Callable
from typing import Any

import torch
from timing import make_row, take_turns
from torch import Tensor

from mini_transformer import toys
from mini_transformer.edges import list_edges, list_writers, run_edges, write_outputs
from mini_transformer.methods import patch_edges

BATCH = 8
TURNS = 15
BOUND = 1 / 10
CASE = toys.load("induction_by_hand")
PROMPTS = CASE.task.draw(BATCH, corrupt="fresh")
MODEL = CASE.model
EDGES = list_edges(CASE.model)


def metric(logits: Tensor) -> Tensor:
    return PROMPTS.logit_difference(logits)


def patch_at_once() -> Tensor:
    return patch_edges(MODEL, PROMPTS.clean, PROMPTS.corrupt, metric, direction="noise").values


@torch.no_grad()
def patch_by_masks(at_once: int) -> Tensor:
    """Run the edge engine with one switch off per mask, and so many masks per call."""
    off = write_outputs(MODEL, PROMPTS.corrupt)
    start = metric(MODEL(PROMPTS.clean)).mean()
    chunks = (1 - torch.eye(len(EDGES))).split(at_once)
    runs = [logits for masks in chunks for logits in run_edges(MODEL, PROMPTS.clean, masks, off)]
    return start - torch.stack([metric(logits).mean() for logits in runs])


@torch.no_grad()
def patch_by_hooks() -> Tensor:
    """Run one hooked forward per edge.

    Its reader alone hears its writer's corrupt value.
    """
    changes = write_outputs(MODEL, PROMPTS.corrupt) - write_outputs(MODEL, PROMPTS.clean)
    own = dict(zip(list_writers(MODEL), changes, strict=True))
    start = metric(MODEL(PROMPTS.clean)).mean()
    drops = []
    for edge in EDGES:
        writer, reader = edge.split("->")

        def add(
            value: Tensor, hook: object, reader: str = reader, change: Tensor = own[writer]
        ) -> None:
            (value if reader == "logits" else value[:, :, int(reader[4])]).add_(change)

        site = ("resid_post", 1) if reader == "logits" else (f"{reader[6]}_input", int(reader[1]))
        drops.append(
            start - metric(MODEL.run_with_hooks(PROMPTS.clean, fwd_hooks=[(site, add)])).mean()
        )
    return torch.stack(drops)


def rows() -> list[dict[str, Any]]:
    """Check that all ways give the same numbers, then time them."""
    others: dict[str, Callable[[], Tensor]] = {
        "an engine run per edge": lambda: patch_by_masks(1),
        "a hooked run per edge": patch_by_hooks,
        "29 masks in one call": lambda: patch_by_masks(len(EDGES)),
    }
    bounds = (BOUND, BOUND, 1.0)
    found = []
    for (name, other), bound in zip(others.items(), bounds, strict=True):
        torch.testing.assert_close(patch_at_once(), other(), rtol=1e-4, atol=1e-4)
        times = take_turns({"ours": patch_at_once, name: other}, TURNS)
        found.append(make_row(f"patch_edges, 29 edges, batch {BATCH}", times, bound))
    return found
