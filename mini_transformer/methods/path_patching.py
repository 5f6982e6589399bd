"""Path patching: what one component does to another, along one path only, with everything else held as it was.

Patching a head changes all that comes after it. Path patching follows a chain of edges: the first node writes what it would
write on the corrupt prompt, only the next node on the path hears it, and so on; nodes off the path carry their clean values, and whoever hears the
last node of the path hears it in every way. So a path that ends at `logits` is a direct effect. A node's effect splits into
the direct one (through its edge to the logits) and the indirect one (through all its other edges); where the two interact,
they do not add up to the total. MLPs are nodes like heads here, not part of the connection between two heads.
Sources: Goldowsky-Dill et al. 2023 (2304.05969), section 2; Wang et al. 2022 (2211.00593), section 3; Pearl 2001, "Direct and indirect effects".

Checked against: hooks on the readers' own inputs and on the last stream, ablation of nodes, and the circuit of a hand-set model.
"""

from collections.abc import Iterator, Sequence
from typing import TypeVar

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from mini_transformer.edges import (
    Ablation,
    list_edges,
    list_writers,
    mask_of,
    run_edges,
    write_outputs,
)
from mini_transformer.hooks import HookPoint
from mini_transformer.methods.patching import Metric, check_metric, check_pair
from mini_transformer.methods.sites import BUDGET
from mini_transformer.model import Transformer

Tokens = Integer[Tensor, "batch pos"]
Key = TypeVar("Key")
EFFECTS = ("total", "direct", "indirect")


@torch.no_grad()
def patch_path(
    model: Transformer, clean: Tokens, corrupt: Tokens, path: str, ablation: Ablation = "resample"
) -> Float[Tensor, "batch pos out"]:
    """Logits of the clean run with the first node of `path` corrupted, as heard along that path alone.

    A path is written `a0.h0->a1.h0<k>->logits`. Ablation "resample" corrupts with what is written
    on the same row of `corrupt`, "mean" with its mean over prompts, "zero" with nothing. ValueError
    for a path without an edge, KeyError for an edge that does not exist.

    >>> from mini_transformer import toys
    >>> case = toys.load("induction_by_hand")
    >>> batch = case.task.draw(64, corrupt="fresh")
    >>> for path in ("a0.h0->a1.h0<k>->logits", "a0.h0->a1.h0<v>->logits", "a0.h0->logits"):
    ...     logits = patch_path(case.model, batch.clean, batch.corrupt, path)
    ...     print(path, batch.correct(logits).float().mean().item() > 0.99)
    a0.h0->a1.h0<k>->logits False
    a0.h0->a1.h0<v>->logits True
    a0.h0->logits True
    """
    clean, corrupt = check_batch(clean, corrupt)
    nodes = [node.strip() for node in path.split("->")]
    if len(nodes) < 2:
        raise ValueError(
            f"the path is {path!r}, but must have at least one edge, like 'input->logits'"
        )
    writers = [node.split("<")[0] for node in nodes]
    masks = [
        1 - mask_of(model, [f"{writer}->{reader}"])
        for writer, reader in zip(writers, nodes[1:], strict=False)
    ]
    carried, index = write_outputs(model, clean), list_writers(model).index
    carried[index(writers[0])] = write_outputs(model, corrupt, ablation)[index(writers[0])]
    for mask, reader in zip(masks[:-1], writers[1:], strict=False):
        carried[index(reader)] = write_under(model, clean, mask, carried, reader)
    return run_edges(model, clean, masks[-1].unsqueeze(0), carried)[0]


@torch.no_grad()
def patch_senders(
    model: Transformer,
    clean: Tokens,
    corrupt: Tokens,
    metric: Metric,
    receivers: Sequence[str],
    ablation: Ablation = "resample",
) -> dict[str, Float[Tensor, ""]]:
    """Per node that writes to the `receivers`, the change of the mean metric when only they hear it corrupted.

    Receivers are the ends of edges, such as `a1.h0<k>`, `m0` or `logits`; given several, all of them hear it. The sender that
    matters to them is the one with the largest change. KeyError for a receiver that does not exist.

    >>> from mini_transformer import toys
    >>> case = toys.load("induction_by_hand")
    >>> batch = case.task.draw(64, corrupt="fresh")
    >>> found = patch_senders(case.model, batch.clean, batch.corrupt, batch.logit_difference, ["a1.h0<k>"])
    >>> min(found, key=lambda node: found[node])
    'a0.h0'
    """
    clean, corrupt = check_batch(clean, corrupt)
    receivers = [receivers] if isinstance(receivers, str) else list(receivers)
    if not receivers:
        raise ValueError("no receivers were given, but at least one is needed, like 'logits'")
    edges = [edge.split("->") for edge in list_edges(model)]
    known = {reader for _, reader in edges}
    if unknown := [receiver for receiver in receivers if receiver not in known]:
        raise KeyError(
            f"no receiver is called {unknown[0]!r}; they look like {edges[0][1]!r}, or 'logits'"
        )
    heard = {
        sender: [
            f"{sender}->{reader}"
            for writer, reader in edges
            if writer == sender and reader in receivers
        ]
        for sender in list_writers(model)
    }
    cut = {sender: mask_of(model, own) for sender, own in heard.items() if own}
    return measure_without(model, clean, corrupt, metric, cut, ablation)


