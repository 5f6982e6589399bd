import csv
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from sample_batch import (
    ANSWER,
    KEY,
    SQUARES,
    make_report,
    put_folder,
    write_class,
)
from sample_course import SOLUTION, write_course

import mini_transformer
from mini_transformer.course.lecturer.batch import Graded
from mini_transformer.course.lecturer.gradebook import (
    find_all_alike,
    grade_folder,
    make_gradescope,
    write_csv,
    write_feedback,
    write_gradebook,
)
from mini_transformer.course.lecturer.summary import summarize


@pytest.fixture
def out(tmp_path, graded, exercises):
    summary = summarize(graded, exercises, ["index.html"], sandbox="bubblewrap")
    write_gradebook(tmp_path / "grades", graded, exercises, summary)
    return tmp_path / "grades"


def read_rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_grades_have_a_row_for_each_student_and_exercise(out):
    rows = read_rows(out / "grades.csv")
    assert rows[:2] == [
        {"student": "Ann", "exercise": "double", "points": "3.0", "of": "3"},
        {"student": "Ann", "exercise": "add_halves", "points": "2.0", "of": "2"},
    ]
    assert len(rows) == 10
    assert sum(float(row["points"]) for row in rows) == 5 + 3 + 1


def test_totals_have_a_row_for_each_student_with_what_was_odd(out):
    rows = read_rows(out / "totals.csv")
    assert [(row["points"], row["of"]) for row in rows] == [
        ("5.0", "5"),
        ("3.0", "5"),
        ("1.0", "5"),
        ("0.0", "5"),
        ("0.0", "5"),
    ]
    assert [row["remarks"] for row in rows] == [
        "",
        "ex01.py was taken for it",
        "",
        "no ex01_samples.py was handed in; there were notes.pdf",
        "ex01_samples.py line 1 is not Python",
    ]


def test_a_name_that_is_a_formula_is_made_harmless(out):
    assert read_rows(out / "totals.csv")[3]["student"] == "'=cmd|' /C calc'!A0"


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@A1", "\t=1", "\r=1", " =1", "\uff1d1"])
def test_no_cell_can_be_read_as_a_formula(cell):
    written = write_csv(("student",), [(cell,)])
    (row,) = list(csv.DictReader(io.StringIO(written, newline="")))
    assert row["student"][0] == "'"


def test_numbers_stay_numbers():
    assert write_csv(("points",), [(-1.5,), (0,)]) == "points\n-1.5\n0\n"


def test_feedback_is_what_the_learner_would_have_seen(out):
    assert (out / "feedback" / "Bob.txt").read_text(encoding="utf-8").splitlines() == [
        "Bob: 3 of 5 points",
        "  ex01.py was taken for it",
        "",
        "ex01_samples.py",
        "  ✗ 1.1 double: 1 of 3 points",
        "      ✓ Two becomes four.",
        "      ✗ A tensor becomes twice as long.",
        f"          {SQUARES}",
        "  ✓ 1.2 add_halves: 2 of 2 points",
        "      Halving is linear.",
        "  Your code printed:",
        "    debug [bold]",
    ]


def test_what_failed_is_not_what_was_printed(exercises):
    output = ("ex01_samples.py line 1 needs nothing, which is not here", "debug")
    shown = write_feedback(Graded("Ann", {KEY: make_report(1.0, output=output)}), exercises)
    assert shown.splitlines()[-4:] == [
        "  When the file was run:",
        f"    {output[0]}",
        "  Your code printed:",
        "    debug",
    ]


def test_feedback_on_a_file_that_is_missing_says_so(out):
    (path,) = [path for path in (out / "feedback").iterdir() if "cmd" in path.name]
    assert (
        "  no ex01_samples.py was handed in; there were notes.pdf" in path.read_text().splitlines()
    )


def test_every_report_says_that_there_was_no_sandbox(tmp_path, graded, exercises):
    summary = summarize(graded, exercises, sandbox="none")
    write_gradebook(tmp_path, graded, exercises, summary, unsafe=True)
    reports = [*(tmp_path / "feedback").iterdir(), *(tmp_path / "gradescope").rglob("*.json")]
    assert len(reports) == 10
    assert all(
        "Graded without a sandbox (--unsafe-no-sandbox)." in path.read_text() for path in reports
    )
    assert "Sandbox: none." in (tmp_path / "summary.txt").read_text()
    assert json.loads((tmp_path / "summary.json").read_text())["sandbox"] == "none"


