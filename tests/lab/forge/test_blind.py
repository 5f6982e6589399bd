"""What is handed out tells nothing of the truth, and the key tells it all."""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from cheaters import score_by_names, score_by_weights

from mini_transformer import Transformer, forge
from mini_transformer.board.metrics.circuit import compare_sets, keep_highest
from mini_transformer.edges import mask_of
from mini_transformer.forge import Disguise, blind, disguise
from mini_transformer.toys.find_circuits import is_minimal

ARGUMENTS: dict[str, Any] = {"n": 4, "seed": 3, "size": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose secret is always the same, so that no test depends on luck."""
    folder = tmp_path_factory.mktemp("exam") / "public"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("secrets.token_bytes", lambda n: bytes(range(n)))
        forge.write_blind(folder, folder.with_name("key.json"), **ARGUMENTS)
    return folder


@pytest.fixture(scope="module")
def key(folder: Path) -> dict[str, Any]:
    return blind.read_key(folder.with_name("key.json"))


def read_headers(folder: Path) -> list[dict[str, Any]]:
    """Read the headers of all models as they stand in the files."""
    found = []
    for path in sorted(folder.glob("*.safetensors")):
        data = path.read_bytes()
        found.append(json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]))
    return found


def read_bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_folder_holds_numbered_models_and_tasks_and_the_question(folder: Path) -> None:
    models = {f"model_0{i}.{kind}" for i in range(4) for kind in ("safetensors", "json")}
    assert {path.name for path in folder.iterdir()} == models | {"README.md", "example.json"}
    assert {path.stat().st_mtime for path in folder.iterdir()} == {0.0}
    assert folder.stat().st_mode & 0o777 == 0o755


def test_every_model_does_its_task(folder: Path) -> None:
    for model, batch in forge.read_blind(folder).values():
        assert batch.accuracy(model) == 1.0
        assert (batch.answer != batch.wrong).all()


def test_the_key_tells_minimal_circuits_of_the_models_as_they_are(
    folder: Path, key: dict[str, Any]
) -> None:
    for name, (model, batch) in forge.read_blind(folder).items():
        for ablation, circuits in key["models"][name]["circuits"].items():
            for circuit in circuits:
                assert is_minimal(model, batch, ablation, circuit), (name, ablation)


def test_roles_and_variables_of_the_key_are_of_the_models_as_they_are(
    folder: Path, key: dict[str, Any]
) -> None:
    for name, truth in key["models"].items():
        edges = {edge for circuit in truth["circuits"]["zero"] for edge in circuit}
        nodes = {re.sub("<.>", "", end) for edge in edges for end in edge.split("->")}
        assert truth["roles"].keys() >= nodes - {"input", "logits"}
        n_prompts = len(json.loads((folder / f"{name}.json").read_text())["prompts"])
        for variable in truth["variables"]:
            layer, place = re.findall(r"blocks\.(\d+)\.hook_resid_(mid|post)", variable["site"])[0]
            assert any(node[1] == layer and "am"[place == "post"] == node[0] for node in nodes)
            assert len(set(variable["values"])) > 1
            assert len(variable["values"]) == n_prompts


def test_models_differ_only_in_what_prompts_show(folder: Path) -> None:
    configs = []
    for path in sorted(folder.glob("model_*.json")):
        prompts = torch.tensor(json.loads(path.read_text())["prompts"])
        model, _ = forge.read_blind(folder)[path.stem]
        config = dict(vars(model.config))
        assert config.pop("n_ctx") == prompts.shape[1]
        n_unused = config.pop("d_vocab") - len(prompts.unique())
        assert config.pop("d_vocab_out") == model.config.d_vocab
        configs.append((config, n_unused))
        own = model.config.d_vocab * (2 * model.config.d_model + 1)
        own += model.config.n_ctx * model.config.d_model
        configs[-1] += (sum(value.numel() for value in model.parameters()) - own,)
    assert configs == [configs[0]] * 4


def test_sizes_do_not_depend_on_the_other_models_of_the_folder(tmp_path: Path) -> None:
    sizes = []
    for i in range(2):
        forge.write_blind(tmp_path / f"{i}", tmp_path / f"{i}.json", n=1, seed=i, size=1)
        config = next(iter(forge.read_blind(tmp_path / f"{i}").values()))[0].config
        sizes.append((config.n_layers, config.n_heads, config.d_head, config.d_model, config.d_mlp))
    assert sizes == [(6, 9, 16, 144, 128)] * 2


def test_files_hold_weights_and_the_configuration_and_nothing_else(folder: Path) -> None:
    orders = set()
    for header in read_headers(folder):
        facts = json.loads(json.loads(header.pop("__metadata__")["mini_transformer"])["facts"])
        assert facts.pop("facts") == {}
        assert facts.keys() == {"config", "kind", "version"}
        assert {entry["dtype"] for entry in header.values()} == {"F32"}
        by_place = sorted(header, key=lambda name: header[name]["data_offsets"])
        orders.add((tuple(header), tuple(by_place)))
    assert len(orders) == 1


def test_no_weight_is_zero_and_ranks_do_not_tell_how_much_is_in_use(folder: Path) -> None:
    ranks = set()
    for model, _ in forge.read_blind(folder).values():
        for name, value in model.named_parameters():
            assert (value != 0).all(), name
        written = [model.W_E, model.W_pos, model.W_O.flatten(0, 2), model.W_out.flatten(0, 1)]
        read = [model.W_U, *(weight.movedim(-2, 0).flatten(1) for weight in list_read(model))]
        stacks = torch.cat(written), torch.cat(read, dim=1).T
        ranks.add(tuple(measure_rank(stack) for stack in stacks))
    assert len(ranks) == 1


def list_read(model: Any) -> list[torch.Tensor]:
    return [model.W_Q, model.W_K, model.W_V, model.W_in]


def measure_rank(rows: torch.Tensor) -> int:
    sizes = torch.linalg.svdvals(rows.detach().double())
    return int((sizes > 1e-5 * sizes[0]).sum())


def test_prompts_tokens_and_pairs_stand_in_no_order(folder: Path) -> None:
    in_order = []
    for path in folder.glob("model_*.json"):
        task = json.loads(path.read_text())
        for name in ("prompts", "pairs"):
            assert task[name] != sorted(task[name])
            assert len({tuple(row) for row in task[name]}) == len(task[name])
        # The list of all pairs, made prompt by prompt, would tell in which order prompts stood.
        clean = [pair[0] for pair in task["pairs"]]
        changes = sum(one != other for one, other in zip(clean[1:], clean[:-1], strict=True))
        assert changes > 0.7 * len(clean)
        answers = sorted(set(task["answers"]))
        in_order.append(answers == list(range(len(answers))))  # as in plain numbers
    assert sum(in_order) < 2


def test_heads_and_layers_of_circuits_stand_in_no_order(key: dict[str, Any]) -> None:
    nodes = [node for truth in key["models"].values() for node in truth["roles"]]
    heads = {node.split("h")[1] for node in nodes if "h" in node}
    assert len(heads) > 3
    assert len({node for node in nodes if node[0] == "m"}) > 1


def test_weights_and_names_alone_earn_little(folder: Path, key: dict[str, Any]) -> None:
    found: dict[str, list[float]] = {}
    for name, (model, _) in forge.read_blind(folder).items():
        circuits = key["models"][name]["circuits"]["resample"]
        truth = torch.stack([mask_of(model, circuit) for circuit in circuits]).bool().any(dim=0)
        for cheater, scores in (score_by_weights(model) | score_by_names(model)).items():
            kept = keep_highest(scores, int(truth.sum()))
            found.setdefault(cheater, []).append(compare_sets(kept, truth)["f1"])
    assert max(sum(own) / len(own) for own in found.values()) < 0.25


def test_nothing_public_holds_a_secret(folder: Path, key: dict[str, Any]) -> None:
    for name, data in read_bytes(folder).items():
        for word in (key["secret"], "forged", "seed", "knobs"):
            assert word.encode() not in data, (name, word)
        if name.endswith(".json") and name != "example.json":
            assert set(json.loads(data)) == set(blind.TASK)


def test_the_seed_alone_does_not_make_the_models_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds = []

    def make(seed: int, **knobs: Any) -> forge.ForgedCase:
        seeds.append(seed)
        return forge.make(seed, **knobs)

    monkeypatch.setattr(blind, "make", make)
    forge.write_blind(tmp_path / "again", tmp_path / "key.json", **ARGUMENTS)
    ours, theirs = read_bytes(folder), read_bytes(tmp_path / "again")
    assert not [name for name in ours if name.startswith("model_") and ours[name] == theirs[name]]
    assert len(set(seeds)) == len(seeds) >= 4
    assert min(seeds) > 2**128  # out of reach of all who try seeds one by one


def test_the_key_makes_the_same_folder_again(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder.with_name("key.json"), tmp_path / "key.json")
    forge.write_blind(tmp_path / "again", tmp_path / "key.json", **ARGUMENTS)
    assert read_bytes(tmp_path / "again") == read_bytes(folder)
    assert (tmp_path / "key.json").read_bytes() == folder.with_name("key.json").read_bytes()
    assert os.stat(tmp_path / "key.json").st_mode & 0o777 == 0o600


def test_the_source_of_randomness_has_more_starts_than_torch_has_seeds() -> None:
    one, same, other = (
        blind.make_generator(secret, "words") for secret in (b"a" * 32, b"a" * 32, b"b" * 32)
    )
    plain = torch.Generator().manual_seed(one.initial_seed())
    draws = [torch.rand(4, generator=source).tolist() for source in (one, same, other, plain)]
    assert draws[0] == draws[1]
    assert draws[0] not in draws[2:]


def test_a_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(blind, "write_question", fail)
    with pytest.raises(OSError, match="full"):
        forge.write_blind(tmp_path / "exam", tmp_path / "key.json", n=1, size=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("folder_name", "key_name", "options", "words"),
    [
        ("public", "other.json", {}, "public exists already"),
        ("new", "new/key.json", {}, "would lie in the folder"),
        ("new", "other.json", {"n": 0}, "0 models were asked for"),
        ("new", "key.json", {"seed": 4}, "is the key of a folder with seed 3, but 4"),
        ("new", "key.json", {"size": 1}, "with knobs {'size': 2}"),
        ("new", "public/README.md", {}, "cannot read the key"),
        ("new", "public/example.json", {}, "is no key"),
        ("new", "other.json", {"size": 9}, "size is 9"),
    ],
)
def test_what_cannot_be_written_is_told(
    folder: Path, folder_name: str, key_name: str, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        forge.write_blind(
            folder.with_name(folder_name), folder.parent / key_name, **ARGUMENTS | options
        )


def test_a_folder_without_models_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no model"):
        forge.read_blind(tmp_path)


def test_every_knob_reaches_the_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    skews = []

    def watch(model: Transformer, generator: torch.Generator, skew: float) -> Disguise:
        skews.append(skew)
        return disguise(model, generator, skew)

    monkeypatch.setattr(blind, "disguise", watch)
    forge.write_blind(tmp_path / "exam", tmp_path / "key.json", n=2, size=1, skew=0.3)
    assert len(skews) >= 2
    assert set(skews) == {0.3}


def test_a_model_that_cannot_be_disguised_is_drawn_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds = []
    hide = blind.hide

    def fail_first(case: forge.ForgedCase, *rest: Any) -> Any:
        seeds.append(case.seed)
        if len(seeds) in few:
            raise ValueError("float32 is too coarse")
        return hide(case, *rest)

    monkeypatch.setattr(blind, "hide", fail_first)
    few = range(1, 3)
    forge.write_blind(tmp_path / "exam", tmp_path / "key.json", n=2, size=1)
    assert len(forge.read_blind(tmp_path / "exam")) == 2
    assert len(set(seeds)) == len(seeds) >= 4
    few = range(10**9)
    monkeypatch.setattr(blind, "REDRAWN", 1)
    with pytest.raises(ValueError, match="float32 is too coarse"):
        forge.write_blind(tmp_path / "other", tmp_path / "other.json", n=1, size=1)


def test_what_is_too_coarse_to_disguise_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blind, "EQUAL", 0.0)
    case = forge.make(0, size=1, hidden=False)
    sizes = {name: getattr(case.model.config, name) for name in ("n_layers", *blind.STEPS)}
    with pytest.raises(ValueError, match=r"size 1 with skew .*: give a smaller size or skew"):
        blind.hide(case, sizes | {"d_model": sizes["d_model"] + blind.OWN}, torch.Generator())
