"""A class is graded on the first draws that tell known mistakes, and finds them once."""

import threading
import time
from collections import Counter

import pytest
from sample_batch import KEY, write_class
from sample_course import LUCKY_GRADER, SOLUTION
from tqdm import tqdm

from mini_transformer.course.exercises import read_exercises
from mini_transformer.course.grading.draws import find_misjudged
from mini_transformer.course.lecturer.batch import Settings, grade_submissions
from mini_transformer.course.lecturer.class_draws import ClassDraws
from mini_transformer.course.lecturer.judge import Judge, UnjudgeableError, try_draw
from mini_transformer.course.lecturer.resume import hash_graders
from mini_transformer.course.material import CourseError
from mini_transformer.isolation.journal import Journal

SEED = 2**40


class HereJudge(Judge):
    """Try draws in this process, and count."""

    def __init__(self, answer=try_draw):
        super().__init__()
        self.answer = answer
        self.tried = []

    def try_draw(self, trial):
        self.tried.append((trial.exercise, trial.draw))
        return self.answer(trial)


@pytest.fixture
def lucky(course):
    (course.graders / f"test_ex{KEY}.py").write_text(LUCKY_GRADER)
    hash_graders.cache_clear()
    return course


def find(course, tmp_path, judge, wanted=1, seed=SEED):
    draws = ClassDraws(course, tmp_path / "out", seed, wanted, tqdm(total=0, disable=True))
    return draws.find(read_exercises(course, KEY), judge)


def test_the_first_draws_that_misjudge_nobody_are_found(lucky, tmp_path):
    double = read_exercises(lucky, KEY)[0]
    good = [draw for draw in range(20) if not list(find_misjudged(lucky, double, SEED, draw))]
    assert good[:3] != [0, 1, 2]
    found = find(lucky, tmp_path, HereJudge(), wanted=3)
    assert found == {"double": good[:3], "add_halves": [0, 1, 2]}


def test_what_was_tried_is_kept_until_seed_or_grader_change(lucky, tmp_path):
    first = HereJudge()
    found = find(lucky, tmp_path, first)
    again, more, other, changed = HereJudge(), HereJudge(), HereJudge(), HereJudge()
    assert find(lucky, tmp_path, again) == found
    assert again.tried == []
    find(lucky, tmp_path, more, wanted=2)
    assert more.tried
    assert not set(more.tried) & set(first.tried)
    find(lucky, tmp_path, other, seed=SEED + 1)
    assert ("add_halves", 0) in other.tried
    (lucky.graders / f"test_ex{KEY}.py").write_text(LUCKY_GRADER + "\n")
    hash_graders.cache_clear()
    find(lucky, tmp_path, changed)
    assert changed.tried == first.tried


def test_threads_that_come_together_share_the_exercises(course, tmp_path):
    def answer(trial):
        time.sleep(0.2)
        return True

    draws = ClassDraws(course, tmp_path / "out", SEED, 1, tqdm(total=0, disable=True))
    judges = [HereJudge(answer) for _ in range(3)]
    exercises = read_exercises(course, KEY)
    threads = [threading.Thread(target=draws.find, args=(exercises, judge)) for judge in judges]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one for judge in judges for one in judge.tried) == [
        ("add_halves", 0),
        ("double", 0),
    ]
    assert max(len(judge.tried) for judge in judges) == 1


def test_a_grader_that_no_draw_saves_grades_nobody_and_says_so(course, tmp_path):
    with pytest.raises(CourseError, match=r"0 of 21 draws of double .* another --seed"):
        find(course, tmp_path, HereJudge(lambda trial: False))

    def stumble(trial):
        raise UnjudgeableError("it took too long")

    with pytest.raises(CourseError, match="draw 0 of double was not tried: it took"):
        find(course, tmp_path / "other", HereJudge(stumble))


def test_a_class_is_graded_on_the_draws_that_were_found(lucky, tmp_path):
    lucky_guess = SOLUTION.replace("return 2 * x", "return x + 2")
    write_class(tmp_path / "class", {"ann": SOLUTION, "bob": lucky_guess, "cid": lucky_guess})
    settings = Settings(SEED, by_student=True, sandbox="none")
    out = tmp_path / "out"
    graded, _ = grade_submissions(lucky, [KEY], tmp_path / "class", out, settings, jobs=1)
    assert [one.points for one in graded] == [5, 3, 3]
    assert not any(one.failed for one in graded)
    told = Counter(Journal(out / "draws.jsonl").entries.values())
    assert told[True] == 16
    assert told[False] > 2
