"""Checkpoints: one safetensors file with weights, and JSON that says what they are.

The JSON also says where they came from. A file holds tensors and text, so loading one cannot run
code (a pickle can). Writing is atomic: whoever reads, or is killed, sees the old file or the new
one, never a half. A checksum over everything finds the damage that the format alone would not see.
Equal weights and facts give equal bytes, so a retrained checkpoint can be compared with `cmp`.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor, nn

from mini_transformer import __version__
from mini_transformer.isolation.files import write_atomically
from mini_transformer.isolation.wire import Kind
from mini_transformer.model import Config, Transformer
from mini_transformer.nearest import find_nearest
from mini_transformer.weights import check_told

KEY = "mini_transformer"  # the one metadata entry: several would come out in a random order


class CheckpointError(ValueError):
    """Raised for a checkpoint that cannot be read or written.

    The message is one sentence that says why, and what to do.
    """


@dataclass(frozen=True)
class Checkpoint:
    """What `load` found: a model in evaluation mode, and the facts saved with it."""

    model: Any  # a Transformer, or what `build` made
    kind: str  # the class of the model
    version: str  # of the package that wrote the file
    recipe: dict[str, Any] = field(default_factory=dict)
    seed: int | None = None
    facts: dict[str, Any] = field(default_factory=dict)  # everything else


def save(path: str | Path, model: nn.Module, **facts: Any) -> Path:
    """Write the model's weights, its configuration and `facts` to `path`.

    Facts are `recipe`, `seed`, or what you like. Facts are what JSON can hold: numbers, strings,
    lists, dicts, or a dataclass of these. Folders that are missing are made. Raise CheckpointError
    if the file cannot be written, or would not hold all that decides what a Transformer computes;
    ValueError for a fact that JSON cannot hold.

    >>> import tempfile
    >>> model = Transformer(Config(d_vocab=10, n_ctx=8, d_model=16, n_layers=2))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = save(f"{folder}/small.safetensors", model, seed=3, recipe={"steps": 100})
    ...     checkpoint = load(path)
    >>> checkpoint.seed, checkpoint.recipe, checkpoint.model.config == model.config
    (3, {'steps': 100}, True)
    """
    if type(model) is Transformer:
        try:
            check_told(model)
        except ValueError as error:
            raise CheckpointError(str(error)) from None
    config = getattr(model, "config", None)
    kind = type(model).__name__
    written = {"kind": kind, "config": config, "version": __version__, "facts": facts}
    return write_tensors(path, model.state_dict(), written)


def load(path: str | Path, build: Callable[[Any], nn.Module] | None = None) -> Checkpoint:
    """Read a checkpoint, and build its model.

    The model has the weights, dtype and configuration that it was saved with. A model that is not a
    `Transformer` is made by `build(config)`, where config is the saved one as a dict (or None).
    Raise CheckpointError if the file is missing, damaged, truncated, foreign, or does not fit the
    model.
    """
    tensors, written = read_tensors(path)
    kind = written.get("kind")
    config = written.get("config", {})
    if not isinstance(kind, str):
        raise CheckpointError(
            f"{path} is the state of a training run, not a model: give it to train(..., resume=...)"
        )
    if build is None and kind != "Transformer":
        raise CheckpointError(
            f"{path} holds a {kind}, which load cannot make: give load(path, build=...)"
        )
    try:
        model = build(config) if build else Transformer(Config(**config))
        fill(model, tensors)
    except (TypeError, KeyError, ValueError, RuntimeError, MemoryError) as error:
        raise CheckpointError(
            f"{path}, written by mini-transformer {written.get('version')}, "
            f"does not fit the {kind} of this version, "
            f"{__version__} ({first_line(error)}): install that version, or train the model again"
        ) from None
    facts = dict(written.get("facts", {}))
    recipe = facts.pop("recipe", {})
    seed = facts.pop("seed", None)
    return Checkpoint(model.eval(), kind, str(written.get("version")), recipe, seed, facts)


def verify(path: str | Path) -> str:
    """Describe an intact checkpoint in one line.

    Raise CheckpointError if it is damaged, or a weight is not a finite number. A Transformer is
    also built. Other models cannot be, here: for them the file alone is checked.
    """
    tensors, written = read_tensors(path)
    if written.get("kind") == "Transformer":
        load(path)
    for name, value in tensors.items():
        if not value.isfinite().all():
            raise CheckpointError(
                f"{path} is intact, but {name} holds numbers that are not finite: train it again"
            )
    kind = written.get("kind", "training run")
    seed = written.get("facts", {}).get("seed")
    size = sum(value.numel() for value in tensors.values())
    return f"{Path(path).name}: {kind}, seed {seed}, {size:,} numbers, intact"


def write_tensors(path: str | Path, tensors: Mapping[str, Tensor], facts: Any) -> Path:
    """Write named tensors and JSON facts to one file, all or nothing.

    A process that is killed meanwhile leaves the old file.
    """
    path = Path(path).resolve()  # so that a link is followed, not replaced
    plain = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    try:
        text = json.dumps(facts, sort_keys=True, allow_nan=False, default=to_plain)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"facts must be what JSON can hold, numbers, strings, lists and dicts: {error}"
        ) from None
    entry = json.dumps({"facts": text, "sha256": checksum(text, plain)})
    data = tensors_to_bytes(plain, {KEY: entry})
    try:
        write_atomically(path, data)
    except OSError as error:
        raise CheckpointError(
            f"cannot write {path} ({error.strerror}): choose a folder you can write to"
        ) from None
    return path


def read_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the named tensors and the facts of a file that `write_tensors` wrote.

    Raise CheckpointError for any other file.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"cannot read {path} ({error.strerror}){nearest_file(Path(path))}"
        ) from None
    try:
        tensors = tensors_from_bytes(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        entry = header.get("__metadata__", {}).get(KEY)
        written = None if entry is None else json.loads(entry)
        intact = written is None or written["sha256"] == checksum(written["facts"], tensors)
        facts = json.loads(written["facts"]) if written else None
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path} {describe_damage(data)} ({first_line(error)})") from None
    if not isinstance(facts, dict):
        raise CheckpointError(
            f"{path} is a safetensors file, but mini-transformer did not write it"
        )
    if not intact:
        raise CheckpointError(
            f"{path} is damaged, its checksum is wrong: restore it from a copy, or train it again"
        )
    return tensors, facts


def fill(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy the tensors into the model's own memory.

    Raise ValueError if one is missing, left over or has another shape.
    """
    own = model.state_dict()
    if differing := sorted(own.keys() ^ tensors.keys()):
        verb = "is missing" if differing[0] in own else "is not a weight of this model"
        raise ValueError(f"{differing[0]} {verb}")
    for name, value in own.items():
        if value.shape != tensors[name].shape:
            raise ValueError(
                f"{name} has shape {tuple(tensors[name].shape)}, expected {tuple(value.shape)}"
            )
    if floats := [value.dtype for value in tensors.values() if value.is_floating_point()]:
        model.to(floats[0])  # also fixed positions, which are no weights
    for name, parameter in model.named_parameters():
        # A norm's gain may have a dtype of its own.
        parameter.data = parameter.data.to(tensors[name].dtype)
    model.load_state_dict(dict(tensors))


