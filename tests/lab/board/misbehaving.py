"""Methods that go wrong in every way, for the tests of the board; imported by name in its child
processes.
"""

import contextlib
import ctypes
import os
import random
import sys
import time
from pathlib import Path

import numpy as np
import torch

from mini_transformer.edges import list_edges

HONEST = torch.linspace(0, 1, 12)  # as many as the model of `sample_problem` has edges


def count_call() -> None:
    """One line per call in the file that the test names."""
    if path := os.environ.get("CALLS"):
        with Path(path).open("a") as file:
            file.write("called\n")


def honest(model, clean, corrupt, metric, ablation):
    count_call()
    return torch.linspace(0, 1, len(list_edges(model)))


def slow(model, clean, corrupt, metric, ablation):
    count_call()
    time.sleep(0.5)
    return torch.linspace(0, 1, len(list_edges(model)))


def random_by_global_seed(model, clean, corrupt, metric, ablation):
    n = len(list_edges(model))
    return (
        torch.rand(n)
        + 10 * torch.from_numpy(np.random.rand(n))
        + 10 * torch.tensor([random.random() for _ in range(n)])
    )


def raises(model, clean, corrupt, metric, ablation):
    raise RuntimeError("no such thing")


def complains(model, clean, corrupt, metric, ablation):
    raise ValueError("I do not like this model")


def exits(model, clean, corrupt, metric, ablation):
    sys.exit(0)


def exits_at_once(model, clean, corrupt, metric, ablation):
    os._exit(0)


def segfaults(model, clean, corrupt, metric, ablation):
    ctypes.string_at(0)


def hangs(model, clean, corrupt, metric, ablation):
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(1000)


def returns_nothing(model, clean, corrupt, metric, ablation):
    pass


def returns_nan(model, clean, corrupt, metric, ablation):
    return HONEST / 0 * 0


def returns_wrong_shape(model, clean, corrupt, metric, ablation):
    return torch.zeros(7)


def returns_text(model, clean, corrupt, metric, ablation):
    return "all of them"


def scores_unknown_edge(model, clean, corrupt, metric, ablation):
    return {"a9.h9->logits": 1.0}


def prints_much(model, clean, corrupt, metric, ablation):
    for _ in range(10000):
        print("look" * 20)
    os.system("echo and from a child")
    return HONEST


def changes_everything(model, clean, corrupt, metric, ablation):
    """Ruins what it is given and the global state, and answers honestly."""
    scores = honest(model, clean, corrupt, metric, ablation)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    clean.zero_(), corrupt.zero_(), metric.__self__.answer.zero_()
    torch.set_default_dtype(torch.float64), torch.manual_seed(7), os.chdir("/")
    np.random.rand(3), random.random()
    return scores


def takes_activations(activations, labels):
    return None


def takes_nonsense(alpha, beta):
    return None


class Stranger:
    """What no family knows."""


def returns_object(model, clean, corrupt, metric, ablation):
    return Stranger()


def returns_objects(model, clean, corrupt, metric, ablation):
    return [Stranger()]


def keep(activations, labels):
    """Erase nothing."""
    count_call()
    return lambda rows: rows
