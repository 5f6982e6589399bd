"""A small language model of reviews whose topic, register and sentiment are known.

It is for probing, erasing and steering. Every text has three hidden attributes that stay the same
throughout: topic (film or food), register (formal or casual), sentiment (good or bad). Sentences
look like "indeed the plot is not bland .": the opener and the verb show the register, the noun the
topic, the adjective topic and sentiment, but "not" (in 3 of 10 sentences) turns the adjective
around: no word alone gives the sentiment away. What comes next is known exactly, so the loss has a
known floor.

Seed 3 is not shipped: its sentiment is decoded by a probe at .996, but adding the difference of
means hardly moves it (.97 of the adjectives keep their sentiment). Decodable by a line is not the
same as steered by the means.
"""

import dataclasses
import math
from collections.abc import Callable
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

WORDS = (
    *("|", "the", ".", "not", "is", "'s"),
    *("indeed", "moreover", "overall", "honestly", "anyway", "well"),  # openers: formal, casual
    *("film", "plot", "actor", "scene", "soup", "bread", "sauce", "dessert"),
    *("gripping", "tedious", "tasty", "bland"),
)
START, THE, STOP, NOT, VERB = range(5)
# The first token of each group.
OPENER, NOUN, ADJECTIVE = (WORDS.index(word) for word in ("indeed", "film", "gripping"))
N_OPENERS, N_NOUNS, N_SENTENCES, LENGTH = 3, 4, 4, 25
NEGATED = 0.3  # of all sentences
TOPIC, REGISTER, SENTIMENT = range(3)
SITE = ("resid_mid", 1)  # after attention 1: everything that will be used has arrived

CONFIG = Config(d_vocab=len(WORDS), n_ctx=LENGTH, d_model=64, n_layers=2, n_heads=4, d_mlp=128)
RECIPE = Recipe(steps=700, lr=5e-3, batch=64, warm_up=20, cool_down=500)

PICTURE = """\
  earlier nouns    --topic-----> `the`     \\
  earlier openers  --register--> `.`        >  stream after attention 1 --> next word
  not, adjectives  --sentiment-> the verb  /"""


def draw_texts(
    n: int, generator: torch.Generator, attributes: Int[Tensor, "text 3"] | None = None
) -> tuple[Int[Tensor, "text pos"], Int[Tensor, "text 3"]]:
    """Draw texts of 25 tokens and their (topic, register, sentiment), each 0 or 1.

    film, formal and good are 0.
    """
    drawn = torch.randint(2, (n, 3), generator=generator)
    attributes = drawn if attributes is None else attributes
    topic, register, sentiment = attributes.unsqueeze(2).expand(-1, -1, N_SENTENCES).unbind(dim=1)
    negated = torch.rand(n, N_SENTENCES, generator=generator) < NEGATED
    opener = (
        OPENER
        + N_OPENERS * register
        + torch.randint(N_OPENERS, (n, N_SENTENCES), generator=generator)
    )
    noun = NOUN + N_NOUNS * topic + torch.randint(N_NOUNS, (n, N_SENTENCES), generator=generator)
    adjective = ADJECTIVE + 2 * topic + (sentiment ^ negated.long())
    the = torch.full_like(noun, THE)
    stop = torch.full_like(noun, STOP)
    slots = [opener, the, noun, VERB + register, torch.where(negated, NOT, -1), adjective, stop]
    words = torch.stack(slots, dim=2).flatten(1)
    # Empty slots go to the end
    kept = words.gather(1, (words < 0).long().argsort(dim=1, stable=True))
    return F.pad(kept[:, : LENGTH - 1], (1, 0), value=START), attributes


def measure_floor(tokens: Int[Tensor, "text pos"]) -> Float[Tensor, "text pos-1"]:
    """Compute -log probability of each token under the grammar itself, in nats.

    The first token is left out.
    """
    cost = torch.zeros(tokens[:, 1:].shape)
    after = tokens[:, 1:]
    first = (after == STOP).cumsum(
        dim=1
    ) == 0  # the first sentence, where the attributes are not yet known
    cost += ((after >= OPENER) & (after < NOUN)) * (math.log(N_OPENERS) + math.log(2) * first)
    cost += ((after >= NOUN) & (after < ADJECTIVE)) * (math.log(N_NOUNS) + math.log(2) * first)
    cost += (after >= ADJECTIVE) * math.log(2) * first
    at_verb = (tokens[:, :-1] == VERB) | (tokens[:, :-1] == VERB + 1)
    return cost - at_verb * torch.where(after == NOT, math.log(NEGATED), math.log(1 - NEGATED))


def make_objective(batch: int) -> Callable[[Any, torch.Generator], tuple[Tensor, None]]:
    """Make the objective: cross-entropy of the next token.

    The attributes are never shown.
    """

    def objective(model: Transformer, generator: torch.Generator) -> tuple[Tensor, None]:
        tokens, _ = draw_texts(batch, generator)
        return F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten()), None

    return objective