def to_plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    raise TypeError(f"a {type(value).__name__} is not")


def checksum(text: str, tensors: Mapping[str, Tensor]) -> str:
    """Hash the facts and every tensor's name, dtype, shape and bytes with SHA-256."""
    sha = hashlib.sha256(text.encode())
    for name, value in sorted(tensors.items()):
        sha.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        sha.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()


def describe_damage(data: bytes) -> str:
    if data[:2] in (b"PK", b"\x80\x02"):  # the first bytes of torch.save's two formats
        return (
            "is a file of torch.save, which may run code when it is loaded, so it was not: "
            "save it with save()"
        )
    header = int.from_bytes(data[:8], "little")
    cut_short = data[8:9] == b"{" and 8 + header > len(data)
    if len(data) < 9 or cut_short or b'"__metadata__"' in data[:100]:
        return "is truncated or damaged: restore it from a copy, or train it again"
    return "is not a checkpoint of mini-transformer"


def nearest_file(path: Path) -> str:
    there = path.parent.glob("*.safetensors") if path.parent.is_dir() else []
    names = [file.name for file in there]
    nearest = find_nearest(path.name, names, "")
    return f"; nearest: {nearest}" if nearest else ""


def first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def read_weights(model: Transformer) -> dict[str, Tensor]:
    """Read the weights of a model.

    Raise ValueError if the model computes something else than its configuration and weights say.
    """
    check_told(model)
    return model.state_dict()


def build_model(config: Config, tensors: dict[str, Tensor]) -> Transformer:
    """Build a model from copies of these weights, in their dtypes.

    Raise ValueError unless they are the weights of the configuration.
    """
    model = Transformer(config)
    fill(model, tensors)
    return model


def _pack_model(model: Transformer) -> tuple[dict[str, Any], dict[str, Tensor]]:
    weights = {name: weight.detach() for name, weight in read_weights(model).items()}
    return dataclasses.asdict(model.config), weights


# How a model crosses to another process: neither its name nor its seed, which tell the truth of it.
MODEL = Kind(
    "model",
    lambda value: isinstance(value, Transformer),
    _pack_model,
    lambda parts: build_model(Config(**parts[0]), parts[1]),
)
