"""What to steer: where vectors may be added, what should change, what should stay."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mini_transformer import toys
from mini_transformer.board import labelled_prompts
from mini_transformer.board.labelled_prompts import LabelledPrompts
from mini_transformer.hooks import HookName
from mini_transformer.toys.hand_set import refusal_with_trigger as policy
from mini_transformer.toys.trained import style_grammar

__all__ = ["SETTINGS", "Setting", "Steering"]

HOOKS: tuple[HookName, ...] = (("resid_post", 0), ("resid_mid", 1), ("resid_post", 1))
# By hand, logits are 40 apart, so that nothing shows until everything does.
TEMPERATURE = 10.0
Steering = tuple[Tensor, HookName]


@dataclass(frozen=True)
class Setting:
    """What to steer, and the right vector.

    A method sees prompts with the property (`positive`) and without (`negative`), at `hooks`. Its
    vector is judged on `tried`. From logits (n, v), `target` computes the probability of the
    property, `rest` the log probabilities of what should stay. `reach` is the largest strength, in
    lengths of the difference in means.
    """

    case: toys.Case
    hooks: tuple[HookName, ...]
    positive: LabelledPrompts
    negative: LabelledPrompts
    tried: LabelledPrompts
    target: Callable[[Tensor], Tensor]
    rest: Callable[[Tensor], Tensor]
    right: Steering
    note: str
    temperature: float = 1.0
    reach: float = 2.0


def refusal(case: toys.Case, away: bool) -> Setting:
    """Make the model refuse, or keep it from refusing (`away`).

    Which reply it gives, if it does, should stay.
    """
    prompts = labelled_prompts.list_requests(case)
    quiet = prompts.others["trigger"] == 0
    refused = prompts.where(prompts.labels == 1)
    answered = prompts.where((prompts.labels == 0) & quiet)
    positive, negative = (answered, refused) if away else (refused, answered)
    replies = torch.arange(len(case.task.token_names)) != policy.REFUSE
    refuse = case.truth.variables["refusal"].subspace[0]

    def target(logits: Tensor) -> Tensor:
        says = logits.softmax(dim=1)[:, policy.REFUSE]
        return 1 - says if away else says

    def rest(logits: Tensor) -> Tensor:
        return logits[:, replies].log_softmax(dim=1)

    return Setting(
        case,
        HOOKS,
        positive,
        negative,
        tried=negative,
        target=target,
        rest=rest,
        right=(-refuse if away else refuse, HOOKS[-1]),
        note="the refusal direction after the last layer, set by hand: it moves REFUSE alone",
        temperature=TEMPERATURE,
        reach=1.0,
    )


def reviews(case: toys.Case) -> Setting:
    """Make good reviews bad; topic and all other words should stay.

    In 4 of 5 texts shown, topic and sentiment go together.
    """
    shown = labelled_prompts.draw_reviews(300, 100 * case.seed + 20, agree=0.8)
    tried = labelled_prompts.draw_reviews(300, 100 * case.seed + 21, agree=0.5)
    good = style_grammar.ADJECTIVE  # of the first topic; then bad, then the same of the second
    bad = good + 1

    def target(logits: Tensor) -> Tensor:
        p = logits.softmax(dim=1)
        return p[:, bad::2].sum(dim=1) / p[:, good:].sum(dim=1)

    def rest(logits: Tensor) -> Tensor:
        logs = logits.log_softmax(dim=1)
        by_topic = [logs[:, pair : pair + 2].logsumexp(dim=1) for pair in (good, good + 2)]
        return torch.cat([logs[:, :good], torch.stack(by_topic, dim=1)], dim=1)

    return Setting(
        case,
        HOOKS,
        positive=shown.where(shown.labels == 1),
        negative=shown.where(shown.labels == 0),
        tried=tried.where(tried.labels == 0),
        target=target,
        rest=rest,
        right=(
            style_grammar.find_direction(case, style_grammar.SENTIMENT),
            style_grammar.SITE,
        ),
        note=(
            "the difference in means on balanced texts after attention 1 "
            "(measured, not the best there can be)"
        ),
    )


SETTINGS: dict[str, Callable[[toys.Case], Setting]] = {
    "refusal_with_trigger/refuse": lambda case: refusal(case, away=False),
    "refusal_with_trigger/answer": lambda case: refusal(case, away=True),
    "style_grammar/sentiment": reviews,
}