def train(seed: int = 0, recipe: Recipe = RECIPE, **options: Any) -> Trained:
    """Train from scratch, 700 steps; `options` are those of `train`."""
    recipe = dataclasses.replace(recipe, seed=seed)
    return run_training(Transformer(CONFIG, seed), make_objective(recipe.batch), recipe, **options)


def draw_batch(n: int, generator: torch.Generator, corrupt: str) -> Batch:
    """Draw texts that end in the verb of their third sentence, and call for an adjective.

    (The adjective is likelier than "not".) corrupt "sentiment" turns every adjective before it into
    its opposite, "topic" changes every noun and adjective to the other topic.
    """
    tokens, attributes = draw_texts(n, generator)
    is_verb = (tokens == VERB) | (tokens == VERB + 1)
    position = (is_verb & (is_verb.cumsum(dim=1) == 3)).long().argmax(dim=1)
    tokens = torch.where(torch.arange(LENGTH) <= position.unsqueeze(1), tokens, STOP)[
        :, : int(position.max()) + 1
    ]
    is_noun = (tokens >= NOUN) & (tokens < ADJECTIVE)
    is_adjective = tokens >= ADJECTIVE
    if corrupt == "sentiment":
        corrupted = torch.where(is_adjective, ADJECTIVE + ((tokens - ADJECTIVE) ^ 1), tokens)
    else:
        corrupted = torch.where(is_noun, NOUN + ((tokens - NOUN + N_NOUNS) % (2 * N_NOUNS)), tokens)
        corrupted = torch.where(is_adjective, ADJECTIVE + ((tokens - ADJECTIVE) ^ 2), corrupted)
    answer = 2 * attributes[:, TOPIC] + attributes[:, SENTIMENT]
    wrong = answer ^ (1 if corrupt == "sentiment" else 2)
    return Batch(tokens, corrupted, ADJECTIVE + answer, ADJECTIVE + wrong, position)


TASK = Task(
    "a text goes on in its topic, register and sentiment", draw_batch, WORDS, ("sentiment", "topic")
)


def find_uses(tokens: Int[Tensor, "text pos"], attribute: int) -> Bool[Tensor, "text pos"]:
    """Mark where the next word depends on this attribute, from the second sentence on.

    For sentiment this is at the verb, and not after a "not".
    """
    verb = (tokens == VERB) | (tokens == VERB + 1)
    return ((tokens == STOP).cumsum(dim=1) > 0) & (tokens == THE, tokens == STOP, verb)[attribute]


