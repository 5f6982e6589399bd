"""ACDC: prune edges one after the other, from the logits back to the input.

Each edge is switched off in what is left of the model; if that lowers the metric by less than
`tau`, it stays off. What remains at the end is the circuit. So an edge is judged in the company of
those that were kept before it: of two parts that back each other up one is found, which attribution
by single edges misses; but which one depends on the order, and the result is one circuit of
possibly many. A mean metric lets gains on some prompts pay for losses on others. A KL divergence
(`make_divergence`) or an accuracy does not.

Decisions depend on earlier ones, yet need not be made one run at a time. The runs of one reader
share a batched call, which guesses what becomes of each edge: it decides all edges up to the first
wrong guess, and what it says of the others is the next guess. What comes before the reader is as in
the whole model, and a writer that no kept edge connects with the reader does not change: both are
computed once. A node that nobody hears any more loses its edges without a run. Every decision is
the one that a run per edge makes.

The file is long because of these savings; the plain loop is `prune_slowly` in the tests.
Sources: Conmy et al. 2023 (2304.14997), section 3 and algorithm 1.
"""

import math
from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from mini_transformer.edges import (
    Ablation,
    EdgeScores,
    choose_engine_rows,
    list_edges,
    mask_of,
    run_masks,
    sum_biases,
    write_heads,
    write_mlp,
    write_outputs,
)
from mini_transformer.methods.arguments import (
    Metric,
    Position,
    Tokens,
    check_batch,
    check_metric,
    check_prompts,
    find_positions,
    tell_apart,
)
from mini_transformer.methods.numerics import widen
from mini_transformer.model import Transformer
from mini_transformer.tensors import make_ordinary

__all__ = ["find_circuit_acdc", "make_divergence", "sweep_acdc"]

TAUS = tuple(10 ** (-3 * step / 11) for step in range(12))  # from 1 to .001


@torch.no_grad()
def find_circuit_acdc(
    model: Transformer,
    clean: Tokens,
    corrupt: Tokens,
    metric: Metric,
    ablation: Ablation = "resample",
    tau: float | int = 0.05,
    batch_size: int | None = None,
) -> frozenset[str]:
    """Find the edges that remain when each that costs less than `tau` is switched off in turn.

    What it costs is what the mean metric loses. The metric must be high when the model does the
    task; `make_divergence` makes one of the KL divergence that the paper uses. `tau` is a share of
    the difference between the run with all edges on and the run with all off (the paper's is in
    units of the metric). Edges that are off carry the values of `write_outputs(model, corrupt,
    ablation)`. At most `batch_size` prompts (times masks) go through the edge engine at once; by
    default as many as keep memory small. ValueError for a `tau` that is not positive, a metric that
    does not tell the two runs apart or is nan in a run between, and as in `patch_edges`.

    >>> from mini_transformer import toys
    >>> case = toys.load("induction_by_hand")
    >>> batch = case.task.draw(64, corrupt="fresh")
    >>> runs = case.model, batch.clean, batch.corrupt, batch.logit_difference
    >>> find_circuit_acdc(*runs) == case.truth.circuits["resample"].edges[0]
    True
    """
    trials = Trials(model, clean, corrupt, metric, ablation, batch_size)
    mask = trials.prune(check_tau(tau) * trials.find_range())
    return frozenset(edge for edge, on in zip(list_edges(model), mask.tolist(), strict=True) if on)


@torch.no_grad()
def sweep_acdc(
    model: Transformer,
    clean: Tokens,
    corrupt: Tokens,
    metric: Metric,
    ablation: Ablation = "resample",
    taus: Sequence[float | int] | None = None,
    batch_size: int | None = None,
) -> EdgeScores:
    """Score each edge by the highest of `taus` at which ACDC keeps it, 0.0 if none does.

    By default there are 12 thresholds from .001 to 1; ValueError for none. The other arguments and
    errors are those of `find_circuit_acdc`.

    >>> from mini_transformer import toys
    >>> case = toys.load("boolean_and")
    >>> batch = case.task.everything()
    >>> runs = case.model, batch.clean, batch.corrupt, batch.logit_difference
    >>> kept = {edge for edge, score in sweep_acdc(*runs).items() if score}
    >>> kept == case.truth.circuits["resample"].edges[0]
    True
    """
    trials = Trials(model, clean, corrupt, metric, ablation, batch_size)
    unit = trials.find_range()
    taus = TAUS if taus is None else taus
    if not len(taus):
        raise ValueError("no taus were given, but a sweep needs at least one")
    scores = torch.zeros(len(list_edges(model)), dtype=torch.float32, device="cpu")
    for tau in taus:
        scores = torch.maximum(scores, tau * trials.prune(check_tau(tau) * unit))
    return EdgeScores(model, scores.to(model.W_E.device))


