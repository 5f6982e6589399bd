"""A file that keeps its judge busy, or ends it, costs its own grade only."""

import json
import resource
from dataclasses import asdict
from pathlib import Path

import pytest
from sample_batch import ANSWER, KEY, make_order, put_folder
from sample_course import GRADER, SOLUTION

from mini_transformer.course.lecturer import judge as judging
from mini_transformer.course.lecturer import judge_pool as judges
from mini_transformer.course.lecturer.judge import Judge, LostError, UnjudgeableError
from mini_transformer.course.lecturer.submissions import find_students, read_submission
from mini_transformer.course.material import CourseError
from mini_transformer.isolation.child import Child, ChildDied, ChildFlooded, ChildOutOfTime

HOSTILE = GRADER.replace(
    'expect(student.call("double", 2), 4)',
    'got = student.call("double", 2)\n    import os, time\n    @DO@',
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


def test_a_full_disk_is_no_fault_of_the_student(course, monkeypatch):
    def fail(*words, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.mkdtemp", fail)
    answer = judging.answer_frame(json.dumps(asdict(make_order(course))).encode())
    assert json.loads(answer) == {"lost": "[Errno 28] No space left on device"}


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
        for _ in range(3):
            assert judge.ask(make_order(course)).solved
            seen.append(judge.child.process.pid)
    assert seen[0] == seen[1] != seen[2]
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


FUNCTIONS = {KEY: ["double", "add_halves"]}


@pytest.fixture(scope="module")
def reader():
    judge = Judge()
    yield judge
    judge.close()


def test_what_a_student_handed_in_is_read_in_the_judging_process(tmp_path, reader):
    put_folder(tmp_path, b"jos\xe9")  # a name that is not UTF-8
    put_folder(tmp_path, "ann", ANSWER + "# caf\u00e9".encode("latin-1"))
    students, _ = find_students(tmp_path, FUNCTIONS)
    for handed in students:
        assert reader.read(handed, FUNCTIONS, {}) == read_submission(handed, FUNCTIONS)
    score = Path(f"/proc/{reader.child.process.pid}/oom_score_adj")
    assert not score.exists() or int(score.read_text()) >= 500
    with pytest.raises(CourseError, match=r"ann handed in no 'no\.py'"):
        reader.read(students[0], FUNCTIONS, {KEY: "no.py"})


HEAVY = b"x = '" + b"x" * 18_000_000 + b"'\n" + ANSWER


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limit", "said"), [("READ_SECONDS = -1", "by SIGXCPU"), ("MEMORY = 2**25", "with status 1")]
)
def test_reading_has_limits_and_past_them_the_student_is_to_blame(
    tmp_path, monkeypatch, limit, said
):
    (handed,) = hand_in(tmp_path, HEAVY)
    program = f"from mini_transformer.course.lecturer import judge; judge.{limit}; judge.main()"
    starting = ["-c", program]
    monkeypatch.setattr(
        judging, "Child", lambda command, env: Child([*command[:2], *starting], env=env)
    )
    judge = Judge()
    with pytest.raises(UnjudgeableError, match=rf"ends the process that judges .*{said}"):
        judge.read(handed, FUNCTIONS, {})
    judge.close()


def test_the_processors_time_is_limited_while_files_are_read_and_not_longer(tmp_path, monkeypatch):
    (handed,) = hand_in(tmp_path)
    limits = []

    def look(*given):
        limits.append(resource.getrlimit(resource.RLIMIT_CPU)[0])
        return read_submission(*given)

    monkeypatch.setattr(judging, "read_submission", look)
    before = resource.getrlimit(resource.RLIMIT_CPU)
    judging.read(vars(handed), FUNCTIONS, {})
    used = resource.getrusage(resource.RUSAGE_SELF)
    assert 0 < limits[0] - used.ru_utime - used.ru_stime <= judging.READ_SECONDS + 1
    assert resource.getrlimit(resource.RLIMIT_CPU) == before


OUTCOMES = {
    "killed twice": (ChildDied("it was killed by SIGKILL", killed=True), LostError),
    "too much memory": (ChildDied("it ended with status 1"), UnjudgeableError),
    "too long": (ChildOutOfTime(), LostError),
    "too much": (ChildFlooded(), UnjudgeableError),
    "unforeseen": ({"lost": "an unforeseen error"}, LostError),
}


@pytest.mark.parametrize(("outcome", "raised"), OUTCOMES.values(), ids=OUTCOMES)
def test_what_the_machine_did_while_reading_is_no_mark_and_what_the_file_did_is(
    tmp_path, monkeypatch, outcome, raised
):
    (handed,) = hand_in(tmp_path)

    class Answering:
        is_dead = False

        def __init__(self, command, env):
            pass

        def ask(self, frame, seconds):
            if isinstance(outcome, Exception) and frame:
                raise outcome
            return json.dumps(outcome).encode() if frame else b""

    monkeypatch.setattr(judging, "Child", Answering)
    with pytest.raises(raised) as error:
        Judge().read(handed, FUNCTIONS, {})
    assert type(error.value) is raised


def hand_in(folder, content=ANSWER):
    put_folder(folder, "ann", content)
    return find_students(folder, FUNCTIONS)[0]
