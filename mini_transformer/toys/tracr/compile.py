"""How the files in models/ were made: by Tracr's compiler, whose code is not part of this package.

    # in an environment of its own, with this package, too
    pip install dm-haiku jax networkx einops chex
    git clone https://github.com/google-deepmind/tracr  # commit 9ce2b8c
    PYTHONPATH=tracr:. python -m mini_transformer.toys.tracr.compile

A file holds the weights under Tracr's names and in its shapes (its biases are all zero, and left
out), the input tokens, and what each direction of the residual stream stands for. Source: Lindner
et al. 2023 (2301.05062).
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from mini_transformer.checkpoints import write_tensors
from mini_transformer.toys.tracr.compiled import BOS, PAD, find_file
from mini_transformer.toys.tracr.programs import PROGRAMS


def write_rasp(name: str) -> Any:
    """Return the program of this name in RASP, as Tracr's library has it."""
    from tracr.compiler import lib
    from tracr.rasp import rasp

    program = PROGRAMS[name]
    rasp_programs = {
        "reverse": lambda: lib.make_reverse(rasp.tokens),
        "length": lib.make_length,
        "hist": lib.make_hist,
        "sort": lambda: lib.make_sort(
            rasp.tokens, rasp.tokens, max_seq_len=program.longest, min_key=1
        ),
        "sort_unique": lambda: lib.make_sort_unique(rasp.tokens, rasp.tokens),
        "frac_prevs": lambda: lib.make_frac_prevs(rasp.tokens == "x"),
        "pair_balance": lambda: lib.make_pair_balance(rasp.tokens, "(", ")"),
        "shuffle_dyck2": lib.make_shuffle_dyck2,
    }
    return rasp_programs[name]()


def compile_program(name: str) -> Any:
    """Compile the program of this name, and return Tracr's own model of it."""
    from tracr.compiler import compiling

    program = PROGRAMS[name]
    return compiling.compile_rasp_to_model(
        write_rasp(name),
        vocab=set(program.alphabet),
        max_seq_len=program.longest,
        compiler_bos=BOS,
        compiler_pad=PAD,
    )


def name_directions(labels: Iterable[str]) -> list[str]:
    """Drop the running numbers from Tracr's labels; number those that are then the same.

    >>> name_directions(["one", "map_12:a", "map_12:b", "map_7", "length_5_selector_width_out"])
    ['one', 'map 2:a', 'map 2:b', 'map 1', 'length_selector_width_out']
    """
    pieces = [
        re.fullmatch(r"(.*?)(?:_(\d+)(_selector_width.*)?)?(:.*)?", label) for label in labels
    ]
    found = [piece.groups(default="") for piece in pieces if piece is not None]
    ids: dict[str, list[int]] = {}
    for name, number, suffix, _ in found:
        ids.setdefault(name + suffix, []).append(int(number or 0))
    named = []
    for name, number, suffix, value in found:
        own = sorted(set(ids[name + suffix]))
        rank = f" {1 + own.index(int(number or 0))}" if len(own) > 1 else ""
        named.append(f"{name}{suffix}{rank}{value}")
    return named


def save(assembled: Any, output: str, path: str | Path) -> Path:
    """Write a model that Tracr compiled, of any program, as `load_compiled` reads it.

    `output` is the name of the variable that is read off.
    """
    tensors = {
        f"{module}/{kind}": torch.tensor(value.tolist())
        for module, weights in assembled.params.items()
        for kind, value in weights.items()
        if kind != "b"
    }
    assert not any(weights["b"].any() for weights in assembled.params.values() if "b" in weights)
    encoding = assembled.input_encoder.encoding_map
    facts = {
        "tokens": [str(token) for token in sorted(encoding, key=encoding.get)],
        "directions": name_directions(assembled.residual_labels),
        "heads": assembled.model_config.num_heads,
        "output": output,
    }
    return write_tensors(path, tensors, facts)


if __name__ == "__main__":
    for name, program in PROGRAMS.items():
        print(save(compile_program(name), program.output, find_file(name)))
