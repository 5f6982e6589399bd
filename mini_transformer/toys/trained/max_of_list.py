"""The largest number of a list: one attention head that copies what it sees.

The head's attention score grows with the number. `a b c =` or `a b c d =` calls for the largest of
numbers from 0 to 31. One layer, one head, no positions, so the order of a list cannot matter and
its multiset stands for all orders: 58,344 prompts are all 1,081,344 inputs. The smallest model with
a QK circuit (order the numbers) and an OV circuit (copy); the task is that of Gross et al. 2024
(2406.11779).
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from mini_transformer.model import Config, Transformer
from mini_transformer.toys.ablated_accuracy import accuracy_without, measure_accuracy
from mini_transformer.toys.trained.shipped import load_shipped
from mini_transformer.toys.truth import Batch, Case, Circuits, Signature, Task, Truth
from mini_transformer.train import Recipe, Trained
from mini_transformer.train import train as run_training

N_NUMBERS = 32
EQUALS = N_NUMBERS
LENGTHS = (3, 4)
CONFIG = Config(
    d_vocab=N_NUMBERS + 1, d_vocab_out=N_NUMBERS, n_ctx=5, d_model=32, n_layers=1, positions="none"
)
RECIPE = Recipe(
    steps=600, lr=1e-2, batch=512, warm_up=10, cool_down=400, betas=(0.9, 0.98), weight_decay=0.0
)

PICTURE = """\
  numbers --k (score grows with the number)--> a0.h0 at `=` --(copy)--> logits
  input->logits, what `=` itself says, is not needed"""


def draw_lists(n: int, length: int, generator: torch.Generator) -> Int[Tensor, "prompt number"]:
    """Draw lists of numbers, half of them within a few of their largest.

    There the score must tell neighbours apart.
    """
    numbers = torch.randint(N_NUMBERS, (n, length), generator=generator)
    top = torch.randint(N_NUMBERS, (n, 1), generator=generator)
    close = (top - torch.randint(3, (n, length), generator=generator)).clamp(min=0)
    return torch.where(torch.rand(n, 1, generator=generator) < 0.5, numbers, close)


def ask(numbers: Int[Tensor, "prompt number"]) -> Int[Tensor, "prompt pos"]:
    """Turn lists into prompts: `=` after the numbers."""
    return F.pad(numbers, (0, 1), value=EQUALS)


def make_objective(batch: int) -> Callable[[Any, torch.Generator], tuple[Tensor, Tensor]]:
    """Make the objective: cross-entropy and accuracy at `=`.

    Half of the batch has three numbers, half four.
    """

    def objective(model: Transformer, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        losses = []
        right = []
        for length in LENGTHS:
            numbers = draw_lists(batch // 2, length, generator)
            logits = model(ask(numbers))[:, -1]
            answer = numbers.amax(dim=1)
            losses.append(F.cross_entropy(logits, answer))
            right.append((logits.argmax(dim=1) == answer).float().mean())
        return torch.stack(losses).mean(), torch.stack(right).mean()

    return objective


def train(seed: int = 0, recipe: Recipe = RECIPE, **options: Any) -> Trained:
    """Train from scratch, 600 steps in a few seconds; `options` are those of `train`."""
    recipe = dataclasses.replace(recipe, seed=seed)
    return run_training(Transformer(CONFIG, seed), make_objective(recipe.batch), recipe, **options)


def draw_batch(n: int, generator: torch.Generator, corrupt: str) -> Batch:
    """Draw lists of four.

    corrupt "largest" replaces every occurrence of the largest by 0, so that the second largest is
    asked for; corrupt "fresh" is another list. Either way the corrupt list has another largest
    number.
    """
    clean = draw_lists(n, 4, generator)
    while bool((flat := (clean.amin(dim=1) == clean.amax(dim=1))).any()):
        clean[flat] = draw_lists(int(flat.sum()), 4, generator)
    answer = clean.amax(dim=1)
    if corrupt == "largest":
        corrupted = torch.where(clean == answer.unsqueeze(1), 0, clean)
    else:
        corrupted = draw_lists(n, 4, generator)
        while bool((same := corrupted.amax(dim=1) == answer).any()):
            corrupted[same] = draw_lists(int(same.sum()), 4, generator)
    return Batch(ask(clean), ask(corrupted), answer, corrupted.amax(dim=1), torch.full((n,), 4))


NAMES = (*map(str, range(N_NUMBERS)), "=")
TASK = Task("say the largest number of a list", draw_batch, NAMES, ("largest", "fresh"))


def list_all(length: int) -> Int[Tensor, "prompt pos"]:
    """List every multiset of numbers of this length, as a prompt.

    >>> [len(list_all(length)) for length in LENGTHS]
    [5984, 52360]
    """
    return ask(torch.combinations(torch.arange(N_NUMBERS), length, with_replacement=True))


def measure_errors(case: Case) -> float:
    """Count how many of all inputs, up to order, are answered wrongly."""
    errors = 0
    with torch.no_grad():
        for tokens in map(list_all, LENGTHS):
            said = case.model(tokens)[:, -1].argmax(dim=1)
            errors += int((said != tokens[:, :-1].amax(dim=1)).sum())
    return float(errors)


def score_numbers(model: Transformer) -> Float[Tensor, "number"]:
    """Read off the weights the attention score that each number gets from `=`.

    This is the QK circuit.
    """
    with torch.no_grad():
        scores = model.W_E[EQUALS] @ model.QK(0, 0) @ model.W_E[:N_NUMBERS].T
        return scores / model.config.attn_scale


def measure_copying(case: Case) -> float:
    """Measure the share of numbers that the head raises above all others.

    It does so when it looks at them. This is the OV circuit, read off the weights.
    """
    with torch.no_grad():
        written = case.model.W_E[:N_NUMBERS] @ case.model.OV(0, 0) @ case.model.W_U
    return (written.argmax(dim=1) == torch.arange(N_NUMBERS)).float().mean().item()


SIGNATURES = {
    "errors on all inputs": Signature("lists of 3 and 4, up to order", measure_errors, high=0.0),
    "smallest step of the score": Signature(
        "QK grows with the number: score of n + 1 minus score of n, the smallest of 31",
        lambda case: score_numbers(case.model).diff().min().item(),
        low=0.5,
    ),
    "numbers that are copied": Signature("OV copies: share of the 32", measure_copying, low=1.0),
    "accuracy": Signature("on the task", measure_accuracy, low=1.0),
    "accuracy without the direct path": Signature(
        "what `=` itself says is not needed",
        accuracy_without("input->logits"),
        low=0.99,
    ),
    "accuracy without the scores": Signature(
        "keys ablated: attention is even, and the largest not told apart",
        accuracy_without("input->a0.h0<k>"),
        high=0.55,
    ),
    "accuracy without the values": Signature(
        "nothing is copied",
        accuracy_without("input->a0.h0<v>"),
        high=0.15,
    ),
}


def load(seed: int = 0) -> Case:
    """Load the shipped model of this seed.

    Raise KeyError for a seed that is not shipped, with how to train it.


    >>> case = load(0)
    >>> case.model(ask(torch.tensor([[3, 17, 5]])))[0, -1].argmax().item()
    17
    """
    return make_case(load_shipped("max_of_list", seed), seed)


def make_case(model: Transformer, seed: int = 0) -> Case:
    """Make a case of a trained model, with its task and truth."""
    needed = frozenset({"input->a0.h0<q>", "input->a0.h0<k>", "input->a0.h0<v>", "a0.h0->logits"})
    circuits = Circuits(
        edges=(needed,),
        nodes=(frozenset({"input", "a0.h0", "logits"}),),
        how="enumeration",
        complete=True,
        note="all 32 sets of the five edges, on 256 prompts of the task; every shipped seed",
    )
    truth = Truth(SIGNATURES, circuits={"zero": circuits}, roles={"largest": "a0.h0"})
    return Case("max_of_list", model, TASK, truth, seed, PICTURE)
