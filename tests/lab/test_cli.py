"""The commands, typed as a learner or lecturer types them."""

import functools
import json
import subprocess
import sys

import pytest
from sample_batch import KEY, make_report
from sample_course import write_course
from typer.testing import CliRunner

from mini_transformer import forge, toys
from mini_transformer.cli import app
from mini_transformer.course.exercises import find_functions, read_course
from mini_transformer.course.grading.loading import load_learner_file
from mini_transformer.course.learner import watching
from mini_transformer.course.lecturer.batch import Graded
from mini_transformer.course.material import find_material


def test_the_command_writes_the_gradebook_and_prints_data(tmp_path, monkeypatch):
    course = write_course(tmp_path / "course")
    monkeypatch.setattr("mini_transformer.course.material.find_material", lambda: course)
    seen = {}

    def grade_all(material, keys, folder, out, settings, jobs, *others):
        seen.update(keys=keys, folder=folder, settings=settings, jobs=jobs)
        return [Graded("Ann", {KEY: make_report(3.0)})], []

    monkeypatch.setattr("mini_transformer.course.lecturer.gradebook.grade_submissions", grade_all)
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
    shown = CliRunner().invoke(
        app, [*command, "--seed", str(2**50), "--variant-by", "student", "--json"]
    )
    assert shown.exit_code == 0, shown.output
    assert json.loads(shown.stdout)["exercises"][0]["solved"] == 1
    assert seen["keys"] == [KEY]
    assert seen["jobs"] == 3
    assert (seen["settings"].seed, seen["settings"].by_student, seen["settings"].sandbox) == (
        2**50,
        True,
        "bubblewrap",
    )
    shown = CliRunner().invoke(app, command)
    assert "1 student, 5 points can be had. Sandbox: bubblewrap." in shown.stdout


@pytest.mark.parametrize("given", [["forge:2"], ["forge", "--seed", "2"]])
def test_a_forged_model_is_exported_by_either_spelling_and_not_over_another(
    given, tmp_path, monkeypatch
):
    monkeypatch.setattr(forge, "make", lambda seed: toys.load("boolean_or", seed))  # is quicker
    folder = str(tmp_path / "case")
    ran = CliRunner().invoke(app, ["export", *given, folder])
    assert ran.exit_code == 0, ran.output
    assert toys.load_folder(folder).seed == 2
    ran = CliRunner().invoke(app, ["export", "boolean_and", folder])
    assert ran.exit_code == 2
    assert "holds another case.json (boolean_or, seed 2)" in ran.output


MATERIAL = find_material()
COURSE = read_course(MATERIAL)
FIRST = COURSE[0]
LESSON = [exercise for exercise in COURSE if exercise.key == FIRST.key]


def type_command(*words: str, status: int = 0) -> str:
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == status, result.output
    return result.output


def write_answer(workspace, exercise, answer: str | None = None) -> None:
    """Put an answer, by default the solution's, in the place of the stub's raise."""
    path = workspace / "exercises" / f"ex{exercise.key}.py"
    solution = (MATERIAL.solutions / path.name).read_text(encoding="utf-8")
    body = find_functions(solution)[exercise.name].body[1:]
    source = "\n".join(solution.splitlines()[body[0].lineno - 1 : body[-1].end_lineno])
    stub = f'    raise NotImplementedError("{exercise.name}: not written yet")'
    text = path.read_text(encoding="utf-8")
    assert stub in text
    path.write_text(text.replace(stub, answer or source), encoding="utf-8")


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    type_command("init", str(tmp_path / "mine"))
    monkeypatch.chdir(tmp_path / "mine")
    return tmp_path / "mine"


