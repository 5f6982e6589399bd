"""A small lab for mechanistic interpretability on transformers whose circuits are known."""

import os
import sys

# Whoever grades a class may stand in the folder of submissions, where a student's random.py lies.
# So this comes before all imports but of what Python has loaded already.
if "--submissions" in sys.argv:
    home = os.path.dirname(os.path.dirname(__file__))
    here = os.path.realpath(os.curdir)
    sys.path[:] = [path for path in sys.path if path == home or os.path.realpath(path) != here]

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mini_transformer.hooks import ActivationCache, HookPoint
    from mini_transformer.model import Config, Transformer

__version__ = "0.2.0.dev0"
__all__ = ["ActivationCache", "Config", "HookPoint", "Transformer"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used.

    Importing torch takes a second, and `minilab status` has no use for it.
    """
    if name not in __all__:
        raise AttributeError(f"module 'mini_transformer' has no attribute {name!r}")
    home = "hooks" if name in ("ActivationCache", "HookPoint") else "model"
    return getattr(import_module(f"mini_transformer.{home}"), name)
