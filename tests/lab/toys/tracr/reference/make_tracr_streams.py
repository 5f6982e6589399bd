"""How tracr_streams.npz was made: what Tracr's own compiled models compute, layer by layer.

Run it like `mini_transformer/toys/tracr/compile.py`, whose docstring says what it needs:

    PYTHONPATH=tracr:. python tests/lab/toys/tracr/reference/make_tracr_streams.py

Per program the file holds token ids of some prompts (prompt, position), beside Tracr's embedded
input and its stream after each half layer (half layer, prompt, position, d_model); and what RASP's
interpreter says for all strings, in the order of `list_strings` (string, symbol; as text).
"""

from pathlib import Path

import numpy as np

from mini_transformer.toys.tracr.compile import compile_program, write_rasp
from mini_transformer.toys.tracr.compiled import BOS, PAD
from mini_transformer.toys.tracr.programs import PROGRAMS, list_strings


def store(name: str) -> dict[str, np.ndarray]:
    program = PROGRAMS[name]
    model = compile_program(name)
    interpret = write_rasp(name)
    encoding = model.input_encoder.encoding_map
    strings = list_strings(program)

    def pad(string: tuple, filler: object) -> list:
        return [*string, *[filler] * (program.longest - len(string))]

    chosen = [[BOS, *pad(string, PAD)] for string in strings[:: len(strings) // 11]]
    outputs = [model.apply(prompt) for prompt in chosen]
    streams = [
        np.stack([out.input_embeddings[0], *(x[0] for x in out.residuals)]) for out in outputs
    ]
    said = [pad(tuple(map(str, interpret(list(string)))), "") for string in strings]
    return {
        f"{name} tokens": np.array([[encoding[token] for token in prompt] for prompt in chosen]),
        f"{name} stream": np.stack(streams, axis=1),
        f"{name} said": np.array(said),
    }


if __name__ == "__main__":
    stored = {key: value for name in PROGRAMS for key, value in store(name).items()}
    np.savez_compressed(Path(__file__).parent / "tracr_streams.npz", **stored)
