"""Edge attribution patching: what switching off each edge would do to the metric, estimated by gradients for all edges at once.

The estimate for an edge is (clean minus corrupt value of its writer) times the gradient of the metric at what its reader reads: one
forward and one backward for all edges (EAP), where exact patching needs a forward per edge. It fails where the metric is not close to
linear: a saturated softmax has no gradient, so that an edge that carries everything scores nothing. Averaging the gradient over
runs between the corrupt and the clean one helps: along the inputs (EAP-IG) only the embedding is moved, and everything
computed from it follows; along the masks all edges are turned from off to on together, which is integrated gradients of the edge
engine's own switches: these scores add up to the whole difference between clean and corrupt run. (Not for zero ablation of a model with a
norm, which magnifies the stream without bound where all edges are nearly off.) Memory grows with prompts times readers.
Sources: Syed et al. 2023 (2310.10348), section 2; Hanna et al. 2024 (2403.17806), section 3; Sundararajan et al. 2017 (1703.01365).

Checked against: the gradient of the edge engine in its masks, exact edge patching by smaller and smaller steps (finite differences),
the sum over all edges, the saturated attention of a hand-set model, and auto-circuit 1.0.1 on the same weights.
"""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mini_transformer.edges import AblationKind, list_edges, list_writers, run_edges, write_outputs
from mini_transformer.methods.arguments import check_gradients, widen
from mini_transformer.methods.attribution_patching import differentiate
from mini_transformer.methods.patching import Metric, check_metric
from mini_transformer.methods.path_patching import check_batch
from mini_transformer.model import Transformer

Tokens = Int[Tensor, "batch pos"]


def attribute_edges(
    model: Transformer,
    clean: Tokens,
    corrupt: Tokens,
    metric: Metric,
    kind: AblationKind = "resample",
    steps: int = 0,
    along: Literal["inputs", "masks"] = "inputs",
) -> Float[Tensor, "edge"]:
    """Estimates of what `patch_edges` measures with the same arguments: what the mean metric would lose without each edge.

    steps 0 is EAP: the gradient in the clean run. steps n averages it over n runs between the corrupt and the clean one:
    along "inputs" (EAP-IG) or along "masks" (all edges from off to on together). ValueError as in `patch_edges`,
    for a metric that has no gradient, such as an accuracy, and under torch.inference_mode.

    >>> from mini_transformer import toys
    >>> case = toys.load("induction_by_hand")
    >>> batch = case.task.draw(64, corrupt="fresh")
    >>> edge = list_edges(case.model).index("a0.h0->a1.h0<k>")  # exact patching says 20
    >>> for steps in (0, 30):
    ...     scores = attribute_edges(case.model, batch.clean, batch.corrupt, batch.logit_difference, steps=steps)
    ...     print(bool(scores[edge] > 1))
    False
    True
    """
    clean, corrupt = check_batch(clean, corrupt)
    if steps < 0:
        raise ValueError(f"steps is {steps}, but must be 0 (gradient in the clean run) or a number of runs to average")
    if along not in ("inputs", "masks"):
        raise ValueError(f"along is {along!r}, but must be 'inputs' or 'masks'")
    check_gradients(model)
    points = [(step + 0.5) / steps for step in range(steps)] or [1.0]
    with torch.no_grad():
        on, off = write_outputs(model, clean), write_outputs(model, corrupt, kind)
    if along == "masks":
        return torch.stack([find_mask_slopes(model, clean, off, metric, point) for point in points]).mean(dim=0)
    changes, found = dict(zip(list_writers(model), on - off, strict=True)), list[Tensor]()
    for point in points:
        slopes = find_reader_slopes(model, off[0] + point * (on[0] - off[0]), metric)
        pairs = [edge.split("->") for edge in list_edges(model)]
        found.append(torch.stack([widen(changes[writer] * slopes[reader]).sum() for writer, reader in pairs]))
    return torch.stack(found).mean(dim=0)


def find_mask_slopes(
    model: Transformer, tokens: Tokens, off: Float[Tensor, "writer batch pos d_model"], metric: Metric, point: float
) -> Float[Tensor, "edge"]:
    """The gradient of the mean metric with respect to the switch of each edge, with all switches at `point`."""
    masks = widen(off).new_full((1, len(list_edges(model))), point).requires_grad_()
    with torch.enable_grad():
        return differentiate(check_metric(metric, run_edges(model, tokens, masks, off)[0]), [masks])[0][0]


def find_reader_slopes(
    model: Transformer, stream: Float[Tensor, "batch pos d_model"], metric: Metric
) -> dict[str, Float[Tensor, "batch pos d_model"]]:
    """The gradient of the mean metric with respect to what each reader reads, in a run in which `stream` enters block 0."""
    c = model.config
    shapes: dict[tuple[str, int], tuple[int, ...]] = {
        (f"{part}_input", layer): (c.n_heads, c.d_model) for layer in range(c.n_layers) for part in "qkv"
    }
    shapes |= {("mlp_in", layer): (c.d_model,) for layer in range(c.n_layers) if c.d_mlp}
    nudges = {name: stream.new_zeros(*stream.shape[:2], *shape).requires_grad_() for name, shape in shapes.items()}
    hooks = [(name, lambda value, hook, nudge=nudge: value + nudge) for name, nudge in nudges.items()]
    last = torch.zeros_like(stream).requires_grad_()
    with torch.enable_grad():
        with model.hooks(hooks):
            resid = model(resid=stream, stop_at_layer=c.n_layers)
        value = check_metric(metric, model.unembed(resid + last))
        *found, at_logits = differentiate(value, [*nudges.values(), last])
    slopes = {"logits": at_logits}
    for (site, layer), slope in zip(nudges, found, strict=True):
        if site == "mlp_in":
            slopes[f"m{layer}"] = slope
        else:
            slopes |= {f"a{layer}.h{head}<{site[0]}>": slope[:, :, head] for head in range(c.n_heads)}
    return slopes
