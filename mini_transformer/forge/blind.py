"""The blind door: models and tasks without their truth, and a sealed key apart.

Models come from seeds that are mixed with a secret (HMAC-SHA256), so that who has the package and
the seed cannot forge them again. All models of a folder have the same sizes; layers, heads,
neurons, tokens and prompts stand in secret order. The folder holds the hash of the key, and the key
that of all models and tasks: a commitment (Blum 1983, SIGACT News 15, 23), so that a score can be
verified by others once the key is shown.
"""

import copy
import hashlib
import hmac
import json
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from mini_transformer import __version__, checkpoints
from mini_transformer.forge.case import ABLATIONS, MOST_LAYERS, ForgedCase, make
from mini_transformer.forge.disguise import SPARE, disguise
from mini_transformer.forge.widening import widen
from mini_transformer.isolation.files import hash_files, write_atomically
from mini_transformer.model import Transformer
from mini_transformer.toys.truth import Batch

ROLES = (
    "fetch",
    "mark",
    "previous",
    "match",
    "look_up",
    "copy",
    "second way",
    "backup",
)  # to be found
STEPS = {"n_heads": 9, "d_head": 16, "d_mlp": 128, "d_model": 144}  # sizes are multiples
OWN = 4  # dimensions that only added parts use, at least
EQUAL = 1e-3  # the largest difference of a logit; verdicts are clear by several tenths
REDRAWN = 20  # times; of 24 models of size 6, 16 were too coarse
TASK = ("prompts", "answers", "positions", "pairs")
EXAMPLE = {
    "edges": {name: ["input->a0.h0<v>", "a0.h0->m1", "m1->logits"] for name in ABLATIONS},
    "roles": {"a0.h0": ["fetch"], "m1": ["look_up", "copy"]},
    "variables": [{"site": "blocks.0.hook_resid_mid", "position": 2, "values": [0, 1, 1, 0]}],
}


def write_blind(
    folder: str | Path, key: str | Path, n: int = 20, seed: int = 0, **knobs: Any
) -> None:
    """Forge `n` models into a new folder that does not tell their truth, and write the key apart.

    `knobs` are those of `make`. If the key is there already, its secret is used again: the same
    arguments write the same folder. Raise ValueError if the folder exists, if the key would lie in
    it or belongs to other arguments, and for impossible knobs.
    """
    folder, key = Path(folder).resolve(), Path(key).resolve()
    if folder.exists():
        raise ValueError(f"{folder} exists already: give the name of a new folder")
    if folder in key.parents:
        raise ValueError(f"the key {key} would lie in the folder that is handed out: keep it apart")
    if n < 1:
        raise ValueError(f"{n} models were asked for, expected at least 1")
    known = read_key(key) if key.exists() else {}
    secret = bytes.fromhex(known["secret"]) if known else secrets.token_bytes(32)
    said = {"version": __version__, "secret": secret.hex(), "n": n, "seed": seed, "knobs": knobs}
    for name, value in said.items():
        if known and known[name] != value:
            raise ValueError(
                f"{key} is the key of a folder with {name} {known[name]!r}, "
                f"but {value!r} was asked for: give the name of a new key"
            )
    cases = [forge_secretly(secret, f"{seed} {i}", knobs) for i in range(n)]
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:

        def draw_again(i: int, attempt: int) -> ForgedCase:
            return forge_secretly(secret, f"{seed} {i} again {attempt}", knobs)

        generator = make_generator(secret, f"{seed} disguise")
        models = write_models(temporary, cases, generator, draw_again)
        told = said | {"files": hash_files(temporary.iterdir()), "models": models}
        if known and told != known:
            raise ValueError(f"{key} is of other weights: this machine's torch rounds differently")
        write_question(temporary, commit(told))
        for path in temporary.iterdir():
            os.utime(path, (0, 0))  # in which order files were written is nobody's business
        temporary.chmod(0o755)
        write_atomically(key, json.dumps(told, indent=1, sort_keys=True) + "\n")
        key.chmod(0o600)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def read_blind(folder: str | Path) -> dict[str, tuple[Transformer, Batch]]:
    """Read the models of a folder, each beside all its pairs of a clean and a corrupt prompt.

    Raise ValueError if there are none.
    """
    found = {}
    for path in sorted(Path(folder).glob("model_*.safetensors")):
        task = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        prompts, answers, positions, pairs = (torch.tensor(task[name]) for name in TASK)
        clean, corrupt = pairs.T
        parts = (prompts[clean], prompts[corrupt], answers[clean], answers[corrupt])
        found[path.stem] = (checkpoints.load(path).model, Batch(*parts, positions[clean]))
    if not found:
        raise ValueError(f"{folder} holds no model: give a folder of `minilab forge --blind`")
    return found


def read_key(path: str | Path) -> dict[str, Any]:
    """Read a key. Raise ValueError if it is none."""
    try:
        key = json.loads(Path(path).read_text(encoding="utf-8"))
        if {"secret", "models", "files", "n", "seed", "knobs", "version"} == set(key):
            return key
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"cannot read the key {path} ({error})") from None
    raise ValueError(f"{path} is no key: give the file that `minilab forge --blind` wrote")


def commit(key: dict[str, Any]) -> str:
    """Hash a key; who holds the hash can tell whether the key was changed."""
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()


def draw_number(secret: bytes, words: str) -> int:
    """Draw 256 bits that nobody knows without the secret."""
    return int.from_bytes(hmac.digest(secret, words.encode(), "sha256"), "big")


