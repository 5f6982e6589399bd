"""One training loop for every toy: AdamW, warm-up, history, early stop, and runs that survive being killed.

Everything random in a step is drawn from a generator that is seeded by (recipe.seed, step). So a run that was killed
and resumed sees the same batches, and ends with the same weights bit by bit, as one that was left alone.
"""

import copy
import dataclasses
import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from mini_transformer.checkpoints import CheckpointError, fill, read_tensors, write_tensors

Objective = Callable[[nn.Module, torch.Generator], tuple[Tensor, float | Tensor | None]]

ONE_THREAD_BELOW = 1_000_000  # weights; in smaller models threads wait for each other longer than they work


class DivergedError(ValueError):
    """Training stopped because the loss, or a weight, was no longer a finite number."""


@dataclass(frozen=True)
class Recipe:
    """What makes a training run repeatable, together with its model and objective. Stored in its checkpoints.

    The learning rate rises linearly to `lr` over the first `warm_up` steps, stays there, and falls linearly to zero over
    the last `cool_down` steps; see `rate`. `clip` bounds the norm of the gradient (0: unbounded). `batch` is for the
    objective to use. AdamW is that of Loshchilov & Hutter 2019 ("Decoupled weight decay regularization").

    >>> Recipe(steps=1000, lr=1e-2, seed=3).warm_up
    10
    """

    steps: int
    lr: float = 1e-3
    batch: int = 32
    seed: int = 0
    warm_up: int = 10
    cool_down: int = 0
    betas: Sequence[float] = (0.9, 0.999)
    weight_decay: float = 0.01
    clip: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "betas", tuple(self.betas))  # JSON gives a list back
        for name, least in {"steps": 1, "batch": 1, "warm_up": 0, "cool_down": 0, "weight_decay": 0, "clip": 0}.items():
            if not getattr(self, name) >= least:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be at least {least}")
        if not self.lr > 0:
            raise ValueError(f"lr is {self.lr}, but must be positive: try 1e-3")
        if not all(0 <= beta < 1 for beta in self.betas) or len(self.betas) != 2:
            raise ValueError(f"betas are {self.betas}, but must be two numbers from 0 to below 1: try (0.9, 0.999)")

    def rate(self, step: int) -> float:
        """The learning rate of update number `step`, counted from 0.

        >>> [Recipe(steps=10, lr=1.0, warm_up=2, cool_down=4).rate(step) for step in (0, 1, 5, 6, 9)]
        [0.5, 1.0, 1.0, 1.0, 0.25]
        """
        return self.lr * min(1.0, (step + 1) / max(1, self.warm_up), (self.steps - step) / max(1, self.cool_down))


@dataclass
class History:
    """Loss and accuracy of the batch at each step (before its update), and what was watched every `every` steps."""

    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)  # nan where the objective has none
    watched: dict[str, list[float]] = field(default_factory=dict)
    every: int = 1

    @property
    def steps(self) -> int:
        """How many updates were made."""
        return len(self.loss)

    def __str__(self) -> str:
        parts = [f"loss {self.loss[-1]:.4f}"] if self.loss else []
        parts += [f"accuracy {self.accuracy[-1]:.1%}"] if self.accuracy and not math.isnan(self.accuracy[-1]) else []
        return ", ".join(parts)

    def steps_watched(self) -> list[int]:
        """How many updates had been made at each entry of `watched`."""
        return [*range(self.every, self.steps, self.every), self.steps]


@dataclass(frozen=True)
class Trained:
    """A trained copy of the model, how it came about, and whether `stop_when` ended the run before its last step."""

    model: Any  # of the class of the model that was given
    recipe: Recipe
    history: History
    stopped: bool


def train(
    model: nn.Module,
    objective: Objective,
    recipe: Recipe,
    *,
    stop_when: Callable[[Any], bool] | None = None,
    watch: Mapping[str, Callable[[Any], float]] | None = None,
    every: int = 50,
    resume: str | Path | None = None,
    progress: bool = True,
    threads: int | None = None,
) -> Trained:
    """Train a copy of `model`; the model itself, the global seed and the thread count stay as they are.

    `objective(model, generator)` draws a batch with the generator and returns its (loss, accuracy); the accuracy may be
    None. Every `every` steps the functions in `watch` are measured, `stop_when(model)` is asked, and, if `resume` names
    a file, the whole state is written there; if the file exists already the run goes on from it. Raises DivergedError
    when the loss stops being finite (the file then keeps the last good state), ValueError for a file of another run.

    >>> def objective(model, generator):
    ...     x = torch.randn(32, 2, generator=generator)
    ...     return (model(x) - x.sum(dim=1, keepdim=True)).square().mean(), None
    >>> trained = train(nn.Linear(2, 1), objective, Recipe(steps=200, lr=0.1), progress=False)
    >>> trained.history.steps, trained.history.loss[-1] < 1e-3
    (200, True)
    """
    run = Run(
        copy.deepcopy(model), objective, recipe, max(1, every), dict(watch or {}), Path(resume) if resume else None
    )
    with (
        thread_count(threads or choose_threads(model)),
        tqdm(total=recipe.steps, initial=run.history.steps, disable=not progress) as bar,
    ):
        while True:
            bar.set_postfix_str(str(run.history), refresh=False)
            bar.update(run.history.steps - bar.n)
            if run.stopped or run.history.steps >= recipe.steps:
                break
            run.step()
            if run.history.steps % run.history.every == 0 or run.history.steps == recipe.steps:
                run.look(stop_when)
    return Trained(run.model.eval(), recipe, run.history, run.stopped)


