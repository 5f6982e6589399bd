"""What somebody reads whose checkpoint cannot be read or written: one sentence, with the path,
the reason and a way out.
"""

import pytest
import torch
from torch import nn

from mini_transformer import Config, Transformer
from mini_transformer.checkpoints import CheckpointError, load, save, write_tensors

MODEL = Transformer(Config(d_vocab=4, n_ctx=4, d_model=4, n_layers=1))


def message(error) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def test_a_missing_file_is_named_with_the_nearest_that_exists(tmp_path):
    save(tmp_path / "induction-0.safetensors", MODEL)
    with pytest.raises(CheckpointError) as error:
        load(tmp_path / "inductoin-0.safetensors")
    assert message(error).endswith(
        "inductoin-0.safetensors (No such file or directory); nearest: induction-0.safetensors"
    )


def test_a_folder_is_not_a_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match="Is a directory"):
        load(tmp_path)


def test_a_truncated_file_says_so(tmp_path):
    path = save(tmp_path / "m.safetensors", MODEL)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(CheckpointError) as error:
        load(path)
    assert (
        "m.safetensors is truncated or damaged: restore it from a copy, or train it again"
        in message(error)
    )


def test_a_damaged_file_says_so(tmp_path):
    path = save(tmp_path / "m.safetensors", MODEL)
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with pytest.raises(
        CheckpointError,
        match="is damaged, its checksum is wrong: restore it from a copy, or train it again",
    ):
        load(path)


def test_a_file_of_torch_save_says_why_it_is_not_loaded(tmp_path):
    torch.save({"x": 1}, tmp_path / "m.pt")
    with pytest.raises(CheckpointError, match="may run code when it is loaded, so it was not"):
        load(tmp_path / "m.pt")


def test_some_other_file_is_foreign(tmp_path):
    (tmp_path / "notes.txt").write_text("This is not a model, it is a shopping list.")
    with pytest.raises(
        CheckpointError, match=r"notes\.txt is not a checkpoint of mini-transformer"
    ):
        load(tmp_path / "notes.txt")


def test_a_folder_that_cannot_be_written_to_says_so(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError) as error:
        save(tmp_path / "file" / "m.safetensors", MODEL)
    assert "cannot write" in message(error)
    assert message(error).endswith("choose a folder you can write to")


def test_another_class_needs_build(tmp_path):
    with pytest.raises(CheckpointError, match="holds a Linear, which load cannot make: give load"):
        load(save(tmp_path / "m", nn.Linear(2, 2)))


def test_the_state_of_a_training_run_is_not_a_model(tmp_path):
    with pytest.raises(
        CheckpointError, match="is the state of a training run, not a model: give it to train"
    ):
        load(write_tensors(tmp_path / "state", {}, {"run": {}}))


@pytest.mark.parametrize("fact", [torch.ones(1), float("nan"), {1, 2}])
def test_a_fact_that_json_cannot_hold_is_refused(tmp_path, fact):
    with pytest.raises(
        ValueError, match="facts must be what JSON can hold, numbers, strings, lists and dicts"
    ):
        save(tmp_path / "m", MODEL, fact=fact)
    assert not (tmp_path / "m").exists()