def share_own(
    logits: Float[Tensor, "text pos vocab"],
    tokens: Tensor,
    attributes: Tensor,
    attribute: int,
    at: int | None = None,
) -> float:
    """Measure the mean probability of words that show the text's own attribute value.

    It is a share of all words that show either value. Read where the attribute `at` is used, by
    default itself; at the verb both topic and sentiment can be read off the adjective.
    """
    p = logits.softmax(dim=-1)
    shown = torch.arange(len(WORDS))
    adjective = shown - ADJECTIVE
    at = attribute if at is None else at
    groups = {THE: (shown - NOUN) // N_NOUNS, STOP: (shown - OPENER) // N_OPENERS}
    groups[VERB] = torch.where(
        adjective >= 0, adjective // 2 if attribute == TOPIC else adjective % 2, -1
    )
    group = groups[(THE, STOP, VERB)[at]]
    shares = [p[..., group == value].sum(dim=-1) for value in (0, 1)]
    either = torch.stack(shares, dim=-1)  # text pos value
    value = attributes[:, [attribute]].unsqueeze(1).expand(-1, either.shape[1], -1)
    own = either.gather(2, value).squeeze(2)
    return (own / either.sum(dim=-1))[find_uses(tokens, at)].mean().item()


def find_direction(case: Case, attribute: int) -> Float[Tensor, "d_model"]:
    """Find the direction from the mean of texts with value 0 to that with value 1.

    It is found where the attribute is used, at SITE.
    """
    tokens, attributes = draw_texts(512, case.make_generator(1))
    stream = read_stream(case.model, tokens)
    is_one = (attributes[:, attribute] == 1).unsqueeze(1)
    used = find_uses(tokens, attribute)
    return stream[used & is_one].mean(dim=0) - stream[used & ~is_one].mean(dim=0)


def read_stream(
    model: Transformer, tokens: Int[Tensor, "text pos"], hook: HookName = SITE
) -> Float[Tensor, "text pos d_model"]:
    with torch.no_grad():
        return model.run_with_cache(tokens, names_filter=[hook])[1][hook]


def measure_steered(
    case: Case, attribute: int, read: int | None = None, random: bool = False
) -> float:
    """Measure what is left of the text's own value when the stream is steered away from it.

    Twice the direction to the other value is added where the attribute is used. `read` names
    another attribute to look at there; `random` adds a random direction of the same norm instead,
    another one to each text.
    """
    tokens, attributes = draw_texts(512, case.make_generator(2))
    direction = find_direction(case, attribute).expand(len(tokens), -1)
    if random:
        noise = torch.randn(direction.shape, generator=case.make_generator(3))
        direction = F.normalize(noise, dim=1) * direction.norm(dim=1, keepdim=True)
    to_other = 2.0 * ((1 - 2 * attributes[:, [attribute]]) * direction).unsqueeze(1)

    def steer(stream: Tensor, hook: HookPoint) -> Tensor:
        return torch.where(find_uses(tokens, attribute).unsqueeze(2), stream + to_other, stream)

    with torch.no_grad():
        logits = case.model.run_with_hooks(tokens, fwd_hooks=[(SITE, steer)])
    return share_own(logits, tokens, attributes, attribute if read is None else read, at=attribute)


def measure_probe(case: Case, attribute: int, hook: HookName = SITE) -> float:
    """Measure the accuracy, on fresh texts, of a linear probe for an attribute.

    It is fitted by least squares where the attribute is used.
    """
    points = []
    for seed in (1, 2):
        tokens, attributes = draw_texts(512, case.make_generator(seed))
        used = find_uses(tokens, attribute)
        stream = F.pad(read_stream(case.model, tokens, hook)[used], (0, 1), value=1.0).double()
        points.append((stream, 2.0 * attributes[:, [attribute]].expand_as(used)[used].double() - 1))
    (x, y), (fresh_x, fresh_y) = points
    probe = torch.linalg.lstsq(x, y.unsqueeze(1), driver="gelsd").solution
    right = (fresh_x @ probe)[:, 0] * fresh_y > 0
    return right.float().mean().item()


def measure_excess(case: Case) -> float:
    """Measure the loss above that of the grammar itself, in nats per token, on 512 texts."""
    tokens, _ = draw_texts(512, case.make_generator(2))
    with torch.no_grad():
        logits = case.model(tokens[:, :-1])
    loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).item()
    return loss - measure_floor(tokens).mean().item()


SIGNATURES = {
    "excess loss": Signature(
        "above the grammar's own entropy, nats per token",
        measure_excess,
        high=0.01,
    ),
    "accuracy": Signature(
        "on the task: the right adjective",
        measure_accuracy,
        low=0.98,
    ),
    "topic decodable": Signature(
        "probe at the",
        lambda case: measure_probe(case, TOPIC),
        low=0.98,
    ),
    "register decodable": Signature(
        "probe at .",
        lambda case: measure_probe(case, REGISTER),
        low=0.98,
    ),
    "sentiment decodable": Signature(
        "probe at the verb",
        lambda case: measure_probe(case, SENTIMENT),
        low=0.98,
    ),
    "sentiment decodable from the verb itself": Signature(
        "the control, before layer 0: a guess",
        lambda case: measure_probe(case, SENTIMENT, ("resid_pre", 0)),
        high=0.6,
    ),
    "topic left after steering it": Signature(
        "share of nouns of the text's own topic",
        lambda case: measure_steered(case, TOPIC),
        high=0.2,
    ),
    "register left after steering it": Signature(
        "share of openers of the text's own register",
        lambda case: measure_steered(case, REGISTER),
        high=0.2,
    ),
    "sentiment left after steering it": Signature(
        "share of adjectives of the text's own sentiment",
        lambda case: measure_steered(case, SENTIMENT),
        high=0.3,
    ),
    "sentiment left after a random direction": Signature(
        "the control, same norm",
        lambda case: measure_steered(case, SENTIMENT, random=True),
        low=0.85,
    ),
    "topic left after steering sentiment": Signature(
        "off target: the same adjectives' topic",
        lambda case: measure_steered(case, SENTIMENT, TOPIC),
        low=0.7,
    ),
}


def load(seed: int = 0) -> Case:
    """Load the shipped model of this seed.

    Raise KeyError for a seed that is not shipped, with how to train it.


    >>> load(0).task.read(draw_texts(1, torch.Generator().manual_seed(0))[0][0, :8])
    "| anyway the actor 's not gripping ."
    """
    return make_case(load_shipped("style_grammar", seed), seed)


def make_case(model: Transformer, seed: int = 0) -> Case:
    """Make a case of a trained model, with its task and truth."""
    notes = (
        "the attributes are carried by several positions at once, "
        "sentiment by the verb and by earlier adjectives already "
        "after layer 0: steering after layer 0 does little; which heads do what is not known"
    )
    return Case("style_grammar", model, TASK, Truth(SIGNATURES, notes=notes), seed, PICTURE)
