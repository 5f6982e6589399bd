"""The training loop equals the same steps in bare PyTorch, repeats itself bit by bit, and leaves
nothing behind.
"""

import dataclasses
import itertools
import math
import signal
import subprocess
import sys
import time

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mini_transformer import Config, Transformer
from mini_transformer.checkpoints import read_tensors
from mini_transformer.train import (
    DivergedError,
    Recipe,
    choose_threads,
    draw_generator,
    thread_count,
    train,
)

CONFIG = Config(
    d_vocab=8, n_ctx=6, d_model=8, n_layers=1, n_heads=2, d_mlp=8, norm="layer", biases=True
)
RECIPE = Recipe(steps=60, lr=1e-2, warm_up=5, cool_down=20, batch=8, seed=3)


def predict_previous(model: Transformer, generator: torch.Generator):
    """Say the token before: learned in a few dozen steps."""
    tokens = torch.randint(8, (32, 6), generator=generator)
    logits = model(tokens)[:, 1:]
    accuracy = (logits.argmax(dim=-1) == tokens[:, :-1]).float().mean()
    return F.cross_entropy(logits.flatten(0, 1), tokens[:, :-1].flatten()), accuracy


def start(seed: int = 0) -> Transformer:
    return Transformer(CONFIG, seed)


def run(recipe: Recipe = RECIPE, **options):
    return train(start(), predict_previous, recipe, **{"progress": False, "every": 10} | options)


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_the_loop_is_adamw_with_warm_up_and_cool_down_in_bare_pytorch():
    model = start().double()
    recipe = dataclasses.replace(RECIPE, weight_decay=0.3, betas=(0.8, 0.95), clip=0.5)
    ours = train(model, predict_previous, recipe, progress=False)
    optimizer = torch.optim.AdamW(
        model.parameters(), weight_decay=0.3, betas=(0.8, 0.95), foreach=False
    )
    for step in range(60):
        loss, _ = predict_previous(model, draw_generator(3, step))
        assert loss.item() == pytest.approx(ours.history.loss[step], rel=1e-6)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * (
                0.2 * (step + 1) if step < 5 else (60 - step) / 20 if step > 40 else 1
            )
        optimizer.step()
    for expected, got in zip(model.parameters(), ours.model.parameters(), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-8)


def test_training_learns_and_its_history_shows_it():
    trained = run(dataclasses.replace(RECIPE, steps=300))
    assert trained.history.steps == len(trained.history.accuracy) == 300
    assert trained.history.loss[0] > 2
    assert trained.history.accuracy[-1] > 0.9
    assert "accuracy 9" in str(trained.history) or "accuracy 100" in str(trained.history)


def test_the_same_recipe_gives_the_same_weights_and_another_seed_others():
    assert same_weights(run().model, run().model)
    assert not same_weights(run().model, run(dataclasses.replace(RECIPE, seed=4)).model)


def test_every_step_sees_another_batch():
    first = [
        torch.rand(1, generator=draw_generator(seed, step)).item()
        for seed in range(3)
        for step in range(100)
    ]
    assert len(set(first)) == 300


def test_the_model_that_was_given_stays_as_it_is():
    model = start().train()
    trained = train(model, predict_previous, RECIPE, progress=False)
    assert same_weights(model, start())
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert trained.model is not model
    tokens = torch.tensor([[1, 2, 3]])
    trained.model.run_with_hooks(
        tokens, fwd_hooks=[("embed", lambda value, hook: None)]
    )  # its hooks are its own
    assert trained.model.hook_points["hook_embed"] is trained.model.hook_embed


def test_weights_that_ask_for_no_gradient_are_not_trained():
    model = start()
    model.W_E.requires_grad_(False)
    trained = train(model, predict_previous, RECIPE, progress=False)
    assert torch.equal(trained.model.W_E, model.W_E)
    assert not torch.equal(trained.model.W_U, model.W_U)


def test_any_module_and_an_objective_without_accuracy_can_be_trained():
    def fit(model, generator):
        x = torch.randn(16, 3, generator=generator)
        return (model(x) - x.sum(dim=1, keepdim=True)).square().mean(), None

    trained = train(nn.Linear(3, 1), fit, Recipe(steps=200, lr=0.1), progress=False)
    assert trained.model.weight.detach() == pytest.approx(torch.ones(1, 3), abs=0.01)
    assert math.isnan(trained.history.accuracy[0])
    assert "accuracy" not in str(trained.history)


def test_it_trains_also_where_gradients_are_switched_off():
    with torch.no_grad():
        assert same_weights(run().model, run().model)
        assert not torch.is_grad_enabled()


def test_it_stops_when_the_signature_holds():
    asked = []

    def enough(model):
        asked.append(torch.is_grad_enabled())
        return len(asked) == 3

    trained = run(stop_when=enough)
    assert (trained.stopped, trained.history.steps) == (True, 30)
    assert asked == [False] * 3
    assert not run(stop_when=lambda model: False).stopped


def test_what_is_watched_is_measured_after_the_steps_it_says():
    trained = run(
        dataclasses.replace(RECIPE, steps=25), watch={"norm": lambda model: model.W_E.norm().item()}
    )
    assert trained.history.steps_watched() == [10, 20, 25]
    assert trained.history.watched["norm"][-1] == trained.model.W_E.norm().item()
    assert len(set(trained.history.watched["norm"])) == 3


