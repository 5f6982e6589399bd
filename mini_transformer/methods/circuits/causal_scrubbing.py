"""Causal scrubbing: replace all that should not matter, and see if the answer survives.

A hypothesis names what matters of a prompt to each node (or edge): a function of the tokens. From
the logits backwards, what a named writer writes is replaced by what it writes on a prompt with the
same feature, and so, recursively, is each of its named inputs. All that is not named comes from a
prompt drawn at random.

The model is treated as a tree: a writer that is heard twice is resampled twice, so the hypothesis
must hold on every path by itself. What a writer writes is resampled at all positions together, so a
feature says also where. How a named writer without named inputs comes by its output is not tested.

A hypothesis that says too much is not punished: with every token named as a feature, nothing is
ever replaced. So look at `alone`, the share of replacements for which no other prompt fitted. Gains
on some prompts can hide losses on others, and features that agree on all prompts cannot be told
apart.
Sources: Chan et al. 2022, "Causal Scrubbing"; Scheurer et al. 2023, "Practical Pitfalls of Causal
Scrubbing".
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from mini_transformer.edges import (
    Edge,
    Node,
    list_edges,
    list_writers,
    sum_biases,
    write_heads,
    write_mlp,
    write_outputs,
)
from mini_transformer.methods.arguments import (
    Metric,
    Tokens,
    check_metric,
    check_prompts,
    tell_apart,
)
from mini_transformer.model import Transformer
from mini_transformer.nearest import find_nearest

__all__ = ["Scrubbed", "scrub"]

Pool = Integer[Tensor, "pool pos"]
Rows = Integer[Tensor, "row"]
Numbers = Integer[Tensor, "pool"]  # of the feature of each prompt in the pool
Feature = Callable[[Tensor], Tensor]  # tokens (b, t) to one row per prompt, (b) or (b, any)


@dataclass(frozen=True)
class Scrubbed:
    """The mean metric of the model, of the scrubbed model, and with all drawn at random.

    `alone` says how strict the test was.
    """

    model: float
    scrubbed: float
    random: float
    alone: float  # share of named replacements for which no other prompt has the feature

    @property
    def recovered(self) -> float:
        """The share of the metric that is left: 1 is all of it, 0 is no better than random."""
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
    """Measure what is left of the mean metric when only what the hypothesis names is kept.

    `hypothesis` maps writers (`input`, `a1.h0`, `m0`: what matters wherever they are heard) or
    single edges (`input->a0.h0<v>`; they come before writers) to features. Prompts to resample from
    are `corrupt`, any number of them, and `clean` itself. All unnamed inputs of one node come from
    one prompt. KeyError for a node or edge that does not exist; ValueError for a feature that is
    not one row per prompt, and for a metric that does not tell model from random.

    >>> from mini_transformer import toys
    >>> case = toys.load("boolean_xor")
    >>> batch = case.task.draw(512)
    >>> runs = case.model, batch.clean, batch.corrupt, batch.logit_difference
    >>> x, y = (case.truth.roles[bit] for bit in "xy")
    >>> heads = {x: lambda tokens: tokens[:, 0], y: lambda tokens: tokens[:, 1]}
    >>> for gate in (torch.bitwise_xor, torch.bitwise_and):
    ...     found = scrub(*runs, heads | {"m0": lambda tokens: gate(tokens[:, 0], tokens[:, 1])})
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
    """Join clean prompts and corrupt ones.

    ValueError unless they have one length and there are some of both.
    """
    shapes = f"clean prompts are {tuple(clean.shape)} and corrupt ones {tuple(corrupt.shape)}"
    if clean.shape[1:] != corrupt.shape[1:]:
        fits = "the same length: one is put in place of the other"
        raise ValueError(f"{shapes}, but must have {fits}")
    if not clean.numel() or not corrupt.numel():
        fits = "at least one of each, with at least one token"
        raise ValueError(f"{shapes}, but there must be {fits}")
    check_prompts(clean)
    check_prompts(corrupt, "corrupt prompts")
    return torch.cat([clean, corrupt])


