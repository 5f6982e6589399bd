"""Checkpoints: what was saved comes back exactly; what was not written by save, or not
completely, is refused.
"""

import os
import pickle
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mini_transformer import Config, Transformer, __version__
from mini_transformer.checkpoints import (
    CheckpointError,
    load,
    read_tensors,
    save,
    verify,
    write_tensors,
)

CONFIGS = {
    "attention only": Config(
        d_vocab=7, n_ctx=5, d_model=6, n_layers=2, n_heads=3, positions_to="qk"
    ),
    "everything": Config(
        d_vocab=7,
        n_ctx=5,
        d_model=6,
        n_layers=1,
        d_mlp=4,
        act="gelu",
        norm="layer",
        biases=True,
        d_vocab_out=3,
    ),
    "tied, without positions": Config(
        d_vocab=7, n_ctx=5, d_model=6, n_layers=1, positions="none", tied=True, norm="rms"
    ),
    "no layers": Config(d_vocab=7, n_ctx=5, d_model=6, n_layers=0, positions="sinusoidal"),
}


@pytest.fixture
def path(tmp_path):
    return save(
        tmp_path / "small.safetensors",
        Transformer(CONFIGS["everything"], seed=4),
        seed=4,
        recipe={"steps": 9},
    )


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_loaded_model_gives_bit_identical_logits(tmp_path, config, dtype):
    model, tokens = Transformer(config, seed=1).to(dtype), torch.tensor([[1, 2, 6, 0]])
    loaded = load(save(tmp_path / "model.safetensors", model)).model
    assert loaded.config == config
    assert torch.equal(loaded(tokens), model(tokens))
    assert loaded(tokens).dtype == dtype


def test_facts_come_back_as_they_were_given(tmp_path):
    model = Transformer(CONFIGS["no layers"])
    checkpoint = load(
        save(
            tmp_path / "m.safetensors",
            model,
            recipe={"lr": 0.1},
            seed=3,
            note="déjà vu",
            accuracy=[0.5, 1.0],
        )
    )
    assert (checkpoint.recipe, checkpoint.seed, checkpoint.version) == ({"lr": 0.1}, 3, __version__)
    assert checkpoint.facts == {"note": "déjà vu", "accuracy": [0.5, 1.0]}


def test_weights_that_are_views_of_other_tensors_are_saved_as_they_are(tmp_path):
    model = Transformer(CONFIGS["attention only"])
    with torch.no_grad():
        model.blocks[0].attn.W_Q.data = torch.randn(3, 2, 6).mT  # not contiguous
        model.W_pos.data = model.W_E.data[:5]  # shares memory
    loaded = load(save(tmp_path / "m.safetensors", model)).model
    assert torch.equal(loaded.blocks[0].attn.W_Q, model.blocks[0].attn.W_Q)
    assert torch.equal(loaded.W_pos, model.W_pos)


def test_a_loaded_model_is_independent_of_the_file(path):
    model = load(path).model
    with torch.no_grad():
        model.W_E.zero_()
    assert load(path).model.W_E.abs().sum() > 0


def test_equal_models_and_facts_give_equal_bytes(tmp_path):
    model = Transformer(CONFIGS["everything"], seed=2)
    one = save(tmp_path / "one", model, seed=2, recipe={"b": 1, "a": 2}).read_bytes()
    other = save(tmp_path / "other", model, recipe={"a": 2, "b": 1}, seed=2).read_bytes()
    assert one == other


def test_a_model_of_another_class_is_built_by_the_caller(tmp_path):
    model = nn.Linear(3, 2)
    path = save(tmp_path / "linear.safetensors", model)
    loaded = load(path, build=lambda config: nn.Linear(3, 2))
    assert loaded.kind == "Linear"
    assert torch.equal(loaded.model.weight, model.weight)
    assert "Linear" in verify(path)


