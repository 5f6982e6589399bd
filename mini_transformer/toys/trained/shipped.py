"""Trained models that come with the package, by name and seed.

Nothing is trained behind the user's back.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from mini_transformer import checkpoints

FOLDER = Path(__file__).parent / "checkpoints"


_FOLDERS = [FOLDER]  # where trained models are looked for, in this order


@contextmanager
def look_also_in(folder: Path) -> Iterator[None]:
    """Count models in this folder as shipped, too, inside the block."""
    _FOLDERS.append(folder)
    try:
        yield
    finally:
        _FOLDERS.remove(folder)


def list_seeds(name: str) -> list[int]:
    """List the seeds of which a trained model is shipped."""
    paths = (path for folder in _FOLDERS for path in folder.glob(f"{name}-*.safetensors"))
    return sorted({int(path.stem.rpartition("-")[2]) for path in paths})


def load_shipped(name: str, seed: int, build: Callable[[Any], nn.Module] | None = None) -> Any:
    """Load the model that `minilab train NAME --seed SEED` made.

    Raise KeyError for a seed that is not shipped.

    >>> load_shipped("modular_addition", seed=0).config.d_vocab
    114
    """
    if seed not in (seeds := list_seeds(name)):
        there = ", ".join(map(str, seeds)) or "none"
        raise KeyError(
            f"no trained {name} with seed {seed} is shipped (seeds: {there}): "
            f"minilab train {name} --seed {seed}"
        )
    paths = (folder / f"{name}-{seed}.safetensors" for folder in _FOLDERS)
    return checkpoints.load(next(path for path in paths if path.exists()), build).model
