"""GitHub Classroom: the workflow is YAML whose shell steps do what they say."""

import base64
import json
import os
import subprocess
import sys

import pytest

from mini_transformer.course.learner.workspace import make_workspace
from mini_transformer.course.lecturer import classroom
from mini_transformer.course.lecturer.classroom import describe_results, write_classroom
from mini_transformer.course.lecturer.submissions import find_students, read_submission
from mini_transformer.course.material import CourseError, find_material

KEY = "01_residual_stream"
WRONG = {"name": "Two becomes four.", "outcome": "wrong", "sentence": "You squared x."}
PASSED = {"name": "Halves.", "outcome": "passed", "sentence": ""}
REPORT = {
    "key": "01_samples",
    "problem": "",
    "exercises": [
        {"number": "1.1", "name": "double", "points": 1.5, "of": 3, "checks": [PASSED, WRONG]},
        {"number": "1.2", "name": "add_halves", "points": 2.0, "of": 2, "checks": [PASSED]},
    ],
}


def read_output(line):
    name, _, encoded = line.strip().partition("=")
    assert name == "result"
    return json.loads(base64.b64decode(encoded))


def test_points_are_told_as_the_reporter_adds_them_up():
    told = read_output(describe_results([REPORT]))
    assert told["max_score"] == 5
    assert sum(test["score"] for test in told["tests"]) == 3.5
    assert [test["status"] for test in told["tests"]] == ["fail", "pass"]
    assert told["tests"][0]["message"] == "You squared x."
    assert told["status"] == "fail"
    solved = {**REPORT, "exercises": REPORT["exercises"][1:]}
    assert read_output(describe_results([solved]))["status"] == "pass"


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A repository as a student has it: a workspace, the workflow, what git keeps."""
    folder = tmp_path_factory.mktemp("clones") / "lab-jane"
    material = find_material()
    make_workspace(folder, material, 0)
    write_classroom(folder, KEY)
    (folder / ".git").mkdir()
    (folder / ".git" / "ex01_residual_stream.py").write_text("def stale(): pass\n")
    solved = (material.solutions / f"ex{KEY}.py").read_text()
    (folder / "exercises" / f"ex{KEY}.py").write_text(solved)
    return folder


def read_workflow(folder):
    yaml = pytest.importorskip("yaml")
    return yaml.safe_load((folder / ".github" / "workflows" / "classroom.yml").read_text())


def test_the_workflow_hands_what_the_grading_step_says_to_the_reporter(repository):
    (job,) = read_workflow(repository)["jobs"].values()
    steps = {step.get("name"): step for step in job["steps"]}
    assert steps["Report"]["env"] == {
        f"{steps['Report']['with']['runners'].upper()}_RESULTS": (
            f"${{{{ steps.{steps['Grade']['id']}.outputs.result }}}}"
        )
    }
    (wheel,) = (repository / ".github" / "minilab").glob("*.whl")
    assert wheel.stat().st_size < 100 * 2**20  # GitHub takes no larger file
    assert ".github/minilab/*.whl" in steps["Install"]["run"]


def test_the_folders_that_gh_classroom_clones_are_read_as_they_are(repository):
    (handed,), _ = find_students(repository.parent, [KEY])
    assert handed.student == "lab-jane"
    found = read_submission(handed, {KEY: ["find_deciders"]})
    assert b"def find_deciders" in found.sources[KEY]
    assert found.looks == {}


def test_a_folder_without_a_workspace_and_another_lessons_workflow_are_said(tmp_path, monkeypatch):
    monkeypatch.setattr(classroom, "write_wheel", lambda folder: None)  # takes a second
    with pytest.raises(CourseError, match="is no workspace: give `minilab init"):
        write_classroom(tmp_path, KEY)
    for key in (KEY, "02_hooks"):
        path = tmp_path / "exercises" / f"ex{key}.py"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    before = [write_classroom(tmp_path, key) for key in (KEY, KEY, "02_hooks")]
    assert before == ["", "", "01"]


@pytest.mark.slow
def test_the_grading_step_tells_full_points_for_right_answers(repository, tmp_path):
    (job,) = read_workflow(repository)["jobs"].values()
    (grade,) = [step["run"] for step in job["steps"] if step.get("name") == "Grade"]
    (tmp_path / "bin").mkdir()
    for name, module in (("minilab", "-m mini_transformer.cli"), ("python", "")):
        program = tmp_path / "bin" / name
        program.write_text(f'#!/bin/sh\nexec {sys.executable} {module} "$@"\n')
        program.chmod(0o755)
    told = tmp_path / "output"
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    env = os.environ | {"RUNNER_TEMP": str(tmp_path), "GITHUB_OUTPUT": str(told), "PATH": path}
    subprocess.run(["bash", "-e", "-c", grade], cwd=repository, env=env, check=True)
    results = read_output(told.read_text())
    assert sum(test["score"] for test in results["tests"]) == results["max_score"] > 0