def make_divergence(model: Transformer, tokens: Tokens, position: Position = -1) -> Metric:
    """Make a metric: minus the KL divergence from what the model says on `tokens`, per prompt.

    It is in nats, and taken at one position, or the mean over all; ValueError for one that the
    prompts do not have. It is 0 in the clean run and negative elsewhere, with slope 0 in the clean
    run: attribution with steps=0 sees nothing of it. Tokens that the model rules out (logit -inf)
    count nothing; given logits that rule out what the model does not have -inf.

    >>> from mini_transformer import Config
    >>> model = Transformer(Config(d_vocab=5, n_ctx=4, d_model=8, n_layers=1))
    >>> tokens = torch.tensor([[1, 2, 3]])
    >>> make_divergence(model, tokens, position=None)(model(tokens)).abs().item() < 1e-6
    True
    """
    check_prompts(tokens)
    at = find_positions(position, tokens.shape)
    with torch.no_grad():
        logits = model(tokens)
        expected = widen(logits[at]).log_softmax(dim=-1)
    shape = logits.shape
    ruled_out = expected == -math.inf
    expected = expected.masked_fill(ruled_out, 0.0)  # 0 log 0 counts 0, and so does its gradient

    def measure(logits: Float[Tensor, "batch pos out"]) -> Float[Tensor, "batch"]:
        if logits.shape != shape:
            given = f"logits are {tuple(logits.shape)}, but those to diverge from {tuple(shape)}"
            raise ValueError(f"{given}: give the same prompts")
        found = widen(logits[at]).log_softmax(dim=-1).masked_fill(make_ordinary(ruled_out), 0.0)
        divergence = F.kl_div(found, make_ordinary(expected), reduction="none", log_target=True)
        return -divergence.sum(dim=-1).mean(dim=-1)

    return measure


def check_tau(tau: float | int) -> float | int:
    """Return a threshold; ValueError unless it is positive."""
    if not 0 < tau < math.inf:
        raise ValueError(
            f"tau is {tau}, but must be positive: an edge that costs less is switched off"
        )
    return tau


class Reader(NamedTuple):
    """Where a reader stands in the computation: q, k or v of a head, an MLP, or the logits."""

    layer: int
    heads: bool  # one of the readers of a block's heads
    heard: int  # how many writers come before it
    node: int  # which writer it is a part of; the logits come after all writers


def list_readers(model: Transformer) -> list[Reader]:
    """List the readers in the order of `list_edges`."""
    n_heads = model.config.n_heads
    readers = list[Reader]()
    seen = 1
    for layer, block in enumerate(model.blocks):
        for head in range(n_heads):
            readers += [Reader(layer, True, seen, seen + head)] * len("qkv")
        seen += n_heads
        if block.mlp is not None:
            readers.append(Reader(layer, False, seen, seen))
            seen += 1
    return [*readers, Reader(model.config.n_layers, False, seen, seen)]


