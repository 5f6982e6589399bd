"""Train any of the trained toys again, from a seed to the checkpoint.

The checkpoint is what `toys.load` reads.
"""

import functools
import importlib
from collections.abc import Callable
from pathlib import Path

from mini_transformer.checkpoints import save
from mini_transformer.nearest import find_nearest
from mini_transformer.toys.trained.shipped import FOLDER
from mini_transformer.train import Trained

# name -> the module here whose train(seed) trains it; or module:function; or module:function:first
# argument, a constant of
# the module or a string.
_TRAINERS = {
    "induction": "induction:train_induction",
    "modular_addition": "modular_addition",
    "clock": "clock_pizza:train:clock",
    "pizza": "clock_pizza:train:pizza",
    "superposition_pentagon": "superposition:train:PENTAGON",
    "superposition_digons": "superposition:train:DIGONS",
    "superposition_tetrahedron": "superposition:train:TETRAHEDRON",
    "superposition_40_in_10": "superposition:train:FORTY",
    "max_of_list": "max_of_list",
    "facts": "facts",
    "style_grammar": "style_grammar",
    "brackets": "brackets",
    "belief_states": "belief_states",
}


def names() -> list[str]:
    """List the toys that are trained; all others are set by hand.

    >>> names()[:2]
    ['induction', 'modular_addition']
    """
    return list(_TRAINERS)


def find_trainer(name: str) -> Callable[..., Trained]:
    """Find the function that trains this toy from a seed.

    Raise KeyError for a name that is not one of `names()`.
    """
    if name not in _TRAINERS:
        nearest = find_nearest(name, _TRAINERS)
        raise KeyError(
            f"no trained toy is called {name!r}; nearest: {nearest!r}; "
            "those set by hand need no training"
        )
    module, function, argument = (*_TRAINERS[name].split(":"), "", "")[:3]
    home = importlib.import_module(f"mini_transformer.toys.trained.{module}")
    train = getattr(home, function or "train")
    return functools.partial(train, getattr(home, argument, argument)) if argument else train


def train_toy(
    name: str, seed: int = 0, folder: Path = FOLDER, replace: bool = False, progress: bool = True
) -> Path:
    """Train a toy from scratch and write its checkpoint.

    By default the checkpoint goes where `toys.load(name, seed)` looks for it. Raise KeyError for an
    unknown name; ValueError for a seed that is not a whole number from 0, for a file that exists
    already unless `replace`, and (CheckpointError) for a folder that cannot be written to.

    >>> train_toy("max_of_list", seed=0)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: max_of_list with seed 0 is there already, max_of_list-0.safetensors: give another...
    """
    train = find_trainer(name)
    path = Path(folder) / f"{name}-{seed}.safetensors"
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise ValueError(f"seed is {seed!r}, but must be a whole number from 0")
    if path.exists() and not replace:
        raise ValueError(
            f"{name} with seed {seed} is there already, {path.name}: give another seed, "
            "or replace it (--replace)"
        )
    trained = train(seed=seed, progress=progress)
    return save(path, trained.model, recipe=trained.recipe, seed=seed)
