"""What to steer: where vectors may be added, what should change, what should stay, and the right vector."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mini_transformer import toys
from mini_transformer.board import labelled
from mini_transformer.board.labelled import Rows
from mini_transformer.hooks import HookName
from mini_transformer.toys import policy, style_grammar

TEMPERATURE = 10.0  # by hand, logits are 40 apart, so that nothing shows until everything does
Steering = tuple[Tensor, HookName]


@dataclass(frozen=True)
class Setting:
    """`target` is the probability of the property, `rest` the log probabilities of what should stay, both from logits (n, v)."""

    case: toys.Case
    hooks: tuple[HookName, ...]
    positive: Rows
    negative: Rows
    tried: Rows
    target: Callable[[Tensor], Tensor]
    rest: Callable[[Tensor], Tensor]
    right: Steering
    note: str
    temperature: float = 1.0
    reach: float = 2.0  # the largest strength, in lengths of the difference in means


def set_refusal(case: toys.Case, away: bool) -> Setting:
    """Make the model refuse, or keep it from refusing; which reply it gives, if it does, should stay."""
    rows = labelled.list_requests(case)
    quiet, others = (
        rows.others["trigger"] == 0,
        torch.arange(len(case.task.token_names)) != policy.REFUSE,
    )
    refused, answered = rows.where(rows.labels == 1), rows.where((rows.labels == 0) & quiet)
    positive, negative = (answered, refused) if away else (refused, answered)
    refuse = case.truth.variables["refusal"].subspace[0]

    def target(logits: Tensor) -> Tensor:
        says = logits.softmax(dim=1)[:, policy.REFUSE]
        return 1 - says if away else says

    def rest(logits: Tensor) -> Tensor:
        return logits[:, others].log_softmax(dim=1)

    hooks: tuple[HookName, ...] = (("resid_post", 0), ("resid_mid", 1), ("resid_post", 1))
    right = (-refuse if away else refuse, hooks[-1])
    note = "the refusal direction after the last layer, set by hand: it moves REFUSE alone"
    return Setting(
        case, hooks, positive, negative, negative, target, rest, right, note, TEMPERATURE, 1.0
    )


def set_reviews(case: toys.Case) -> Setting:
    """Make good reviews bad; topic and all other words should stay. In 4 of 5 texts shown, topic and sentiment go together."""
    shown, tried = (
        labelled.draw_reviews(300, 100 * case.seed + number, agree)
        for number, agree in ((20, 0.8), (21, 0.5))
    )
    good, bad = style_grammar.ADJECTIVE, style_grammar.ADJECTIVE + 1

    def target(logits: Tensor) -> Tensor:
        p = logits.softmax(dim=1)
        return p[:, bad::2].sum(dim=1) / p[:, good:].sum(dim=1)

    def rest(logits: Tensor) -> Tensor:
        logs = logits.log_softmax(dim=1)
        by_topic = torch.stack(
            [logs[:, pair : pair + 2].logsumexp(dim=1) for pair in (good, good + 2)], dim=1
        )
        return torch.cat([logs[:, :good], by_topic], dim=1)

    hooks: tuple[HookName, ...] = (("resid_post", 0), ("resid_mid", 1), ("resid_post", 1))
    right = (style_grammar.find_direction(case, style_grammar.SENTIMENT), style_grammar.SITE)
    positive, negative = shown.where(shown.labels == 1), shown.where(shown.labels == 0)
    good_ones = tried.where(tried.labels == 0)
    note = "the difference in means on balanced texts after attention 1 (measured, not the best there can be)"
    return Setting(case, hooks, positive, negative, good_ones, target, rest, right, note)
