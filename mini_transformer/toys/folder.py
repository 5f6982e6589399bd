"""A case as a folder that any program can read: safetensors and JSON, described in docs/format.md.

What a case computes by code (values of variables, activations of features) is stored for the
prompts that the folder holds. A case that is read back knows these prompts and no others.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor

from mini_transformer import __version__
from mini_transformer.checkpoints import fill
from mini_transformer.edges import list_edges, list_writers
from mini_transformer.isolation.files import write_atomically
from mini_transformer.model import Config, Transformer
from mini_transformer.toys.truth import (
    Batch,
    Case,
    Circuits,
    Features,
    Signature,
    Task,
    Truth,
    Variable,
)
from mini_transformer.weights import check_told

__all__ = ["export", "load_folder"]

FORMAT = "mini-transformer case"
FORMAT_VERSION = 1
MOST_PROMPTS = 4096
N_DRAWN = 512  # where there are more
PROMPTS = ("clean", "corrupt", "answer", "wrong", "position")


def export(case: Case, folder: str | Path) -> Path:
    """Write a case into a folder: case.json, model.safetensors, truth.safetensors.

    All prompts are written if there are at most 4,096, otherwise 512 drawn with seed 0. A folder of
    this case is written anew. Raise ValueError for a file, for a folder that holds another case,
    and if the model computes something else than its configuration and weights say.

    >>> import tempfile
    >>> from mini_transformer import toys
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = export(toys.load("boolean_and"), folder)
    ...     print(sorted(file.name for file in path.iterdir()), toys.load_folder(path).name)
    ['case.json', 'model.safetensors', 'truth.safetensors'] boolean_and
    """
    check_told(case.model)
    folder = Path(folder)
    check_free(case, folder)
    batch, is_complete = list_prompts(case)
    tensors: dict[str, Tensor] = {}
    truth = case.truth
    for name, variable in truth.variables.items():
        tensors[f"variables.{name}.subspace"] = variable.subspace
        tensors[f"variables.{name}.values"] = variable.compute(batch.clean)
    if truth.features is not None:
        tensors["features.directions"] = truth.features.directions
        if truth.features.draw is None:
            tensors["features.activations"] = truth.features.activations(batch.clean)
    weights = {name: weight.detach() for name, weight in case.model.state_dict().items()}
    files = {
        "model.safetensors": tensors_to_bytes(make_plain(weights)),
        "truth.safetensors": tensors_to_bytes(make_plain(tensors)),
    }
    described = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "written_by": f"mini-transformer {__version__}",
        "name": case.name,
        "seed": case.seed,
        "description": case.task.description,
        "picture": case.picture,
        "config": asdict(case.model.config),
        "token_names": list(case.task.token_names),
        "output_names": list(case.task.output_names),
        "prompts": {name: getattr(batch, name).tolist() for name in PROMPTS},
        "all_prompts": is_complete,
        "edges": list_edges(case.model),
        "nodes": list_writers(case.model),
        "circuits": {kind: describe_circuits(one) for kind, one in truth.circuits.items()},
        "by_position": {kind: describe_circuits(one) for kind, one in truth.by_position.items()},
        "variables": {
            name: {key: getattr(one, key) for key in ("site", "position", "used", "how", "note")}
            for name, one in truth.variables.items()
        },
        "features": truth.features
        and {
            key: getattr(truth.features, key)
            for key in ("site", "position", "entails", "correlated", "how", "note")
        },
        "roles": truth.roles,
        "notes": truth.notes,
        "accuracy": batch.accuracy(case.model),
        "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
    }
    for name, data in files.items():
        write_atomically(folder / name, data)
    write_atomically(folder / "case.json", json.dumps(described, indent=1) + "\n")
    return folder


def check_free(case: Case, folder: Path) -> None:
    """Raise ValueError for a file, and for a folder that holds another case."""
    for place in (folder, *folder.parents):
        if place.is_file():
            raise ValueError(f"{place} is a file, but a case is a folder: give another name")
    if not (folder / "case.json").exists():
        return
    try:
        told = json.loads((folder / "case.json").read_text(encoding="utf-8"))
        found = f"{told['name']}, seed {told['seed']}"
    except (OSError, ValueError, KeyError, TypeError):
        found = "something that is no case"
    if found != f"{case.name}, seed {case.seed}":
        raise ValueError(f"{folder} holds another case.json ({found}): give another folder")


def list_prompts(case: Case) -> tuple[Batch, bool]:
    """List the prompts of a folder, and say whether they are all that there are."""
    everything = case.task.everything() if case.task.everything else None
    if everything is not None and len(everything.clean) <= MOST_PROMPTS:
        return everything, True
    return case.task.draw(N_DRAWN), False


def make_plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().contiguous().clone() for name, value in tensors.items()}


def describe_circuits(circuits: Circuits) -> dict[str, Any]:
    return {
        "edges": [sorted(one) for one in circuits.edges],
        "nodes": [sorted(one) for one in circuits.nodes],
        **{key: getattr(circuits, key) for key in ("how", "complete", "corrupt", "note")},
    }


def load_folder(folder: str | Path) -> Case:
    """Read a case that `export` wrote.

    Its task draws from the prompts of the folder; a variable or feature asked about another prompt
    raises KeyError. Of the signatures only the accuracy is there. Raise ValueError, with one
    sentence, for a folder that is damaged, foreign, or of a newer format.
    """
    folder = Path(folder)
    described, model_tensors, tensors = read_files(folder)
    try:
        model = Transformer(Config(**described["config"]))
        fill(model, model_tensors)
        return build_case(described, model.eval(), tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"{folder} is not what mini-transformer {__version__} reads ({error}); it was written "
            f"by {described.get('written_by')}: export the case again"
        ) from None


def read_files(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Tensor]]:
    """Read the three files, and check that they belong together."""
    try:
        described = json.loads((folder / "case.json").read_text(encoding="utf-8"))
        version = described["format_version"] if described["format"] == FORMAT else None
        sums = described["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder} holds no case ({error}): give a folder of `export`") from None
    if version != FORMAT_VERSION:
        raise ValueError(
            f"{folder} has format {described['format']!r} {version}, expected {FORMAT!r} "
            f"{FORMAT_VERSION}: use the mini-transformer that wrote it"
        )
    found = []
    for name in ("model.safetensors", "truth.safetensors"):
        try:
            data = (folder / name).read_bytes()
        except OSError as error:
            raise ValueError(f"{folder} lacks {name} ({error.strerror}): export it again") from None
        if hashlib.sha256(data).hexdigest() != sums.get(name):
            raise ValueError(f"{folder / name} is damaged or of another case: export it again")
        found.append(tensors_from_bytes(data))
    return described, found[0], found[1]


def build_case(described: dict[str, Any], model: Transformer, tensors: dict[str, Tensor]) -> Case:
    batch = Batch(*(torch.tensor(described["prompts"][name]) for name in PROMPTS))

    def sample(n: int, generator: torch.Generator, corrupt: str) -> Batch:
        return batch.take(torch.randint(len(batch.clean), (n,), generator=generator))

    variables = {
        name: Variable(
            compute=look_up(batch.clean, tensors[f"variables.{name}.values"]),
            subspace=tensors[f"variables.{name}.subspace"],
            **facts,
        )
        for name, facts in described["variables"].items()
    }
    features = None
    if told := described["features"]:
        activations = tensors.get("features.activations", torch.empty(0))
        pairs: dict[str, Any] = {
            key: tuple(map(tuple, told.pop(key))) for key in ("entails", "correlated")
        }
        look = look_up(batch.clean, activations)
        features = Features(tensors["features.directions"], look, **told, **pairs)

    def measure(case: Case) -> float:
        return batch.accuracy(case.model)

    accuracy = described["accuracy"]
    signature = Signature("accuracy on the prompts of the folder", measure, accuracy, accuracy)
    truth = Truth(
        {"accuracy": signature},
        {kind: build_circuits(one) for kind, one in described["circuits"].items()},
        variables,
        features,
        described["roles"],
        described["notes"],
        {kind: build_circuits(one) for kind, one in described["by_position"].items()},
    )
    everything = (lambda: batch) if described["all_prompts"] else None
    task = Task(
        described["description"],
        sample,
        tuple(described["token_names"]),
        everything=everything,
        output_names=tuple(described.get("output_names", ())),
    )
    names = ("name", "seed", "picture")
    return Case(model=model, task=task, truth=truth, **{key: described[key] for key in names})


def build_circuits(told: dict[str, Any]) -> Circuits:
    sets: dict[str, Any] = {key: tuple(map(frozenset, told.pop(key))) for key in ("edges", "nodes")}
    return Circuits(**sets, **told)


def look_up(prompts: Tensor, values: Tensor) -> Callable[[Tensor], Tensor]:
    """Make a function from prompts to the values that are stored for them."""
    rows = {tuple(prompt): row for row, prompt in enumerate(prompts.tolist())}

    def compute(tokens: Tensor) -> Tensor:
        try:
            return values[[rows[tuple(prompt)] for prompt in tokens.tolist()]]
        except (KeyError, IndexError) as error:
            raise KeyError(f"the folder holds no values for prompt {error}") from None

    return compute
