"""What the scratchpad models are asked: x + y + z (mod 4).

x + y is written down before the answer, rightly or wrongly.
"""

import torch
from torch import Tensor

from mini_transformer.toys.truth import Batch, Task

N = 4  # digits
COLON = N
ASKED, LAST = 3, 4  # positions of the : and of the scratchpad


def follow_scratchpad(tokens: Tensor) -> Tensor:
    """Compute s + z (mod 4), the answer that follows from the scratchpad."""
    return (tokens[:, LAST] + tokens[:, 2]) % N


def follow_question(tokens: Tensor) -> Tensor:
    """Compute x + y + z (mod 4), the answer whatever the scratchpad says."""
    return tokens[:, :3].sum(dim=1) % N


def find_sum(tokens: Tensor) -> Tensor:
    """Compute x + y (mod 4), what belongs in the scratchpad."""
    return tokens[:, :2].sum(dim=1) % N


# Every question with every scratchpad: those that the models write themselves, and edited ones.
PROMPTS = torch.cartesian_prod(*[torch.arange(N)] * 3, torch.tensor([COLON]), torch.arange(N))
OWN = PROMPTS[PROMPTS[:, LAST] == find_sum(PROMPTS)]
EDITED = PROMPTS[PROMPTS[:, LAST] != find_sum(PROMPTS)]


def pair_prompts(corrupt: str) -> Batch:
    """Pair all prompts that have different answers.

    `wrong` is the answer that follows from what was corrupted. "question" is another question with
    its own scratchpad, "scratchpad" changes only that, "sum" only x and y.
    """
    prompts = EDITED if corrupt != "question" else OWN
    answer = follow_scratchpad(OWN)
    wrong = follow_question(prompts) if corrupt == "sum" else follow_scratchpad(prompts)
    kept = {"question": [], "scratchpad": [0, 1, 2], "sum": [2, LAST]}[corrupt]
    same = (OWN[:, None, kept] == prompts[:, kept]).all(dim=-1) & (answer[:, None] != wrong)
    clean, other = same.nonzero().T
    return Batch(
        OWN[clean], prompts[other], answer[clean], wrong[other], torch.full_like(clean, LAST)
    )


def draw_batch(n: int, generator: torch.Generator, corrupt: str) -> Batch:
    """Draw some of these pairs."""
    pairs = pair_prompts(corrupt)
    rows = torch.randint(len(pairs.clean), (n,), generator=generator)
    return Batch(
        pairs.clean[rows],
        pairs.corrupt[rows],
        pairs.answer[rows],
        pairs.wrong[rows],
        pairs.position[rows],
    )


TASK = Task(
    description="x y z : s, where s is x + y, is followed by x + y + z (mod 4)",
    sample=draw_batch,
    token_names=(*"0123", ":"),
    corruptions=("question", "scratchpad", "sum"),
    everything=lambda: pair_prompts("question"),
)