def read_features(
    model: Transformer, pool: Pool, hypothesis: Mapping[str, Feature]
) -> dict[str, Numbers]:
    """Read, per named edge, a number for each prompt of the pool.

    Prompts with the same number have the same feature.
    """
    edges = list_edges(model)
    writers = list_writers(model)
    if unknown := [name for name in hypothesis if name not in edges and name not in writers]:
        nearest = find_nearest(unknown[0], [*edges, *writers])
        raise KeyError(
            f"no edge or writer is called {unknown[0]!r} in this model; nearest: {nearest!r}"
        )
    numbers = dict[str, Tensor]()
    for name, feature in hypothesis.items():
        value = feature(pool.clone())
        if not isinstance(value, Tensor) or value.ndim not in (1, 2) or len(value) != len(pool):
            given = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            told = f"the feature of {name} is {given} for {len(pool)} prompts"
            raise ValueError(f"{told}, expected one row per prompt")
        numbers[name] = value.detach().cpu().unique(dim=0, return_inverse=True)[1]
    named = {edge: edge if edge in numbers else str(Edge.parse(edge).writer) for edge in edges}
    return {edge: numbers[name] for edge, name in named.items() if name in numbers}


class _Scrubbing:
    """The model as a tree, run from the logits backwards; what is heard is drawn on the way."""

    def __init__(
        self,
        model: Transformer,
        pool: Pool,
        features: dict[str, Numbers],
        generator: torch.Generator,
    ) -> None:
        self.model = model
        self.features = features
        self.generator = generator
        self.written = dict(zip(list_writers(model), write_outputs(model, pool), strict=True))
        self.same_prompt = pool.cpu().unique(dim=0, return_inverse=True)[1]
        # By node, then by its inputs: "q", "k", "v", or "" where there is one.
        self.heard: dict[str, dict[str, list[str]]] = {}
        for name in list_edges(model):
            edge = Edge.parse(name)
            inputs = self.heard.setdefault(str(edge.reader), {})
            inputs.setdefault(edge.part or "", []).append(name)
        self.draws = 0
        self.alone = 0

    def write(self, node: str, rows: Rows) -> Float[Tensor, "row pos any"]:
        """Return what the node writes (or the logits) in a scrubbed run for these prompts."""
        inputs = self.heard.get(node, {})
        tested = any(edge in self.features for edges in inputs.values() for edge in edges)
        if not tested and node != "logits":
            return self.written[node][rows]
        other = self.draw_any(rows)
        heard = {part: self.read(edges, rows, other) for part, edges in inputs.items()}
        return self.compute(node, heard)

    def read(self, edges: list[str], rows: Rows, other: Rows) -> Float[Tensor, "row pos d_model"]:
        """Sum what is heard.

        Named writers write on prompts that agree with `rows`, all others on `other`.
        """
        heard = list[Tensor]()
        for edge in edges:
            writer = str(Edge.parse(edge).writer)
            if edge in self.features:
                heard.append(self.write(writer, self.draw(self.features[edge], rows)))
            else:
                heard.append(self.written[writer][other])
        return torch.stack(heard).sum(dim=0)

    def draw(self, feature: Numbers, rows: Rows) -> Rows:
        """Draw, for each prompt, one of those with the same feature, itself included."""
        fits = feature[rows].unsqueeze(1) == feature
        others = fits & (self.same_prompt[rows].unsqueeze(1) != self.same_prompt)
        self.draws += len(rows)
        self.alone += int((~others.any(dim=1)).sum())
        return torch.multinomial(fits.float(), 1, generator=self.generator).squeeze(1)

    def draw_any(self, rows: Rows) -> Rows:
        """Draw, for each prompt, any one."""
        count = len(self.same_prompt)
        return torch.randint(count, rows.shape, generator=self.generator, device="cpu")

    def compute(self, node: str, inputs: dict[str, Tensor]) -> Float[Tensor, "row pos any"]:
        """Compute what one head or MLP writes, or the logits, from what it hears (b, t, d).

        Attention biases, which no writer writes, are added here.
        """
        model = self.model
        place = Node.parse(node)
        layer = len(model.blocks) if place.layer is None else place.layer
        constant = sum_biases(model, layer + (place.kind == "mlp"))
        inputs = {part: stream + constant for part, stream in inputs.items()}
        if place.kind == "logits":
            return model.unembed(inputs[""])
        if place.kind == "mlp":
            return write_mlp(model, layer, inputs[""])
        return write_heads(model, layer, inputs["q"], inputs["k"], inputs["v"])[:, :, place.head]
