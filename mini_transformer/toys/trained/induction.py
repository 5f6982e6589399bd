"""Induction, trained: the circuit of `induction_by_hand`, as gradient descent finds it.

Two layers of attention only, positions added to queries and keys only. A prompt is a start token
and a block of distinct tokens that repeats: distinct, since a token that occurs twice in the block
leaves open what comes next; a start token, since otherwise the first token of the block has no
previous one, and counts as its own. Where in the block a prompt begins makes no difference, as its
tokens are in random order. Periods 9, 13 and 17 are never trained on: a model that counts positions
instead of matching tokens fails on them.

The circuit is that of Elhage et al. 2021 ("Induction heads"). Which head does what differs by seed,
so `roles` are measured. Both layer-1 heads match, and either alone is enough: ablating one of them
shows little. What each signature measured stands in trained.md. All of them hold on seeds
5-9 too; with weight decay .01 instead of .05 seed 7 would have two previous-token heads, of which
either is enough.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from mini_transformer.edges import Node
from mini_transformer.hooks import HookPoint
from mini_transformer.model import Config, Transformer
from mini_transformer.toys.ablated_accuracy import measure_accuracy
from mini_transformer.toys.trained.shipped import load_shipped
from mini_transformer.toys.truth import Batch, Case, Signature, Task, Truth
from mini_transformer.train import Recipe, Trained, train

N_TOKENS, N_CTX = 32, 40  # token 0 starts every prompt and never repeats
# Of a prompt of the task, which asks at its last position; training asks at every position of 40
LENGTH = 24
UNSEEN = (9, 13, 17)  # periods held out from training
SEEN = tuple(period for period in range(6, 21) if period not in UNSEEN)

CONFIG = Config(d_vocab=N_TOKENS, n_ctx=N_CTX, d_model=64, n_layers=2, n_heads=2, positions_to="qk")
RECIPE = Recipe(steps=400, lr=2e-2, batch=32, weight_decay=0.05, warm_up=10, cool_down=200)

PICTURE = (
    "  input --q,k (position - 1)--> {previous} --k (previous token)--> {match} and {second} "
    "--(next token)--> logits\n"
    "  {neighbour} is the control: its ablation changes little"
)


def draw_prompts(
    n: int, length: int, generator: torch.Generator, periods: Sequence[int] = SEEN
) -> tuple[Int[Tensor, "prompt pos"], Int[Tensor, "prompt"]]:
    """Draw prompts, each with the token that comes next, and the period of each.

    Prompts are (n, length + 1).

    >>> draw_prompts(1, 8, torch.Generator().manual_seed(0), periods=[3])[0].tolist()
    [[0, 13, 28, 3, 13, 28, 3, 13, 28]]
    """
    # Distinct tokens in random order
    block = 1 + torch.rand(n, N_TOKENS - 1, generator=generator).argsort(dim=1)
    period = torch.tensor(periods)[torch.randint(len(periods), (n,), generator=generator)]
    # In the block, of position i + 1
    place = torch.arange(length).expand(n, -1) % period.unsqueeze(1)
    return torch.cat([torch.zeros(n, 1, dtype=torch.int64), block.gather(1, place)], dim=1), period


def mark_predictable(length: int, period: Int[Tensor, "prompt"]) -> Bool[Tensor, "prompt pos"]:
    """Mark where the next token can be known: from the second block's first token on."""
    return torch.arange(length) > period.unsqueeze(1)


