"""Trained models that come with the package, by name and seed: nothing is trained behind the user's back."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from mini_transformer import checkpoints

FOLDER = Path(__file__).parent / "checkpoints"


def list_seeds(name: str) -> list[int]:
    """The seeds of which a trained model is shipped."""
    return sorted(int(path.stem.rpartition("-")[2]) for path in FOLDER.glob(f"{name}-*.safetensors"))


def load_shipped(name: str, seed: int, build: Callable[[Any], nn.Module] | None = None) -> Any:
    """The model that `minilab train NAME --seed SEED` made; KeyError for a seed that is not shipped.

    >>> load_shipped("modular_addition", seed=0).config.d_vocab
    114
    """
    if seed not in (seeds := list_seeds(name)):
        there = ", ".join(map(str, seeds)) or "none"
        raise KeyError(
            f"no trained {name} with seed {seed} is shipped (seeds: {there}): minilab train {name} --seed {seed}"
        )
    return checkpoints.load(FOLDER / f"{name}-{seed}.safetensors", build).model