class Run:
    """A run under way: model, optimizer and history; makes one step, and goes to and from a file."""

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        recipe: Recipe,
        every: int,
        watch: dict[str, Callable[[Any], float]],
        path: Path | None,
    ) -> None:
        self.model, self.objective, self.recipe, self.watch, self.path = model.train(), objective, recipe, watch, path
        self.history, self.stopped = History(every=every, watched={name: [] for name in watch}), False
        self.weights = dict(model.named_parameters())
        self.optimizer = torch.optim.AdamW(
            self.weights.values(),
            betas=(recipe.betas[0], recipe.betas[1]),
            weight_decay=recipe.weight_decay,
            fused=True,
        )
        if path is not None and path.exists():
            self.restore(path)
        else:
            self.store()  # now, so that an unwritable folder is found before the work is done

    def step(self) -> None:
        """One update, on a batch that depends on nothing but the recipe's seed and the number of the step."""
        recipe, done = self.recipe, self.history.steps
        with torch.enable_grad():  # also where a notebook has switched gradients off
            loss, accuracy = self.objective(self.model, draw_generator(recipe.seed, done))
            if loss.ndim or not loss.requires_grad:
                raise ValueError(
                    f"the objective returned a loss of shape {tuple(loss.shape)}, requires_grad "
                    f"{loss.requires_grad}: return one number that depends on the model's weights"
                )
            if not math.isfinite(value := loss.item()):
                raise self.diverged(f"the loss is {value}")
            self.optimizer.zero_grad()
            loss.backward()
        if recipe.clip:
            nn.utils.clip_grad_norm_(self.weights.values(), recipe.clip)
        self.optimizer.param_groups[0]["lr"] = recipe.rate(done)
        self.optimizer.step()
        self.history.loss.append(value)
        self.history.accuracy.append(math.nan if accuracy is None else float(accuracy))

    def look(self, stop_when: Callable[[Any], bool] | None) -> None:
        """Measure what is watched, ask whether to stop, and store the state if it is good."""
        if not all(weight.isfinite().all() for weight in self.weights.values()):
            raise self.diverged("a weight is no longer a finite number")
        with torch.no_grad():
            for name, measure in self.watch.items():
                self.history.watched[name].append(float(measure(self.model)))
            self.stopped = stop_when is not None and bool(stop_when(self.model))
        self.store()

    def diverged(self, what: str) -> DivergedError:
        steps, lr = self.history.steps, self.recipe.lr
        if not steps:
            return DivergedError(f"{what} before the first update: look at the objective and the initial weights")
        kept = f"; the last good state is in {self.path}" if self.path else ""
        return DivergedError(f"{what} after step {steps} with lr {lr:g}: try lr {lr / 10:g} or a longer warm_up{kept}")

    def store(self) -> None:
        """Write everything that the rest of the run depends on, in one file."""
        if self.path is None:
            return
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        for name, weight in self.weights.items():
            tensors |= {f"optimizer.{key}.{name}": value for key, value in self.optimizer.state[weight].items()}
        curves = {"loss": self.history.loss, "accuracy": self.history.accuracy}
        curves |= {f"watched.{name}": values for name, values in self.history.watched.items()}
        tensors |= {f"history.{name}": torch.tensor(values, dtype=torch.float64) for name, values in curves.items()}
        run = {"recipe": self.recipe, "every": self.history.every, "stopped": self.stopped}
        write_tensors(self.path, tensors, {"run": run})

    def restore(self, path: Path) -> None:
        """Go on from a file that `store` wrote in a run of the same recipe and model."""
        tensors, facts = read_tensors(path)
        if "run" not in facts:
            raise CheckpointError(f"{path} holds a model, not the state of a training run: resume from another file")
        run, watched = facts["run"], part(tensors, "history.watched.")
        then = dataclasses.asdict(Recipe(**run["recipe"])) | {"every": run["every"], "watch": sorted(watched)}
        given = dataclasses.asdict(self.recipe) | {"every": self.history.every, "watch": sorted(self.watch)}
        for name, value in given.items():
            if value != then[name]:
                raise ValueError(
                    f"{path} was begun with {name} {then[name]!r}, not {value!r}: give the same again, or another file"
                )
        try:
            fill(self.model, part(tensors, "model."))
        except ValueError as error:
            raise ValueError(f"{path} is the state of a run with another model ({error}): give another file") from None
        for name, weight in self.weights.items():
            state = {key: tensors.get(f"optimizer.{key}.{name}") for key in ("step", "exp_avg", "exp_avg_sq")}
            # clone: memory of a new run's alignment, so that vector instructions round as they would have
            self.optimizer.state[weight] = {key: value.clone() for key, value in state.items() if value is not None}
        loss, accuracy = (tensors[f"history.{name}"].tolist() for name in ("loss", "accuracy"))
        curves = {name: watched[name].tolist() for name in self.watch}
        self.history, self.stopped = History(loss, accuracy, curves, run["every"]), run["stopped"]


def part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def draw_generator(seed: int, step: int) -> torch.Generator:
    """The source of randomness of one step. Hashed, since PyTorch uses only the low 32 bits of a seed.

    >>> torch.equal(torch.rand(3, generator=draw_generator(0, 7)), torch.rand(3, generator=draw_generator(0, 7)))
    True
    """
    digest = hashlib.sha256(f"{seed} {step}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:4], "little"))


def choose_threads(model: nn.Module) -> int:
    """One thread for a small model, otherwise as many as PyTorch would use."""
    weights = sum(value.numel() for value in model.parameters())
    return 1 if weights < ONE_THREAD_BELOW else torch.get_num_threads()


@contextmanager
def thread_count(threads: int) -> Iterator[None]:
    """Use this many threads inside the block, and as many as before after it, also after an exception."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
