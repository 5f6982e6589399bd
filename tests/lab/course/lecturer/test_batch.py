import os
import queue
import random
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from sample_batch import CLASS, KEY, POINTS, put_folder, write_class
from sample_course import GRADER, SOLUTION, write_course
from sandboxed import find_or_skip

from mini_transformer.course.exercises import read_exercises
from mini_transformer.course.lecturer.batch import Grader, Settings, grade_submissions
from mini_transformer.course.lecturer.gradebook import (
    list_grades,
    list_totals,
    make_gradescope,
)
from mini_transformer.course.lecturer.judge import Judge
from mini_transformer.course.lecturer.submissions import find_students
from mini_transformer.course.material import CourseError


def grade(course, tmp_path, settings=None, **options):
    graded, _ = grade_submissions(
        course,
        [KEY],
        tmp_path / "class",
        tmp_path / "out",
        settings or Settings(7, unsafe=True),
        **options,
    )
    return graded


def test_a_class_is_graded_in_the_sandbox_as_each_answer_deserves(course, tmp_path):
    find_or_skip()
    write_class(tmp_path / "class")
    graded = grade(course, tmp_path, Settings(7), jobs=2)
    assert {one.student: one.points for one in graded} == POINTS
    assert [one.of for one in graded] == [5] * 6
    assert not any(one.failed for one in graded)
    assert (
        graded[2]
        .reports[KEY]
        .exercises[0]
        .checks[0]
        .sentence.startswith("double ends the process that it runs in")
    )
    assert graded[3].reports[KEY].problem.startswith(f"ex{KEY}.py line 1 is not Python")
    assert graded[1].reports[KEY].exercises[0].checks[1].mistake == "squares"


def test_what_is_kept_is_not_graded_again_and_reads_the_same(course, tmp_path, orders):
    write_class(tmp_path / "class")
    first = grade(course, tmp_path, jobs=1)
    assert len(orders) == 6
    assert grade(course, tmp_path, jobs=2) == first
    assert len(orders) == 6


def test_only_a_changed_submission_is_graded_again(course, tmp_path, orders):
    write_class(tmp_path / "class")
    grade(course, tmp_path)
    write_class(tmp_path / "class", {"bob": SOLUTION})
    graded = grade(course, tmp_path)
    assert [order.source for order in orders[6:]] == [SOLUTION]
    assert graded[1].points == 5


@pytest.mark.parametrize(
    "change", [{"seed": 8}, {"by_student": True}, {"seconds": 5.0}, {"unsafe": False}], ids=str
)
def test_other_settings_grade_everything_again(course, tmp_path, orders, change, monkeypatch):
    monkeypatch.setattr("mini_transformer.course.lecturer.batch.find_sandbox", lambda: None)
    write_class(tmp_path / "class")
    grade(course, tmp_path)
    grade(course, tmp_path, replace(Settings(7, unsafe=True), **change))
    assert len(orders) == 12


def test_a_changed_grader_grades_everything_again(course, tmp_path, orders):
    from mini_transformer.course.lecturer.resume import hash_graders

    write_class(tmp_path / "class", {"ann": SOLUTION})
    grade(course, tmp_path)
    (course.graders / f"test_ex{KEY}.py").write_text(
        GRADER.replace('"double", weight=2', '"double", weight=5')
    )
    hash_graders.cache_clear()
    grade(course, tmp_path)
    assert len(orders) == 2


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", "3", '{"key": "01_samples"}', '{"key": ["01_samples"], "entry": 3}']
)
def test_a_damaged_result_is_graded_again(course, tmp_path, orders, damage):
    write_class(tmp_path / "class", {"ann": SOLUTION})
    first = grade(course, tmp_path)
    (tmp_path / "out" / "kept" / "ann.jsonl").write_text(damage)
    assert grade(course, tmp_path) == first
    assert len(orders) == 2


def test_each_student_has_a_variant_that_stays_the_same(course, tmp_path, orders):
    write_class(tmp_path / "class")
    grade(course, tmp_path, Settings(7, by_student=True, unsafe=True), jobs=1)
    seeds = [order.base_seed for order in orders]
    assert len(set(seeds)) == 6
    assert seeds == [Settings(7, by_student=True).seed_for(name) for name in sorted(CLASS)]
    assert Settings(8, by_student=True).seed_for("ann") != seeds[0]
    assert {Settings(7).seed_for(name) for name in CLASS} == {7}


