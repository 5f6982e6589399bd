"""Prompts with a label, where to read it, and what else is known of each: what probes, erasers and steering vectors are judged on."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mini_transformer import toys
from mini_transformer.hooks import HookName
from mini_transformer.model import Transformer
from mini_transformer.toys import policy, style_grammar

Label = Int[Tensor, "n"]


@dataclass(frozen=True)
class Rows:
    """One label per prompt, to be read at `positions`; `types` are for control tasks, `others` what should outlive an erasure."""

    tokens: Int[Tensor, "n pos"]
    positions: Label
    answers: Label  # what the model should say there
    labels: Label
    types: Label
    others: dict[str, Label]

    def read(self, model: Transformer, hook: HookName) -> Float[Tensor, "n d"]:
        """The activation of each row at its position."""
        with torch.no_grad():
            values = model.run_with_cache(self.tokens, names_filter=[hook])[1][hook]
        return values[torch.arange(len(values)), self.positions]

    def where(self, chosen: Bool[Tensor, "n"] | Int[Tensor, "m"]) -> "Rows":
        """Some of the rows."""
        others = {name: other[chosen] for name, other in self.others.items()}
        parts = (
            part[chosen]
            for part in (self.tokens, self.positions, self.answers, self.labels, self.types)
        )
        tokens, positions, answers, labels, types = parts
        return Rows(tokens, positions, answers, labels, types, others)


def list_digits(case: toys.Case, label: str, offsets: Sequence[int] = range(8)) -> Rows:
    """The prompts `x y =` of `unused_feature` in which y - x (mod 8) is one of `offsets`; the label is x or y.

    >>> list_digits(toys.load("unused_feature"), "y", offsets=[1]).tokens[:2].tolist()
    [[0, 1, 8], [1, 2, 8]]
    """
    tokens = torch.cartesian_prod(torch.arange(8), torch.arange(8))
    tokens = tokens[torch.isin((tokens[:, 1] - tokens[:, 0]) % 8, torch.tensor(list(offsets)))]
    x, y = tokens.T
    own, other = (x, y) if label == "x" else (y, x)
    others = {"y" if label == "x" else "x": other}
    return Rows(
        torch.nn.functional.pad(tokens, (0, 1), value=8), x * 0 + 2, (x + 1) % 8, own, own, others
    )


def list_requests(case: toys.Case) -> Rows:
    """All 108 prompts of `refusal_with_trigger`; the label is whether it is refused. Types are a request at a place."""
    tokens, rules = policy.PROMPTS, policy.make_policy(case.seed)
    request, trigger = rules.find_request(tokens), rules.find_trigger(tokens)
    last, types = (
        torch.full_like(request, policy.LAST),
        policy.LAST * request + tokens.argmax(dim=1),
    )
    others = {"request": request, "trigger": trigger, "harm": rules.find_harm(tokens)}
    return Rows(tokens, last, rules.find_answer(tokens), rules.find_refusal(tokens), types, others)


def draw_reviews(n: int, seed: int, agree: float = 0.5) -> Rows:
    """Texts of `style_grammar` at the verb of their third sentence; the label is the sentiment (1 is bad).

    In a share of `agree` of the texts, topic and sentiment have the same number. Types are verb and noun.
    """
    generator = torch.Generator().manual_seed(seed)
    attributes = torch.randint(2, (n, 3), generator=generator)
    same = torch.rand(n, generator=generator) < agree
    topic = torch.where(
        same, attributes[:, style_grammar.SENTIMENT], 1 - attributes[:, style_grammar.SENTIMENT]
    )
    attributes[:, style_grammar.TOPIC] = topic
    tokens, _ = style_grammar.draw_texts(n, generator, attributes)
    verb = style_grammar.VERB + attributes[:, style_grammar.REGISTER]
    positions = ((tokens == verb[:, None]).cumsum(dim=1) == 3).long().argmax(dim=1)
    sentiment, noun = attributes[:, style_grammar.SENTIMENT], tokens[torch.arange(n), positions - 1]
    answers = style_grammar.ADJECTIVE + 2 * topic + sentiment
    others = {"topic": topic, "register": attributes[:, style_grammar.REGISTER]}
    return Rows(
        tokens,
        positions,
        answers,
        sentiment,
        8 * (verb == style_grammar.VERB) + noun - style_grammar.NOUN,
        others,
    )