def test_gradescope_gets_a_test_for_each_exercise(graded):
    results = make_gradescope(graded[1])
    assert results["score"] == 3
    assert results["output"] == "ex01.py was taken for it"
    first, second = results["tests"]
    assert (first["number"], first["name"], first["score"], first["max_score"]) == (
        "1.1",
        "double",
        1.0,
        3,
    )
    assert (first["status"], second["status"]) == ("failed", "passed")
    assert SQUARES in first["output"]
    assert (
        make_gradescope(graded[4])["tests"][0]["output"] == "ex01_samples.py line 1 is not Python"
    )


def test_no_students_name_leads_out_of_the_folder(out):
    assert len(list((out / "feedback").iterdir())) == 5
    assert len(list((out / "gradescope").glob("*/results.json"))) == 5
    assert sorted(path.name for path in out.parent.iterdir()) == ["course", "grades"]


def test_feedback_shows_the_same_on_any_terminal(graded, exercises, monkeypatch):
    plain = write_feedback(graded[1], exercises)
    monkeypatch.setattr("mini_transformer.terminal.console._force_terminal", True)
    monkeypatch.setenv("COLUMNS", "20")
    assert write_feedback(graded[1], exercises) == plain


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="classes are graded on Linux")
def test_a_class_with_every_kind_of_folder_is_graded_to_the_end(tmp_path):
    material = write_course(tmp_path / "course")
    folder = tmp_path / "class"
    packed = io.BytesIO()
    zipfile.ZipFile(packed, "w").close()
    for name in ("\u738b" * 85, "-rf", "con", "a\nb", b"jos\xe9"):
        put_folder(folder, name)
    put_folder(folder, "deep", ANSWER + f"x = {'+'.join(['1'] * 20_000)}\n".encode())
    put_folder(folder, "fails", ANSWER + b"1 / 0\n")
    put_folder(folder, "nul", b"\0\0")
    (folder / "empty.zip").write_bytes(packed.getvalue())
    (folder / "loop").symlink_to("loop")
    os.mkfifo(folder / "pipe_ex01_samples.py")
    summary = grade_folder(
        material, ["01_samples"], folder, tmp_path / "out", seed=1, unsafe=True, jobs=2
    )
    with open(tmp_path / "out" / "totals.csv", newline="") as file:
        points = {row["student"]: float(row["points"]) for row in csv.DictReader(file)}
    assert summary["failed"] == {}
    assert points == {
        **dict.fromkeys(("\u738b" * 85, "'-rf", "con", "a b", "josé", "fails"), 5.0),
        **dict.fromkeys(("deep", "nul", "empty", "pipe"), 0.0),
    }
    assert len(list((tmp_path / "out" / "feedback").iterdir())) == len(points)


def test_the_folder_of_results_may_stand_among_the_submissions(course, tmp_path, orders):
    write_class(tmp_path, {"ann": SOLUTION})
    folder = tmp_path / "class"
    write_class(folder, {"ann": SOLUTION})
    for _ in range(2):
        summary = grade_folder(course, [KEY], folder, folder / "grades", unsafe=True)
    assert summary["students"] == 1
    assert json.loads((folder / "grades" / "summary.json").read_text()) == summary


def test_a_students_module_is_not_imported_where_the_command_is_given(tmp_path):
    evil = f"open({str(tmp_path / 'imported')!r}, 'w')"
    (tmp_path / "ex01_residual_stream.py").write_text("x = 1")
    for name in ("random", "typing", "tqdm", "json"):
        (tmp_path / f"{name}.py").write_text(evil)
    package = str(Path(mini_transformer.__file__).parents[1])
    env = {**os.environ, "PYTHONPATH": f"{os.pathsep}{package}{os.pathsep}"}
    given = ["grade", "01", "--submissions", ".", "--out", str(tmp_path / "out"), "--jobs", "1"]
    arguments = [*given, "--unsafe-no-sandbox", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "mini_transformer.cli", *arguments],
        cwd=tmp_path,
        env=env,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["students"] >= 1
    assert not (tmp_path / "imported").exists()


def test_what_the_course_ships_is_alike_by_itself():
    body = tuple(f"word{i}" for i in range(80))
    students = [Graded(name, forms={KEY: {"double": body}}) for name in ("Ann", "Bob", "Cid")]
    (found,) = find_all_alike(students, [KEY])
    assert found["students"] == ["Ann", "Bob", "Cid"]
    shipped = [{"student": "Ann", "lesson": KEY, "functions": ["double"]}]
    (found,) = find_all_alike(students, [KEY], shipped)
    assert found["students"] == ["Bob", "Cid"]
