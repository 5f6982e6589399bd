"""Balanced brackets: a string can fail in two ways, and the model finds them apart.

These are a wrong count and a negative elevation. `[ ( ( ) ) ]`: 2 to 12 brackets between a start
and an end token; the answer, at the end token, is whether they are balanced: as many ( as ), and no
prefix with more ) than (. Two layers with MLPs, positions in the stream. A fifth of all 5,460
strings is never trained on. The question goes back to Redwood Research's interpretability exercises
on a bracket classifier; this one is causal.
"""

import dataclasses
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from mini_transformer.hooks import HookName, HookPoint
from mini_transformer.model import Config, Transformer
from mini_transformer.toys.ablated_accuracy import measure_accuracy
from mini_transformer.toys.trained.shipped import load_shipped
from mini_transformer.toys.truth import Batch, Case, Signature, Task, Truth
from mini_transformer.train import Recipe, Trained
from mini_transformer.train import train as run_training

OPEN, CLOSE, START, END = range(4)
LONGEST = 12
UNBALANCED, BALANCED = 0, 1
CONFIG = Config(
    d_vocab=4, d_vocab_out=2, n_ctx=LONGEST + 2, d_model=48, n_layers=2, n_heads=3, d_mlp=96
)
RECIPE = Recipe(steps=500, lr=5e-3, batch=128, warm_up=20, cool_down=300, weight_decay=0.1)
SITE = ("resid_mid", 1)  # where both failures are known and not yet combined

PICTURE = """\
  brackets --attention 0 at the end token--> wrong count --------+
  brackets --layer 0 at each bracket--> below zero here?         +-> unbalanced
           --attention 1 at the end token--> below zero anywhere +"""


def list_strings(length: int) -> Int[Tensor, "prompt pos"]:
    """List all strings of this many brackets.

    They stand between start and end, filled up with end tokens.
    """
    brackets = torch.cartesian_prod(*[torch.arange(2)] * length)
    return F.pad(F.pad(brackets, (1, 0), value=START), (0, LONGEST + 1 - length), value=END)


@cache
def list_prompts() -> Int[Tensor, "prompt pos"]:
    """List all 5,460 inputs: every string of 2, 4, ... 12 brackets.

    >>> TASK.read(list_prompts()[6])
    '[ ( ( ) ( ] ] ] ] ] ] ] ] ]'
    """
    return torch.cat([list_strings(length) for length in range(2, LONGEST + 1, 2)])


def find_end(tokens: Int[Tensor, "prompt pos"]) -> Int[Tensor, "prompt"]:
    """Find the position of the end token, where the answer is."""
    return 1 + (tokens < START).sum(dim=1)


def fails_count(tokens: Int[Tensor, "prompt pos"]) -> Bool[Tensor, "prompt"]:
    """Tell whether the numbers of ( and ) differ."""
    return climb(tokens)[:, -1] != 0


def fails_elevation(tokens: Int[Tensor, "prompt pos"]) -> Bool[Tensor, "prompt"]:
    """Tell whether a bracket is closed somewhere that was not opened before."""
    return (climb(tokens) < 0).any(dim=1)


def climb(tokens: Int[Tensor, "prompt pos"]) -> Int[Tensor, "prompt pos"]:
    """Count how many brackets are open after each position."""
    return ((tokens == OPEN).long() - (tokens == CLOSE).long()).cumsum(dim=1)


def judge(tokens: Int[Tensor, "prompt pos"]) -> Int[Tensor, "prompt"]:
    """Answer BALANCED or UNBALANCED."""
    return (~fails_count(tokens) & ~fails_elevation(tokens)).long()


