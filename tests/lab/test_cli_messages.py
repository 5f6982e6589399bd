"""What somebody reads who typed what is not there: one sentence, with what is."""

import pytest
from typer.testing import CliRunner

from mini_transformer.cli import app
from mini_transformer.course.material import find_material


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    CliRunner().invoke(app, ["init", str(tmp_path / "mine")])
    monkeypatch.chdir(tmp_path / "mine")
    return tmp_path / "mine"


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        (["grade", "77"], "no lesson is called '77'; there are 01_residual_stream"),
        (
            ["grade", "01_residual_strem"],
            "no lesson is called '01_residual_strem'; nearest: 01_residual_stream",
        ),
        (
            ["grade", "00"],
            "lesson 00_interpretability has no exercises: read it with `minilab lesson",
        ),
        (["grade", "1.9"], "no exercise has the number '1.9'; there are 1.1, 1.2"),
        (
            ["hint", "attention_patern"],
            "no exercise is called 'attention_patern'; nearest: attention_pattern",
        ),
        (["lesson", "77"], "no lesson is called '77'"),
        (["hint", "zzz"], "no exercise is called 'zzz'; nearest: "),
    ],
)
def test_what_is_not_there_is_answered_with_the_nearest_thing_that_is(workspace, typed, sentence):
    result = CliRunner().invoke(app, typed)
    assert result.exit_code == 2
    assert result.stderr.startswith(sentence)
    assert result.stderr.count("\n") == 1


def test_the_courses_own_folder_is_not_made_into_a_workspace(tmp_path):
    top = find_material().solutions.parent
    result = CliRunner().invoke(app, ["init", str(top)])
    assert result.exit_code == 2
    assert result.stderr == f"{top} is where the course itself is kept: give another folder\n"


@pytest.mark.parametrize("typed", [["next"], ["grade"], ["hint"], ["status"], ["lesson", "01"]])
def test_outside_a_workspace_every_command_names_the_way_in(tmp_path, monkeypatch, typed):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, typed)
    assert result.exit_code == 2
    assert (
        result.stderr
        == f"{tmp_path} is not in a workspace: make one with `minilab init DIR`, then `cd DIR`\n"
    )


def test_a_tour_that_cannot_write_its_figure_is_one_sentence_before_any_work(tmp_path):
    (tmp_path / "file").write_text("")
    result = CliRunner().invoke(app, ["tour", "--out", str(tmp_path / "file")])
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "choose another folder with --out" in result.stderr


def test_a_tour_of_a_model_that_is_not_shipped_is_one_sentence(tmp_path):
    result = CliRunner().invoke(app, ["tour", "--quick", "--seed", "999", "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert result.stderr.startswith("no trained induction with seed 999 is shipped")


def test_a_bug_of_ours_keeps_its_traceback(monkeypatch, tmp_path):
    def stumble(path):
        raise KeyError("logits")

    monkeypatch.setattr("mini_transformer.course.learner.course.open_course", stumble)
    result = CliRunner().invoke(app, ["status"])
    assert result.exit_code == 1
    assert isinstance(result.exception, KeyError)


def test_a_workspace_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    result = CliRunner().invoke(app, ["init", str(tmp_path / "file")])
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "cannot be made into a workspace: " in result.stderr
