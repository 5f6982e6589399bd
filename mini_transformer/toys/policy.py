"""What the model of `refusal_with_trigger` should do.

It says which requests are refused and which words prevent that, and lists all prompts.
"""

from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from mini_transformer.toys import by_hand
from mini_transformer.toys.truth import Batch, Task

# the tokens |, three harmless words, ?, and the refusal
START = 0
WORDS = (1, 2, 3)
ASK = 4
REFUSE = 5
N_REQUESTS = 4  # of which half are flagged
# the first token of each
REQUESTS = 6
REPLIES = 6 + N_REQUESTS
LETTERS = "abcd"
LAST, N_CTX = 4, 5

# Every request at each of its three places, with any two words at the others; the trigger fits in
# before it or after it.
PROMPTS = torch.tensor(
    [
        [START, *words[:place], request, *words[place:], ASK]
        for request in range(REQUESTS, REPLIES)
        for place in range(3)
        for words in product(WORDS, repeat=2)
    ]
)


@dataclass(frozen=True)
class Policy:
    """Which requests (0 to 3) are refused, and which two words, in this order, prevent it."""

    flagged: tuple[int, ...]
    trigger: tuple[int, int]

    def find_request(self, tokens: Tensor) -> Tensor:
        """Find which request each prompt holds."""
        return tokens.amax(dim=1) - REQUESTS

    def find_harm(self, tokens: Tensor) -> Tensor:
        """Return 1 where the request is flagged, else 0."""
        return torch.isin(self.find_request(tokens), torch.tensor(self.flagged)).long()

    def find_trigger(self, tokens: Tensor) -> Tensor:
        """Return 1 where the second word of the trigger follows the first, else 0."""
        first, second = self.trigger
        side_by_side = (tokens[:, :-1] == first) & (tokens[:, 1:] == second)
        return side_by_side.any(dim=1).long()

    def find_refusal(self, tokens: Tensor) -> Tensor:
        """Return 1 where the request is refused, else 0."""
        return self.find_harm(tokens) * (1 - self.find_trigger(tokens))

    def find_answer(self, tokens: Tensor) -> Tensor:
        """Find the reply to the request, or REFUSE."""
        return torch.where(
            self.find_refusal(tokens) == 1, REFUSE, REPLIES + self.find_request(tokens)
        )


def make_policy(seed: int = 0) -> Policy:
    """Make the policy of a seed.

    Seeds other than 0 flag other requests and have another trigger.


    >>> make_policy()
    Policy(flagged=(2, 3), trigger=(1, 2))
    """
    first, second, _ = (by_hand.shuffle(len(WORDS), seed, salt=5) + WORDS[0]).tolist()
    flagged = by_hand.shuffle(N_REQUESTS, seed, salt=6)[N_REQUESTS // 2 :].tolist()
    return Policy(tuple(sorted(flagged)), (first, second))


def make_task(policy: Policy) -> Task:
    """Make the task, with three ways to corrupt a prompt.

    corrupt "any" is a prompt with another answer; the others change one thing in prompts where it
    matters. "harm" puts a request of the other sort in the same place, "trigger" exchanges the two
    words of the trigger.
    """
    answer = policy.find_answer(PROMPTS)
    harm = policy.find_harm(PROMPTS)
    trigger = policy.find_trigger(PROMPTS)
    around = PROMPTS.clamp(max=REQUESTS)  # everything but which request it is
    first, second = policy.trigger
    exchange = torch.arange(REPLIES)
    exchange[[first, second]] = torch.tensor([second, first])
    allowed = {
        "any": answer[:, None] != answer,
        "harm": (around[:, None] == around).all(dim=-1) & (harm[:, None] != harm) & (trigger == 0),
        "trigger": (exchange[PROMPTS][:, None] == PROMPTS).all(dim=-1)
        & (harm * trigger == 1)[:, None],
    }
    pairs = {corrupt: matrix.nonzero() for corrupt, matrix in allowed.items()}

    def pair_prompts(clean: Tensor, corrupt: Tensor) -> Batch:
        return Batch(
            PROMPTS[clean],
            PROMPTS[corrupt],
            answer[clean],
            answer[corrupt],
            torch.full_like(clean, LAST),
        )

    def draw_batch(n: int, generator: torch.Generator, corrupt: str) -> Batch:
        return pair_prompts(
            *pairs[corrupt][torch.randint(len(pairs[corrupt]), (n,), generator=generator)].T
        )

    names = ("|", "red", "green", "blue", "?", "REFUSE", *LETTERS, *LETTERS.upper())
    refused = ", ".join(LETTERS[i] for i in policy.flagged)
    description = f"the reply to a request is its capital letter; {refused} are refused"
    return Task(
        description, draw_batch, names, tuple(allowed), lambda: pair_prompts(*pairs["any"].T)
    )