class Interrupted(BaseException):
    pass


@pytest.mark.parametrize("after", [1, 10, 19, 43])
def test_a_resumed_run_ends_bit_by_bit_like_an_undisturbed_one(tmp_path, after):
    calls = itertools.count()

    def interrupted(model, generator):
        if next(calls) == after:
            raise Interrupted
        return predict_previous(model, generator)

    watch = {"norm": lambda model: model.W_E.norm().item()}
    with pytest.raises(Interrupted):
        train(
            start(),
            interrupted,
            RECIPE,
            watch=watch,
            every=10,
            resume=tmp_path / "state",
            progress=False,
        )
    seen = []

    def counted(model, generator):
        seen.append(1)
        return predict_previous(model, generator)

    other_start = start(seed=99)  # overwritten by what is in the file
    resumed = train(
        other_start,
        counted,
        RECIPE,
        watch=watch,
        every=10,
        resume=tmp_path / "state",
        progress=False,
    )
    undisturbed = run(watch=watch)
    assert len(seen) == 60 - after // 10 * 10  # it did not begin again
    assert same_weights(resumed.model, undisturbed.model)
    assert resumed.history == undisturbed.history


PROGRAM = """
import sys, time
sys.path.insert(0, sys.argv[2])
import test_train

def slowly(model, generator):
    time.sleep(0.005)
    return test_train.predict_previous(model, generator)

print("begun", flush=True)
model = test_train.start()
test_train.train(model, slowly, test_train.RECIPE, every=5, resume=sys.argv[1], progress=False)
print("done", flush=True)
"""


def test_a_process_killed_again_and_again_ends_bit_by_bit_like_an_undisturbed_one(
    tmp_path, request
):
    state, kills, steps = tmp_path / "state", 0, []
    for delay in (0.1, 0.17, None):
        arguments = [sys.executable, "-c", PROGRAM, str(state), str(request.path.parent)]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "begun\n"
            if delay is not None:
                time.sleep(delay)
                process.send_signal(signal.SIGKILL)
            ended = "done" in process.stdout.read()
        kills += process.returncode == -signal.SIGKILL
        if state.exists():
            steps.append(len(read_tensors(state)[0]["history.loss"]))
    assert ended
    assert kills >= 1
    assert steps == sorted(steps)
    assert steps[-1] == 60
    resumed = run(every=5, resume=state)  # finished: only read
    assert same_weights(resumed.model, run(every=5).model)


def test_a_run_that_has_stopped_does_not_go_on_when_it_is_resumed(tmp_path):
    stopped = run(resume=tmp_path / "state", stop_when=lambda model: True)
    again = run(resume=tmp_path / "state", stop_when=lambda model: True)
    assert stopped.history.steps == again.history.steps == 10
    assert again.stopped
    assert same_weights(stopped.model, again.model)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_state(tmp_path):
    def breaks(model, generator):
        loss, accuracy = predict_previous(model, generator)
        return loss * (math.nan if next(calls) == 34 else 1.0), accuracy

    calls = itertools.count()
    with pytest.raises(DivergedError, match="the loss is nan after step 34"):
        train(start(), breaks, RECIPE, every=10, resume=tmp_path / "state", progress=False)
    tensors, _ = read_tensors(tmp_path / "state")
    assert len(tensors["history.loss"]) == 30
    assert all(value.isfinite().all() for value in tensors.values())


def test_weights_that_are_not_finite_are_never_stored(tmp_path):
    def bad_gradient(model, generator):  # the loss is finite, its gradient is 0 * inf
        loss, accuracy = predict_previous(model, generator)
        return loss + (0 if next(calls) < 19 else (model.W_E * 0).abs().sum().sqrt()), accuracy

    calls = itertools.count()
    with pytest.raises(DivergedError, match="a weight is no longer a finite number after step 20"):
        train(start(), bad_gradient, RECIPE, every=10, resume=tmp_path / "state", progress=False)
    assert len(read_tensors(tmp_path / "state")[0]["history.loss"]) == 10


def test_nothing_is_left_behind_also_after_an_exception():
    def fails(model, generator):
        assert torch.get_num_threads() == 2
        raise ZeroDivisionError

    with thread_count(1):
        torch.manual_seed(5)
        before = torch.random.get_rng_state()
        run()
        with pytest.raises(ZeroDivisionError):
            train(start(), fails, RECIPE, progress=False, threads=2)
        assert torch.equal(torch.random.get_rng_state(), before)
        assert torch.get_num_threads() == 1


def test_small_models_get_one_thread_and_large_ones_all():
    with thread_count(2):
        assert choose_threads(start()) == 1
        assert choose_threads(nn.Linear(2000, 2000, bias=False)) == 2


def test_the_progress_bar_shows_loss_and_accuracy_and_can_be_off(capsys):
    run(progress=True)
    shown = capsys.readouterr().err
    assert "60/60" in shown
    assert "loss" in shown
    assert "accuracy" in shown
    run(progress=False)
    assert capsys.readouterr() == ("", "")


def test_a_recipe_goes_through_a_file_unchanged(tmp_path):
    recipe = dataclasses.replace(RECIPE, betas=(0.9, 0.98))
    run(recipe, resume=tmp_path / "state")
    assert Recipe(**read_tensors(tmp_path / "state")[1]["run"]["recipe"]) == recipe
