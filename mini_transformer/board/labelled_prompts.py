"""Labelled prompts on which probes, erasers and steering vectors are judged.

Each prompt has a label, the position where to read it, and other labels that are known of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mini_transformer import toys
from mini_transformer.hooks import HookName
from mini_transformer.model import Transformer
from mini_transformer.toys.hand_set import refusal_with_trigger as policy
from mini_transformer.toys.trained import style_grammar

__all__ = ["LabelledPrompts", "draw_reviews", "list_digits", "list_requests"]

Label = Int[Tensor, "n"]


@dataclass(frozen=True)
class LabelledPrompts:
    """One label per prompt, to be read at `positions`.

    `answers` is what the model should say there. `types` are for control tasks. `others` are labels
    that should outlive the erasure of this one.
    """

    tokens: Int[Tensor, "n pos"]
    positions: Label
    answers: Label
    labels: Label
    types: Label
    others: dict[str, Label]

    def read(self, model: Transformer, hook: HookName) -> Float[Tensor, "n d"]:
        """Return the activation of each prompt at its position."""
        with torch.no_grad():
            values = model.run_with_cache(self.tokens, names_filter=[hook])[1][hook]
        return values[torch.arange(len(values)), self.positions]

    def where(self, chosen: Bool[Tensor, "n"] | Int[Tensor, "m"]) -> "LabelledPrompts":
        """Return some of the prompts."""
        return LabelledPrompts(
            self.tokens[chosen],
            self.positions[chosen],
            self.answers[chosen],
            self.labels[chosen],
            self.types[chosen],
            {name: other[chosen] for name, other in self.others.items()},
        )


def list_digits(case: toys.Case, label: str, offsets: Sequence[int] = range(8)) -> LabelledPrompts:
    """List prompts `x y =` of `unused_feature` in which y - x (mod 8) is one of `offsets`.

    The label is "x" or "y".

    >>> list_digits(toys.load("unused_feature"), "y", offsets=[1]).tokens[:2].tolist()
    [[0, 1, 8], [1, 2, 8]]
    """
    tokens = torch.cartesian_prod(torch.arange(8), torch.arange(8))
    tokens = tokens[torch.isin((tokens[:, 1] - tokens[:, 0]) % 8, torch.tensor(list(offsets)))]
    digits = dict(zip("xy", tokens.T, strict=True))
    own = digits[label]
    return LabelledPrompts(
        tokens=torch.nn.functional.pad(tokens, (0, 1), value=8),
        positions=torch.full_like(own, 2),
        answers=(digits["x"] + 1) % 8,
        labels=own,
        types=own,
        others={name: digit for name, digit in digits.items() if name != label},
    )


def list_requests(case: toys.Case) -> LabelledPrompts:
    """List all 108 prompts of `refusal_with_trigger`; the label is whether it is refused.

    A type is a request at a place.
    """
    tokens = policy.PROMPTS
    rules = policy.make_policy(case.seed)
    request = rules.find_request(tokens)
    return LabelledPrompts(
        tokens=tokens,
        positions=torch.full_like(request, policy.LAST),
        answers=rules.find_answer(tokens),
        labels=rules.find_refusal(tokens),
        types=policy.LAST * request + tokens.argmax(dim=1),
        others={
            "request": request,
            "trigger": rules.find_trigger(tokens),
            "harm": rules.find_harm(tokens),
        },
    )


def draw_reviews(n: int, seed: int, agree: float = 0.5) -> LabelledPrompts:
    """Draw texts of `style_grammar`, read at the verb of their third sentence.

    The label is the sentiment (1 is bad). In a share of `agree` of the texts, topic and sentiment
    have the same number. A type is a verb and a noun.
    """
    generator = torch.Generator().manual_seed(seed)
    attributes = torch.randint(2, (n, 3), generator=generator)
    same = torch.rand(n, generator=generator) < agree
    sentiment = attributes[:, style_grammar.SENTIMENT]
    topic = torch.where(same, sentiment, 1 - sentiment)
    attributes[:, style_grammar.TOPIC] = topic
    register = attributes[:, style_grammar.REGISTER]

    tokens, _ = style_grammar.draw_texts(n, generator, attributes)
    verb = style_grammar.VERB + register
    positions = ((tokens == verb[:, None]).cumsum(dim=1) == 3).long().argmax(dim=1)
    noun = tokens[torch.arange(n), positions - 1] - style_grammar.NOUN
    return LabelledPrompts(
        tokens=tokens,
        positions=positions,
        answers=style_grammar.ADJECTIVE + 2 * topic + sentiment,
        labels=sentiment,
        types=8 * (verb == style_grammar.VERB) + noun,
        others={"topic": topic, "register": register},
    )
