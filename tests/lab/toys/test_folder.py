"""A case in a folder is read back as it was, and by a reader that knows NumPy and JSON only."""

import dataclasses
import json
import struct

import numpy as np
import pytest
import torch

from mini_transformer import forge, toys
from mini_transformer.toys.folder import PROMPTS


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Export a case once, by name."""
    kept = {}

    def find(name):
        if name not in kept:
            case = toys.load(name)
            kept[name] = case, toys.export(case, tmp_path_factory.mktemp("cases") / name)
        return kept[name]

    return find


@pytest.mark.parametrize("name", toys.names())
def test_what_is_read_is_what_was_written(exported, name):
    case, folder = exported(name)
    found = toys.load_folder(folder)
    batch = found.task.draw(8, seed=1)
    assert torch.equal(found.model(batch.clean), case.model(batch.clean))
    assert found.truth.circuits == case.truth.circuits
    assert found.truth.roles == case.truth.roles
    assert found.task.token_names == case.task.token_names
    assert found.truth.signatures["accuracy"].holds(found)
    for key, variable in case.truth.variables.items():
        read = found.truth.variables[key]
        assert torch.equal(read.compute(batch.clean), variable.compute(batch.clean))
        assert torch.equal(read.subspace, variable.subspace)
        assert (read.site, read.position, read.used) == (
            variable.site,
            variable.position,
            variable.used,
        )
    if case.truth.features is not None:
        assert torch.equal(found.truth.features.directions, case.truth.features.directions)
        assert found.truth.features.entails == case.truth.features.entails


def test_a_forged_case_crosses_with_its_circuits_by_position(tmp_path):
    case = forge.make(3, size=2, positions="fixed")
    found = toys.load_folder(toys.export(case, tmp_path))
    assert found.truth.by_position == case.truth.by_position
    assert found.truth.circuits == case.truth.circuits


def read_safetensors(path):
    """Read a file of the format by its description, in NumPy alone."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    kinds = {"F32": np.float32, "I64": np.int64, "BOOL": np.bool_, "F64": np.float64}
    found = {}
    for name, told in json.loads(data[8 : 8 + length]).items():
        if name != "__metadata__":
            start, end = (8 + length + place for place in told["data_offsets"])
            values = np.frombuffer(data[start:end], kinds[told["dtype"]])
            found[name] = values.reshape(told["shape"])
    return found


def run(config, w, tokens, cut=()):
    """Run a model without norms; edges in `cut` carry nothing."""
    writers = {"input": w["W_E"][tokens] + w["W_pos"][: tokens.shape[1]]}
    biases = np.zeros_like(writers["input"])

    def read(reader):
        parts = [x for name, x in writers.items() if f"{name}->{reader}" not in cut]
        return sum(parts, biases)

    n = tokens.shape[1]
    mask = np.tril(np.ones((n, n))) if config["causal"] else np.ones((n, n))
    for layer in range(config["n_layers"]):
        own = {k.split(f"blocks.{layer}.")[1]: v for k, v in w.items() if f"blocks.{layer}." in k}
        new = {}
        for h in range(config["n_heads"]):
            q, k, v = (
                read(f"a{layer}.h{h}<{p}>") @ own[f"attn.W_{p.upper()}"][h]
                + own.get(f"attn.b_{p.upper()}", np.zeros((99, 1)))[h]
                for p in "qkv"
            )
            scores = np.where(mask, q @ k.swapaxes(1, 2) / config["attn_scale"], -np.inf)
            pattern = np.exp(scores - scores.max(-1, keepdims=True))
            pattern /= pattern.sum(-1, keepdims=True)
            new[f"a{layer}.h{h}"] = pattern @ v @ own["attn.W_O"][h]
        writers |= new
        biases = biases + own.get("attn.b_O", 0)
        if config["d_mlp"]:
            hidden = np.maximum(read(f"m{layer}") @ own["mlp.W_in"] + own.get("mlp.b_in", 0), 0)
            writers[f"m{layer}"] = hidden @ own["mlp.W_out"]
            biases = biases + own.get("mlp.b_out", 0)
    return read("logits") @ w["W_U"] + w.get("b_U", 0)


