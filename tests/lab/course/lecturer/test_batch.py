import os
import queue
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from sample_batch import CLASS, KEY, POINTS, put_folder, write_class
from sample_course import GRADER, SOLUTION
from sandboxed import find_or_skip

from mini_transformer.course.exercises import read_exercises
from mini_transformer.course.lecturer.batch import Grader, Settings, grade_submissions
from mini_transformer.course.lecturer.class_draws import ClassDraws
from mini_transformer.course.lecturer.gradebook import (
    grade_folder,
    list_grades,
    list_totals,
    make_gradescope,
)
from mini_transformer.course.lecturer.judge import Judge, LostError, UnjudgeableError
from mini_transformer.course.lecturer.submissions import find_students
from mini_transformer.course.material import CourseError


def grade(course, tmp_path, settings=None, **options):
    graded, _ = grade_submissions(
        course,
        [KEY],
        tmp_path / "class",
        tmp_path / "out",
        settings or Settings(7, sandbox="none"),
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
    "change",
    [{"seed": 8}, {"by_student": True}, {"seconds": 5.0}, {"sandbox": "bubblewrap"}],
    ids=str,
)
def test_other_settings_grade_everything_again(course, tmp_path, orders, change, monkeypatch):
    monkeypatch.setattr("mini_transformer.course.lecturer.batch.find_sandbox", lambda kind: None)
    write_class(tmp_path / "class")
    grade(course, tmp_path)
    grade(course, tmp_path, replace(Settings(7, sandbox="none"), **change))
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


def test_each_student_has_variants_that_stay_the_same(course, tmp_path, orders):
    write_class(tmp_path / "class")
    graded = grade(course, tmp_path, Settings(7, by_student=True, sandbox="none"), jobs=1)
    draws = [order.draws for order in orders]
    found = {"double": range(8), "add_halves": range(8)}
    assert draws == [Settings(7).pick_draws(name, found) for name in sorted(CLASS)]
    assert len(set(map(str, draws))) > 3
    assert {order.base_seed for order in orders} == {7}
    assert grade(course, tmp_path, Settings(7, by_student=True, sandbox="none")) == graded
    assert Settings(8).pick_draws("ann", found) != draws[0]


def test_the_variants_of_200_students_are_used_alike_and_each_exercise_has_its_own():
    found = {"double": range(8), "add_halves": range(8)}
    picked = [Settings(2**40 + 1).pick_draws(f"student {i}", found) for i in range(200)]
    for name in found:
        counts = Counter(each[name] for each in picked)
        assert len(counts) == 8
        assert max(counts.values()) < 45
    assert sum(each["double"] == each["add_halves"] for each in picked) < 50


def test_without_a_sandbox_nothing_is_run_unless_told_so(course, tmp_path, orders, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    write_class(tmp_path / "class", {"ann": SOLUTION})
    with pytest.raises(CourseError, match="install bubblewrap"):
        grade(course, tmp_path, Settings(7))
    assert orders == []
    assert grade(course, tmp_path, Settings(7, sandbox="none"))[0].points == 5


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
    texts = {str(path.relative_to(out)): path.read_text() for path in files}
    # The order of these lines is that in which two judges came to them.
    texts["draws.jsonl"] = "".join(sorted(texts["draws.jsonl"].splitlines()))
    return texts


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
def test_whatever_ends_a_run_the_tables_are_those_of_an_undisturbed_one(course, tmp_path):
    find_or_skip()
    many = {f"{name}{i}": source for name, source in CLASS.items() for i in range(4)}
    write_class(tmp_path / "class", many)
    started = time.monotonic()
    assert start(tmp_path, "undisturbed").wait() == 0
    whole, generator = time.monotonic() - started, random.Random(0)
    for out in ("killed", "killed again"):
        for _ in range(10):
            until = time.monotonic() + generator.uniform(0, whole / 2)
            running = start(tmp_path, out)
            kill_when(running, tmp_path, lambda _, until=until: time.monotonic() > until)
        assert start(tmp_path, out).wait() == 0
    expected = read_results(tmp_path / "undisturbed")
    assert expected == read_results(tmp_path / "killed") == read_results(tmp_path / "killed again")


def mount(out, *options):
    """A file system in memory, of a size that runs out, or read-only."""
    out.mkdir(exist_ok=True)
    words = ["mount", "-t", "tmpfs", "-o", ",".join(options), "none", str(out)]
    if subprocess.run(words, capture_output=True).returncode:
        pytest.skip("only root may mount file systems")


@pytest.mark.parametrize("size", ["8k", "128k"])
def test_on_a_full_or_a_read_only_disk_nothing_is_lost(course, tmp_path, orders, size):
    write_class(tmp_path / "class", {f"{name}{i}": CLASS[name] for name in CLASS for i in range(3)})
    out = tmp_path / "full"

    def grade_into(folder):
        grade_folder(course, [KEY], tmp_path / "class", folder, seed=3, unsafe=True, jobs=1)

    grade_into(tmp_path / "undisturbed")
    mount(out, f"size={size}")
    try:
        for change, why in (
            (f"size={size}", "No space left on device"),
            (f"ro,size={size}", "Read-only file system"),
        ):
            subprocess.run(["mount", "-o", f"remount,{change}", out], check=True)
            with pytest.raises(CourseError, match=f"{out}.* cannot be written: {why}"):
                grade_into(out)
        subprocess.run(["mount", "-o", "remount,rw,size=10m", out], check=True)
        grade_into(out)
        assert read_results(out) == read_results(tmp_path / "undisturbed")
        assert len(orders) < 18 * 3 + 3  # what was kept was not graded again
    finally:
        subprocess.run(["umount", out], check=True)


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


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("unheard of"), "an unforeseen error (RuntimeError: unheard of)"),
        (LostError("it was killed by SIGKILL"), "it was killed by SIGKILL"),
    ],
)
def test_what_the_machine_did_and_what_nobody_foresaw_is_no_mark_and_is_said(
    course, tmp_path, monkeypatch, error, said
):
    put_folder(tmp_path / "class", "ann")
    graded, judges = grade_with_a_reader_that_raises(error, course, tmp_path, monkeypatch)
    assert graded.reports == {}
    assert graded.failed == {"01_samples": said}
    assert judges.qsize() == 1  # the next student finds it


def test_files_that_cannot_be_read_at_all_earn_nothing_and_are_to_be_looked_at(
    course, tmp_path, monkeypatch
):
    put_folder(tmp_path / "class", "ann")
    error = UnjudgeableError("reading it takes for ever")
    graded, _ = grade_with_a_reader_that_raises(error, course, tmp_path, monkeypatch)
    assert graded.reports[KEY].problem == graded.looks[KEY][0] == "reading it takes for ever"
    assert graded.failed == {}


def grade_with_a_reader_that_raises(error, course, tmp_path, monkeypatch):
    def stumble(self, *given):
        raise error

    monkeypatch.setattr(Judge, "read", stumble)
    (handed,), _ = find_students(tmp_path / "class", ONE_LESSON)
    judges = queue.Queue()
    judges.put(Judge())
    draws = ClassDraws(course, tmp_path / "out", 1, 1, None)
    exercises = {KEY: read_exercises(course, KEY)}
    graded = Grader(course, exercises, tmp_path / "out", Settings(1), judges, draws).grade(handed)
    return graded, judges