def test_from_an_empty_folder_to_a_green_lesson(workspace):
    said = type_command("next")
    assert f"Exercise 1.1 · {FIRST.name}" in said
    assert FIRST.task in said
    path, line = next(
        row.split()[-1] for row in said.splitlines() if row.startswith("write in")
    ).rsplit(":", 1)
    assert (
        (workspace / path).read_text().splitlines()[int(line) - 1].startswith(f"def {FIRST.name}(")
    )

    said = type_command("grade", "01", status=1)
    assert f"not written yet: {', '.join(exercise.name for exercise in LESSON)}" in said

    assert type_command("hint").splitlines()[0] == f"Hint 1 of 3 for 1.1 {FIRST.name}"
    assert " ".join(type_command("hint").split()[7:]) == " ".join(FIRST.hints[1].split())

    write_answer(workspace, FIRST)
    said = type_command("grade", "01", status=1)
    assert f"✓ 1.1 {FIRST.name}: {FIRST.points} of {FIRST.points} points" in said
    assert " ".join(FIRST.explanation.split()) in said
    assert said.count("not written yet") == len(LESSON) - 1
    assert f"Exercise {LESSON[1].number}" in type_command("next")

    for exercise in LESSON[1:]:
        write_answer(workspace, exercise)
    said = type_command("grade", "01")
    assert "not written yet" not in said
    assert " ".join(FIRST.explanation.split()) not in said  # said once, when it was news

    assert " ".join(FIRST.explanation.split()) in type_command(
        "grade", FIRST.name
    )  # to read it again

    points = sum(exercise.points for exercise in LESSON)
    assert (
        f"{len(LESSON)} of {len(COURSE)} exercises, {points} of {sum(e.points for e in COURSE)} "
        f"points" in type_command("status")
    )


def test_a_wrong_answer_is_told_what_is_wrong_with_it(workspace):
    parameters = FIRST.parameters.split(", ")
    write_answer(workspace, FIRST, f"    return 7 * {parameters[0]}")
    said = type_command("grade", FIRST.name, status=1)
    assert f"✗ 1.1 {FIRST.name}: 0 of {FIRST.points} points" in said
    assert "Traceback" not in said


def test_a_leftover_raise_is_remarked_and_costs_nothing(workspace):
    path = workspace / "exercises" / f"ex{FIRST.key}.py"
    stub = path.read_text()
    write_answer(workspace, FIRST)
    answer = path.read_text()
    line = f'    raise NotImplementedError("{FIRST.name}: not written yet")'
    end = find_functions(answer)[FIRST.name].end_lineno
    lines = answer.splitlines()
    path.write_text("\n".join([*lines[:end], line, *lines[end:]]))
    assert stub != answer
    said = type_command("grade", "1.1")
    assert f"line {end + 1} still has `raise NotImplementedError`: delete it" in said


@pytest.mark.parametrize("damage", ["def broken(:", "while True: x = 1 / 0", None])
def test_a_broken_file_is_a_sentence_and_keeps_the_points_earned_before(workspace, damage):
    write_answer(workspace, FIRST)
    type_command("grade", "1.1")
    path = workspace / "exercises" / f"ex{FIRST.key}.py"
    path.unlink() if damage is None else path.write_text(path.read_text() + "\n" + damage)
    said = type_command("grade", "01", status=1)
    assert path.name in said
    assert "Traceback" not in said
    assert json.loads(type_command("status", "--json"))[0]["points"] == FIRST.points
    assert "Exercise 1.2" in type_command("next")  # also with a file that cannot be parsed


def test_init_again_keeps_the_work_and_says_so(workspace):
    write_answer(workspace, FIRST)
    before = {path: path.read_bytes() for path in workspace.rglob("*") if path.is_file()}
    said = type_command("init", str(workspace))
    assert f"exercises/ex{FIRST.key}.py" in said.split("kept as they were:")[1]
    assert {path: path.read_bytes() for path in workspace.rglob("*") if path.is_file()} == before


def test_reset_of_one_exercise_keeps_the_others_and_a_copy(workspace):
    path = workspace / "exercises" / f"ex{FIRST.key}.py"
    stub = path.read_text()
    write_answer(workspace, LESSON[1])
    one = path.read_text()
    write_answer(workspace, FIRST)
    both = path.read_text()
    type_command("grade", "1.1")
    said = type_command("reset", "1.1")
    assert path.read_text() == one
    copy = path.with_name(f"ex{FIRST.key}.before-reset-1.py")
    assert copy.name in said
    assert copy.read_text() == both
    type_command("reset", "01")
    assert path.read_text() == stub
    assert path.with_name(f"ex{FIRST.key}.before-reset-2.py").read_text() == one
    assert json.loads(type_command("status", "--json"))[0]["points"] == FIRST.points  # points stay


