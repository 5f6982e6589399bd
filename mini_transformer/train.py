"""One training loop for every toy: AdamW, warm-up, history, and early stop.

Runs survive being killed. Everything random in a step is drawn from a generator that is seeded by
(recipe.seed, step). So a run that was killed and resumed sees the same batches, and ends with the
same weights bit by bit, as one that was left alone.
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

# Weights. In smaller models threads wait for each other longer than they work.
ONE_THREAD_BELOW = 1_000_000


class DivergedError(ValueError):
    """Training stopped because the loss, or a weight, was no longer a finite number."""


@dataclass(frozen=True)
class Recipe:
    """What makes a training run repeatable, together with its model and objective.

    Stored in the run's checkpoints. The learning rate rises linearly to `lr` over the first
    `warm_up` steps, stays there, and falls linearly to zero over the last `cool_down` steps; see
    `rate`. `clip` bounds the norm of the gradient (0: unbounded). `batch` is for the objective to
    use. AdamW is that of Loshchilov & Hutter 2019 ("Decoupled weight decay regularization").

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
        for name in ("steps", "batch", "warm_up", "cool_down", "weight_decay", "clip"):
            least = int(name in ("steps", "batch"))
            if not getattr(self, name) >= least:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be at least {least}")
        if not self.lr > 0:
            raise ValueError(f"lr is {self.lr}, but must be positive: try 1e-3")
        if not all(0 <= beta < 1 for beta in self.betas) or len(self.betas) != 2:
            raise ValueError(
                f"betas are {self.betas}, but must be two numbers from 0 to below 1: "
                "try (0.9, 0.999)"
            )

    def rate(self, step: int) -> float:
        """Return the learning rate of update number `step`, counted from 0.

        >>> recipe = Recipe(steps=10, lr=1.0, warm_up=2, cool_down=4)
        >>> [recipe.rate(step) for step in (0, 1, 5, 6, 9)]
        [0.5, 1.0, 1.0, 1.0, 0.25]
        """
        rise = (step + 1) / max(1, self.warm_up)
        fall = (self.steps - step) / max(1, self.cool_down)
        return self.lr * min(1.0, rise, fall)


@dataclass
class History:
    """Loss and accuracy of the batch at each step, before its update.

    `watched` holds what was measured every `every` steps.
    """

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
        if self.accuracy and not math.isnan(self.accuracy[-1]):
            parts.append(f"accuracy {self.accuracy[-1]:.1%}")
        return ", ".join(parts)

    def steps_watched(self) -> list[int]:
        """Return how many updates had been made at each entry of `watched`."""
        return [*range(self.every, self.steps, self.every), self.steps]