@cache
def split_prompts(seed: int) -> tuple[Tensor, Tensor]:
    """Split the prompts' numbers into those seen in training and the others, a fifth."""
    order = torch.randperm(len(list_prompts()), generator=torch.Generator().manual_seed(seed))
    return order[len(order) // 5 :], order[: len(order) // 5]


def make_objective(
    batch: int, seed: int
) -> Callable[[Any, torch.Generator], tuple[Tensor, Tensor]]:
    """Make the objective: cross-entropy and accuracy.

    Each way to fail, both, and none is drawn equally often, since few strings are balanced.
    """
    tokens = list_prompts()[split_prompts(seed)[0]]
    kind = 2 * fails_count(tokens) + fails_elevation(tokens).long()
    kinds = [(kind == k).nonzero().squeeze(1) for k in range(4)]

    def objective(model: Transformer, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        drawn = torch.cat(
            [of[torch.randint(len(of), (batch // 4,), generator=generator)] for of in kinds]
        )
        logits = read_end(model, tokens[drawn])
        right = judge(tokens[drawn])
        return F.cross_entropy(logits, right), (logits.argmax(dim=1) == right).float().mean()

    return objective


def read_end(model: Transformer, tokens: Int[Tensor, "prompt pos"]) -> Float[Tensor, "prompt 2"]:
    """Return the logits at the end token."""
    return model(tokens)[torch.arange(len(tokens)), find_end(tokens)]


def train(seed: int = 0, recipe: Recipe = RECIPE, **options: Any) -> Trained:
    """Train from scratch, 500 steps; `options` are those of `train`."""
    recipe = dataclasses.replace(recipe, seed=seed)
    return run_training(
        Transformer(CONFIG, seed), make_objective(recipe.batch, seed), recipe, **options
    )


def draw_batch(n: int, generator: torch.Generator, corrupt: str) -> Batch:
    """Draw balanced strings, with failing ones of the same length.

    Corrupt "count" fails only by its count, "elevation" only by its elevation.
    """
    tokens = list_prompts()
    count = fails_count(tokens)
    elevation = fails_elevation(tokens)
    failing = tokens[count & ~elevation if corrupt == "count" else elevation & ~count]
    balanced = tokens[~count & ~elevation]
    clean = balanced[torch.randint(len(balanced), (n,), generator=generator)]
    same_length = find_end(failing) == find_end(clean).unsqueeze(1)
    corrupted = failing[torch.multinomial(same_length.float(), 1, generator=generator).squeeze(1)]
    answer = torch.full((n,), BALANCED)
    return Batch(clean, corrupted, answer, torch.full((n,), UNBALANCED), find_end(clean))


TASK = Task(
    "say whether brackets are balanced",
    draw_batch,
    tuple("()[]"),
    ("count", "elevation"),
    output_names=("unbalanced", "balanced"),
)


def measure_rejected(
    model: Transformer,
    failing: str,
    change: Callable[[Tensor], Tensor] | None = None,
    hook: HookName = SITE,
) -> float:
    """Measure the share of strings failing in one way that the model calls unbalanced.

    They fail only by "count" or only by "elevation". `change` takes the activations at the end
    token of all strings that fail in at most one way, and returns what replaces them.
    """
    tokens = list_single()
    row = torch.arange(len(tokens))
    end = find_end(tokens)

    def edit(value: Tensor, hook: HookPoint) -> None:
        if change is not None:
            value[row, end] = change(value[row, end])

    with torch.no_grad():
        logits = model.run_with_hooks(tokens, fwd_hooks=[(hook, edit)])[row, end]
    return (logits.argmax(dim=1) == UNBALANCED)[select(failing)].float().mean().item()


@cache
def list_single() -> Int[Tensor, "prompt pos"]:
    """List the 2,352 strings that do not fail in both ways."""
    tokens = list_prompts()
    return tokens[~(fails_count(tokens) & fails_elevation(tokens))]


def select(failing: str) -> Bool[Tensor, "prompt"]:
    """Mark which of `list_single` fail by "count", by "elevation", or not at all ("")."""
    count = fails_count(list_single())
    elevation = fails_elevation(list_single())
    return {"count": count, "elevation": elevation, "": ~count & ~elevation}[failing]


def mute(at_end: Float[Tensor, "prompt d_model"]) -> Float[Tensor, "prompt d_model"]:
    """Give every string what the balanced ones have on average."""
    return at_end[select("")].mean(dim=0).expand_as(at_end)


def erase(failing: str) -> Callable[[Tensor], Tensor]:
    """Take away the part along the mean failure of one kind.

    The part along the other stays (an oblique projection).
    """

    def change(at_end: Float[Tensor, "prompt d_model"]) -> Float[Tensor, "prompt d_model"]:
        kinds = ("count", "elevation")
        balanced = at_end[select("")].mean(dim=0)
        directions = torch.stack([at_end[select(kind)].mean(dim=0) - balanced for kind in kinds])
        parts = (at_end - balanced) @ torch.linalg.pinv(directions)  # prompt kind
        return at_end - parts[:, [kinds.index(failing)]] * directions[kinds.index(failing)]

    return change


def measure_separation(case: Case) -> float:
    """Measure how well a linear probe tells the two single failures apart.

    It is the accuracy on the half of them that was not used to fit the probe.
    """
    tokens = list_single()
    with torch.no_grad():
        stream = case.model.run_with_cache(tokens, names_filter=[SITE])[1][SITE]
    stream = stream[torch.arange(len(tokens)), find_end(tokens)]
    chosen = (~select("")).nonzero().squeeze(1)
    chosen = chosen[torch.randperm(len(chosen), generator=case.make_generator(0))]
    x = F.pad(stream[chosen], (0, 1), value=1.0).double()
    y = 2.0 * select("count")[chosen].double() - 1
    half = len(chosen) // 2
    probe = torch.linalg.lstsq(x[:half], y[:half, None], driver="gelsd").solution.squeeze(1)
    return ((x[half:] @ probe) * y[half:] > 0).float().mean().item()


def measure_inputs(case: Case, unseen: bool = False) -> float:
    """Measure accuracy on all inputs, or on the fifth that was not trained on."""
    tokens = list_prompts()[split_prompts(case.seed)[1]] if unseen else list_prompts()
    with torch.no_grad():
        return (read_end(case.model, tokens).argmax(dim=1) == judge(tokens)).float().mean().item()


def rejected(
    failing: str, change: Callable[[Tensor], Tensor], hook: HookName = SITE
) -> Callable[[Case], float]:
    return lambda case: measure_rejected(case.model, failing, change, hook)


ATTENTION_0 = ("attn_out", 0)
ATTENTION_1 = ("attn_out", 1)
SIGNATURES = {
    "accuracy": Signature("on the task: balanced strings accepted", measure_accuracy, low=0.99),
    "accuracy on all inputs": Signature("5,460 strings", measure_inputs, low=0.998),
    "accuracy on unseen inputs": Signature(
        "a fifth, never trained on",
        lambda case: measure_inputs(case, unseen=True),
        low=0.99,
    ),
    "the two failures told apart": Signature(
        "linear probe at the end token after attention 1, on strings that fail one way only",
        measure_separation,
        low=0.99,
    ),
    "count failures rejected without the count direction": Signature(
        "erased after attention 1",
        rejected("count", erase("count")),
        high=0.5,
    ),
    "elevation failures rejected without the count direction": Signature(
        "its control", rejected("elevation", erase("count")), low=0.9
    ),
    "elevation failures rejected without the elevation direction": Signature(
        "erased after attention 1",
        rejected("elevation", erase("elevation")),
        high=0.5,
    ),
    "count failures rejected without the elevation direction": Signature(
        "its control", rejected("count", erase("elevation")), low=0.9
    ),
    "count failures rejected without attention 0 at the end": Signature(
        "replaced by its mean on balanced strings",
        rejected("count", mute, ATTENTION_0),
        high=0.5,
    ),
    "elevation failures rejected without attention 0 at the end": Signature(
        "its control", rejected("elevation", mute, ATTENTION_0), low=0.9
    ),
    "elevation failures rejected without attention 1 at the end": Signature(
        "replaced by its mean on balanced strings",
        rejected("elevation", mute, ATTENTION_1),
        high=0.5,
    ),
    "count failures rejected without attention 1 at the end": Signature(
        "its control; in seeds 1, 3 and 4 part of the count comes this way too",
        rejected("count", mute, ATTENTION_1),
        low=0.5,
    ),
}


def load(seed: int = 0) -> Case:
    """Load the shipped model of this seed.

    Raise KeyError for a seed that is not shipped, with how to train it.


    >>> read_end(load(0).model, torch.tensor([[2, 0, 0, 1, 1, 3]])).argmax().item() == BALANCED
    True
    """
    return make_case(load_shipped("brackets", seed), seed)


def make_case(model: Transformer, seed: int = 0) -> Case:
    """Make a case of a trained model, with its task and truth."""
    notes = (
        "which heads of a layer do the job differs by seed, and so does MLP 1: "
        "the model of seed 0 judges all inputs rightly without it"
    )
    return Case("brackets", model, TASK, Truth(SIGNATURES, notes=notes), seed, PICTURE)
