"""Causal scrubbing: replace everything that a hypothesis says does not matter, and see whether the answer survives.

A hypothesis names what matters of a prompt to each node (or edge): a function of the tokens. From the logits backwards, what a
named writer writes is replaced by what it writes on a prompt with the same feature, and so, recursively, is each of its
named inputs; all that is not named comes from a prompt drawn at random. The model is treated as a tree: a writer that is
heard twice is resampled twice, so the hypothesis must hold on every path by itself. What a writer writes is resampled at
all positions together, so a feature says also where. How a named writer without named inputs comes by its output is not tested.

A hypothesis that says too much is not punished: with every token named as a feature, nothing is ever replaced. So look at
`alone`, the share of replacements for which no other prompt fitted. Gains on some prompts can hide losses on others,
and features that agree on all prompts cannot be told apart.
Sources: Chan et al. 2022, "Causal Scrubbing"; Scheurer et al. 2023, "Practical Pitfalls of Causal Scrubbing".

Checked against: the recursion written out prompt by prompt on hooked models, and the true and wrong mechanisms of hand-set models.
"""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from mini_transformer.edges import list_edges, list_writers, write_outputs
from mini_transformer.methods.patching import Metric, check_metric, tell_apart
from mini_transformer.model import Transformer

Tokens = Integer[Tensor, "batch pos"]
Pool = Integer[Tensor, "pool pos"]
Rows = Integer[Tensor, "row"]
Numbers = Integer[Tensor, "pool"]  # of the feature of each prompt in the pool
Feature = Callable[[Tensor], Tensor]  # tokens (b, t) to one row per prompt, (b) or (b, any)


@dataclass(frozen=True)
class Scrubbed:
    """The mean metric of the model, of the scrubbed model, and with everything drawn at random; and how strict it was."""

    model: float
    scrubbed: float
    random: float
    alone: float  # share of named replacements for which no other prompt has the feature

    @property
    def recovered(self) -> float:
        """1: the hypothesis loses nothing of the metric; 0: it is no better than random."""
        return (self.scrubbed - self.random) / (self.model - self.random)


@torch.no_grad()
def scrub(
    model: Transformer,
    clean: Tokens,
    corrupt: Integer[Tensor, "other pos"],
    metric: Metric,
    hypothesis: Mapping[str, Feature],
    seed: int = 0,
) -> Scrubbed:
    """What is left of the mean metric on `clean` when only what the hypothesis names is kept.

    `hypothesis` maps writers (`input`, `a1.h0`, `m0`: what matters wherever they are heard) or single edges (`input->a0.h0<v>`; they
    come before writers) to features. Prompts to resample from are `corrupt`, any number of them, and `clean` itself. All unnamed inputs
    of one node come from one prompt. KeyError for a node or edge that does not exist; ValueError for a feature that is not one
    row per prompt, and for a metric that does not tell model from random.

    >>> from mini_transformer import toys
    >>> case = toys.load("boolean_xor")
    >>> batch, (x, y) = case.task.draw(512), (case.truth.roles[bit] for bit in "xy")
    >>> heads = {x: lambda tokens: tokens[:, 0], y: lambda tokens: tokens[:, 1]}
    >>> for m0 in (lambda tokens: tokens[:, 0] ^ tokens[:, 1], lambda tokens: tokens[:, 0] & tokens[:, 1]):
    ...     found = scrub(case.model, batch.clean, batch.corrupt, batch.logit_difference, heads | {"m0": m0})
    ...     print(f"{found.recovered:.1f}")
    1.0
    0.4
    """
    pool = gather_pool(clean, corrupt)
    features = read_features(model, pool, hypothesis)
    generator = torch.Generator().manual_seed(seed)
    scrubbed, random = (_Scrubbing(model, pool, named, generator) for named in (features, {}))
    rows = torch.arange(len(clean), device="cpu")  # where the draws are made
    *scores, differs = tell_apart(metric, model(clean), random.write("logits", rows))
    whole, low = (own.mean().item() for own in scores)
    kept = check_metric(metric, scrubbed.write("logits", rows)).item()
    if not differs:
        told = f"the metric is {whole:.4g} for the model and {low:.4g} at random"
        raise ValueError(f"{told}, but it must differ, by more than rounding does, and be finite")
    return Scrubbed(whole, kept, low, scrubbed.alone / max(1, scrubbed.draws))


def gather_pool(clean: Tokens, corrupt: Integer[Tensor, "other pos"]) -> Pool:
    """Clean prompts, then corrupt ones; ValueError unless they have one length and there are some of both."""
    shapes = f"clean prompts are {tuple(clean.shape)} and corrupt ones {tuple(corrupt.shape)}"
    if clean.shape[1:] != corrupt.shape[1:]:
        raise ValueError(
            f"{shapes}, but must have the same length: one is put in place of the other"
        )
    if not clean.numel() or not corrupt.numel():
        raise ValueError(
            f"{shapes}, but there must be at least one of each, with at least one token"
        )
    return torch.cat([clean, corrupt])


