import csv
import io
import json

import pytest
from sample_course import write_course
from typer.testing import CliRunner

from mini_transformer.cli import app
from mini_transformer.course.batch import Graded
from mini_transformer.course.exercises import read_exercises
from mini_transformer.course.gradebook import (
    make_gradescope,
    write_csv,
    write_feedback,
    write_gradebook,
)
from mini_transformer.course.report import CheckResult, ExerciseResult, Report
from mini_transformer.course.summary import describe_distribution, describe_summary, summarize

KEY = "01_samples"
SQUARES = "You squared x: twice x is x + x."


def make_report(first, second=2.0, mistake="squares", output=()):
    wrong = CheckResult("A tensor becomes twice as long.", "wrong", SQUARES, mistake, 2.0)
    checks = (
        CheckResult("Two becomes four.", "passed"),
        wrong if first < 3 else CheckResult("A tensor.", "passed"),
    )
    halves = CheckResult(
        "Halves.",
        "passed" if second == 2 else "unwritten",
        "" if second == 2 else "not written yet",
    )
    results = [
        ExerciseResult("1.1", "double", first, 3, checks),
        ExerciseResult("1.2", "add_halves", second, 2, (halves,)),
    ]
    return Report(KEY, results, "", list(output))


def lose(problem):
    lost = (CheckResult("the file is loaded", "error", problem),)
    names = (("1.1", "double", 3), ("1.2", "add_halves", 2))
    return Report(
        KEY, [ExerciseResult(number, name, 0.0, of, lost) for number, name, of in names], problem
    )


@pytest.fixture
def graded():
    missing = "no ex01_samples.py was handed in; there were notes.pdf"
    return [
        Graded("Ann", {KEY: make_report(3.0)}),
        Graded(
            "Bob",
            {KEY: make_report(1.0, output=["debug \x1b[31m[bold]"])},
            remarks=["ex01.py was taken for it"],
        ),
        Graded("Cid", {KEY: make_report(1.0, 0.0)}),
        Graded("=cmd|' /C calc'!A0", {KEY: lose(missing)}, missing=[KEY], there=["notes.pdf"]),
        Graded("Eve/../x", {KEY: lose("ex01_samples.py line 1 is not Python")}),
    ]


@pytest.fixture
def exercises(tmp_path):
    return read_exercises(write_course(tmp_path / "course"), KEY)


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


def test_the_summary_counts_what_happened(graded, exercises):
    summary = summarize(graded, exercises, ["index.html"], seed=3)
    assert (summary["students"], summary["of"], summary["seed"]) == (5, 5, 3)
    assert summary["distribution"] == [2, 0, 1, 0, 0, 0, 1, 0, 0, 1]
    assert summary["quartiles"] == [0.0, 0.2, 0.6]
    double, halves = summary["exercises"]
    assert (double["solved"], double["mean"], double["missing"], double["unwritten"]) == (
        1,
        1.0,
        1,
        0,
    )
    assert (halves["solved"], halves["unwritten"]) == (2, 1)
    assert summary["mistakes"] == [
        {"exercise": "double", "mistake": "squares", "students": 2, "sentence": SQUARES}
    ]
    assert summary["solved_by_nobody"] == []
    assert list(summary["remarks"]) == ["Bob", "=cmd|' /C calc'!A0", "Eve/../x"]
    assert summarize(graded[1:], exercises)["solved_by_nobody"] == ["double"]


def test_a_share_of_exactly_two_tenths_stands_in_the_third_bar(exercises):
    report = Report(
        KEY, [ExerciseResult("1.1", "double", 0.6, 3)]
    )  # 0.6 / 3 is a little less than 0.2 in floats
    assert summarize([Graded("Ann", {KEY: report})], exercises)["distribution"].index(1) == 2


def test_a_student_who_makes_a_mistake_in_two_checks_counts_once(exercises):
    report = make_report(1.0)
    first = report.exercises[0]
    twice = Report(
        KEY, [ExerciseResult("1.1", "double", 0.0, 3, (first.checks[1], first.checks[1]))]
    )
    assert summarize([Graded("Ann", {KEY: twice})], exercises)["mistakes"][0]["students"] == 1


def test_the_summary_reads_well(graded, exercises):
    text = describe_summary(
        summarize(
            graded[1:], exercises, ["index.html"], sandbox="bubblewrap", left_out=["02_hooks"]
        )
    )
    for line in (
        "4 students, 5 points can be had. Sandbox: bubblewrap.",
        "Half of them have between 0% and 30% of the points; the median is 10%.",
        "1.1 double                                     0     0.5    3          0        1",
        "Left out, since nobody handed them in: 02_hooks.",
        "Solved by nobody: double.",
        "    2  double: squares",
        "  Bob: ex01.py was taken for it",
        "  index.html",
    ):
        assert line in text.splitlines()
    assert "NOT GRADED" not in text


def test_what_could_not_be_graded_is_loud(graded, exercises):
    graded[0].failed[KEY] = "the sandbox does not start"
    text = describe_summary(summarize(graded, exercises))
    assert text.rstrip().endswith(
        "NOT GRADED, give the same command again:\n  Ann: ex01_samples.py"
    )


def test_a_long_list_is_cut_in_the_text_only(exercises):
    many = [Graded(f"s{i:02}", {KEY: make_report(3.0)}, remarks=["odd"]) for i in range(30)]
    summary = summarize(many, exercises)
    assert len(summary["remarks"]) == 30
    assert "  and 18 more, in summary.json" in describe_summary(summary).splitlines()


def test_an_empty_class_has_a_summary(exercises):
    assert describe_summary(summarize([], exercises)).startswith("0 students")


def test_the_longest_bar_is_the_largest_count():
    assert [line.count("#") for line in describe_distribution([1, 4, 0, 2])] == [10, 40, 0, 20]


def test_feedback_shows_the_same_on_any_terminal(graded, exercises, monkeypatch):
    plain = write_feedback(graded[1], exercises)
    monkeypatch.setattr("mini_transformer.course.screen.console._force_terminal", True)
    monkeypatch.setenv("COLUMNS", "20")
    assert write_feedback(graded[1], exercises) == plain


def test_the_command_writes_the_gradebook_and_prints_data(tmp_path, monkeypatch):
    course = write_course(tmp_path / "course")
    monkeypatch.setattr("mini_transformer.course.material.find_material", lambda: course)
    seen = {}

    def grade_all(material, keys, folder, out, settings, jobs, dask, progress):
        seen.update(keys=keys, folder=folder, settings=settings, jobs=jobs)
        return [Graded("Ann", {KEY: make_report(3.0)})], []

    monkeypatch.setattr("mini_transformer.course.gradebook.grade_submissions", grade_all)
    command = [
        "grade",
        "01",
        "--submissions",
        str(tmp_path),
        "--out",
        str(tmp_path / "g"),
        "--jobs",
        "3",
    ]
    shown = CliRunner().invoke(app, [*command, "--seed", "5", "--variant-by", "student", "--json"])
    assert shown.exit_code == 0, shown.output
    assert json.loads(shown.stdout)["exercises"][0]["solved"] == 1
    assert seen["keys"] == [KEY]
    assert seen["jobs"] == 3
    assert (seen["settings"].seed, seen["settings"].by_student, seen["settings"].unsafe) == (
        5,
        True,
        False,
    )
    shown = CliRunner().invoke(app, command)
    assert "1 student, 5 points can be had. Sandbox: bubblewrap." in shown.stdout