def test_reset_of_a_file_that_is_not_python_says_what_to_do(workspace):
    path = workspace / "exercises" / f"ex{FIRST.key}.py"
    path.write_text("def broken(:")
    assert "`minilab reset 01` puts the whole file back" in type_command("reset", "1.1", status=2)
    assert path.read_text() == "def broken(:"
    type_command("reset", "01")
    path.unlink()
    assert "is as it was handed out." in type_command("reset", "01")  # also where there is none


def test_reveal_shows_a_right_way_and_is_recorded_unless_it_was_solved_before(workspace):
    said = type_command("reveal", "01")
    assert f"def {FIRST.name}(" in said
    assert "ANSWER" not in said
    assert " ".join(FIRST.explanation.split()) in said
    assert json.loads(type_command("status", "--json"))[0]["revealed"]
    assert "solution revealed" in type_command("status")
    write_answer(workspace, LESSON[1])
    type_command("grade", "1.2")
    type_command("reveal", "1.2")
    assert not json.loads(type_command("status", "--json"))[1]["revealed"]


def test_watching_grades_what_is_saved_and_shows_what_is_next(workspace, monkeypatch):
    steps = iter([lambda: None, lambda: write_answer(workspace, FIRST), lambda: None])

    def pause(seconds):
        step = next(steps, None)
        if step is None:
            raise KeyboardInterrupt
        step()

    watch = functools.partial(watching.watch_files, pause=pause)
    monkeypatch.setattr(watching, "watch_files", watch)
    said = type_command("watch", "01")
    assert said.count(f"✓ 1.1 {FIRST.name}") == 1
    assert f"Exercise {LESSON[1].number}" in said
    assert "Stopped; your progress is kept." in said
    assert json.loads(type_command("status", "--json"))[0]["solved"]


def test_every_table_is_also_data(workspace):
    status = json.loads(type_command("status", "--json"))
    assert [row["name"] for row in status] == [exercise.name for exercise in COURSE]
    (report,) = json.loads(type_command("grade", "01", "--json", status=1))
    assert [row["name"] for row in report["exercises"]] == [exercise.name for exercise in LESSON]


def test_a_lesson_without_jupyter_says_how_to_open_it(workspace, monkeypatch):
    monkeypatch.setattr("mini_transformer.course.lecturer.doctor.find_jupyter", lambda: None)
    said = type_command("lesson", "01")
    assert str(workspace / "lessons" / f"{FIRST.key}.ipynb") in said.replace("\n", "")
    assert "pip install jupyterlab" in said


def test_a_lesson_opens_in_the_jupyter_that_is_there(workspace, monkeypatch):
    ran = []
    monkeypatch.setattr("mini_transformer.course.lecturer.doctor.find_jupyter", lambda: "notebook")
    monkeypatch.setattr(
        subprocess, "run", lambda words: ran.append(words) or subprocess.CompletedProcess(words, 0)
    )
    type_command("lesson", "01")
    assert ran == [
        [sys.executable, "-m", "notebook", str(workspace / "lessons" / f"{FIRST.key}.ipynb")]
    ]


def test_the_doctor_finds_this_installation_well():
    findings = json.loads(type_command("doctor", "--json"))
    assert {"torch", "numpy", "speed", "threads", "checkpoints"} <= {
        finding["what"] for finding in findings
    }
    assert all(finding["fine"] for finding in findings)
    assert "All is well." in type_command("doctor")


def test_the_doctor_names_what_is_missing(monkeypatch):
    monkeypatch.setattr(
        "mini_transformer.course.lecturer.doctor.list_requirements",
        lambda: ["torch", "no-such-package"],
    )
    assert "pip install no-such-package" in type_command("doctor", status=1)


def test_looking_around_does_not_wait_for_torch(workspace):
    script = """
import sys
from typer.testing import CliRunner
from mini_transformer.cli import app
for word in ("next", "status", "hint"):
    assert CliRunner().invoke(app, [word]).exit_code == 0, word
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=workspace)


def test_stubs_load_as_they_are_handed_out(workspace):
    for key in MATERIAL.list_keys():
        loaded = load_learner_file(workspace / "exercises" / f"ex{key}.py")
        assert loaded.unwritten == {exercise.name for exercise in COURSE if exercise.key == key}
