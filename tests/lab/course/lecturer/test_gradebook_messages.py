"""What a lecturer reads when there is nothing to grade, or nothing to grade it with."""

import pytest
from typer.testing import CliRunner

from mini_transformer.cli import app


def refuse(*arguments) -> str:
    """What `minilab grade` says before it ends with status 2."""
    shown = CliRunner().invoke(app, ["grade", *map(str, arguments)])
    assert shown.exit_code == 2, shown.output
    assert "Traceback" not in shown.output
    return shown.stderr.strip()


def test_submissions_must_be_a_folder(tmp_path):
    (tmp_path / "all.zip").write_bytes(b"")
    for path in (tmp_path / "nowhere", tmp_path / "all.zip"):
        said = refuse("--submissions", path, "--out", tmp_path / "out", "--unsafe-no-sandbox")
        assert said == f"{path} is no folder: give the one that the submissions were unpacked into"


def test_a_folder_without_submissions_says_what_is_expected(tmp_path):
    (tmp_path / "class").mkdir()
    (tmp_path / "class" / "index.html").write_text("")
    said = refuse(
        "--submissions", tmp_path / "class", "--out", tmp_path / "out", "--unsafe-no-sandbox"
    )
    expected = "a folder, a zip or .py files for each student are expected"
    assert said == f"{tmp_path / 'class'} holds no submissions: {expected}"


def test_without_bubblewrap_it_refuses_and_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    (tmp_path / "ex01.py").write_text("x = 1")
    said = refuse("--submissions", tmp_path, "--out", tmp_path / "out")
    assert "submissions are not run without a sandbox" in said
    assert "sudo apt install bubblewrap" in said


def test_a_variant_is_by_student_only(tmp_path):
    said = refuse("--submissions", tmp_path, "--out", tmp_path / "out", "--variant-by", "moon")
    assert said == "--variant-by is 'moon', expected student or class"


def test_a_seed_that_students_can_guess_is_refused(tmp_path):
    said = refuse("01", "--submissions", tmp_path, "--seed", "2025")
    assert said.startswith("--seed is 2025, which students can guess: leave it out, or give 1099")


def test_a_class_is_graded_by_lessons(tmp_path):
    said = refuse("1.2", "--submissions", tmp_path, "--out", tmp_path / "out")
    assert said.startswith("no lesson is called '1.2'")


def test_a_cluster_that_does_not_answer_is_named(tmp_path):
    pytest.importorskip("distributed")
    (tmp_path / "ex01.py").write_text("x = 1")
    said = refuse("--submissions", tmp_path, "--out", tmp_path / "out", "--dask", "nowhere")
    assert said.startswith("no Dask scheduler answers at 'nowhere': give its tcp")


def test_a_damaged_seed_names_its_file(tmp_path):
    (tmp_path / "ex01.py").write_text("x = 1")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "settings.json").write_text("soup")
    said = refuse("--submissions", tmp_path, "--out", tmp_path / "out", "--unsafe-no-sandbox")
    path = tmp_path / "out" / "settings.json"
    assert said == f"{path} cannot be read: give --seed, or delete it"


def test_results_that_cannot_be_written_are_one_sentence(tmp_path):
    (tmp_path / "ex01.py").write_text("x = 1")
    (tmp_path / "out").write_text("a file")
    said = refuse("--submissions", tmp_path, "--out", tmp_path / "out", "--unsafe-no-sandbox")
    assert said == f"{tmp_path / 'out'} cannot be written: File exists"
