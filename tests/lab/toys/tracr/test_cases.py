"""Compiled programs as cases: every prompt is answered, and every weight matrix is needed."""

import copy
from dataclasses import replace

import pytest
import torch

from mini_transformer import toys
from mini_transformer.toys.tracr.cases import Strings
from mini_transformer.toys.tracr.compiled import find_file, load_compiled
from mini_transformer.toys.tracr.programs import PROGRAMS, list_strings
from mini_transformer.toys.verify import verify_case

NUMBERS = ["frac_prevs", "pair_balance"]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", PROGRAMS)
def test_the_model_says_what_the_program_says_at_every_symbol_of_every_string(name, seed):
    """Read by hand: tokens are looked up by name, and outputs by the names of directions."""
    case, program = toys.load(f"tracr_{name}", seed), PROGRAMS[name]
    named = {token: i for i, token in enumerate(case.task.token_names)}
    values = load_compiled(find_file(name)).values[program.output]
    for string in list_strings(program):
        padding = ["."] * (program.longest - len(string))
        tokens = torch.tensor([[named[str(x)] for x in ["|", *string, *padding]]])
        with torch.no_grad():
            said = case.model(tokens)[0, 1 : 1 + len(string)]
        expected = program.run(string)[program.output]
        if name in NUMBERS:
            assert said[:, 0].tolist() == pytest.approx([float(x) for x in expected], abs=1e-5)
        else:
            assert [values[i] for i in said.argmax(dim=1)] == [str(x) for x in expected]


@pytest.mark.parametrize("name", [name for name in PROGRAMS if name != "shuffle_dyck2"])
def test_every_truth_holds_for_another_seed(name):
    assert [row for row in verify_case(toys.load(f"tracr_{name}", 3)) if not row.ok] == []


@pytest.mark.parametrize("name", PROGRAMS)
def test_each_weight_matrix_that_is_not_zero_is_needed(name):
    case = toys.load(f"tracr_{name}")
    noticing = [case.truth.signatures[what] for what in ("accuracy", "error of the variables")]
    assert all(signature.holds(case) for signature in noticing)
    for parameter, weight in case.model.named_parameters():
        unread = parameter == "W_pos" and name in ("length", "hist")
        if weight.any() and not unread:
            model = copy.deepcopy(case.model)
            with torch.no_grad():
                model.get_parameter(parameter).zero_()
            damaged = replace(case, model=model)
            assert not all(signature.holds(damaged) for signature in noticing), parameter


def test_a_pair_differs_at_one_position_and_short_prompts_repeat_their_last_answer():
    case = toys.load("tracr_reverse")
    batch = case.task.everything()
    assert ((batch.clean != batch.corrupt).sum(dim=1) == 1).all()
    row = case.task.token_names.index
    short = torch.tensor([[row(x) for x in "|ab.."]])
    (found, *_) = (batch.clean == short).all(dim=1).nonzero().squeeze(1).tolist()
    assert batch.position[found].tolist() == [1, 2, 2, 2]
    assert batch.answer[found].tolist() == [1, 0, 0, 0]
    assert batch.wrong[found].tolist() != batch.answer[found].tolist()


def test_every_answer_is_drawn_equally_often():
    case = toys.load("tracr_shuffle_dyck2")
    batch = case.task.draw(600, corrupt="any")
    balanced = batch.answer[:, 0].float().mean().item()
    assert 0.25 < balanced < 0.42  # two of six: balanced strings of 2 and of 4
    program, compiled = PROGRAMS["shuffle_dyck2"], load_compiled(find_file("shuffle_dyck2"))
    assert len(Strings(program, compiled).kind.unique()) == 6


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_is_told_from_what_the_corrupt_prompt_calls_for(name):
    case = toys.load(f"tracr_{name}")
    batch = case.task.everything()
    with torch.no_grad():
        clean, corrupt = (
            batch.logit_difference(case.model(x)) for x in (batch.clean, batch.corrupt)
        )
    differ = (batch.answer != batch.wrong).any(dim=1)
    assert (clean[differ] > 0).all()
    assert clean[~differ].abs().max() == 0
    same_length = batch.corrupt[:, -1] == batch.clean[:, -1]
    assert (corrupt[differ & same_length] < 0).any()
