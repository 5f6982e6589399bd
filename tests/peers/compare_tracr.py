"""Compiled programs here and in Tracr: the stream after every half layer of every program.

    python tests/peers/run.py tracr

`stream` is the largest difference, over all prompts of some strings, all half layers and
directions; `size` the largest number there.
"""

import json
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tracr.compiler import compiling, lib
from tracr.rasp import rasp

from mini_transformer import __version__
from mini_transformer.interop.tracr import from_tracr
from mini_transformer.toys.tracr.compile import compile_program
from mini_transformer.toys.tracr.compiled import BOS, PAD
from mini_transformer.toys.tracr.programs import PROGRAMS, list_strings

BOUND = 1e-6
SHARE = 11  # about as many strings of each program


def compile_causal() -> Any:
    """Compile the share of x so far into heads that cannot see what comes later."""
    share = lib.make_frac_prevs(rasp.tokens == "x")
    return compiling.compile_rasp_to_model(
        share, vocab={"x", "y"}, max_seq_len=4, compiler_bos=BOS, causal=True
    )


@torch.no_grad()
def compare(name: str, model: Any, prompts: list[list]) -> dict:
    """Compare Tracr's model with ours on prompts."""
    causal = model.model_config.causal
    ours = from_tracr(model.params, model.model_config.num_heads, causal=causal)
    stream, expected = [], []
    for prompt in prompts:
        ids = torch.tensor([[model.input_encoder.encoding_map[token] for token in prompt]])
        _, cache = ours.run_with_cache(ids)
        stream.append(cache["resid_pre", 0])
        for layer in range(ours.config.n_layers):
            stream += [cache["resid_mid", layer], cache["resid_post", layer]]
        out = model.apply(prompt)
        expected += [np.asarray(x) for x in (out.input_embeddings, *out.residuals)]
    pairs = list(zip(stream, expected, strict=True))
    return {
        "name": name,
        "layers": ours.config.n_layers,
        "prompts": len(prompts),
        "stream": max(float(np.abs(given.numpy() - other).max()) for given, other in pairs),
        "size": max(float(np.abs(other).max()) for other in expected),
    }


def list_prompts(name: str) -> list[list]:
    program = PROGRAMS[name]
    strings = list_strings(program)[:: len(list_strings(program)) // SHARE]
    return [[BOS, *string, *[PAD] * (program.longest - len(string))] for string in strings]


def main(path: str) -> None:
    rows = [compare(name, compile_program(name), list_prompts(name)) for name in PROGRAMS]
    rows.append(compare("causal", compile_causal(), [[BOS, *"xyyx"], [BOS, *"yxx"]]))
    for row in rows:
        print(row)
    versions = {name: version(name) for name in ("torch", "jax", "dm-haiku")}
    versions |= {"python": platform.python_version(), "mini-transformer": __version__}
    told = {"versions": versions, "command": "python tests/peers/run.py tracr", "rows": rows}
    Path(path).write_text(json.dumps(told | {"bound": BOUND}, indent=1) + "\n")
    sys.exit(any(row["stream"] > BOUND for row in rows))


if __name__ == "__main__":
    main(sys.argv[1])