def make_objective(batch: int) -> Callable[[Any, torch.Generator], tuple[Tensor, Tensor]]:
    """Make the objective: cross-entropy and accuracy where the next token can be known.

    Elsewhere there is nothing to learn.
    """

    def objective(model: Transformer, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        tokens, period = draw_prompts(batch, N_CTX, generator)
        asked = mark_predictable(N_CTX, period)
        logits = model(tokens[:, :-1])[asked]
        answer = tokens[:, 1:][asked]
        return F.cross_entropy(logits, answer), (logits.argmax(dim=-1) == answer).float().mean()

    return objective


def train_induction(seed: int = 0, recipe: Recipe = RECIPE, **options: Any) -> Trained:
    """Train from scratch, 400 steps in a few seconds; `options` are those of `train`.

    >>> recipe = dataclasses.replace(RECIPE, steps=2)
    >>> train_induction(seed=0, recipe=recipe, progress=False).history.steps
    2
    """
    return train(
        Transformer(CONFIG, seed),
        make_objective(recipe.batch),
        dataclasses.replace(recipe, seed=seed),
        **options,
    )


def draw_batch(n: int, generator: torch.Generator, corrupt: str) -> Batch:
    """Draw prompts of 24 tokens that end in a token A that occurred before.

    It occurred 1 to 3 times, each time followed by the answer B. corrupt "source" replaces every
    earlier A (so there is nothing to match), "answer" every B (so that another token follows A),
    each by a token that the prompt does not hold; "fresh" is an unrelated prompt that calls for
    another token.
    """
    tokens, _ = draw_prompts(n, LENGTH, generator)
    clean, answer = tokens[:, :-1], tokens[:, -1]
    if corrupt == "fresh":
        tokens, _ = draw_prompts(n, LENGTH, generator)
        while bool((same := tokens[:, -1] == answer).any()):
            tokens[same] = draw_prompts(int(same.sum()), LENGTH, generator)[0]
        corrupted, wrong = tokens[:, :-1], tokens[:, -1]
    else:
        unused = torch.ones(n, N_TOKENS).scatter_(1, clean, 0.0)
        wrong = torch.multinomial(unused, 1, generator=generator).squeeze(1)
        replaced = clean[:, -1] if corrupt == "source" else answer
        corrupted = torch.where(clean == replaced.unsqueeze(1), wrong.unsqueeze(1), clean)
        corrupted[:, -1] = clean[:, -1]
    return Batch(clean, corrupted, answer, wrong, torch.full((n,), LENGTH - 1))


TASK = Task(
    description="a block of distinct tokens repeats; say the next token",
    sample=draw_batch,
    token_names=("|", *"abcdefghijklmnopqrstuvwxyzABCDE"),
    corruptions=("source", "answer", "fresh"),
)


def measure_copying(case: Case, periods: Sequence[int] = SEEN, without: str | None = None) -> float:
    """Measure accuracy wherever the next token can be known.

    There are 256 prompts of 40 tokens; one head may be left out (zero ablation).
    """
    tokens, period = draw_prompts(256, N_CTX, case.make_generator(1), periods)
    layer, head = Node.parse(case.truth.roles[without] if without else "a0.h0").place

    def silence(z: Tensor, hook: HookPoint) -> None:
        z[:, :, head] = 0.0

    with torch.no_grad():
        hooks = [(("z", layer), silence)] if without else []
        logits = case.model.run_with_hooks(tokens[:, :-1], fwd_hooks=hooks)
    right = logits.argmax(dim=-1) == tokens[:, 1:]
    return right[mark_predictable(N_CTX, period)].float().mean().item()


def measure_previous(case: Case, role: str = "previous") -> float:
    """Measure the mean attention of a layer-0 head to the previous position.

    It is over the first 20 positions: later ones are not needed. The longest block has 20 tokens,
    and matching the first of several occurrences is enough.
    """
    _, head = Node.parse(case.truth.roles[role]).place
    return score_previous(case.model, case.make_generator(1))[head].item()


def measure_match(case: Case, role: str = "match") -> float:
    """Measure the mean attention of a layer-1 head to the tokens after earlier occurrences.

    It is summed over all of these, where the next token can be known.
    """
    _, head = Node.parse(case.truth.roles[role]).place
    return score_match(case.model, case.make_generator(1))[head].item()


def measure_cut(case: Case, part: str) -> float:
    """Measure accuracy without the edges from the previous-token head to layer 1.

    Those to q, k or v are ablated with zeros.
    """
    roles = case.truth.roles
    matches = (roles["match"], roles["second"])
    return measure_accuracy(case, [f"{roles['previous']}->{match}<{part}>" for match in matches])


def score_previous(
    model: Transformer, generator: torch.Generator | None = None
) -> Float[Tensor, "head"]:
    pattern, _, _ = run_patterns(model, layer=0, generator=generator)
    return pattern.diagonal(offset=-1, dim1=2, dim2=3)[..., : max(SEEN)].mean(dim=(0, 2))


def score_match(
    model: Transformer, generator: torch.Generator | None = None
) -> Float[Tensor, "head"]:
    pattern, tokens, period = run_patterns(model, layer=1, generator=generator)
    same = tokens.unsqueeze(2) == tokens.unsqueeze(1)  # b q k
    matching = F.pad(same, (1, -1)).tril()  # key k if token k - 1 equals the query's
    found = (pattern * matching.unsqueeze(1)).sum(dim=3)  # b n q
    return found.transpose(1, 2)[mark_predictable(N_CTX, period)].mean(dim=0)


def run_patterns(
    model: Transformer, layer: int, generator: torch.Generator | None = None
) -> tuple[
    Float[Tensor, "prompt head query key"], Int[Tensor, "prompt pos"], Int[Tensor, "prompt"]
]:
    """Return the attention of one layer on 256 prompts, the prompts, and their periods."""
    generator = torch.Generator().manual_seed(1) if generator is None else generator
    tokens, period = draw_prompts(256, N_CTX, generator)
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens[:, :-1], names_filter=("pattern", layer))
    return cache["pattern", layer], tokens[:, :-1], period