def test_without_a_sandbox_nothing_is_run_unless_told_so(course, tmp_path, orders, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    write_class(tmp_path / "class", {"ann": SOLUTION})
    with pytest.raises(CourseError, match="install bubblewrap"):
        grade(course, tmp_path, Settings(7))
    assert orders == []
    assert grade(course, tmp_path, Settings(7, unsafe=True))[0].points == 5


def test_a_sandbox_that_fails_costs_nobody_points_for_good(
    course, tmp_path, orders, exercises, monkeypatch
):
    write_class(tmp_path / "class", {"ann": SOLUTION, "bob": SOLUTION})
    working = Judge.ask

    def fail_for_ann(self, order):
        if not orders:
            orders.append(order)
            raise CourseError("the sandbox does not start: no room")
        return working(self, order)

    monkeypatch.setattr(Judge, "ask", fail_for_ann)
    graded = grade(course, tmp_path, jobs=1)
    assert [one.failed for one in graded] == [{KEY: "the sandbox does not start: no room"}, {}]
    assert list_totals(graded)[0][1] == ""  # no mark, not 0
    assert [row[2] for row in list_grades(graded[:1], exercises)] == ["", ""]
    assert "score" not in make_gradescope(graded[0])
    assert [one.points for one in grade(course, tmp_path, jobs=1)] == [5, 5]


def test_a_module_in_the_current_folder_is_not_imported(course, tmp_path, monkeypatch):
    write_class(tmp_path / "class", {"ann": SOLUTION})
    here = tmp_path / "here"
    here.mkdir()
    for name in ("json.py", "torch.py", "resource.py"):
        (here / name).write_text(f"open({str(tmp_path / 'imported')!r}, 'w')")
    monkeypatch.chdir(here)
    assert grade(course, tmp_path, jobs=1)[0].points == 5
    assert not (tmp_path / "imported").exists()


START = """
import sys
from pathlib import Path
from mini_transformer.course.lecturer.gradebook import grade_folder
from mini_transformer.course.material import Material
top = Path(sys.argv[1])
parts = ("lessons", "exercises", "solutions", "graders")
material = Material(*(top / "course" / part for part in parts))
out = top / sys.argv[2]
grade_folder(material, ["01_samples"], top / "class", out, seed=3, by_student=True, jobs=2)
"""


def read_results(out):
    """Everything that a lecturer reads."""
    files = [path for path in out.rglob("*") if path.is_file() and path.parent.name != "kept"]
    return {str(path.relative_to(out)): path.read_text() for path in files}


def start(tmp_path, out):
    return subprocess.Popen([sys.executable, "-c", START, str(tmp_path), out])


def kill_when(running, out, ready):
    while running.poll() is None and not ready(out):
        time.sleep(0.02)
    running.send_signal(signal.SIGKILL)
    running.wait()


def test_after_kill_9_the_same_command_gives_the_same_grades(course, tmp_path):
    find_or_skip()
    write_class(tmp_path / "class", {name: CLASS[name] for name in ("ann", "bob", "dee")})
    kill_when(
        start(tmp_path, "killed"), tmp_path / "killed", lambda out: any(out.glob("kept/*.jsonl"))
    )
    kept = {path.name: path.read_bytes() for path in (tmp_path / "killed" / "kept").glob("*.jsonl")}
    assert 1 <= len(kept) < 3
    assert start(tmp_path, "killed").wait() == 0
    assert start(tmp_path, "undisturbed").wait() == 0
    assert read_results(tmp_path / "killed") == read_results(tmp_path / "undisturbed")
    assert all(
        (tmp_path / "killed" / "kept" / name).read_bytes() == content
        for name, content in kept.items()
    )


@pytest.mark.slow
def test_killed_at_ten_random_moments_the_grades_are_the_same(course, tmp_path):
    find_or_skip()
    many = {f"{name}{i}": source for name, source in CLASS.items() for i in range(4)}
    write_class(tmp_path / "class", many)
    started = time.monotonic()
    assert start(tmp_path, "undisturbed").wait() == 0
    whole, generator = time.monotonic() - started, random.Random(0)
    for _ in range(10):
        running, until = (
            start(tmp_path, "killed"),
            time.monotonic() + generator.uniform(0, whole / 2),
        )
        kill_when(running, tmp_path, lambda out, until=until: time.monotonic() > until)
    assert start(tmp_path, "killed").wait() == 0
    assert read_results(tmp_path / "killed") == read_results(tmp_path / "undisturbed")


@pytest.mark.slow
def test_a_worker_killed_on_a_dask_cluster_changes_nothing(course, tmp_path):
    distributed = pytest.importorskip("distributed")
    find_or_skip()
    write_class(
        tmp_path / "class",
        {f"{name}{i}": source for name, source in CLASS.items() for i in range(2)},
    )
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50
    ) as cluster:
        victim = next(iter(cluster.workers.values())).pid

        def kill_one():
            while not any((tmp_path / "out").glob("kept/*.jsonl")):
                time.sleep(0.05)
            os.kill(victim, signal.SIGKILL)

        killer = threading.Thread(target=kill_one)
        killer.start()
        graded = grade(course, tmp_path, Settings(7), dask=cluster.scheduler_address)
        killer.join()
    assert {one.student: one.points for one in graded} == {
        f"{name}{i}": POINTS[name] for name in CLASS for i in range(2)
    }
    assert not any(one.failed for one in graded)


def test_no_process_is_left_when_the_grader_is_killed(course, tmp_path):
    find_or_skip()
    write_class(tmp_path / "class", {"ann": "import time\ntime.sleep(9)\n"})
    running = start(tmp_path, "out")
    deadline = time.monotonic() + 120
    below = []
    while not below and time.monotonic() < deadline:
        time.sleep(0.05)
        judges = find_children(running.pid)  # at first one that asks bubblewrap for its version
        below = [child for one in judges for child in find_children(one)]
    running.send_signal(signal.SIGKILL)
    running.wait()
    while (
        left := [pid for pid in (*judges, *below) if is_running(pid)]
    ) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert judges
    assert below
    assert left == []


def find_children(pid):
    try:
        return [
            int(child)
            for task in Path(f"/proc/{pid}/task").glob("*/children")
            for child in task.read_text().split()
        ]
    except OSError:
        return []


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


ONE_LESSON = {"01_samples": ["double", "add_halves"]}


def test_what_nobody_has_thought_of_costs_one_student_and_is_said_aloud(tmp_path, monkeypatch):
    material = write_course(tmp_path / "course")
    put_folder(tmp_path / "class", "ann")

    def stumble(handed, functions, wanted):
        raise RuntimeError("unheard of")

    monkeypatch.setattr("mini_transformer.course.lecturer.batch.read_submission", stumble)
    (handed,), _ = find_students(tmp_path / "class", ONE_LESSON)
    exercises = {"01_samples": read_exercises(material, "01_samples")}
    graded = Grader(material, exercises, tmp_path / "out", Settings(1), queue.Queue()).grade(handed)
    assert graded.points == 0
    assert graded.failed == {"01_samples": "an unforeseen error (RuntimeError: unheard of)"}