@torch.no_grad()
def split_effects(
    model: Transformer,
    clean: Tokens,
    corrupt: Tokens,
    metric: Metric,
    ablation: Ablation = "resample",
) -> dict[str, dict[str, Float[Tensor, ""]]]:
    """Per node, the change of the mean metric when it is corrupted: "total", "direct" and "indirect".

    Direct: only the logits hear the corrupted value. Indirect: only everything else does.

    >>> from mini_transformer import toys
    >>> case = toys.load("induction_by_hand")
    >>> batch = case.task.draw(64, corrupt="fresh")
    >>> effects = split_effects(case.model, batch.clean, batch.corrupt, batch.logit_difference)
    >>> {node: round(effects["direct"][node].item()) for node in ("a0.h0", "a1.h0")}  # one works through the other
    {'a0.h0': 0, 'a1.h0': -40}
    """
    clean, corrupt = check_batch(clean, corrupt)
    edges, cut = list_edges(model), dict[tuple[str, str], Tensor]()
    for writer in list_writers(model):
        own = [edge for edge in edges if edge.startswith(f"{writer}->")]
        last = [f"{writer}->logits"]
        rest = [edge for edge in own if edge not in last]
        cut |= {
            (effect, writer): mask_of(model, which)
            for effect, which in zip(EFFECTS, (own, last, rest), strict=True)
        }
    changes = measure_without(model, clean, corrupt, metric, cut, ablation)
    return {
        effect: {node: changes[effect, node] for node in list_writers(model)} for effect in EFFECTS
    }


def measure_without(
    model: Transformer,
    clean: Tokens,
    corrupt: Tokens,
    metric: Metric,
    cut: dict[Key, Float[Tensor, "edge"]],
    ablation: Ablation,
) -> dict[Key, Float[Tensor, ""]]:
    """Per key of `cut`, the change of the mean metric when its edges (1.0 in the mask) carry corrupted values."""
    off = write_outputs(model, corrupt, ablation)
    masks = 1 - torch.stack([torch.zeros(len(list_edges(model)), device=off.device), *cut.values()])
    values = torch.stack(
        [check_metric(metric, logits) for logits in run_masks(model, clean, masks, off)]
    )
    return dict(zip(cut, values[1:] - values[0], strict=True))


def run_masks(
    model: Transformer,
    tokens: Tokens,
    masks: Float[Tensor, "mask edge"],
    off: Float[Tensor, "writer batch pos d_model"],
) -> Iterator[Float[Tensor, "batch pos out"]]:
    """The logits under each mask in turn; as many masks share a run of the edge engine as fit the budget."""
    per_mask = 4 * off[0].numel() * (2 * len(off) + 9 * model.config.n_heads)
    for chunk in masks.split(max(1, int(BUDGET / max(1, per_mask)))):
        yield from run_edges(model, tokens, chunk, off)


def write_under(
    model: Transformer, tokens: Tokens, mask: Float[Tensor, "edge"], off: Tensor, writer: str
) -> Float[Tensor, "batch pos d_model"]:
    """What a head or MLP writes in the run under this mask."""
    layer, _, head = writer[1:].partition(".h")
    seen: list[Tensor] = []

    def look(value: Tensor, hook: HookPoint) -> None:
        seen.append(value)

    with model.hooks([(("result" if head else "post", int(layer)), look)]):
        run_edges(model, tokens, mask.unsqueeze(0), off)
    mlp = model.blocks[int(layer)].mlp
    if head or mlp is None:
        return seen[0][:, :, int(head)]
    return seen[0] @ mlp.W_out + (0.0 if mlp.b_out is None else mlp.b_out)


def check_batch(clean: Tokens, corrupt: Tokens) -> tuple[Tokens, Tokens]:
    """The two runs as they are; ValueError unless they have one shape and hold a prompt."""
    if not len(clean):
        raise ValueError("the batch holds no prompts, but a mean needs at least one")
    return check_pair(clean, corrupt)
