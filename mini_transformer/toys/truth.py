"""A case: a model, its task, and what is known to be true of the model.

Each truth says how it is known.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mini_transformer.model import Transformer
from mini_transformer.tensors import copy_fields

HowKnown = Literal["construction", "enumeration", "measured"]


@dataclass(frozen=True)
class Batch:
    """Prompts with their answers.

    `clean[i]` calls for token `answer[i]` at position `position[i]`; `corrupt[i]` does not.
    `wrong[i]` is the token to compare the answer with: what the corrupt prompt calls for, where it
    calls for one.
    """

    clean: Int[Tensor, "batch pos"]
    corrupt: Int[Tensor, "batch pos"]
    answer: Int[Tensor, "batch"]
    wrong: Int[Tensor, "batch"]
    position: Int[Tensor, "batch"]

    def __post_init__(self) -> None:
        copy_fields(self)

    def distinct(self) -> "Batch":
        """Keep each clean prompt once, beside one of its corrupt ones."""
        last_row = {tuple(prompt): row for row, prompt in enumerate(self.clean.tolist())}
        rows = torch.tensor(sorted(last_row.values()))
        return Batch(
            self.clean[rows],
            self.corrupt[rows],
            self.answer[rows],
            self.wrong[rows],
            self.position[rows],
        )

    def at_answer(
        self, logits: Float[Tensor, "*mask batch pos vocab"]
    ) -> Float[Tensor, "*mask batch vocab"]:
        """Return the logits at each prompt's answer position."""
        return logits[..., torch.arange(len(self.position)), self.position, :]

    def logit_difference(
        self, logits: Float[Tensor, "*mask batch pos vocab"]
    ) -> Float[Tensor, "*mask batch"]:
        """Subtract the wrong token's logit from the answer's, per prompt.

        This is the usual patching metric.
        """
        logits = self.at_answer(logits)
        row = torch.arange(len(self.answer))
        return logits[..., row, self.answer] - logits[..., row, self.wrong]

    def correct(
        self, logits: Float[Tensor, "*mask batch pos vocab"]
    ) -> Bool[Tensor, "*mask batch"]:
        """Tell whether the answer has the strictly highest logit of all tokens, per prompt.

        A tie is not an answer.
        """
        logits = self.at_answer(logits).clone()
        row = torch.arange(len(self.answer))
        answer = logits[..., row, self.answer].clone()
        logits[..., row, self.answer] = float("-inf")
        return answer > logits.amax(dim=-1) + 1e-4

    def accuracy(self, model: Transformer) -> float:
        """Measure the share of clean prompts that the model answers correctly."""
        with torch.no_grad():
            return self.correct(model(self.clean)).float().mean().item()


@dataclass(frozen=True)
class Task:
    """Draws batches from a seed.

    `corruptions` are the ways to corrupt a prompt; the first is the default. `everything` returns
    all inputs at once where the domain is small and finite: each clean prompt beside each corrupt
    prompt that the first corruption can give.
    """

    description: str
    sample: Callable[[int, torch.Generator, str], Batch]
    token_names: tuple[str, ...]
    corruptions: tuple[str, ...] = ("default",)
    everything: Callable[[], Batch] | None = None

    def draw(self, n: int, seed: int = 0, corrupt: str | None = None) -> Batch:
        """Draw `n` prompts; the same seed gives the same batch."""
        if n < 1:
            raise ValueError(f"a batch of {n} prompts was asked for; expected at least 1")
        corrupt = corrupt or self.corruptions[0]
        if corrupt not in self.corruptions:
            raise ValueError(
                f"corrupt is {corrupt!r}, but this task can corrupt prompts by {self.corruptions}"
            )
        return self.sample(n, torch.Generator().manual_seed(seed), corrupt)

    def read(self, tokens: Int[Tensor, "pos"]) -> str:
        """Write the tokens as text."""
        return " ".join(self.token_names[token] for token in tokens.tolist())


@dataclass(frozen=True)
class Circuits:
    """The minimal sets of edges (and nodes) that do the task while the rest is ablated.

    To do the task is to answer every prompt correctly. Minimal: no smaller part of the set does the
    task. `complete` says whether these are known to be all. Nodes that are kept keep all edges
    between them.
    """

    edges: tuple[frozenset[str], ...]
    nodes: tuple[frozenset[str], ...]
    how: HowKnown
    complete: bool
    corrupt: str | None = None  # for resample: how the prompts were corrupted
    note: str = ""


@dataclass(frozen=True)
class Variable:
    """A causal variable: what it is, and where the model carries it.

    `used` says whether anything downstream reads it.
    """

    # (batch, pos) where position is None
    compute: Callable[[Int[Tensor, "batch pos"]], Int[Tensor, "*batch_pos"]]
    site: str  # a hook name
    position: int | None  # None: at every position
    subspace: Float[Tensor, "dim d_model"]  # orthonormal rows
    used: bool
    how: HowKnown
    note: str = ""

    def __post_init__(self) -> None:
        copy_fields(self)


@dataclass(frozen=True)
class Features:
    """Unit directions at a site, with the exact activation of each on given inputs."""

    directions: Float[Tensor, "feature d_model"]
    activations: Callable[[Tensor], Float[Tensor, "batch feature"]]
    how: HowKnown
    entails: tuple[
        tuple[int, int], ...
    ] = ()  # (child, parent): the child is active only when the parent is
    correlated: tuple[tuple[int, int], ...] = ()
    note: str = ""
    site: str | None = None  # a hook name
    position: int | None = None  # None: at every position
    draw: Callable[[int, int], Int[Tensor, "n pos"]] | None = (
        None  # (n, seed) to prompts, if the task has too few
    )

    def __post_init__(self) -> None:
        copy_fields(self)


@dataclass(frozen=True)
class Signature:
    """A number that the model must show, with its bounds.

    `measure(case)` runs it, `holds(case)` compares.
    """

    what: str
    measure: Callable[["Case"], float]
    low: float = float("-inf")
    high: float = float("inf")
    how: HowKnown = "measured"
    note: str = ""

    def holds(self, case: "Case") -> bool:
        return self.low <= self.measure(case) <= self.high


@dataclass(frozen=True)
class Truth:
    """What is known of a case.

    What is not unique or not known is said in `notes`.
    """

    signatures: dict[str, Signature]
    circuits: dict[str, Circuits] = field(default_factory=dict)  # by ablation: zero, mean, resample
    variables: dict[str, Variable] = field(default_factory=dict)
    features: Features | None = None
    # What a component does -> its node name, decoys included
    roles: dict[str, str] = field(default_factory=dict)
    notes: str = ""


@dataclass(frozen=True)
class Case:
    """A model with a known mechanism.

    `picture` draws the circuit in text; it is what printing a case shows.
    """

    name: str
    model: Transformer
    task: Task
    truth: Truth
    seed: int = 0
    picture: str = ""
    # Of the prompts on which signatures are measured: `dataclasses.replace(case, data_seed=7)`
    data_seed: int = 0

    def make_generator(self, stream: int) -> torch.Generator:
        """Make the source of randomness of one set of prompts, for `data_seed`.

        Different streams are different sets.
        """
        return torch.Generator().manual_seed(stream + 1000 * self.data_seed)

    def __repr__(self) -> str:
        return f"{self.name} (seed {self.seed}): {self.task.description}\n{self.picture}".rstrip()
