"""ACDC: prune edges one after the other, from the logits back to the input, whenever the metric does not mind.

Each edge is switched off in what is left of the model; if that lowers the metric by less than
`tau`, it stays off. What remains at the end is the circuit. So an edge is judged in the company of
those that were kept before it: of two parts that back each other up one is found, which attribution
by single edges misses; but which one depends on the order, and the result is one circuit of
possibly many.

Decisions depend on earlier ones, yet need not be made one run at a time. The runs of one reader
share a batched call, which guesses what becomes of each edge: it decides all edges up to the first
wrong guess, and what it says of the others is the next guess. What comes before the reader is as in
the whole model, and a writer that no kept edge connects with the reader does not change: both are
computed once. A node that nobody hears any more loses its edges without a run. Every decision is
the one that a run per edge makes.

A mean metric lets gains on some prompts pay for losses on others. A KL divergence (`divergence_from`) or an accuracy does not.
Sources: Conmy et al. 2023 (2304.14997), section 3 and algorithm 1.

Checked against: the same algorithm written as a loop with one run per edge, all subsets of edges of small hand-set models, and the
edges that auto-circuit 1.0.1 keeps on the same weights.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Integer
from torch import Tensor
from torch.nn import functional as F

from mini_transformer.edges import Ablation, list_edges, run_edges, write_outputs
from mini_transformer.hooks import Recorder
from mini_transformer.methods.arguments import make_ordinary, widen
from mini_transformer.methods.edge_patching import normalize
from mini_transformer.methods.patching import Metric, check_metric, tell_apart
from mini_transformer.methods.path_patching import check_batch
from mini_transformer.methods.sites import check_prompts
from mini_transformer.model import Block, Transformer

Tokens = Integer[Tensor, "batch pos"]
BUDGET = 32e6  # bytes of activations in one run of the edge engine
TAUS = tuple(10 ** (-3 * step / 11) for step in range(12))


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
    """The edges that remain when each that costs the mean metric less than `tau` is switched off in turn.

    The metric must be high when the model does the task; `divergence_from` makes one of the KL
    divergence that the paper uses. `tau` is a share of the difference between the run with all
    edges on and the run with all off (the paper's is in units of the metric). Edges that are off
    carry the values of `write_outputs(model, corrupt, ablation)`. At most `batch_size` prompts
    (times masks) go through the edge engine at once; by default as many as keep memory small.
    ValueError for a `tau` that is not positive, a metric that does not tell the two runs apart or
    is nan in a run between, and as in `patch_edges`.

    >>> from mini_transformer import toys
    >>> case = toys.load("induction_by_hand")
    >>> batch = case.task.draw(64, corrupt="fresh")
    >>> circuit = find_circuit_acdc(case.model, batch.clean, batch.corrupt, batch.logit_difference)
    >>> circuit == case.truth.circuits["resample"].edges[0]
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
    trials = Trials(model, clean, corrupt, metric, ablation, batch_size)
    unit = trials.find_range()
    taus = TAUS if taus is None else taus
    scores = torch.zeros(len(list_edges(model)), dtype=torch.float32, device="cpu")
    for tau in taus:
        scores = torch.maximum(scores, tau * trials.prune(check_tau(tau) * unit))
    return scores.to(model.W_E.device)


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
        raise ValueError(
            f"position {position} was asked for, but the prompts have positions {-length} to {length - 1}"
        )
    with torch.no_grad():
        logits = model(tokens)
        expected = widen(logits[:, at]).log_softmax(dim=-1)
    shape, ruled_out = logits.shape, expected == -math.inf
    expected = expected.masked_fill(
        ruled_out, 0.0
    )  # there, 0 log 0 counts 0, and so does its gradient

    def measure(logits: Float[Tensor, "batch pos out"]) -> Float[Tensor, "batch"]:
        if logits.shape != shape:
            raise ValueError(
                f"logits are {tuple(logits.shape)}, but those to diverge from {tuple(shape)}: give the same prompts"
            )
        found = widen(logits[:, at]).log_softmax(dim=-1).masked_fill(make_ordinary(ruled_out), 0.0)
        divergence = F.kl_div(found, make_ordinary(expected), reduction="none", log_target=True)
        return -divergence.sum(dim=-1).mean(dim=-1)

    return measure


def check_tau(tau: float | int) -> float | int:
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
    readers, seen, n_heads = list[Reader](), 1, model.config.n_heads
    for layer, block in enumerate(model.blocks):
        readers += [
            Reader(layer, True, seen, seen + head) for head in range(n_heads) for _ in "qkv"
        ]
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
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}, but must be at least 1, or None")
        self.model, self.clean, self.metric = model, clean, metric
        self.off = write_outputs(model, corrupt, ablation)
        self.readers = list_readers(model)
        c = model.config
        streams = 2 * len(self.off) + 12 * c.n_heads
        per_position = (
            streams * c.d_model + 3 * c.n_heads * clean.shape[1] + 3 * c.d_mlp + 2 * c.d_vocab_out
        )
        self.rows = batch_size or max(1, int(BUDGET / (4 * clean.shape[1] * per_position)))
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
        """How much lower the metric is with all edges off than with all on; ValueError unless it is clearly lower."""
        ends = (
            torch.tensor([0.0, 1.0], device=self.off.device)
            .unsqueeze(1)
            .expand(2, len(list_edges(self.model)))
        )
        runs = [self.run_masks(end.unsqueeze(0)) for end in ends]
        *scores, differs = tell_apart(self.metric, *runs)
        low, high = (own.mean().item() for own in scores)
        if not (differs and high > low):
            told = f"the metric is {high:.4g} with all edges on and {low:.4g} with all off"
            raise ValueError(
                f"{told}, but must be lower then, by more than rounding does, and finite"
            )
        return high - low

    def run_masks(self, mask: Float[Tensor, "1 edge"]) -> Float[Tensor, "batch pos out"]:
        """Run the edge engine under one mask, at most `rows` prompts at once."""
        parts = zip(self.clean.split(self.rows), self.off.split(self.rows, dim=1), strict=True)
        return torch.cat([run_edges(self.model, part, mask, own)[0] for part, own in parts])

    def prune(self, limit: float) -> Float[Tensor, "edge"]:
        """Find the mask that ACDC ends with: readers from the logits back, the latest writer of each first."""
        table = self.whole.clone()
        for index in reversed(range(len(self.readers))):
            reader = self.readers[index]
            row = table[index, : reader.heard]  # a view: what is written here is in the table
            if reader.node < len(self.off) and not table[:, reader.node].any():
                row.zero_()  # nobody hears this node, so that it may hear anything
            else:
                self.prune_reader(table, index, row, limit)
        return torch.cat(
            [row[: reader.heard] for row, reader in zip(table, self.readers, strict=True)]
        )

    def prune_reader(
        self,
        table: Float[Tensor, "reader writer"],
        index: int,
        row: Float[Tensor, "heard"],
        limit: float,
    ) -> None:
        """Switch off, in `row` of the table, the edges into one reader that cost less than `limit`."""
        left = list(reversed(range(len(row))))
        stays = dict.fromkeys(left, False)  # a guess
        value = self.measure(table, index, row.unsqueeze(0))[0]
        check_value(value)
        while left:
            rows = []
            on = row.clone()
            for writer in left:
                rows.append(on.clone())
                rows[-1][writer] = 0.0
                if not stays[writer]:
                    on = rows[-1]
            values = self.measure(table, index, torch.stack(rows))
            before = value  # in the run in which all guesses so far are right
            right = True
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
        """Measure the mean metric with each of `rows` in turn in place of the reader's row of the table."""
        values = list[Tensor]()
        for chunk in rows.split(max(1, self.rows // len(self.clean))):
            logits = torch.cat(
                [Tail(self, table, index, chunk, part).run() for part in self.parts], dim=1
            )
            values += [
                check_metric(self.metric, own)
                for own in logits.expand(len(chunk), *logits.shape[1:])
            ]
        return torch.stack(values).tolist()


def check_value(value: float) -> None:
    """ValueError where the metric is nan, which judges no edge."""
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
        self.model, self.readers, self.table, self.index = (
            trials.model,
            trials.readers,
            table,
            index,
        )
        self.off = trials.off[:, part]
        self.weights = table.to(self.off)
        reader = self.readers[index]
        changes = trials.changes[: reader.heard, part]
        self.same = torch.cat([changes, torch.zeros_like(self.off[reader.heard :])])
        self.moved = self.off.new_empty(
            len(self.off) - reader.heard, len(rows), *self.off.shape[1:]
        )
        self.moving = list[int]()  # the writers that `moved` begins with
        self.seen = reader.heard
        self.first = next(i for i, own in enumerate(self.readers) if own.heard == reader.heard)
        self.biases = [block.attn.b_O for block in self.model.blocks]
        self.input = self.start(reader) + multiply(rows.to(self.off), changes)

    def start(self, reader: Reader) -> Float[Tensor, "batch pos d_model"]:
        """What a reader hears with all of its edges off."""
        total = self.off[: reader.heard].sum(dim=0)
        before = self.biases[: reader.layer + (not reader.heads)]
        return sum((own for own in before if own is not None), total)

    def read(
        self, first: int, count: int
    ) -> tuple[Float[Tensor, "reader *trial batch pos d_model"], list[bool]]:
        """Read what some readers that hear the same writers hear, and whether each is another in each trial."""
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
        model, at = self.model, self.first
        for layer in range(self.readers[at].layer, model.config.n_layers):
            block = model.blocks[layer]
            if self.readers[at].heads:
                self.attend(block, at)
                at += 3 * model.config.n_heads
            if block.mlp is not None:
                heard, differs = self.read(at, 1)
                x = normalize(block.ln2, heard[0]).flatten(0, 1)
                self.write(block.mlp(x).view_as(heard), differs)
                at += 1
        heard, _ = self.read(at, 1)
        return model.unembed(heard[0].flatten(0, 1)).unflatten(0, heard.shape[1:3])

    def attend(self, block: Block, first: int) -> None:
        """Compute the heads of a block, whose readers begin with `first`."""
        model, n_heads = self.model, self.model.config.n_heads
        heard, differs = self.read(first, 3 * n_heads)
        heads = normalize(block.ln1, heard).unflatten(0, (n_heads, 3)).flatten(2, 3)
        inputs = list(heads.permute(1, 2, 3, 0, 4))  # q, k, v: each b t n d, with the trials in b
        if model.config.positions_to == "qk":
            pos_qk = model.pos_embed(1, heard.shape[3]).unsqueeze(2)
            inputs[:2] = [x + pos_qk for x in inputs[:2]]
        recorder = Recorder()
        with model._listening([(block.attn.hook_result, recorder)]):
            block.attn(*inputs)
        results = recorder.values[block.attn.hook_result.name].movedim(2, 0)
        either = [any(differs[3 * head : 3 * head + 3]) for head in range(n_heads)]
        self.write(results.unflatten(1, heard.shape[1:3]), either)


def multiply(
    weights: Float[Tensor, "reader writer"], values: Float[Tensor, "writer *rest"]
) -> Float[Tensor, "reader *rest"]:
    """Sum values of writers with weights."""
    return (weights @ values.flatten(1)).unflatten(1, values.shape[1:])
