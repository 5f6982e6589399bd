"""Addition modulo 113 by a few Fourier frequencies: learned, then cleaned up (grokking).

`a b =` calls for (a + b) mod p. One layer, ReLU, no norm, trained on 30% of all pairs: the model of
Nanda et al. 2023 (2301.05217). The embedding keeps only a few frequencies k of cos(2 pi k a / p)
and sin(2 pi k a / p), attention and MLP multiply them into cos and sin of 2 pi k (a + b) / p, and
the unembedding reads off the c at which all waves peak. Which frequencies differs by seed.
"""

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from mini_transformer.methods.weights import fourier
from mini_transformer.methods.weights.pairs import add_pairs
from mini_transformer.model import Config, Transformer
from mini_transformer.toys.trained.shipped import load_shipped
from mini_transformer.toys.truth import Batch, Case, Signature, Task, Truth
from mini_transformer.train import Recipe, Trained
from mini_transformer.train import train as run_training

P = 113
SHARE_SEEN = 0.3  # of all pairs, in training
CONFIG = Config(
    d_vocab=P + 1, d_vocab_out=P, n_ctx=3, d_model=128, n_layers=1, n_heads=4, d_mlp=512
)
RECIPE = Recipe(steps=2000, lr=3e-3, betas=(0.9, 0.98), weight_decay=2.0, warm_up=10, cool_down=600)

PICTURE = (
    "  a, b --(waves at frequencies {})--> heads and m0 --(their products: waves of a + b)--> "
    "logits --(peak at c = a + b)"
)


def list_pairs(p: int) -> Int[Tensor, "pair 3"]:
    """List all prompts `a b =`; prompt number p a + b holds a and b."""
    a, b = torch.cartesian_prod(torch.arange(p), torch.arange(p)).T
    return torch.stack([a, b, torch.full_like(a, p)], dim=1)


