"""What a lecturer reads when there is nothing to grade, or nothing to grade it with."""

import pytest
from typer.testing import CliRunner

from mini_transformer.cli import app
from mini_transformer.course.lecturer import gradebook
from mini_transformer.course.lecturer.resume import hold_folder
from mini_transformer.course.lecturer.summary import summarize


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


def test_two_runs_never_write_into_one_folder(tmp_path):
    (tmp_path / "ex01.py").write_text("x = 1")
    out = tmp_path / "out"
    with hold_folder(out):
        said = refuse("--submissions", tmp_path, "--out", out, "--unsafe-no-sandbox")
    wait = "wait until it has ended, or give another --out"
    assert said == f"another run writes into {out}: {wait}"
    with hold_folder(out):  # the first one has ended
        assert list(out.iterdir()) == []


def test_what_was_written_is_said_at_the_end(tmp_path, monkeypatch):
    summary = summarize([], [], sandbox="none")
    monkeypatch.setattr(gradebook, "grade_folder", lambda *given, **options: dict(summary))
    given = ["grade", "01", "--submissions", str(tmp_path), "--out", str(tmp_path / "out")]
    shown = CliRunner().invoke(app, given)
    assert shown.stdout.endswith("totals.csv, summary.txt, feedback/ and gradescope/\n")
    summary["upload"] = {"column": "mini-transformer 01", "is_new": True}
    shown = CliRunner().invoke(app, given)
    assert "so upload.csv has a new one; --column NAME fills one that is there." in shown.stdout
    assert shown.stdout.endswith("totals.csv, upload.csv, summary.txt, feedback/ and gradescope/\n")


def test_a_column_needs_a_roster(tmp_path):
    said = refuse("--submissions", tmp_path, "--out", tmp_path / "out", "--column", "Lab 1")
    assert said == "--column names one of the roster: give --roster CSV, too"