@dataclass(frozen=True)
class Trained:
    """A trained copy of the model, and how it came about.

    `stopped` says whether `stop_when` ended the run before its last step.
    """

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
    """Train a copy of `model`.

    The model itself, the global seed and the thread count stay as they are. `objective(model,
    generator)` draws a batch with the generator and returns its (loss, accuracy); the accuracy may
    be None. Every `every` steps the functions in `watch` are measured, `stop_when(model)` is asked,
    and, if `resume` names a file, the whole state is written there; if the file exists already the
    run goes on from it. Raise DivergedError when the loss stops being finite (the file then keeps
    the last good state), ValueError for a file of another run.

    >>> def objective(model, generator):
    ...     x = torch.randn(32, 2, generator=generator)
    ...     return (model(x) - x.sum(dim=1, keepdim=True)).square().mean(), None
    >>> trained = train(nn.Linear(2, 1), objective, Recipe(steps=200, lr=0.1), progress=False)
    >>> trained.history.steps, trained.history.loss[-1] < 1e-3
    (200, True)
    """
    path = Path(resume) if resume else None
    run = Run(copy.deepcopy(model), objective, recipe, max(1, every), dict(watch or {}), path)
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
    """A run under way: model, optimizer and history.

    Makes one step at a time, and goes to and from a file.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        recipe: Recipe,
        every: int,
        watch: dict[str, Callable[[Any], float]],
        path: Path | None,
    ) -> None:
        self.model = model.train()
        self.objective = objective
        self.recipe = recipe
        self.watch = watch
        self.path = path
        self.history = History(every=every, watched={name: [] for name in watch})
        self.stopped = False
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
        """Make one update.

        The batch depends on nothing but the recipe's seed and the number of the step.
        """
        recipe = self.recipe
        done = self.history.steps
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
        steps = self.history.steps
        lr = self.recipe.lr
        if not steps:
            return DivergedError(
                f"{what} before the first update: look at the objective and the initial weights"
            )
        kept = f"; the last good state is in {self.path}" if self.path else ""
        return DivergedError(
            f"{what} after step {steps} with lr {lr:g}: try lr {lr / 10:g} or a longer "
            f"warm_up{kept}"
        )

    def store(self) -> None:
        """Write everything that the rest of the run depends on, in one file."""
        if self.path is None:
            return
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        for name, weight in self.weights.items():
            state = self.optimizer.state[weight]
            tensors |= {f"optimizer.{key}.{name}": value for key, value in state.items()}

        curves = {"loss": self.history.loss, "accuracy": self.history.accuracy}
        curves |= {f"watched.{name}": values for name, values in self.history.watched.items()}
        for name, values in curves.items():
            tensors[f"history.{name}"] = torch.tensor(values, dtype=torch.float64)

        run = {"recipe": self.recipe, "every": self.history.every, "stopped": self.stopped}
        write_tensors(self.path, tensors, {"run": run})

    def restore(self, path: Path) -> None:
        """Continue from a file that `store` wrote in a run of the same recipe and model."""
        tensors, facts = read_tensors(path)
        if "run" not in facts:
            raise CheckpointError(
                f"{path} holds a model, not the state of a training run: resume from another file"
            )
        run = facts["run"]
        watched = part(tensors, "history.watched.")
        then = dataclasses.asdict(Recipe(**run["recipe"]))
        then |= {"every": run["every"], "watch": sorted(watched)}
        given = dataclasses.asdict(self.recipe)
        given |= {"every": self.history.every, "watch": sorted(self.watch)}
        for name, value in given.items():
            if value != then[name]:
                raise ValueError(
                    f"{path} was begun with {name} {then[name]!r}, not {value!r}: "
                    "give the same again, or another file"
                )
        try:
            fill(self.model, part(tensors, "model."))
        except ValueError as error:
            raise ValueError(
                f"{path} is the state of a run with another model ({error}): give another file"
            ) from None
        for name, weight in self.weights.items():
            keys = ("step", "exp_avg", "exp_avg_sq")
            state = {key: tensors.get(f"optimizer.{key}.{name}") for key in keys}
            # A clone's memory is aligned as in a new run, so that vector instructions round alike.
            own = {key: value.clone() for key, value in state.items() if value is not None}
            self.optimizer.state[weight] = own

        loss, accuracy = (tensors[f"history.{name}"].tolist() for name in ("loss", "accuracy"))
        curves = {name: watched[name].tolist() for name in self.watch}
        self.history = History(loss, accuracy, curves, run["every"])
        self.stopped = run["stopped"]


def part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    found = {name: value for name, value in tensors.items() if name.startswith(prefix)}
    return {name.removeprefix(prefix): value for name, value in found.items()}


def draw_generator(seed: int, step: int) -> torch.Generator:
    """Return the source of randomness of one step.

    The seed is hashed, since PyTorch uses only its low 32 bits.

    >>> first, again = (torch.rand(3, generator=draw_generator(0, 7)) for _ in range(2))
    >>> torch.equal(first, again)
    True
    """
    digest = hashlib.sha256(f"{seed} {step}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:4], "little"))


def choose_threads(model: nn.Module) -> int:
    """Choose one thread for a small model, otherwise as many as PyTorch would use."""
    weights = sum(value.numel() for value in model.parameters())
    return 1 if weights < ONE_THREAD_BELOW else torch.get_num_threads()


@contextmanager
def thread_count(threads: int) -> Iterator[None]:
    """Use this many threads inside the block, and as many as before after it.

    This also holds after an exception.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
