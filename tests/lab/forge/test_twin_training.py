"""How twins are trained: the plan, the teacher, what is switched, and the same weights again."""

import dataclasses

import pytest
import torch
from damaging import list_broken

from mini_transformer import checkpoints, forge
from mini_transformer.edges import Edge, list_edges, mask_of
from mini_transformer.forge import twin_training
from mini_transformer.forge.twin_training import make_draw, make_objective, make_plan, train_twin
from mini_transformer.forge.twins import FOLDER, PROGRAMS, make_twin
from mini_transformer.model import Transformer


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_plan_is_that_of_the_shipped_twin_and_its_teacher_runs_the_program(name: str) -> None:
    teacher, plan = make_plan(PROGRAMS[name], seed=2)
    case = forge.load_twin(name, seed=2)
    assert case.task.everything().accuracy(teacher) == 1
    assert case.truth.circuits["resample"].edges == (frozenset(plan.circuit),)
    assert case.truth.roles == plan.roles
    places = {(plan.nodes[step], at) for step, own in plan.at.items() for at in own}
    assert len(places) == sum(map(len, plan.at.values()))  # no place serves two steps


def test_a_teacher_of_itself_has_nothing_to_learn_but_its_offset() -> None:
    program = PROGRAMS["join"]
    teacher, plan = make_plan(program, seed=0)
    objective = make_objective(program, teacher, plan, n_pairs=16)
    loss, accuracy = objective(teacher, torch.Generator().manual_seed(0))
    # The teacher's logit of "." is 3, where 0 is asked for; all else is right.
    assert loss.item() == pytest.approx(9 / program.layout.d_vocab, rel=0.05)
    assert accuracy == 1


def test_an_untrained_model_is_far_from_the_teacher() -> None:
    program = PROGRAMS["join"]
    teacher, plan = make_plan(program, seed=0)
    objective = make_objective(program, teacher, plan, n_pairs=16)
    loss, _ = objective(Transformer(teacher.config), torch.Generator().manual_seed(0))
    assert loss.item() > 2


def test_sets_of_edges_cover_what_is_to_be_learned() -> None:
    teacher, plan = make_plan(PROGRAMS["chain"], seed=0)
    masks = make_draw(teacher, plan)(300, torch.Generator().manual_seed(0)).bool()
    inside = mask_of(teacher, plan.circuit).bool()
    shares = masks[:, ~inside].float().mean(dim=1)
    assert ((shares == 0).sum() > 50) & ((shares == 1).sum() > 50)
    assert ((shares > 0.3) & (shares < 0.7)).sum() > 20
    whole = masks[:, inside].all(dim=1)
    assert 70 < whole.sum() < 130
    writers = [str(Edge.parse(edge).writer) for edge in list_edges(teacher)]
    for node in {*plan.nodes.values(), "input"}:
        out_of = torch.tensor([writer == node for writer in writers])
        assert (masks[:, inside] == ~out_of[inside]).all(dim=1).any()


def test_the_same_seed_gives_the_same_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    short = dataclasses.replace(twin_training.RECIPE, steps=3, batch=4)
    monkeypatch.setattr(twin_training, "RECIPE", short)
    (one, _), (same, _), (other, _) = (train_twin("add", seed) for seed in (0, 0, 1))
    assert torch.equal(one.model.W_E, same.model.W_E)
    assert not torch.equal(one.model.W_E, other.model.W_E)


@pytest.mark.slow
def test_training_from_scratch_gives_the_shipped_twin() -> None:
    trained, plan = train_twin("add", 0)
    assert list_broken(make_twin("add", 0, trained.model, plan)) == []
    shipped = checkpoints.load(FOLDER / "twin_add-0.safetensors").model
    for name, weight in trained.model.named_parameters():
        torch.testing.assert_close(weight, shipped.get_parameter(name), rtol=1e-2, atol=1e-2)
