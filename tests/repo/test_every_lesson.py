"""Every lesson keeps its shape, and its notebook runs from top to bottom."""

import contextlib
import multiprocessing
import os
import re
import runpy
import subprocess
import sys
import time
import traceback
import warnings

import jupytext
import matplotlib
import pytest
import torch

from mini_transformer.course.exercises import read_exercises
from mini_transformer.course.learner.workspace import make_notebook
from mini_transformer.course.material import find_material

MATERIAL = find_material()
LESSONS = MATERIAL.list_lessons()
WITH_EXERCISES = MATERIAL.list_keys()  # all but 00


def read_text(key: str) -> str:
    """What a reader reads: the lesson's markdown, without its code."""
    notebook = jupytext.read(MATERIAL.lessons / f"{key}.py", fmt="py:percent")
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


@pytest.mark.parametrize("key", WITH_EXERCISES, ids="ex{}".format)
def test_the_first_exercise_comes_within_600_words(key):
    before, found, _ = read_text(key).partition(f"Exercise {int(key[:2])}.1")
    assert found, f"the lesson never says 'Exercise {int(key[:2])}.1'"
    assert len(before.split()) <= 600


@pytest.mark.parametrize("key", WITH_EXERCISES, ids="ex{}".format)
def test_the_lesson_names_each_of_its_exercises_in_order(key):
    exercises = read_exercises(MATERIAL, key)
    named = re.findall(r"Exercise (\d+\.\d+)\W+(\w+)", read_text(key))
    assert named == [(exercise.number, exercise.name) for exercise in exercises]


@pytest.mark.parametrize("key", LESSONS, ids="ex{}".format)
def test_the_map_and_the_page_of_lessons_name_the_lesson(key):
    number, _, topic = key.replace("_", " ").partition(" ")
    page = (MATERIAL.lessons.parent / "docs" / "lessons.md").read_text(encoding="utf-8")
    assert f"\n| [{number} {topic}](../lessons/{key}.py) |" in page
    assert number == "00" or f"\n| {number} | {topic} |" in read_text(LESSONS[0])


@pytest.mark.parametrize("key", LESSONS, ids="ex{}".format)
def test_the_lesson_runs_in_under_a_minute(key, tmp_path):
    """All its asserts hold, run as a script in a fork of this process, which has torch already."""
    said = tmp_path / "said.txt"
    lesson = multiprocessing.get_context("fork").Process(target=run_script, args=(key, said))
    started = time.monotonic()
    lesson.start()
    lesson.join(300)
    assert lesson.exitcode == 0, said.read_text()[-4000:]
    assert time.monotonic() - started < 60


def run_script(key, said):
    """Run a lesson in an empty folder, and keep what it says."""
    with said.open("w") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        warnings.resetwarnings()
        matplotlib.use("agg")
        os.chdir(said.parent)
        torch.manual_seed(0)
        try:
            runpy.run_path(str(MATERIAL.lessons / f"{key}.py"), run_name="__main__")
        except BaseException:
            traceback.print_exc()
            file.flush()
            os._exit(1)
        file.flush()
    os._exit(0)


AS_NOTEBOOKS = ("04",)  # which the others are made like
NOTEBOOKS = [
    pytest.param(key, marks=() if key.startswith(AS_NOTEBOOKS) else pytest.mark.slow, id=f"ex{key}")
    for key in LESSONS
]


@pytest.mark.parametrize("key", NOTEBOOKS)
def test_the_notebook_runs_in_under_a_minute(key, tmp_path):
    notebook = tmp_path / f"{key}.ipynb"
    notebook.write_text(make_notebook(MATERIAL.lessons / f"{key}.py"), encoding="utf-8")
    run = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--nbval-lax",
        "-p",
        "no:cacheprovider",
        "-c",
        os.devnull,
        str(notebook),
    ]
    started = time.monotonic()
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-4000:]
    assert time.monotonic() - started < 60


@pytest.mark.parametrize("key", LESSONS, ids="ex{}".format)
def test_the_same_lesson_makes_the_same_notebook(key):
    lesson = MATERIAL.lessons / f"{key}.py"
    assert make_notebook(lesson) == make_notebook(lesson)
