"""ACDC: prune edges one after the other, from the logits back to the input, whenever the metric does not mind.

Each edge is switched off in what is left of the model; if that lowers the metric by less than `tau`, it stays off. What remains
at the end is the circuit. So an edge is judged in the company of those that were kept before it: of two parts that back each other up
one is found, which attribution by single edges misses; but which one depends on the order, and the result is one circuit
of possibly many. Decisions depend on earlier ones, yet need not be made one run at a time: supposing that all edges of one reader
will go, the runs without the first, the first two, the first three, ... share one batched call, which is right up to
the first edge that stays; from there the rest of the reader is run again. Every decision is made on the same run as one by one.

A mean metric lets gains on some prompts pay for losses on others. A KL divergence (`divergence_from`) or an accuracy does not.
Sources: Conmy et al. 2023 (2304.14997), section 3 and algorithm 1.

Checked against: the same algorithm written as a loop with one run per edge, all subsets of edges of small hand-set models, and the
edges that auto-circuit 1.0.1 keeps on the same weights.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from mini_transformer.edges import AblationKind, list_edges, list_writers, run_edges, write_outputs
from mini_transformer.methods.arguments import make_ordinary, widen
from mini_transformer.methods.patching import Metric, check_metric, tell_apart
from mini_transformer.methods.path_patching import check_batch
from mini_transformer.methods.sites import check_prompts
from mini_transformer.model import Transformer

Tokens = Int[Tensor, "batch pos"]
BUDGET = 32e6  # bytes of activations in one run of the edge engine
TAUS = tuple(10 ** (-3 * step / 11) for step in range(12))
Run = Callable[[Float[Tensor, "mask edge"]], Iterator[Float[Tensor, "batch pos out"]]]
Measure = Callable[[Float[Tensor, "mask edge"]], Float[Tensor, "mask"]]


@torch.no_grad()
def find_circuit_acdc(
    model: Transformer,
    clean: Tokens,
    corrupt: Tokens,
    metric: Metric,
    kind: AblationKind = "resample",
    tau: int | float = 0.05,
    batch_size: int | None = None,
) -> frozenset[str]:
    """The edges that remain when each that costs the mean metric less than `tau` is switched off in turn.

    The metric must be high when the model does the task; `divergence_from` makes one of the KL divergence that the paper uses.
    `tau` is a share of the difference between the run with all edges on and the run with all off (the paper's is in units of the
    metric). Edges that are off carry the values of `write_outputs(model, corrupt, kind)`. At most `batch_size` prompts (times masks)
    go through the edge engine at once; by default as many as keep memory small. ValueError for a `tau` that is not
    positive, a metric that does not tell the two runs apart or is nan in a run between, and as in `patch_edges`.

    >>> from mini_transformer import toys
    >>> case = toys.load("induction_by_hand")
    >>> batch = case.task.draw(64, corrupt="fresh")
    >>> circuit = find_circuit_acdc(case.model, batch.clean, batch.corrupt, batch.logit_difference)
    >>> circuit == case.truth.circuits["resample"].edges[0]
    True
    """
    run, edges = make_run(model, clean, corrupt, kind, batch_size), list_edges(model)
    unit, measure = find_range(model, run, metric), make_measure(run, metric)
    mask = prune(edges, measure, check_tau(tau) * unit, model.W_E.device)
    return frozenset(edge for edge, on in zip(edges, mask.tolist(), strict=True) if on)


@torch.no_grad()
def sweep_acdc(
    model: Transformer,
    clean: Tokens,
    corrupt: Tokens,
    metric: Metric,
    kind: AblationKind = "resample",
    taus: Sequence[int | float] | None = None,
    batch_size: int | None = None,
) -> Float[Tensor, "edge"]:
    """A score per edge: the highest of `taus` at which ACDC keeps it, 0.0 if none does; in the order of `list_edges`.

    By default 12 thresholds from .001 to 1. The other arguments and errors are those of `find_circuit_acdc`.

    >>> from mini_transformer import toys
    >>> case = toys.load("boolean_and")
    >>> batch = case.task.everything()
    >>> scores = sweep_acdc(case.model, batch.clean, batch.corrupt, batch.logit_difference)
    >>> {edge for edge, score in zip(list_edges(case.model), scores) if score} == case.truth.circuits["resample"].edges[0]
    True
    """
    run, edges = make_run(model, clean, corrupt, kind, batch_size), list_edges(model)
    unit, measure, device = find_range(model, run, metric), make_measure(run, metric), model.W_E.device
    taus = TAUS if taus is None else taus
    masks = [tau * prune(edges, measure, check_tau(tau) * unit, device) for tau in taus]
    return torch.stack(masks or [torch.zeros(len(edges), device=device, dtype=torch.float32)]).amax(dim=0)


def divergence_from(model: Transformer, tokens: Tokens, position: int | None = None) -> Metric:
    """A metric: minus the KL divergence (nats) of the given logits from what the model says on `tokens`, per prompt.

    At one position, or the mean over all; ValueError for one that the prompts do not have. It is 0 in the clean run and negative
    elsewhere, with slope 0 in the clean run: attribution with steps=0 sees nothing of it. Tokens that the model rules out
    (logit -inf) count nothing; given logits that rule out what the model does not have -inf.

    >>> from mini_transformer import Config
    >>> model, tokens = Transformer(Config(d_vocab=5, n_ctx=4, d_model=8, n_layers=1)), torch.tensor([[1, 2, 3]])
    >>> divergence_from(model, tokens)(model(tokens)).abs().item() < 1e-6
    True
    """
    check_prompts(tokens)
    at, length = slice(None) if position is None else [position], tokens.shape[1]
    if position is not None and not -length <= position < length:
        raise ValueError(f"position {position} was asked for, but the prompts have positions {-length} to {length - 1}")
    with torch.no_grad():
        logits = model(tokens)
        expected = widen(logits[:, at]).log_softmax(dim=-1)
    shape, ruled_out = logits.shape, expected == -math.inf
    expected = expected.masked_fill(ruled_out, 0.0)  # there, 0 log 0 counts 0, and so does its gradient

    def measure(logits: Float[Tensor, "batch pos out"]) -> Float[Tensor, "batch"]:
        if logits.shape != shape:
            raise ValueError(
                f"logits are {tuple(logits.shape)}, but those to diverge from {tuple(shape)}: give the same prompts"
            )
        found = widen(logits[:, at]).log_softmax(dim=-1).masked_fill(make_ordinary(ruled_out), 0.0)
        divergence = F.kl_div(found, make_ordinary(expected), reduction="none", log_target=True)
        return -divergence.sum(dim=-1).mean(dim=-1)

    return measure


def make_run(model: Transformer, clean: Tokens, corrupt: Tokens, kind: AblationKind, batch_size: int | None) -> Run:
    """Make a function of masks that yields the logits under each.

    At most `batch_size` prompts times masks go through one run of the engine.
    """
    clean, corrupt = check_batch(clean, corrupt)
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}, but must be at least 1, or None")
    off, c = write_outputs(model, corrupt, kind), model.config
    streams = 2 * len(list_writers(model)) + 9 * c.n_heads
    per_position = streams * c.d_model + 3 * c.n_heads * clean.shape[1] + 3 * c.d_mlp + 2 * c.d_vocab_out
    rows = batch_size or max(1, int(BUDGET / (4 * clean.shape[1] * per_position)))

    def run(masks: Float[Tensor, "mask edge"]) -> Iterator[Float[Tensor, "batch pos out"]]:
        for chunk in masks.split(max(1, rows // len(clean))):
            parts = zip(clean.split(rows), off.split(rows, dim=1), strict=True)
            yield from torch.cat([run_edges(model, part, chunk, own) for part, own in parts], dim=1)

    return run


def make_measure(run: Run, metric: Metric) -> Measure:
    """Make the mean metric a function of masks; ValueError where it is nan, which judges no edge."""

    def measure(masks: Float[Tensor, "mask edge"]) -> Float[Tensor, "mask"]:
        values = torch.stack([check_metric(metric, logits) for logits in run(masks)])
        if values.isnan().any():
            told = "the metric is nan in a run with some edges off, but must be a number"
            raise ValueError(f"{told}: take one that is defined there")
        return values

    return measure


def find_range(model: Transformer, run: Run, metric: Metric) -> float:
    """How much lower the metric is with all edges off than with all on; ValueError unless it is clearly lower."""
    ends = torch.tensor([0.0, 1.0], device=model.W_E.device).unsqueeze(1).expand(2, len(list_edges(model)))
    *scores, differs = tell_apart(metric, *run(ends))
    low, high = (own.mean().item() for own in scores)
    if not (differs and high > low):
        told = f"the metric is {high:.4g} with all edges on and {low:.4g} with all off"
        raise ValueError(f"{told}, but must be lower then, by more than rounding does, and finite")
    return high - low


def check_tau(tau: int | float) -> int | float:
    if not 0 < tau < math.inf:
        raise ValueError(f"tau is {tau}, but must be positive: an edge that costs less is switched off")
    return tau


def prune(edges: Sequence[str], measure: Measure, limit: float, device: torch.device) -> Float[Tensor, "edge"]:
    """The mask that ACDC ends with: readers from the logits back, the latest writer of each first."""
    one_each = torch.eye(len(edges), device=device, dtype=torch.float32)
    mask = torch.ones_like(one_each[0])
    value = measure(mask.unsqueeze(0))[0]
    readers = [edge.split("->")[1] for edge in edges]
    for reader in dict.fromkeys(reversed(readers)):
        left = [i for i in reversed(range(len(edges))) if readers[i] == reader]
        while left:
            trials = mask - one_each[left].cumsum(dim=0)  # without the first, the first two, ...
            values = measure(trials)
            costs = torch.cat([value.unsqueeze(0), values[:-1]]) - values
            gone = next((i for i, cost in enumerate(costs.tolist()) if not cost < limit), len(left))
            if gone:
                mask, value = trials[gone - 1], values[gone - 1]
            left = left[gone + 1 :]
    return mask