@pytest.mark.parametrize("name", ["boolean_xor", "backup_head", "modular_addition"])
def test_a_reader_in_numpy_computes_the_same_logits(exported, name):
    case, folder = exported(name)
    told = json.loads((folder / "case.json").read_text())
    tokens = np.array(told["prompts"]["clean"])[:200]
    logits = run(told["config"], read_safetensors(folder / "model.safetensors"), tokens)
    with torch.no_grad():
        expected = case.model(torch.tensor(tokens)).numpy()
    assert np.abs(logits - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("name", ["boolean_xor", "backup_head"])
def test_a_reader_in_numpy_finds_the_circuit_enough_and_each_edge_needed(exported, name):
    _, folder = exported(name)
    told = json.loads((folder / "case.json").read_text())
    w = read_safetensors(folder / "model.safetensors")
    tokens, answers, positions = (
        np.array(told["prompts"][key]) for key in ("clean", "answer", "position")
    )
    rows = np.arange(len(tokens))

    def find_margins(kept):
        logits = run(told["config"], w, tokens, cut=set(told["edges"]) - kept)[rows, positions]
        own = logits[rows, answers]
        logits[rows, answers] = -np.inf
        return own - logits.max(-1)

    for circuit in map(set, told["circuits"]["zero"]["edges"]):
        assert (find_margins(circuit) > 1e-4).all()
        assert all((find_margins(circuit - {edge}) <= 1e-4).any() for edge in circuit)


def test_a_prompt_that_the_folder_does_not_hold_has_no_value(exported):
    _, folder = exported("induction_by_hand")
    variable = toys.load_folder(folder).truth.variables["previous token"]
    with pytest.raises(KeyError, match="holds no values for prompt"):
        variable.compute(torch.zeros(1, 16, dtype=torch.long))


def damage(folder, what):
    told = json.loads((folder / "case.json").read_text())
    if what == "foreign":
        (folder / "case.json").write_text('{"format": "something else", "sha256": {}}')
    elif what == "newer":
        (folder / "case.json").write_text(json.dumps(told | {"format_version": 2}))
    elif what == "torn":
        (folder / "case.json").write_text(json.dumps(told)[:300])
    elif what == "bits":
        data = bytearray((folder / "model.safetensors").read_bytes())
        data[-1] ^= 1
        (folder / "model.safetensors").write_bytes(data)
    elif what == "lacks":
        (folder / "truth.safetensors").unlink()
    else:
        del told["config"]["d_model"]
        (folder / "case.json").write_text(json.dumps(told))


@pytest.mark.parametrize(
    ("what", "says"),
    {
        "foreign": "has format .something else. None, expected",
        "newer": "has format 'mini-transformer case' 2, expected",
        "torn": "holds no case",
        "bits": "is damaged or of another case",
        "lacks": "lacks truth.safetensors",
        "config": "is not what mini-transformer",
    }.items(),
)
def test_a_folder_that_is_damaged_or_foreign_gets_one_sentence(tmp_path, what, says):
    folder = toys.export(toys.load("boolean_and"), tmp_path)
    damage(folder, what)
    with pytest.raises(ValueError, match=says) as error:
        toys.load_folder(folder)
    assert "\n" not in str(error.value)


def test_a_file_and_a_folder_with_another_case_are_left_alone(tmp_path):
    case = toys.load("boolean_and")
    folder = toys.export(case, toys.export(case, tmp_path / "and"))  # its own is written anew
    with pytest.raises(ValueError, match=r"holds another case.json \(boolean_and, seed 0\): give"):
        toys.export(toys.load("boolean_or"), folder)
    for place in (folder / "case.json", folder / "case.json" / "and"):
        with pytest.raises(ValueError, match=r"case\.json is a file, but a case is a folder"):
            toys.export(case, place)
    (folder / "case.json").write_text("[]")
    with pytest.raises(ValueError, match=r"another case.json \(something that is no case\)"):
        toys.export(case, folder)


def test_512_prompts_are_drawn_where_there_are_many(exported):
    case, folder = exported("induction_by_hand")
    told = json.loads((folder / "case.json").read_text())
    assert (len(told["prompts"]["clean"]), told["all_prompts"]) == (512, False)
    assert told["prompts"]["clean"] == case.task.draw(512).clean.tolist()


def test_every_prompt_is_there_where_there_are_few(exported):
    case, folder = exported("boolean_and")
    found = toys.load_folder(folder)
    for name in PROMPTS:
        everything = found.task.everything()
        assert torch.equal(getattr(everything, name), getattr(case.task.everything(), name))
    assert dataclasses.replace(found).task.everything is not None