def read_features(
    model: Transformer, pool: Pool, hypothesis: Mapping[str, Feature]
) -> dict[str, Numbers]:
    """Per named edge, a number for each prompt of the pool: prompts with the same number have the same feature."""
    edges, writers = list_edges(model), list_writers(model)
    if unknown := [name for name in hypothesis if name not in edges and name not in writers]:
        nearest = difflib.get_close_matches(unknown[0], [*edges, *writers], n=1, cutoff=0.0)[0]
        raise KeyError(
            f"no edge or writer is called {unknown[0]!r} in this model; nearest: {nearest!r}"
        )
    numbers = dict[str, Tensor]()
    for name, feature in hypothesis.items():
        value = feature(pool.clone())
        if not isinstance(value, Tensor) or value.ndim not in (1, 2) or len(value) != len(pool):
            given = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(
                f"the feature of {name} is {given} for {len(pool)} prompts, expected one row per prompt"
            )
        numbers[name] = value.detach().cpu().unique(dim=0, return_inverse=True)[1]
    named = {edge: edge if edge in numbers else edge.split("->")[0] for edge in edges}
    return {edge: numbers[name] for edge, name in named.items() if name in numbers}


class _Scrubbing:
    """The model as a tree that is run from the logits backwards, drawing a prompt for whatever is heard."""

    def __init__(
        self,
        model: Transformer,
        pool: Pool,
        features: dict[str, Numbers],
        generator: torch.Generator,
    ) -> None:
        self.model, self.features, self.generator = model, features, generator
        self.written = dict(zip(list_writers(model), write_outputs(model, pool), strict=True))
        self.same_prompt = pool.cpu().unique(dim=0, return_inverse=True)[1]
        self.heard: dict[
            str, dict[str, list[str]]
        ] = {}  # node, its inputs ("q", "k", "v", or ""), edges
        for edge in list_edges(model):
            node, _, part = edge.split("->")[1].partition("<")
            self.heard.setdefault(node, {}).setdefault(part.strip(">"), []).append(edge)
        self.draws = self.alone = 0

    def write(self, node: str, rows: Rows) -> Float[Tensor, "row pos any"]:
        """What the node writes (the logits, if it is that) in a scrubbed run for these prompts."""
        inputs = self.heard.get(node, {})
        tested = any(edge in self.features for edges in inputs.values() for edge in edges)
        if not tested and node != "logits":
            return self.written[node][rows]
        other = self.draw_any(rows)
        return self.compute(
            node, {part: self.read(edges, rows, other) for part, edges in inputs.items()}
        )

    def read(self, edges: list[str], rows: Rows, other: Rows) -> Float[Tensor, "row pos d_model"]:
        """The sum of what is heard: the named writers on prompts that agree with `rows`, all others on `other`."""
        writers = [edge.split("->")[0] for edge in edges]
        return torch.stack(
            [
                self.write(writer, self.draw(self.features[edge], rows))
                if edge in self.features
                else self.written[writer][other]
                for writer, edge in zip(writers, edges, strict=True)
            ]
        ).sum(dim=0)

    def draw(self, feature: Numbers, rows: Rows) -> Rows:
        """For each prompt, one of those with the same feature, itself included."""
        fits = feature[rows].unsqueeze(1) == feature
        others = fits & (self.same_prompt[rows].unsqueeze(1) != self.same_prompt)
        self.draws, self.alone = (
            self.draws + len(rows),
            self.alone + int((~others.any(dim=1)).sum()),
        )
        return torch.multinomial(fits.float(), 1, generator=self.generator).squeeze(1)

    def draw_any(self, rows: Rows) -> Rows:
        """For each prompt, any one."""
        return torch.randint(
            len(self.same_prompt), rows.shape, generator=self.generator, device="cpu"
        )

    def compute(self, node: str, inputs: dict[str, Tensor]) -> Float[Tensor, "row pos any"]:
        """The output of one head or MLP, or the logits, from what it hears (b, t, d); attention biases are added here."""
        model, layer = (
            self.model,
            len(self.model.blocks) if node == "logits" else int(node[1:].split(".")[0]),
        )
        constant = [
            b.attn.b_O for b in model.blocks[: layer + (node[0] == "m")] if b.attn.b_O is not None
        ]
        inputs = {part: x + sum(constant) for part, x in inputs.items()}
        if node == "logits":
            return model.unembed(inputs[""])
        block, seen = model.blocks[layer], list[Tensor]()
        norm = block.ln2 if node[0] == "m" else block.ln1
        inputs = inputs if norm is None else {part: norm.normalize(x) for part, x in inputs.items()}
        if node[0] == "m" and block.mlp is not None:
            return block.mlp(inputs[""])
        if model.config.positions_to == "qk":
            inputs |= {
                part: inputs[part] + model.pos_embed(1, inputs[part].shape[1]) for part in "qk"
            }
        with model.hooks([(("result", layer), lambda value, hook: seen.append(value))]):
            block.attn(inputs["q"], inputs["k"], inputs["v"])
        return seen[0][:, :, int(node.split("h")[1])]
