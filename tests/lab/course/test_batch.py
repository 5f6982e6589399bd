import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from sample_course import GRADER, SOLUTION, write_course
from sandboxed import find_or_skip

from mini_transformer.course import judge as judging
from mini_transformer.course import judges
from mini_transformer.course.batch import Settings, grade_submissions
from mini_transformer.course.gradebook import grade_folder
from mini_transformer.course.judge import Judge, Order, UnjudgeableError
from mini_transformer.course.kept import find_seed, name_file
from mini_transformer.course.material import CourseError
from mini_transformer.course.report import grade_file

KEY = "01_samples"
CLASS = {
    "ann": SOLUTION,
    "bob": SOLUTION.replace("2 * x", "x**2"),
    "cid": "import os\n" + SOLUTION.replace("return 2 * x", "os._exit(0)"),
    "dee": "def double(x:\n",
    "eve": SOLUTION.replace("total / 2", "total"),
    "fay": "def double(x):\n    return [2 * part for part in x] if hasattr(x, 'shape') else 4\n",
}
POINTS = {"ann": 5, "bob": 3, "cid": 2, "dee": 0, "eve": 3, "fay": 1}


def write_class(folder, answers=CLASS):
    for student, source in answers.items():
        (folder / student).mkdir(parents=True, exist_ok=True)
        (folder / student / f"ex{KEY}.py").write_text(source)
    return folder


@pytest.fixture
def course(tmp_path):
    return write_course(tmp_path / "course")


@pytest.fixture
def orders(monkeypatch, tmp_path):
    """Judge in this process, which takes no time to start, and keep the orders."""
    orders = []

    def ask(self, order):
        orders.append(order)
        path = tmp_path / f"order-{random.random()}" / f"ex{KEY}.py"
        path.parent.mkdir()
        path.write_text(order.source.replace("os._exit(0)", "1 / 0"))
        return grade_file(
            judging.Material(*map(Path, order.material)), order.key, path, order.base_seed
        )

    monkeypatch.setattr(Judge, "ask", ask)
    return orders


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
    monkeypatch.setattr("mini_transformer.course.batch.find_sandbox", lambda: None)
    write_class(tmp_path / "class")
    grade(course, tmp_path)
    grade(course, tmp_path, replace(Settings(7, unsafe=True), **change))
    assert len(orders) == 12


def test_a_changed_grader_grades_everything_again(course, tmp_path, orders):
    from mini_transformer.course.kept import hash_graders

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


def test_the_courses_seed_is_drawn_once_and_kept(tmp_path):
    seed = find_seed(tmp_path / "out")
    assert find_seed(tmp_path / "out") == seed
    assert find_seed(tmp_path / "elsewhere") != seed
    assert find_seed(tmp_path / "out", 5) == 5
    assert find_seed(tmp_path / "out") == 5


