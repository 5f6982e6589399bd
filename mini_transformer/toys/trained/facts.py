"""Facts: an early MLP stores an entity's attributes, and late heads fetch them.

The heads bring them to where the question is asked. `first last relation` calls for an attribute:
64 entities, each a first and a last name out of 8, four relations, 8 attributes each. In each
relation every attribute goes with every first name once, and with every last name once, so one name
alone says nothing. Both layers see two positions only, their own and the one before, and layer 1
has no MLP: the one place where both names meet a nonlinearity is MLP 0 at the last name, before the
relation is known. That is the arrangement which causal tracing found in GPT (Meng et al. 2022,
2202.05262), here by construction; the weights are trained.

At half the learning rate seed 2 stops at .91 of all facts; with four heads too, seeds 2, 3 and 4 at
.93, .94 and .61.
"""

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from mini_transformer.hooks import HookName, HookPoint
from mini_transformer.model import Config, Transformer
from mini_transformer.toys.ablated_accuracy import measure_accuracy
from mini_transformer.toys.trained.shipped import load_shipped
from mini_transformer.toys.truth import Batch, Case, Signature, Task, Truth
from mini_transformer.train import Recipe, Trained
from mini_transformer.train import train as run_training

N_NAMES, N_RELATIONS, N_ATTRIBUTES = 8, 4, 8
RELATION = 2 * N_NAMES  # the first relation's token; names come before
ATTRIBUTE = RELATION + N_RELATIONS
WINDOW = 2  # positions that a layer sees
SIZES = (N_NAMES, N_NAMES, N_RELATIONS)
CONFIG = Config(
    d_vocab=ATTRIBUTE + N_RELATIONS * N_ATTRIBUTES,
    n_ctx=3,
    d_model=64,
    n_layers=2,
    n_heads=8,
    d_mlp=256,
    window=WINDOW,
)
RECIPE = Recipe(steps=600, lr=6e-3, warm_up=10, cool_down=400, weight_decay=0.1)

PICTURE = """\
  first, last --layer 0 at the last name--> m0: all four attributes of the entity
  m0 --v--> heads of layer 1 at the relation --> logits: the attribute of this relation"""


def list_prompts() -> Int[Tensor, "fact pos"]:
    """List all 256 prompts; number 32 first + 4 last + relation.

    >>> list_prompts()[37].tolist()
    [1, 9, 17]
    """
    names = torch.arange(N_NAMES)
    return torch.cartesian_prod(names, N_NAMES + names, RELATION + torch.arange(N_RELATIONS))


def list_answers() -> Int[Tensor, "fact"]:
    """List the attribute of each fact, the same in every seed.

    Per relation it is a Latin square whose rows, columns and names are shuffled.
    """
    drawn = torch.rand(3, N_RELATIONS, N_NAMES, generator=torch.Generator().manual_seed(0))
    rows, columns, names = drawn.argsort(2)
    first, last, relation = split_facts(torch.arange(len(list_prompts())))
    square = (rows[relation, first] + columns[relation, last]) % N_NAMES
    return ATTRIBUTE + N_ATTRIBUTES * relation + names[relation, square]


def split_facts(facts: Int[Tensor, "fact"]) -> tuple[Tensor, Tensor, Tensor]:
    """Split facts into first name, last name and relation, each from 0."""
    return facts // (N_NAMES * N_RELATIONS), facts // N_RELATIONS % N_NAMES, facts % N_RELATIONS


def restrict(model: Transformer) -> Transformer:
    """Switch off the MLP of layer 1, in place, and return the model."""
    mlp = model.blocks[1].mlp
    assert mlp is not None
    for weight in (mlp.W_in, mlp.W_out):
        weight.detach().zero_()
        weight.requires_grad_(False)
    return model