def find_roles(model: Transformer) -> dict[str, str]:
    """Measure which head does what, since gradient descent decides.

    `neighbour` is the control beside `previous`.
    """
    previous = int(score_previous(model).argmax())
    match = int(score_match(model).argmax())
    return {
        "previous": f"a0.h{previous}",
        "neighbour": f"a0.h{1 - previous}",
        "match": f"a1.h{match}",
        "second": f"a1.h{1 - match}",
    }


SIGNATURES = {
    "copying": Signature(
        "accuracy wherever the next token can be known",
        measure_copying,
        low=0.995,
    ),
    "copying at unseen periods": Signature(
        "within 2 points of the periods trained on: no positional shortcut",
        lambda case: measure_copying(case, UNSEEN),
        low=0.985,
    ),
    "previous-token attention": Signature(
        "of `previous`, mean over the first 20 positions",
        measure_previous,
        low=0.9,
    ),
    "neighbour's previous-token attention": Signature(
        "the job is not spread over two heads",
        lambda case: measure_previous(case, "neighbour"),
        high=0.3,
        note="a head that looks evenly at all earlier positions pays .13",
    ),
    "match attention": Signature(
        "of `match`: prefix-matching score, sum over all earlier occurrences",
        measure_match,
        low=0.9,
    ),
    "copying without the previous-token head": Signature(
        "close to a guess among the tokens of the block",
        lambda case: measure_copying(case, without="previous"),
        high=0.3,
        note="such a guess is right .096 of the time",
    ),
    "copying without its neighbour": Signature(
        "the control",
        lambda case: measure_copying(case, without="neighbour"),
        low=0.98,
    ),
    "copying without one match head": Signature(
        "the other is enough",
        lambda case: measure_copying(case, without="match"),
        low=0.95,
    ),
    "accuracy without the K-edges": Signature(
        "keys are what carries the match",
        lambda case: measure_cut(case, "k"),
        high=0.25,
    ),
    "accuracy without the Q-edges": Signature(
        "queries do not need them",
        lambda case: measure_cut(case, "q"),
        low=0.95,
    ),
    "accuracy without the V-edges": Signature(
        "values do not need them",
        lambda case: measure_cut(case, "v"),
        low=0.95,
    ),
}


def load(seed: int = 0) -> Case:
    """Load the shipped model of this seed (0-4), trained by `train_induction(seed)`.

    Raise KeyError for other seeds.

    >>> round(measure_copying(load(0)), 2)
    1.0
    """
    return make_case(load_shipped("induction", seed), seed)


def make_case(model: Transformer, seed: int = 0) -> Case:
    """Make a case of a trained model, with its task and the truth that it should meet.

    The roles are measured on it.
    """
    roles = find_roles(model)
    notes = "edges and nodes are not listed: only the parts that signatures measure are known"
    return Case(
        "induction",
        model,
        TASK,
        Truth(SIGNATURES, roles=roles, notes=notes),
        seed,
        PICTURE.format(**roles),
    )
