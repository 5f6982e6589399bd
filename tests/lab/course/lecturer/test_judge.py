"""A file that keeps its judge busy, or ends it, costs its own grade only."""

import pytest
from sample_batch import KEY, make_order
from sample_course import GRADER, SOLUTION

from mini_transformer.course.lecturer import judge as judging
from mini_transformer.course.lecturer import judge_pool as judges
from mini_transformer.course.lecturer.judge import UnjudgeableError

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