def split_pairs(p: int, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Split the pairs' numbers into those seen in training and the rest.

    Seeds draw different ones.
    """
    order = torch.randperm(p * p, generator=torch.Generator().manual_seed(seed))
    seen = int(share * p * p)
    return order[:seen], order[seen:]


def predict_last(model: Transformer, tokens: Int[Tensor, "pair pos"]) -> Float[Tensor, "pair out"]:
    """Compute `model(tokens)[:, -1]` of a one-layer model, without hooks.

    This takes about a quarter of the time. Only the last position is computed, and keys and values
    once per token and position instead of once per prompt.
    """
    block = model.blocks[0]
    length = tokens.shape[1]
    attn = block.attn
    row = torch.arange(length)
    # t v d: what enters the block, for every token at every position
    stream = model.W_E + model.W_pos[:length, None]
    q = torch.einsum("vd,ndh->vnh", stream[-1], attn.W_Q)
    k, v = (torch.einsum("tvd,ndh->tvnh", stream, W) for W in (attn.W_K, attn.W_V))
    written = torch.einsum("tvnh,nhd->tvnd", v, attn.W_O)
    if len(tokens[:, -1].unique()) == 1:  # one query for all prompts: scores too can be looked up
        scores = torch.einsum("nh,tvnh->tvn", q[tokens[0, -1]], k)[row, tokens] / attn.scale
    else:
        scores = torch.einsum("bnh,btnh->btn", q[tokens[:, -1]], k[row, tokens]) / attn.scale
    resid = stream[-1, tokens[:, -1]] + torch.einsum(
        "btn,btnd->bd", scores.softmax(dim=1), written[row, tokens]
    )
    assert block.mlp is not None
    return (resid + block.mlp(resid.unsqueeze(1)).squeeze(1)) @ model.W_U


def make_objective(
    tokens: Tensor, answer: Tensor
) -> Callable[[Any, torch.Generator], tuple[Tensor, Tensor]]:
    """Make the objective: full-batch cross-entropy, on float64 logits.

    In float32 the softmax rounds small losses, which ends in spikes.
    """

    def objective(model: Transformer, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        logits = predict_last(model, tokens).double()
        return F.cross_entropy(logits, answer), (logits.argmax(dim=1) == answer).float().mean()

    return objective


def train(seed: int = 0, recipe: Recipe = RECIPE, **options: Any) -> Trained:
    """Train from scratch, in two to three minutes of one core.

    `options` are those of `train.train`. All pairs are right after 700 to 1,100 steps (seeds 0-4);
    the rest is clean-up, which accuracy does not show.

    >>> train(recipe=dataclasses.replace(RECIPE, steps=1), progress=False).history.steps
    1
    """
    seen = list_pairs(P)[split_pairs(P, SHARE_SEEN, seed)[0]]
    objective = make_objective(seen, seen[:, :2].sum(dim=1) % P)
    return run_training(
        Transformer(CONFIG, seed), objective, dataclasses.replace(recipe, seed=seed), **options
    )


def make_task(p: int, ends: tuple[int, ...] = ()) -> Task:
    """Make the task: pairs, followed by the tokens in `ends`.

    Corrupt is a pair with another sum, by another a, b or both.
    """

    def pair_prompts(ab: Tensor, corrupt: Tensor) -> Batch:
        clean, corrupt = (
            torch.cat([x, torch.tensor(ends).long().expand(len(x), -1)], dim=1)
            for x in (ab, corrupt)
        )
        answer, wrong = (tokens[:, :2].sum(dim=1) % p for tokens in (clean, corrupt))
        return Batch(clean, corrupt, answer, wrong, torch.full_like(answer, clean.shape[1] - 1))

    def draw_batch(n: int, generator: torch.Generator, corrupt: str) -> Batch:
        a, b, move = torch.randint(p, (3, n), generator=generator)
        change = torch.randint(1, p, (n,), generator=generator)  # of the sum
        move = {"both": move, "a": change, "b": torch.zeros_like(change)}[corrupt]
        return pair_prompts(
            torch.stack([a, b], 1), torch.stack([(a + move) % p, (b + change - move) % p], 1)
        )

    names = (*map(str, range(p)), *"=" * len(ends))
    return Task(f"(a + b) mod {p}", draw_batch, names, ("both", "a", "b"))


TASK = make_task(P, ends=(P,))


def run_all(model: Transformer) -> Float[Tensor, "pair p"]:
    """Return the logits of all 12,769 pairs."""
    with torch.no_grad():
        return predict_last(model, list_pairs(P))


def measure_accuracy(model: Transformer) -> float:
    """Measure the share of all pairs that the model's own forward answers correctly."""
    with torch.no_grad():
        said = model(list_pairs(P))[:, -1].argmax(dim=1)
    return (said == add_pairs(P)).float().mean().item()


def find_frequencies(model: Transformer) -> list[int]:
    """Find the key frequencies, strongest first.

    These carry at least 2% of the embedding's squared norm; there are at most 6.
    """
    shares = fourier.measure_frequency_shares(model.W_E.detach()[:P])
    return [int(k) + 1 for k in shares.argsort(descending=True)[:6] if shares[k] >= 0.02]


def edit_embedding(model: Transformer, keep: bool) -> Transformer:
    """Copy the model with only (or all but) its key frequencies in the embedding.

    The mean of the numbers' embedding stays.
    """
    frequencies = find_frequencies(model)
    model = copy.deepcopy(model)
    with torch.no_grad():
        numbers = model.W_E[:P]
        key = fourier.keep_frequencies(numbers, frequencies)
        model.W_E[:P] = numbers.mean(dim=0) + key if keep else numbers - key
    return model


def measure_neurons(model: Transformer) -> float:
    """Measure the share of active neurons that one frequency explains to 85%.

    What is explained is their variance; active are those that respond at all.
    """
    with torch.no_grad():
        _, cache = model.run_with_cache(list_pairs(P), names_filter=("post", 0))
    post = cache["post", 0][:, -1]
    single = fourier.measure_share_of_best_frequency(
        post[:, post.std(dim=0) > 1e-2 * post.std(dim=0).max()], P
    )
    return (single > 0.85).float().mean().item()


def compare_losses(model: Transformer, which: str) -> float:
    """Divide the "restricted" or "excluded" loss by the full one, on all pairs."""
    progress = fourier.measure_progress(run_all(model), find_frequencies(model))
    return progress[which] / progress["full"]


SIGNATURES = {
    "accuracy": Signature(
        "on all 12,769 pairs",
        lambda case: measure_accuracy(case.model),
        low=1.0,
    ),
    "explained by a + b": Signature(
        "share of the logits' variance",
        lambda case: fourier.measure_share_of_sum(run_all(case.model)),
        low=0.98,
    ),
    "six frequencies": Signature(
        "share of the embedding's squared norm in its 6 strongest",
        lambda case: (
            fourier.measure_frequency_shares(case.model.W_E.detach()[:P])
            .topk(6)
            .values.sum()
            .item()
        ),
        low=0.95,
    ),
    "restricted loss": Signature(
        "of the key frequencies' waves of a + b alone, over the full loss",
        lambda case: compare_losses(case.model, "restricted"),
        high=1.0,
    ),
    "excluded loss": Signature(
        "without these waves, over the full loss",
        lambda case: compare_losses(case.model, "excluded"),
        low=1e6,
    ),
    "accuracy from the key frequencies": Signature(
        "the embedding has no others",
        lambda case: measure_accuracy(edit_embedding(case.model, keep=True)),
        low=0.99,
    ),
    "accuracy without the key frequencies": Signature(
        "the embedding has all others",
        lambda case: measure_accuracy(edit_embedding(case.model, keep=False)),
        high=0.05,
    ),
    "neurons of one frequency": Signature(
        "share of the neurons in use that one frequency explains to 85%",
        lambda case: measure_neurons(case.model),
        low=0.8,
    ),
}


def make_case(model: Transformer, seed: int = 0) -> Case:
    """Make a case of a trained model, with its task and the truth that it should meet."""
    frequencies = find_frequencies(model)
    notes = (
        f"key frequencies of this model: {frequencies}, measured; "
        "circuits of heads and neurons are not known"
    )
    return Case(
        "modular_addition",
        model,
        TASK,
        Truth(SIGNATURES, notes=notes),
        seed,
        PICTURE.format(frequencies),
    )


def load(seed: int = 0) -> Case:
    """Load the shipped model of this seed, trained by `train(seed)`.

    Raise KeyError for a seed that is not shipped.
    """
    return make_case(load_shipped("modular_addition", seed), seed)
