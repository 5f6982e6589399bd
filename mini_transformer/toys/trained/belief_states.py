"""Mess3: a model carries an observer's belief about a hidden state, as a triangle.

The state is that of a hidden Markov process. The hidden state (0, 1 or 2) stays with probability .9
and else moves to one of the others; then it emits its own token with probability .85, else one of
the others. A model trained only to predict the next token carries the exact posterior over hidden
states as an affine image in its last residual stream (Shai et al. 2024, 2405.15943, section 4;
their model has 4 layers and 64 dimensions, this one 2 and 32). The posterior is computed here by
Bayes' rule.

A trap: from all 32 dimensions of an *untrained* model the posterior can be read off with an R^2 of
.94. What training brings about is that two dimensions, the largest, carry it, and that the
prediction is made from them.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from mini_transformer.hooks import HookPoint
from mini_transformer.model import Config, Transformer
from mini_transformer.toys.trained.shipped import load_shipped
from mini_transformer.toys.truth import Batch, Case, Signature, Task, Truth
from mini_transformer.train import Recipe, Trained
from mini_transformer.train import train as run_training

N_CTX = 10
STAY, LEAVE = 0.9, 0.05  # move[i, j]: from hidden state i to j
EMIT_OWN, EMIT_OTHER = 0.85, 0.075  # emit[j, x]: token x on arriving in j
MOVE = torch.full((3, 3), LEAVE).fill_diagonal_(STAY)
EMIT = torch.full((3, 3), EMIT_OTHER).fill_diagonal_(EMIT_OWN)

CONFIG = Config(d_vocab=3, n_ctx=N_CTX, d_model=32, n_layers=2, n_heads=2, d_mlp=64)
RECIPE = Recipe(steps=1200, lr=5e-3, batch=128, warm_up=20, cool_down=800)

PICTURE = """\
  tokens --2 layers--> last residual stream = belief triangle (2 dimensions) + the rest, hardly read
  belief triangle --W_U--> next token"""


def draw_tokens(n: int, length: int, generator: torch.Generator) -> Int[Tensor, "prompt pos"]:
    """Draw sequences of the process, started in its stationary distribution."""
    state = torch.randint(3, (n, 1), generator=generator)
    move, emit = torch.rand(2, n, length, generator=generator)
    shift = (move >= STAY).long() + (move >= STAY + LEAVE)  # 0: stay
    states = (state + shift.cumsum(dim=1)) % 3
    return (states + (emit >= EMIT_OWN) + (emit >= EMIT_OWN + EMIT_OTHER)) % 3


def infer_beliefs(tokens: Int[Tensor, "prompt pos"]) -> Float[Tensor, "prompt pos state"]:
    """Infer the posterior over hidden states after each token, by Bayes' rule.

    The prior is uniform.
    """
    belief = torch.full((len(tokens), 3), 1 / 3)
    beliefs = []
    for token in tokens.T:
        belief = F.normalize((belief @ MOVE) * EMIT[:, token].T, p=1, dim=1)
        beliefs.append(belief)
    return torch.stack(beliefs, dim=1)


def predict(beliefs: Float[Tensor, "prompt pos state"]) -> Float[Tensor, "prompt pos token"]:
    """Compute the exact distribution of the next token, given beliefs."""
    return beliefs @ MOVE @ EMIT


def make_objective(batch: int) -> Callable[[Any, torch.Generator], tuple[Tensor, None]]:
    """Make the objective: cross-entropy of the next token.

    The hidden states are never shown.
    """

    def objective(model: Transformer, generator: torch.Generator) -> tuple[Tensor, None]:
        tokens = draw_tokens(batch, N_CTX + 1, generator)
        return F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten()), None

    return objective


def train(seed: int = 0, recipe: Recipe = RECIPE, **options: Any) -> Trained:
    """Train from scratch, 1,200 steps; `options` are those of `train`."""
    recipe = dataclasses.replace(recipe, seed=seed)
    return run_training(Transformer(CONFIG, seed), make_objective(recipe.batch), recipe, **options)


def draw_batch(n: int, generator: torch.Generator, corrupt: str) -> Batch:
    """Draw sequences of 10 tokens, with the token that is most likely next.

    Corrupt is a sequence that makes another token most likely.
    """
    clean = draw_tokens(n, N_CTX, generator)
    corrupted = draw_tokens(n, N_CTX, generator)
    answer = name_likeliest(clean)
    wrong = name_likeliest(corrupted)
    while bool((same := answer == wrong).any()):
        corrupted[same] = draw_tokens(int(same.sum()), N_CTX, generator)
        wrong = name_likeliest(corrupted)
    return Batch(clean, corrupted, answer, wrong, torch.full((n,), N_CTX - 1))


def name_likeliest(tokens: Int[Tensor, "prompt pos"]) -> Int[Tensor, "prompt"]:
    # a hidden state's own token is likeliest when it is
    return infer_beliefs(tokens)[:, -1].argmax(dim=1)


TASK = Task(
    "say the likeliest next token of a hidden Markov process", draw_batch, tuple("ABC"), ("fresh",)
)


def run_beliefs(
    model: Transformer, n: int = 1024, generator: torch.Generator | None = None
) -> tuple[Float[Tensor, "point d_model"], Float[Tensor, "point state"]]:
    """Return the last residual stream and the exact posterior, as points.

    There is a point at every position of `n` sequences.
    """
    tokens = draw_tokens(
        n, N_CTX, torch.Generator().manual_seed(1) if generator is None else generator
    )
    with torch.no_grad():
        stream = model(tokens, stop_at_layer=model.config.n_layers)
    return stream.flatten(0, 1).double(), infer_beliefs(tokens).flatten(0, 1).double()


def find_triangle(
    stream: Float[Tensor, "point d_model"], n: int = 2
) -> Float[Tensor, "dim d_model"]:
    """Find the `n` directions along which the points vary most (principal components).

    No belief is looked at.
    """
    return torch.linalg.svd(stream - stream.mean(dim=0), full_matrices=False).Vh[:n]


def measure_fit(case: Case, n_dims: int | None = None) -> float:
    """Measure R^2 of an affine map from the stream to the posterior, on fresh sequences.

    With `n_dims`, the map reads only that many of the largest directions.
    """
    x, y = run_beliefs(case.model, generator=case.make_generator(1))
    fresh_x, fresh_y = run_beliefs(case.model, generator=case.make_generator(2))
    if n_dims:
        triangle = find_triangle(x, n_dims)
        x = x @ triangle.T
        fresh_x = fresh_x @ triangle.T
    x = F.pad(x, (0, 1), value=1.0)
    fresh_x = F.pad(fresh_x, (0, 1), value=1.0)
    error = fresh_x @ torch.linalg.lstsq(x, y, driver="gelsd").solution - fresh_y
    return 1 - (error.square().sum() / (fresh_y - fresh_y.mean(dim=0)).square().sum()).item()


def measure_excess(case: Case, keep: str = "all") -> float:
    """Measure the KL from the exact next-token distribution to the model's, in nats.

    The mean is over all positions of 1,024 sequences. keep "triangle" replaces everything outside
    the triangle by its mean, keep "rest" the triangle.
    """
    tokens = draw_tokens(1024, N_CTX, case.make_generator(1))
    triangle = find_triangle(run_beliefs(case.model, generator=case.make_generator(1))[0]).float()

    def cut(stream: Tensor, hook: HookPoint) -> Tensor:
        mean = stream.mean(dim=(0, 1))
        inside = (stream - mean) @ triangle.T @ triangle
        return mean + inside if keep == "triangle" else stream - inside

    with torch.no_grad():
        logits = case.model.run_with_hooks(
            tokens, fwd_hooks=[] if keep == "all" else [(("resid_post", -1), cut)]
        )
    exact = predict(infer_beliefs(tokens))
    return (exact * (exact.log() - logits.log_softmax(dim=-1))).sum(dim=-1).mean().item()


SIGNATURES = {
    "excess loss": Signature(
        "KL to the exact prediction, nats",
        measure_excess,
        high=0.002,
    ),
    "belief in the stream": Signature(
        "R^2 of an affine map from the whole last stream",
        measure_fit,
        low=0.98,
    ),
    "belief in two dimensions": Signature(
        "R^2 from the two largest directions alone",
        lambda case: measure_fit(case, 2),
        low=0.97,
    ),
    "untrained model, two dimensions": Signature(
        "the control: the same at the initial weights",
        lambda case: measure_fit(
            dataclasses.replace(case, model=Transformer(CONFIG, case.seed)), 2
        ),
        high=0.8,
    ),
    "excess loss with the triangle alone": Signature(
        "all else replaced by its mean",
        lambda case: measure_excess(case, "triangle"),
        high=0.01,
    ),
    "excess loss without the triangle": Signature(
        "close to a guess, .294",
        lambda case: measure_excess(case, "rest"),
        low=0.28,
    ),
}


def load(seed: int = 0) -> Case:
    """Load the shipped model of this seed.

    Raise KeyError for a seed that is not shipped, with how to train it.


    >>> round(measure_fit(load(0), n_dims=2), 2)
    0.99
    """
    return make_case(load_shipped("belief_states", seed), seed)


def make_case(model: Transformer, seed: int = 0) -> Case:
    """Make a case of a trained model, with its task and truth."""
    notes = (
        "the belief is a point, not one of a few values, so it is no variable; "
        "which heads and neurons compute it is not known"
    )
    return Case("belief_states", model, TASK, Truth(SIGNATURES, notes=notes), seed, PICTURE)
