"""A case: a model, its task, and what is known to be true of the model.

Each truth says how it is known.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int, Real
from torch import Tensor

from mini_transformer.model import Transformer
from mini_transformer.tensors import copy_fields

HowKnown = Literal["construction", "enumeration", "measured"]
CLOSE = 0.01  # a number counts as the answer if it differs by less


@dataclass(frozen=True)
class Batch:
    """Prompts with their answers.

    `clean[i]` calls for token `answer[i]` at position `position[i]`; `corrupt[i]` does not.
    `wrong[i]` is the token to compare the answer with: what the corrupt prompt calls for, where it
    calls for one. Where prompts call for several answers, these three have a second axis, and a
    prompt with fewer of them repeats its last. Answers that are floats are numbers, not tokens: the
    model has one output, and says the number itself.
    """

    clean: Int[Tensor, "batch pos"]
    corrupt: Int[Tensor, "batch pos"]
    answer: Real[Tensor, "batch *asked"]
    wrong: Real[Tensor, "batch *asked"]
    position: Int[Tensor, "batch *asked"]

    def __post_init__(self) -> None:
        copy_fields(self)

    def distinct(self) -> "Batch":
        """Keep each clean prompt once, beside one of its corrupt ones."""
        last_row = {tuple(prompt): row for row, prompt in enumerate(self.clean.tolist())}
        return self.take(torch.tensor(sorted(last_row.values())))

    def take(self, rows: Int[Tensor, "row"]) -> "Batch":
        """Keep these prompts, in this order."""
        return Batch(
            self.clean[rows],
            self.corrupt[rows],
            self.answer[rows],
            self.wrong[rows],
            self.position[rows],
        )

    def at_answer(
        self, logits: Float[Tensor, "*mask batch pos vocab"]
    ) -> Float[Tensor, "... vocab"]:
        """Return the logits where answers are called for, (*mask, batch, *asked, vocab)."""
        row = torch.arange(len(self.position))
        row = row if self.position.ndim == 1 else row.unsqueeze(1)
        return logits[..., row, self.position, :]

    def logit_difference(
        self, logits: Float[Tensor, "*mask batch pos vocab"]
    ) -> Float[Tensor, "*mask batch"]:
        """Subtract the wrong token's logit from the answer's, per prompt.

        This is the usual patching metric. Of several answers it is the mean, repeated ones counted
        once. Of a number it is |number - wrong| - |number - answer| between the two, and linear
        beyond.
        """
        logits = self.at_answer(logits)
        if self.answer.is_floating_point():
            middle = (self.answer + self.wrong) / 2
            difference = 2 * (logits[..., 0] - middle) * (self.answer - self.wrong).sign()
        else:
            difference = logits[self._choose(self.answer)] - logits[self._choose(self.wrong)]
        if self.position.ndim == 1:
            return difference
        new = self.position.diff(dim=1, prepend=torch.full_like(self.position[:, :1], -1)) != 0
        return (difference * new).sum(dim=-1) / new.sum(dim=-1)

    def correct(
        self, logits: Float[Tensor, "*mask batch pos vocab"]
    ) -> Bool[Tensor, "*mask batch"]:
        """Tell whether the answer has the strictly highest logit of all tokens, per prompt.

        A tie is not an answer. Of several answers all must be right; a number must be within 0.01.
        """
        logits = self.at_answer(logits).clone()
        if self.answer.is_floating_point():
            right = (logits[..., 0] - self.answer).abs() < CLOSE
        else:
            answer = logits[self._choose(self.answer)].clone()
            logits[self._choose(self.answer)] = float("-inf")
            right = answer > logits.amax(dim=-1) + 1e-4
        return right if self.position.ndim == 1 else right.all(dim=-1)

    def _choose(self, token: Tensor) -> Any:
        """Return the index of one token's logit for each answer, in what `at_answer` returns."""
        rows = torch.meshgrid(*map(torch.arange, self.position.shape), indexing="ij")
        return (..., *rows, token)

    def accuracy(self, model: Transformer) -> float:
        """Measure the share of clean prompts that the model answers correctly."""
        with torch.no_grad():
            return self.correct(model(self.clean)).float().mean().item()


@dataclass(frozen=True)
class Task:
    """Draws batches from a seed.

    `corruptions` are the ways to corrupt a prompt; the first is the default. `everything` returns
    all inputs at once where the domain is small and finite: each clean prompt beside each corrupt
    prompt that the first corruption can give. `output_names` say what outputs are called that are
    not tokens.
    """

    description: str
    sample: Callable[[int, torch.Generator, str], Batch]
    token_names: tuple[str, ...]
    corruptions: tuple[str, ...] = ("default",)
    everything: Callable[[], Batch] | None = None
    output_names: tuple[str, ...] = ()

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
    # The circuits of edges at single positions, by ablation: names like "a0.h1->m0 @5"
    by_position: dict[str, Circuits] = field(default_factory=dict)


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