def test_every_flipped_byte_is_noticed(path):
    data = path.read_bytes()
    for i in range(0, len(data), max(1, len(data) // 300)):
        path.write_bytes(data[:i] + bytes([data[i] ^ 0x10]) + data[i + 1 :])
        with pytest.raises(CheckpointError, match=r"damaged|is not a checkpoint|did not write it"):
            load(path)


def test_every_truncation_is_noticed(path):
    data = path.read_bytes()
    for length in [0, 1, 7, 8, 9, 100, len(data) // 2, len(data) - 1]:
        path.write_bytes(data[:length])
        with pytest.raises(CheckpointError, match="truncated or damaged"):
            load(path)


class Bomb:
    """Leaves a file behind if somebody unpickles it."""

    def __init__(self, target) -> None:
        self.target = str(target)

    def __reduce__(self):
        return os.mkdir, (self.target,)


def test_a_pickle_is_refused_and_not_run(tmp_path):
    for name, write in {
        "torch.save": lambda value, path: torch.save(value, path),
        "old torch.save": lambda value, path: torch.save(
            value, path, _use_new_zipfile_serialization=False
        ),
        "pickle": lambda value, path: path.write_bytes(pickle.dumps(value)),
    }.items():
        write(Bomb(tmp_path / "it ran"), path := tmp_path / name)
        with pytest.raises(
            CheckpointError, match=r"torch\.save|not a checkpoint|truncated or damaged"
        ):
            load(path)
    assert not (tmp_path / "it ran").exists()


def test_a_safetensors_file_of_somebody_else_is_refused(tmp_path):
    save_file({"weight": torch.ones(2)}, path := tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="did not write it"):
        load(path)


def test_a_checkpoint_with_a_weight_too_few_or_of_another_shape_is_refused(tmp_path, path):
    tensors, facts = read_tensors(path)
    del tensors["W_E"]
    with pytest.raises(CheckpointError, match="W_E is missing"):
        load(write_tensors(tmp_path / "few", tensors, facts))
    with pytest.raises(CheckpointError, match=r"W_E has shape \(2, 2\), expected \(7, 6\)"):
        load(write_tensors(tmp_path / "shape", tensors | {"W_E": torch.ones(2, 2)}, facts))
    facts["config"]["an_option_of_the_future"] = 1
    with pytest.raises(CheckpointError, match=r"an_option_of_the_future.*install that version"):
        load(write_tensors(tmp_path / "future", tensors, facts))


def test_verify_finds_numbers_that_are_not_finite(tmp_path):
    model = Transformer(CONFIGS["everything"])
    with torch.no_grad():
        model.b_U[0] = float("nan")
    with pytest.raises(CheckpointError, match="b_U holds numbers that are not finite"):
        verify(save(tmp_path / "nan.safetensors", model))
    assert "intact" in verify(
        save(tmp_path / "fine.safetensors", Transformer(CONFIGS["everything"]))
    )


def test_a_writer_killed_at_any_moment_leaves_the_old_file_or_the_new_one(tmp_path):
    program = """
import sys, torch
from mini_transformer.checkpoints import write_tensors
i = 0
while True:
    write_tensors(sys.argv[1], {"x": torch.full((300_000,), float(i))}, {"i": i})
    if i == 0:
        print("begun", flush=True)
    i += 1
"""
    path = tmp_path / "state"
    writer = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE)
    with writer:
        try:
            writer.stdout.readline()
            for _ in range(20):  # looking while it writes is as hard as killing it 20 times
                time.sleep(0.011)
                tensors, facts = read_tensors(path)
                assert (tensors["x"] == facts["i"]).all()
        finally:
            writer.kill()
    tensors, facts = read_tensors(path)
    assert (tensors["x"] == facts["i"]).all()
    assert facts["i"] > 0


def test_a_failed_write_keeps_the_old_file_and_leaves_no_rubbish(path, monkeypatch):
    before = path.read_bytes()

    def disk_full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", disk_full)
    with pytest.raises(CheckpointError, match="No space left on device"):
        save(path, Transformer(CONFIGS["no layers"]))
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_saving_through_a_link_keeps_the_link(tmp_path, path):
    (link := tmp_path / "link").symlink_to(path)
    save(link, Transformer(CONFIGS["no layers"]))
    assert link.is_symlink()
    assert load(path).model.config == CONFIGS["no layers"]