def test_without_a_sandbox_nothing_is_run_unless_told_so(course, tmp_path, orders, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    write_class(tmp_path / "class", {"ann": SOLUTION})
    with pytest.raises(CourseError, match="install bubblewrap"):
        grade(course, tmp_path, Settings(7))
    assert orders == []
    assert grade(course, tmp_path, Settings(7, unsafe=True))[0].points == 5


def test_a_sandbox_that_fails_costs_nobody_points_for_good(course, tmp_path, orders, monkeypatch):
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
    assert "not graded yet" in graded[0].reports[KEY].problem
    assert [one.points for one in grade(course, tmp_path, jobs=1)] == [5, 5]


HOSTILE = GRADER.replace(
    'expect(student.call("double", 2), 4)',
    'got = student.call("double", 2)\n    import os, time\n    @DO@',
)


def make_order(course, source=SOLUTION, **options):
    return Order(
        KEY,
        source,
        0,
        **({"seconds": 5.0, "unsafe": True} | options),
        material=(*map(str, vars(course).values()),),
    )


def test_a_value_that_ends_or_stalls_the_grader_costs_its_own_file(course, monkeypatch):
    monkeypatch.setattr(judging, "SECONDS_TO_START", 120)
    grader = course.graders / f"test_ex{KEY}.py"
    with judges.open_judges(1) as free:
        judge = free.get()
        grader.write_text(HOSTILE.replace("@DO@", "os._exit(3) if got == 4 else None"))
        with pytest.raises(UnjudgeableError, match="ends the process that judges"):
            judge.ask(make_order(course))
        monkeypatch.setattr(judging, "FILE_SECONDS", -79.0 - 120.0)
        grader.write_text(HOSTILE.replace("@DO@", "time.sleep(600 * (got == 4))"))
        with pytest.raises(UnjudgeableError, match="took more than"):
            judge.ask(make_order(course))
        monkeypatch.setattr(judging, "FILE_SECONDS", 60.0)
        grader.write_text(GRADER)
        assert judge.ask(make_order(course)).solved


def test_a_judge_that_was_killed_by_accident_is_asked_again_and_replaced_in_time(
    course, tmp_path, monkeypatch
):
    once = (
        "(open(p, 'w'), os._exit(3)) if not os.path.exists(p := "
        + repr(str(tmp_path / "once"))
        + ") else None"
    )
    (course.graders / f"test_ex{KEY}.py").write_text(HOSTILE.replace("@DO@", once))
    monkeypatch.setattr(judging, "FILES", 2)
    with judges.open_judges(1) as free:
        judge = free.get()
        seen = []
        for _ in range(4):
            assert judge.ask(make_order(course)).solved
            seen.append(judge.child.process.pid)
    assert seen[0] == seen[1] != seen[2] == seen[3]
    assert (tmp_path / "once").exists()


def test_a_file_that_has_used_up_its_time_keeps_what_it_earned_until_then(course, monkeypatch):
    monkeypatch.setattr(judging, "FILE_SECONDS", 0.4)
    source = "import time\n" + SOLUTION.replace("return 2 * x", "time.sleep(0.3)\n    return 2 * x")
    report = judging.judge(make_order(course, source))
    first, second = report.exercises
    assert (first.points, second.points) == (1, 0)
    assert (
        second.checks[0].sentence
        == "ex01_samples.py took more than 0.4 s in all: add_halves was not called any more"
    )


def test_a_module_in_the_current_folder_is_not_imported(course, tmp_path, monkeypatch):
    write_class(tmp_path / "class", {"ann": SOLUTION})
    here = tmp_path / "here"
    here.mkdir()
    for name in ("json.py", "torch.py", "resource.py"):
        (here / name).write_text(f"open({str(tmp_path / 'imported')!r}, 'w')")
    monkeypatch.chdir(here)
    assert grade(course, tmp_path, jobs=1)[0].points == 5
    assert not (tmp_path / "imported").exists()


@pytest.mark.parametrize("name", ["jane", "Jane Doe_12", "zoë", "a.b"])
def test_plain_names_name_their_files(name):
    assert name_file(name) == name


def test_names_that_differ_never_share_a_file():
    names = ["../x", "..\\x", "/x", "x/", "x:", "x?", ".", "..", "", " ", 200 * "x", 201 * "x", "x"]
    files = [name_file(name) for name in names]
    assert len(set(files)) == len(names)
    assert all("/" not in file and not file.startswith(".") and len(file) < 100 for file in files)


START = """
import sys
from pathlib import Path
from mini_transformer.course.gradebook import grade_folder
from mini_transformer.course.material import Material
top = Path(sys.argv[1])
material = Material(*(top / "course" / part for part in ("lessons", "exercises", "solutions", "graders")))
grade_folder(material, ["01_samples"], top / "class", top / sys.argv[2], seed=3, by_student=True, jobs=2)
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


def test_on_a_cluster_an_order_goes_to_a_worker_and_its_report_comes_back(course, tmp_path, orders):
    class Future:
        def __init__(self, report):
            self.result = lambda: report

    class Client:
        def submit(self, function, order, pure):
            assert not pure
            return Future(function(order))

    write_class(tmp_path / "class", {"ann": SOLUTION})
    assert judges.RemoteJudge(Client()).ask(make_order(course)).solved
    assert len(orders) == 1
    judges.close_here()


def test_no_process_is_left_when_the_grader_is_killed(course, tmp_path):
    find_or_skip()
    write_class(tmp_path / "class", {"ann": "import time\ntime.sleep(9)\n"})
    running = start(tmp_path, "out")
    deadline = time.monotonic() + 120
    while not (judges := find_children(running.pid)) and time.monotonic() < deadline:
        time.sleep(0.05)
    while (
        not (below := [child for one in judges for child in find_children(one)])
        and time.monotonic() < deadline
    ):
        time.sleep(0.05)
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


def test_the_folder_of_results_may_stand_among_the_submissions(course, tmp_path, orders):
    write_class(tmp_path, {"ann": SOLUTION})
    folder = tmp_path / "class"
    write_class(folder, {"ann": SOLUTION})
    for _ in range(2):
        summary = grade_folder(course, [KEY], folder, folder / "grades", unsafe=True)
    assert summary["students"] == 1
    assert json.loads((folder / "grades" / "summary.json").read_text()) == summary
