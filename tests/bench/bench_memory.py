"""Compare peak memory of sweeps at their default batch_size with 1024, in MB.

Each runs in a process of its own, which says how much it grew. 2 layers, 4 heads, d_model 64, d_mlp
256. The tensors that a sweep keeps grow with the batch, so there is a larger one, too. What the
process held before the sweep (mostly PyTorch, about 200 MB) is not counted. In the table, "ours"
and "other" are MB here.
"""

import json
import os
import resource
import subprocess
import sys
from typing import Any

import torch
from timing import STYLE
from torch import Tensor

from mini_transformer import Config, Transformer
from mini_transformer.methods import ablate_each, attribution_patch, causal_trace, patch_activations

BOUND = 1024  # MB
LENGTH = 50
SMALL, LARGE = 128, 1024
CASES = {
    "patch resid_pre per pos": (SMALL, "patch", "resid_pre", "pos"),
    "patch pattern per head, small": (SMALL, "patch", "pattern", "head"),
    "patch resid_pre": (LARGE, "patch", "resid_pre", ""),
    "patch z per head": (LARGE, "patch", "z", "head"),
    "patch q_input per head": (LARGE, "patch", "q_input", "head"),
    "patch pattern per head": (LARGE, "patch", "pattern", "head"),
    "estimate resid_pre per pos": (SMALL, "estimate", "resid_pre", "pos"),
    "estimate post per neuron": (LARGE, "estimate", "post", "neuron"),
    "estimate pattern per head": (LARGE, "estimate", "pattern", "head"),
    "estimate z per head, 2 steps": (LARGE, "estimate in steps", "z", "head"),
    "ablate z per head": (SMALL, "ablate", "z", "head"),
    "ablate mlp_out": (LARGE, "ablate", "mlp_out", ""),
    "ablate pattern per head": (LARGE, "ablate", "pattern", "head"),
    "trace resid_post per pos": (SMALL, "trace", "resid_post", "pos"),
    "trace resid_post": (LARGE, "trace", "resid_post", ""),
    "trace attn_out, window of 2": (LARGE, "trace window", "attn_out", ""),
}


def metric(logits: Tensor) -> Tensor:
    return logits[:, -1, 3] - logits[:, -1, 5]


def read_memory() -> float:
    """Return the MB that this process holds now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20


def measure_growth(name: str) -> float:
    """Measure the MB at the highest point of the sweep, less what there was before."""
    batch, what, site, per = CASES[name]
    config = Config(50, LENGTH, d_model=64, n_layers=2, n_heads=4, d_mlp=256, **STYLE)
    model = Transformer(config)
    generator = torch.Generator().manual_seed(0)
    clean, corrupt = torch.randint(50, (2, batch, LENGTH), generator=generator)
    model(clean[:1])
    before = read_memory()
    if what == "patch":
        patch_activations(model, clean, corrupt, metric, site, per, direction="denoise")
    elif what.startswith("estimate"):
        attribution_patch(
            model,
            clean,
            corrupt,
            metric,
            site,
            per,
            steps=2 if "steps" in what else 0,
            direction="denoise",
        )
    elif what == "ablate":
        ablate_each(model, clean, metric, site, per, "mean", corrupt)
    else:
        window = 2 if "window" in what else 1
        causal_trace(
            model,
            clean,
            metric,
            clean > 25,
            site,
            per,
            draws=2 if batch == SMALL else 10,
            window=window,
        )
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before


def rows() -> list[dict[str, Any]]:
    """Make one row per case, measured without the allocator settings of run.py.

    That is as a user runs it.
    """
    if not sys.platform.startswith("linux"):
        return []
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}
    found = []
    for name, (batch, *_) in CASES.items():
        run = subprocess.run(
            [sys.executable, __file__, name],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        grown = json.loads(run.stdout)
        row = {
            "name": f"MB, {name}, {batch} x {LENGTH}",
            "ours_ms": grown,
            "other": "bound",
            "other_ms": BOUND,
        }
        found.append(row | {"ratio": grown / BOUND, "bound": 1.0, "within": grown <= BOUND})
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(measure_growth(sys.argv[1])))
