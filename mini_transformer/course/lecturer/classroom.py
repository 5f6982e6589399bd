"""GitHub Classroom: the workflow that grades in a student's repository, and what it reports.

As a program (`minilab grade 01 --json | python -m mini_transformer.course.lecturer.classroom`) it
turns reports into the output of a step that classroom-resources/autograding-grading-reporter reads.

Source: that action's README and src/notify-classroom.js.
"""

import base64
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mini_transformer.course.lecturer.packing import TORCH_INDEX, write_wheel
from mini_transformer.course.material import CourseError, write_file

WORKFLOW = """# Grades lesson @NN@ at each push; the points are shown in GitHub Classroom.
name: Autograding
on: [push, workflow_dispatch]
permissions:
  checks: write
  actions: read
  contents: read
jobs:
  autograding:
    runs-on: ubuntu-latest
    if: github.actor != 'github-classroom[bot]'
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with:
          python-version: "3.12"
      - name: Install
        run: pip install --extra-index-url @INDEX@ .github/minilab/*.whl
      - name: Grade
        id: minilab
        run: |
          minilab grade @NN@ || true
          minilab grade @NN@ --json > "$RUNNER_TEMP/reports.json" || true
          python -m mini_transformer.course.lecturer.classroom \\
            < "$RUNNER_TEMP/reports.json" >> "$GITHUB_OUTPUT"
      - name: Report
        uses: classroom-resources/autograding-grading-reporter@v1
        env:
          MINILAB_RESULTS: ${{ steps.minilab.outputs.result }}
        with:
          runners: minilab
"""


def write_classroom(folder: Path, key: str) -> str:
    """Add the workflow for lesson `key`, and the wheel that it installs, to a repository.

    Return the number of the lesson that the workflow there graded before, if it was another. Raise
    CourseError if the folder is no workspace, in which nothing could be graded.
    """
    if not (folder / "exercises" / f"ex{key}.py").exists():
        raise CourseError(f"{folder} is no workspace: give `minilab init {folder}` first")
    path = folder / ".github" / "workflows" / "classroom.yml"
    before = re.match(r"# Grades lesson (\d\d)", path.read_text() if path.exists() else "")
    wheels = folder / ".github" / "minilab"
    wheels.mkdir(parents=True, exist_ok=True)
    for old in wheels.glob("*.whl"):
        old.unlink()
    write_wheel(wheels)
    text = WORKFLOW.replace("@NN@", key[:2]).replace("@INDEX@", TORCH_INDEX)
    write_file(path, text)
    return before[1] if before and before[1] != key[:2] else ""


def describe_results(reports: Sequence[dict[str, Any]]) -> str:
    """Write reports, as `minilab grade --json` prints them, as the step's output `result`."""
    tests = []
    for report in reports:
        for result in report["exercises"]:
            failed = [check["sentence"] for check in result["checks"] if check["sentence"]]
            test = {
                "name": f"{result['number']} {result['name']}",
                "status": "pass" if result["points"] == result["of"] else "fail",
                "score": result["points"],
                "message": report["problem"] or " ".join(failed[:1]),
                "line_no": 0,
                "test_code": "",
            }
            tests.append(test)
    is_solved = all(test["status"] == "pass" for test in tests)
    most = sum(result["of"] for report in reports for result in report["exercises"])
    status = "pass" if is_solved else "fail"
    data = {"version": 1, "status": status, "max_score": most, "tests": tests}
    return f"result={base64.b64encode(json.dumps(data).encode()).decode()}"


if __name__ == "__main__":
    print(describe_results(json.load(sys.stdin)))
