"""What somebody reads whose training cannot begin, cannot go on, or has gone wrong."""

import dataclasses

import pytest
import torch
from torch import nn

from mini_transformer.checkpoints import CheckpointError, save
from mini_transformer.train import DivergedError, Recipe, train

RECIPE = Recipe(steps=20, lr=0.1)


def fit(model, generator):
    x = torch.randn(8, 2, generator=generator)
    return (model(x) - x.sum(dim=1, keepdim=True)).square().mean(), None


def run(recipe=RECIPE, objective=fit, model=None, **options):
    torch.manual_seed(0)
    return train(model or nn.Linear(2, 1), objective, recipe, progress=False, **options)


def test_a_diverging_run_names_the_step_and_the_way_out(tmp_path):
    def explode(model, generator):
        x = torch.randn(8, 2, generator=generator)
        return (model(x) * 1e5).pow(8).mean(), None

    with pytest.raises(DivergedError) as error:
        run(Recipe(steps=50, lr=1e30), explode, resume=tmp_path / "state")
    assert str(error.value) == (
        "the loss is inf before the first update: look at the objective and the initial weights"
    )
    with pytest.raises(DivergedError) as error:
        run(Recipe(steps=50, lr=1e30, warm_up=0), resume=tmp_path / "other")
    assert str(error.value) == (
        "the loss is inf after step 1 with lr 1e+30: try lr 1e+29 or a longer warm_up; "
        f"the last good state is in {tmp_path / 'other'}"
    )


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"steps": 0}, "steps is 0, but must be at least 1"),
        ({"batch": 0}, "batch is 0, but must be at least 1"),
        ({"warm_up": -1}, "warm_up is -1, but must be at least 0"),
        ({"cool_down": -1}, "cool_down is -1, but must be at least 0"),
        ({"weight_decay": -0.1}, "weight_decay is -0.1, but must be at least 0"),
        ({"clip": float("nan")}, "clip is nan, but must be at least 0"),
        ({"lr": 0.0}, "lr is 0.0, but must be positive: try 1e-3"),
        (
            {"betas": (0.9, 1.0)},
            r"betas are \(0.9, 1.0\), but must be two numbers from 0 to below 1",
        ),
        ({"betas": (0.9,)}, r"betas are \(0.9,\), but must be two numbers from 0 to below 1"),
    ],
)
def test_an_impossible_recipe_says_what_is_possible(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        dataclasses.replace(RECIPE, **options)


@pytest.mark.parametrize(
    "loss", [torch.ones(3, requires_grad=True), torch.ones(())], ids=["not one number", "constant"]
)
def test_a_loss_that_cannot_be_trained_on_says_what_to_return(loss):
    with pytest.raises(ValueError, match="return one number that depends on the model's weights"):
        run(objective=lambda model, generator: (loss, None))


def test_resuming_with_another_recipe_says_what_differs(tmp_path):
    run(resume=tmp_path / "state")
    with pytest.raises(
        ValueError,
        match=r"state was begun with lr 0\.1, not 0\.2: give the same again, or another file",
    ):
        run(Recipe(steps=20, lr=0.2), resume=tmp_path / "state")
    with pytest.raises(ValueError, match="begun with every 50, not 7"):
        run(resume=tmp_path / "state", every=7)
    with pytest.raises(ValueError, match=r"begun with watch \[\], not \['zero'\]"):
        run(resume=tmp_path / "state", watch={"zero": lambda model: 0.0})


def test_resuming_with_another_model_says_so(tmp_path):
    run(resume=tmp_path / "state")
    with pytest.raises(
        ValueError, match=r"another model \(bias is not a weight of this model\): give another file"
    ):
        run(model=nn.Linear(2, 1, bias=False), resume=tmp_path / "state")


def test_resuming_from_a_finished_model_says_so(tmp_path):
    path = save(tmp_path / "model", nn.Linear(2, 1))
    with pytest.raises(
        CheckpointError,
        match="holds a model, not the state of a training run: resume from another file",
    ):
        run(resume=path)


def test_resuming_from_a_damaged_file_says_so(tmp_path):
    (tmp_path / "state").write_bytes(b"\0" * 20)
    with pytest.raises(CheckpointError, match="is not a checkpoint"):
        run(resume=tmp_path / "state")


def test_a_folder_that_cannot_be_written_to_is_found_before_the_work_is_done(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="choose a folder you can write to"):
        run(
            resume=tmp_path / "file" / "state",
            objective=lambda model, generator: pytest.fail("it began"),
        )
