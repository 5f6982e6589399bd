"""Nothing that one student hands in, or is called, ends the run or keeps another's grade from being written."""

import csv
import importlib.util
import io
import os
import queue
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from mini_transformer.course.batch import Grader, Settings
from mini_transformer.course.exercises import read_exercises
from mini_transformer.course.gradebook import grade_folder
from mini_transformer.course.kept import name_file
from mini_transformer.course.progress import write_file
from mini_transformer.course.submissions import find_students, read_submission
from mini_transformer.course.unpacking import Unpacked, unpack

FUNCTIONS = {"01_samples": ["double", "add_halves"]}
ANSWER = b"def double(x):\n    return 2 * x\n\ndef add_halves(x, y):\n    return (x + y) / 2\n"


def hand_in(folder: Path, name: str | bytes, content: bytes = ANSWER) -> None:
    own = os.path.join(os.fsencode(folder), os.fsencode(name))
    os.makedirs(own)
    with open(os.path.join(own, b"ex01_samples.py"), "wb") as file:
        file.write(content)


@pytest.mark.parametrize(
    "name",
    ["\u738b" * 85, "x" * 255, "\u00e9" * 127, "\U0001f600" * 63, "-rf", "con", "a\nb", " ", "%s"],
)
def test_every_name_that_a_folder_may_have_leaves_room_for_an_ending(tmp_path, name):
    for ending in (".json", ".txt"):
        path = tmp_path / f"{name_file(name)}{ending}"
        write_file(path, "x")
        assert path.read_text() == "x"
    assert name_file(name).lower() != "con"


def test_names_that_begin_alike_share_no_file():
    assert name_file("\u738b" * 84 + "a") != name_file("\u738b" * 84 + "b")


def test_names_that_cannot_be_shown_are_different_students(tmp_path):
    for name in (b"jos\xe9", b"jos\xe8", b"a\x01", b"a\x02", b"a?"):
        hand_in(tmp_path, name)
    names = [handed.student for handed in find_students(tmp_path, FUNCTIONS)[0]]
    assert len(set(names)) == 5
    assert {"josé", "josè"} <= set(names)
    assert all(name.isprintable() for name in names)


def test_folders_deeper_than_pythons_calls_are_read(tmp_path):
    top = os.open(tmp_path, os.O_RDONLY)
    for depth in range(2500):  # longer than a path may be, from some depth on
        os.mkdir("d", dir_fd=top)
        below = os.open("d", os.O_RDONLY, dir_fd=top)
        os.close(top)
        top = below
        if depth in (1500, 2400):
            with open(
                os.open("ex01_samples.py", os.O_WRONLY | os.O_CREAT, dir_fd=top), "wb"
            ) as file:
                file.write(ANSWER)
    os.close(top)
    into = Unpacked()
    unpack(tmp_path / "d", "d", into)
    assert list(into.files.values()) == [ANSWER]
    assert [remark.split(": ")[-1] for remark in into.remarks] == [
        "it cannot be read (File name too long)"
    ]
    subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)


def test_links_that_lead_nowhere_or_in_circles_are_left_out(tmp_path):
    hand_in(tmp_path, "ann")
    for name, target in {
        "loop": "loop",
        "long": "x" * 300,
        "ex01.py": "nowhere",
        "self": ".",
    }.items():
        (tmp_path / name).symlink_to(target)
        (tmp_path / "ann" / name).symlink_to(target)
    students = {
        handed.student: read_submission(handed, FUNCTIONS)
        for handed in find_students(tmp_path, FUNCTIONS)[0]
    }
    assert students["ann"].sources == {"01_samples": ANSWER}
    assert len(students["ann"].remarks) == 4


def test_a_folder_that_cannot_be_read_is_remarked(tmp_path, monkeypatch):
    (tmp_path / "ann" / "inner").mkdir(parents=True)
    listed = os.scandir

    def refuse(path):
        if Path(path).name == "inner":
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(os, "scandir", refuse)
    into = Unpacked()
    unpack(tmp_path / "ann", "ann", into)
    assert into.remarks == ["inner was left out: it cannot be read (Permission denied)"]


def load_sample_course():
    path = Path(__file__).parents[1] / "course" / "sample_course.py"
    spec = importlib.util.spec_from_file_location("sample_course_of_faults", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_nobody_has_thought_of_costs_one_student_and_is_said_aloud(tmp_path, monkeypatch):
    material = load_sample_course().write_course(tmp_path / "course")
    hand_in(tmp_path / "class", "ann")

    def stumble(handed, functions):
        raise RuntimeError("unheard of")

    monkeypatch.setattr("mini_transformer.course.batch.read_submission", stumble)
    (handed,), _ = find_students(tmp_path / "class", FUNCTIONS)
    exercises = {"01_samples": read_exercises(material, "01_samples")}
    graded = Grader(material, exercises, tmp_path / "out", Settings(1), queue.Queue()).grade(handed)
    assert graded.points == 0
    assert graded.failed == {
        "01_samples": "what was handed in cannot be read (RuntimeError: unheard of)"
    }


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="classes are graded on Linux")
def test_a_class_with_every_kind_of_folder_is_graded_to_the_end(tmp_path):
    material = load_sample_course().write_course(tmp_path / "course")
    folder = tmp_path / "class"
    packed = io.BytesIO()
    zipfile.ZipFile(packed, "w").close()
    for name in ("\u738b" * 85, "-rf", "con", "a\nb", b"jos\xe9"):
        hand_in(folder, name)
    hand_in(folder, "deep", ANSWER + f"x = {'+'.join(['1'] * 20_000)}\n".encode())
    hand_in(folder, "fails", ANSWER + b"1 / 0\n")
    hand_in(folder, "nul", b"\0\0")
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