def make_generator(secret: bytes, words: str) -> torch.Generator:
    """Make a source of randomness with too many starts to try them all."""
    number = draw_number(secret, words)
    generator = torch.Generator().manual_seed(number % 2**32)  # torch uses no more of a seed,
    torch.rand(number >> 232, generator=generator)  # so up to 2^24 draws are passed over, too
    return generator


def forge_secretly(secret: bytes, words: str, knobs: dict[str, Any]) -> ForgedCase:
    """Forge a case in plain weights, from a seed that nobody can guess."""
    for attempt in range(10):
        try:
            return make(draw_number(secret, f"{words} {attempt}"), **knobs | {"hidden": False})
        except ValueError as error:
            failure = error
            if "none could be built" not in str(error):
                break
    raise failure


def write_models(
    folder: Path,
    cases: list[ForgedCase],
    generator: torch.Generator,
    draw_again: Callable[[int, int], ForgedCase],
) -> dict[str, dict[str, Any]]:
    """Write models of equal sizes, and their tasks; return the truth of each.

    What float32 is too coarse to disguise is drawn again, up to `REDRAWN` times.
    """
    sizes = {"n_layers": 1 + MOST_LAYERS[cases[0].knobs.size]}
    for name, step in STEPS.items():
        spare = OWN + 2 * SPARE if name == "d_model" else 0
        largest = max(getattr(case.model.config, name) for case in cases) + spare
        sizes[name] = -(-largest // step) * step
    sizes["d_model"] -= 2 * SPARE  # which the disguise adds
    truths = {}
    for i, case in enumerate(cases):
        name = f"model_{i:02}"
        for attempt in range(REDRAWN + 1):
            try:
                model, truths[name], task = hide(case, sizes, generator)
                break
            except ValueError as error:  # too coarse, or one that was drawn again is too large
                if attempt == REDRAWN:
                    raise error
                case = draw_again(i, attempt)
        checkpoints.save(folder / f"{name}.safetensors", model)
        write_atomically(folder / f"{name}.json", json.dumps(task) + "\n")
    return truths


@torch.no_grad()
def hide(
    case: ForgedCase, sizes: dict[str, int], generator: torch.Generator
) -> tuple[Transformer, dict[str, Any], dict[str, Any]]:
    """Return a plain case's model in disguise, its truth, and its task in numbers."""

    def shuffle(n: int) -> torch.Tensor:
        return torch.randperm(n, generator=generator)

    assert case.task.everything is not None
    batch = case.task.everything()
    prompts, row = torch.cat([batch.clean, batch.corrupt]).unique(dim=0, return_inverse=True)
    order = shuffle(len(prompts))  # `unique` sorts, and the order of values would be told
    prompts = prompts[order]
    pairs = order.argsort()[row].view(2, -1).T
    answers, positions = torch.empty(2, len(prompts), dtype=torch.long)
    answers[pairs] = torch.stack([batch.answer, batch.wrong], dim=1)
    positions[pairs] = batch.position[:, None]
    pairs = pairs[shuffle(len(pairs))]

    plain = copy.deepcopy(case.model)
    tokens = shuffle(plain.config.d_vocab)  # token i is shown as tokens[i]
    plain.W_E[tokens] = plain.W_E.clone()
    plain.get_parameter("W_U")[:, tokens] = plain.W_U.clone()
    bias = plain.get_parameter("b_U")
    bias[tokens] = bias.clone()
    bias.add_(torch.randn(1, generator=generator))  # the same for all: no difference, but no zero
    for _ in range(5):
        wide, layers = widen(plain, generator, **sizes)
        found = disguise(wide, generator, case.knobs.skew)
        shown = tokens[prompts]
        if (found.model(shown) - plain(shown)).abs().max() < EQUAL:
            break
    else:
        raise ValueError(
            f"float32 is too coarse to disguise programs of size {case.knobs.size} with skew "
            f"{case.knobs.skew}: give a smaller size or skew"
        )

    def move(name: str) -> str:
        return re.sub(r"(?<=[am.])\d+", lambda layer: str(layers[int(layer[0])]), name)

    truth = case.truth
    circuits = {
        ablation: [sorted(found.rename(move(edge)) for edge in one) for one in circuits.edges]
        for ablation, circuits in truth.circuits.items()
    }
    roles: dict[str, list[str]] = {}
    for role, node in truth.roles.items():
        if (name := role.rsplit(" ", 1)[0]) in ROLES:
            roles.setdefault(found.rename(move(node)), []).append(name)
    variables = [
        {
            "site": move(variable.site),
            "position": variable.position,
            "values": variable.compute(prompts).tolist(),
        }
        for variable in truth.variables.values()
    ]
    shape = {name: sizes[name] for name in ("n_layers", "n_heads")} | {"n_prompts": len(prompts)}
    told = shape | {"circuits": circuits, "roles": roles, "variables": variables}
    task = (shown, tokens[answers], positions, pairs)
    numbers = {name: value.tolist() for name, value in zip(TASK, task, strict=True)}
    return found.model, told, numbers


def write_question(folder: Path, commitment: str) -> None:
    """Write what is asked, and an example of an answer."""
    example = {"commitment": commitment, "model_00": EXAMPLE}
    text = json.dumps(example, indent=2)
    text = re.sub(r"\[[^][{}]*\]", lambda row: " ".join(row[0].split()), text)  # a list a line
    question = Path(__file__).with_suffix(".md").read_text(encoding="utf-8")
    roles = ", ".join(f"`{role}`" for role in ROLES)
    said = {"n": len(list(folder.glob("*.safetensors"))), "roles": roles, "example": text}
    write_atomically(folder / "README.md", question.format(commitment=commitment, **said))
    write_atomically(folder / "example.json", text + "\n")