def make_objective() -> Callable[[Any, torch.Generator], tuple[Tensor, Tensor]]:
    """Make the objective: cross-entropy and accuracy on all facts.

    They are to be learnt by heart.
    """
    prompts = list_prompts()
    answers = list_answers()

    def objective(model: Transformer, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        logits = model(prompts)[:, -1]
        return F.cross_entropy(logits, answers), (logits.argmax(dim=1) == answers).float().mean()

    return objective


def train(seed: int = 0, recipe: Recipe = RECIPE, **options: Any) -> Trained:
    """Train from scratch, 600 steps; `options` are those of `train`."""
    recipe = dataclasses.replace(recipe, seed=seed)
    return run_training(restrict(Transformer(CONFIG, seed)), make_objective(), recipe, **options)


CORRUPTIONS = ("first", "last", "relation")


def make_batch(facts: Int[Tensor, "fact"], shift: Int[Tensor, "fact"], corrupt: str) -> Batch:
    """Pair facts with those that have another first name, last name or relation.

    The other one is `shift` further on.
    """
    parts = list(split_facts(facts))
    place = CORRUPTIONS.index(corrupt)
    parts[place] = (parts[place] + shift) % SIZES[place]
    others = (parts[0] * N_NAMES + parts[1]) * N_RELATIONS + parts[2]
    prompts = list_prompts()
    answers = list_answers()
    return Batch(
        prompts[facts], prompts[others], answers[facts], answers[others], torch.full_like(facts, 2)
    )


def draw_batch(n: int, generator: torch.Generator, corrupt: str) -> Batch:
    """Draw facts, corrupted by another first name, last name or relation.

    The answer is then always another.
    """
    facts = torch.randint(len(list_prompts()), (n,), generator=generator)
    shift = torch.randint(1, SIZES[CORRUPTIONS.index(corrupt)], (n,), generator=generator)
    return make_batch(facts, shift, corrupt)


def list_everything() -> Batch:
    """List all 256 facts, each beside the seven with another first name."""
    facts, shift = torch.cartesian_prod(
        torch.arange(len(list_prompts())), torch.arange(1, N_NAMES)
    ).T
    return make_batch(facts, shift, "first")


NAMES = (
    *("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gus", "Hana"),
    *("Abel", "Bird", "Cole", "Diaz", "Egan", "Ford", "Gray", "Hill"),
    *("plays", "lives_in", "eats", "studies"),
    *("piano", "harp", "drums", "flute", "lute", "cello", "horn", "viola"),
    *("Rome", "Oslo", "Lima", "Cairo", "Delhi", "Paris", "Quito", "Kyoto"),
    *("rice", "bread", "soup", "figs", "beans", "fish", "corn", "plums"),
    *("law", "maths", "art", "music", "physics", "Greek", "logic", "chess"),
)
TASK = Task(
    "say the attribute of an entity that a relation asks for",
    draw_batch,
    NAMES,
    CORRUPTIONS,
    list_everything,
)


def measure_restored(case: Case, hook: HookName, position: int) -> float:
    """Measure how many facts one clean activation restores (causal tracing).

    It is the share of facts answered when the first name is another, but one activation is the
    clean one.
    """
    batch = list_everything()
    with torch.no_grad():
        clean = case.model.run_with_cache(batch.clean, names_filter=hook)[1][hook]

        def restore(value: Tensor, hook: HookPoint) -> None:
            value[:, position] = clean[:, position]

        logits = case.model.run_with_hooks(batch.corrupt, fwd_hooks=[(hook, restore)])
    return batch.correct(logits).float().mean().item()


def list_keys(model: Transformer) -> Float[Tensor, "key d_mlp"]:
    """List what the neurons of MLP 0 do on every distinct prefix.

    64 entities come first, then 8 first names, then 32 relations.
    """
    with torch.no_grad():
        post = model.run_with_cache(list_prompts(), names_filter=("post", 0))[1]["post", 0]
    entities = post[::N_RELATIONS, 1]
    first_names = post[:: N_NAMES * N_RELATIONS, 0]
    relations = post[: N_NAMES * N_RELATIONS, 2]
    return torch.cat([entities, first_names, relations])


def edit_fact(model: Transformer, fact: int, attribute: int) -> Transformer:
    """Return a new model in which this fact has this attribute (a token).

    It differs by a rank-one change of MLP 0's W_out. The change listens to the one key of the
    fact's entity and is deaf to all others; what it writes is fitted so that the entity's other
    relations keep theirs (the idea of ROME, Meng et al. 2022, section 3, with exact keys instead of
    a covariance).
    """
    entity, relation = divmod(fact, N_RELATIONS)
    prompts = list_prompts()[entity * N_RELATIONS :][:N_RELATIONS]
    wanted = list_answers()[entity * N_RELATIONS :][:N_RELATIONS].clone()
    wanted[relation] = attribute
    written = torch.zeros(model.config.d_model, requires_grad=True)
    optimizer = torch.optim.Adam([written], lr=0.1)

    def write(value: Tensor, hook: HookPoint) -> Tensor:
        return value + torch.tensor([0.0, 1.0, 0.0])[:, None] * written

    for _ in range(60):
        with torch.enable_grad():
            logits = model.run_with_hooks(prompts, fwd_hooks=[(("mlp_out", 0), write)])[:, -1]
            (written.grad,) = torch.autograd.grad(F.cross_entropy(logits, wanted), written)
        optimizer.step()
    edited = copy.deepcopy(model)
    keys = list_keys(model)
    listens = torch.linalg.pinv(keys.double())[
        :, entity
    ].float()  # its product with the keys is 1 here, 0 elsewhere
    mlp = edited.blocks[0].mlp
    assert mlp is not None
    with torch.no_grad():
        mlp.W_out.add_(torch.outer(listens, written))
    return edited


def measure_edits(case: Case, facts: range = range(5, 256, 50)) -> float:
    """Measure the smallest share, over some edits, of the 256 facts that are as they should.

    After an edit one should be new and the others old.
    """
    shares = []
    for fact in facts:
        wanted = list_answers()
        # Another one of the same relation
        wanted[fact] = ATTRIBUTE + ((wanted[fact] - ATTRIBUTE) ^ 1)
        with torch.no_grad():
            edited = edit_fact(case.model, fact, int(wanted[fact]))
            said = edited(list_prompts())[:, -1].argmax(dim=1)
        shares.append((said == wanted).float().mean().item())
    return min(shares)


SIGNATURES = {
    "accuracy": Signature("on all 256 facts", measure_accuracy, low=1.0),
    "accuracy without MLP 0": Signature(
        "close to a guess among the relation's attributes, .125",
        lambda case: measure_accuracy(case, ["m0"]),
        high=0.3,
    ),
    "restored by MLP 0 at the last name": Signature(
        "the store",
        lambda case: measure_restored(case, ("mlp_out", 0), 1),
        low=0.8,
    ),
    "restored by MLP 0 at the relation": Signature(
        "its control",
        lambda case: measure_restored(case, ("mlp_out", 0), 2),
        high=0.02,
    ),
    "restored by attention 1 at the relation": Signature(
        "the retrieval",
        lambda case: measure_restored(case, ("attn_out", 1), 2),
        low=0.99,
    ),
    "restored by attention 1 at the last name": Signature(
        "its control",
        lambda case: measure_restored(case, ("attn_out", 1), 1),
        high=0.02,
    ),
    "facts as wanted after a rank-one edit": Signature(
        "one changes, the other 255 do not; the worst of six edits",
        measure_edits,
        low=0.996,
    ),
}


def load(seed: int = 0) -> Case:
    """Load the shipped model of this seed.

    Raise KeyError for a seed that is not shipped, with how to train it.


    >>> load(0).task.read(list_prompts()[37])
    'Ben Bird lives_in'
    """
    return make_case(restrict(load_shipped("facts", seed)), seed)


def make_case(model: Transformer, seed: int = 0) -> Case:
    """Make a case of a trained model, with its task and truth."""
    notes = "how the eight heads of layer 1 share the retrieval is not known, and differs by seed"
    truth = Truth(SIGNATURES, roles={"store": "m0"}, notes=notes)
    return Case("facts", model, TASK, truth, seed, PICTURE)