class Trials:
    """Runs with some edges off, in which only what can differ is computed.

    A table (reader, writer) says which edges are on: 1.0, or 0.0 for what is off or is no edge.
    """

    def __init__(
        self,
        model: Transformer,
        clean: Tokens,
        corrupt: Tokens,
        metric: Metric,
        ablation: Ablation,
        batch_size: int | None,
    ) -> None:
        clean, corrupt = check_batch(clean, corrupt)
        self.model = model
        self.clean = clean
        self.metric = metric
        self.off = write_outputs(model, corrupt, ablation)
        self.readers = list_readers(model)
        self.rows = choose_engine_rows(model, len(self.off), clean.shape[1], batch_size)
        self.parts = [slice(start, start + self.rows) for start in range(0, len(clean), self.rows)]
        heard = torch.tensor([reader.heard for reader in self.readers], device="cpu")
        writers = torch.arange(len(self.off), device="cpu")
        self.whole = (writers < heard.unsqueeze(1)).float()  # the table of the whole model
        self.changes = (model(clean, stop_at_layer=0) - self.off[0]).unsqueeze(0)
        self.changes = self.find_changes()

    def find_changes(self) -> Float[Tensor, "writer batch pos d_model"]:
        """Find what each writer adds in the whole model to what it writes when off."""
        found = list[Tensor]()
        for part in self.parts:
            tail = Tail(self, self.whole, 0, self.whole[:1, :1], part)
            tail.run()
            tail.same[tail.moving] = tail.moved[: len(tail.moving), 0]
            found.append(tail.same)
        return torch.cat(found, dim=1)

    def find_range(self) -> float:
        """Find how much lower the metric is with all edges off than with all on.

        ValueError unless it is clearly lower.
        """
        edges = list_edges(self.model)
        ends = torch.stack([mask_of(self.model, on) for on in ((), edges)])
        runs = run_masks(self.model, self.clean, ends, self.off, self.rows)
        *scores, differs = tell_apart(self.metric, *chain.from_iterable(runs))
        low, high = (own.mean().item() for own in scores)
        if not (differs and high > low):
            told = f"the metric is {high:.4g} with all edges on and {low:.4g} with all off"
            fits = "lower then, by more than rounding does, and finite"
            raise ValueError(f"{told}, but must be {fits}")
        return high - low

    def prune(self, limit: float) -> Float[Tensor, "edge"]:
        """Find the mask that ACDC ends with.

        Readers come from the logits back, and the latest writer of each comes first. So when a
        reader's turn comes, all that follows is decided, and all that comes before is whole.
        """
        table = self.whole.clone()
        for index in reversed(range(len(self.readers))):
            reader = self.readers[index]
            is_node = reader.node < len(self.off)  # and not the logits
            if is_node and not table[:, reader.node].any():
                table[index] = 0.0  # nobody hears this node, so that it may hear anything
            else:
                self.prune_reader(table, index, limit)
        kept = [row[: reader.heard] for row, reader in zip(table, self.readers, strict=True)]
        return torch.cat(kept)

    def prune_reader(self, table: Float[Tensor, "reader writer"], index: int, limit: float) -> None:
        """Switch off, in the table, the edges into one reader that cost less than `limit`.

        A decision needs to know all earlier ones. To have many runs in a batch, guess: each run
        tries one writer with the earlier ones as guessed. Up to the first wrong guess these are the
        runs of a loop over the writers, so their decisions count. What the later runs say is the
        next guess. The first run relies on no guess, so that each round decides one edge at least.
        """
        row = table[index, : self.readers[index].heard]  # a view: to write here is to decide
        left = list(reversed(range(len(row))))
        stays = dict.fromkeys(left, False)  # a guess
        value = self.measure(table, index, row.unsqueeze(0))[0]
        check_value(value)
        while left:
            trials = list_trials(row, left, stays)
            values = self.measure(table, index, torch.stack(trials))
            before = value  # of the run with all earlier writers as guessed
            right = True  # so far
            for writer, found in zip(tuple(left), values, strict=True):
                goes = before - found < limit
                guessed = not stays[writer]
                if right:
                    check_value(found)
                    left.remove(writer)
                    if goes:
                        row[writer] = 0.0
                        value = found
                    right = goes == guessed
                else:
                    stays[writer] = not goes
                if guessed:
                    before = found

    def measure(
        self, table: Float[Tensor, "reader writer"], index: int, rows: Float[Tensor, "trial heard"]
    ) -> list[float]:
        """Measure the mean metric with each of `rows` in turn as the reader's row of the table."""
        values = list[Tensor]()
        for chunk in rows.split(max(1, self.rows // len(self.clean))):
            parts = [Tail(self, table, index, chunk, part).run() for part in self.parts]
            logits = torch.cat(parts, dim=1)
            each = logits.expand(len(chunk), *logits.shape[1:])
            values += [check_metric(self.metric, own) for own in each]
        return torch.stack(values).tolist()


def list_trials(
    row: Float[Tensor, "heard"], left: Sequence[int], stays: dict[int, bool]
) -> list[Float[Tensor, "heard"]]:
    """List, per writer left, the row without it and without the earlier ones that will go."""
    trials = list[Tensor]()
    on = row
    for writer in left:
        trials.append(on.clone())
        trials[-1][writer] = 0.0
        if not stays[writer]:
            on = trials[-1]
    return trials


def check_value(value: float) -> None:
    """Raise ValueError where the metric is nan, which judges no edge."""
    if math.isnan(value):
        told = "the metric is nan in a run with some edges off, but must be a number"
        raise ValueError(f"{told}: take one that is defined there")


class Tail:
    """A batch of trials, from the block of the reader on, where they differ.

    What all writers add to the stream is kept as the difference from what they write when off. A
    writer that is the same in all trials is kept, and computed, once.
    """

    def __init__(
        self,
        trials: Trials,
        table: Float[Tensor, "reader writer"],
        index: int,
        rows: Float[Tensor, "trial heard"],
        part: slice,
    ) -> None:
        self.model = trials.model
        self.readers = trials.readers
        self.table = table
        self.index = index
        self.off = trials.off[:, part]
        self.weights = table.to(self.off)
        reader = self.readers[index]
        changes = trials.changes[: reader.heard, part]
        self.same = torch.cat([changes, torch.zeros_like(self.off[reader.heard :])])
        later = len(self.off) - reader.heard
        self.moved = self.off.new_empty(later, len(rows), *self.off.shape[1:])
        self.moving = list[int]()  # the writers that `moved` begins with
        self.seen = reader.heard
        self.first = next(i for i, own in enumerate(self.readers) if own.heard == reader.heard)
        self.input = self.start(reader) + multiply(rows.to(self.off), changes)

    def start(self, reader: Reader) -> Float[Tensor, "batch pos d_model"]:
        """Sum what a reader hears with all of its edges off."""
        layers = reader.layer + (not reader.heads and reader.node < len(self.off))
        return self.off[: reader.heard].sum(dim=0) + sum_biases(self.model, layers)

    def read(
        self, first: int, count: int
    ) -> tuple[Float[Tensor, "reader *trial batch pos d_model"], list[bool]]:
        """Read what some readers hear, and whether that differs between trials, for each.

        The readers are `count` from `first` on, which hear the same writers.
        """
        reader = self.readers[first]
        weights = self.weights[first : first + count, : reader.heard]
        heard = (self.start(reader) + multiply(weights, self.same[: reader.heard])).unsqueeze(1)
        differs = self.table[first : first + count, self.moving].any(dim=1).tolist()
        if any(differs):
            heard = heard + multiply(weights[:, self.moving], self.moved[: len(self.moving)])
        if first <= self.index < first + count:
            heard = heard.repeat(1, len(self.input), 1, 1, 1)
            heard[self.index - first] = self.input
            differs[self.index - first] = True
        return heard, differs

    def write(
        self, values: Float[Tensor, "writer *trial batch pos d_model"], differs: list[bool]
    ) -> None:
        """Keep what writers write, for each trial where that differs."""
        for value, own in zip(values, differs, strict=True):
            change = value - self.off[self.seen]
            if own:
                self.moved[len(self.moving)] = change
                self.moving.append(self.seen)
            else:
                self.same[self.seen] = change[0]
            self.seen += 1

    def run(self) -> Float[Tensor, "trial batch pos out"]:
        """Run from the reader's place in its block to the logits."""
        model = self.model
        at = self.first
        for layer in range(self.readers[at].layer, model.config.n_layers):
            block = model.blocks[layer]
            if self.readers[at].heads:
                self.attend(layer, at)
                at += 3 * model.config.n_heads
            if block.mlp is not None:
                heard, differs = self.read(at, 1)
                self.write(write_mlp(model, layer, heard), differs)
                at += 1
        heard, _ = self.read(at, 1)
        return model.unembed(heard[0].flatten(0, 1)).unflatten(0, heard.shape[1:3])

    def attend(self, layer: int, first: int) -> None:
        """Compute the heads of a block, whose readers begin with `first`."""
        n_heads = self.model.config.n_heads
        heard, differs = self.read(first, 3 * n_heads)
        heads = heard.unflatten(0, (n_heads, 3)).flatten(2, 3)
        q, k, v = heads.permute(1, 2, 3, 0, 4)  # each b t n d, with the trials in b
        results = write_heads(self.model, layer, q, k, v).movedim(2, 0)
        either = [any(differs[3 * head : 3 * head + 3]) for head in range(n_heads)]
        self.write(results.unflatten(1, heard.shape[1:3]), either)


def multiply(
    weights: Float[Tensor, "reader writer"], values: Float[Tensor, "writer *rest"]
) -> Float[Tensor, "reader *rest"]:
    """Sum values of writers with weights."""
    return (weights @ values.flatten(1)).unflatten(1, values.shape[1:])
