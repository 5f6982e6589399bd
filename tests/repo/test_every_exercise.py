"""Every exercise keeps its promises: trees match, stubs fail, wrong answers fail by name, right
ones pass.
"""

import ast
import doctest
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from mini_transformer.course.exercises import (
    Exercise,
    count_answer_lines,
    read_course,
    read_exercises,
    read_stub,
)
from mini_transformer.course.grading.checks import find_checks
from mini_transformer.course.grading.draws import find_misjudged
from mini_transformer.course.grading.grade import (
    CheckResult,
    grade_exercise,
    grade_file,
    run_check,
)
from mini_transformer.course.grading.mutants import Mutant
from mini_transformer.course.grading.student import InProcessStudent
from mini_transformer.course.material import find_material, load_module

TOP = Path(__file__).parents[2]
MATERIAL = find_material()
KEYS = MATERIAL.list_keys()
COURSE = read_course(MATERIAL)
GRADERS = {
    key: load_module(path)
    for key in KEYS
    if (path := MATERIAL.graders / f"test_ex{key}.py").exists()
}
MUTANTS = {
    key: load_module(path)
    for key in KEYS
    if (path := TOP / "tests" / "mutants" / f"ex{key}.py").exists()
}

# ids start with exNN_topic, so that `pytest tests/repo -k ex01` looks at one lesson
each_lesson = pytest.mark.parametrize("key", KEYS, ids="ex{}".format)
each_exercise = pytest.mark.parametrize(
    "exercise", COURSE, ids=lambda exercise: f"ex{exercise.key}-{exercise.name}"
)


def list_cases(where: str, fast: int = 1) -> list:
    """List answers of one kind; all but every `fast`-th are slow tests: together they take long."""
    return [
        pytest.param(
            key,
            each,
            id=f"ex{key}-{each.exercise}-{each.name}",
            marks=pytest.mark.slow if i % fast else (),
        )
        for key in MUTANTS
        for i, each in enumerate(getattr(MUTANTS[key], where))
    ]


def judge(key: str, exercise: str, answer: Callable, base_seed: int = 0) -> CheckResult | None:
    """The first check that fails when `answer` stands in the solution's place, or None."""
    (facts,) = [one for one in COURSE if one.name == exercise]
    checks = find_checks(vars(GRADERS[key]))[exercise]

    def load() -> InProcessStudent:
        path = MATERIAL.solutions / f"ex{key}.py"
        parameters = {exercise: facts.parameters}
        return InProcessStudent(path, base_seed, {exercise: answer}, parameters)

    student = load()
    results = (run_check(check, student) for check in checks)
    failed = next((result for result in results if result.outcome != "passed"), None)
    if failed is None or failed.mistake:
        return failed
    # All checks together may tell more, such as that the answer is always the same.
    results = grade_exercise(facts, checks, load()).checks
    return next(result for result in results if result.outcome != "passed")


def test_lessons_exercises_solutions_graders_and_mutants_have_the_same_keys():
    trees = {
        "lessons": set(MATERIAL.list_lessons()[1:]),
        "exercises": {path.stem.removeprefix("ex") for path in (TOP / "exercises").glob("*.py")},
        "solutions": {path.stem.removeprefix("ex") for path in (TOP / "solutions").glob("*.py")},
        "facts": {path.stem.removeprefix("ex") for path in (TOP / "solutions").glob("*.toml")},
        "graders": {
            path.stem.removeprefix("test_ex")
            for path in (TOP / "tests" / "exercises").glob("test_*.py")
        },
        "mutants": {
            path.stem.removeprefix("ex") for path in (TOP / "tests" / "mutants").glob("*.py")
        },
    }
    assert trees == {tree: set(KEYS) for tree in trees}
    assert KEYS


@each_lesson
def test_the_stubs_are_those_that_the_solutions_make(key):
    shipped = (MATERIAL.exercises / f"ex{key}.py").read_text(encoding="utf-8")
    assert shipped == read_stub(MATERIAL, key), "run `make exercises`"


@each_lesson
def test_every_stub_fails_as_not_written_yet(key, tmp_path):
    path = tmp_path / f"ex{key}.py"
    path.write_text(read_stub(MATERIAL, key), encoding="utf-8")
    report = grade_file(MATERIAL, key, path)
    assert report.problem == ""
    assert {result.name: (result.points, result.unwritten) for result in report.exercises} == {
        exercise.name: (0.0, True) for exercise in read_exercises(MATERIAL, key)
    }
    assert all(
        check.outcome == "unwritten" for result in report.exercises for check in result.checks
    )


def assert_solved(key: str, base_seed: int) -> None:
    report = grade_file(MATERIAL, key, MATERIAL.solutions / f"ex{key}.py", base_seed)
    wrong = [c.sentence for r in report.exercises for c in r.checks if c.outcome != "passed"]
    assert report.solved, f"base seed {base_seed}: {report.problem} {wrong}"


@each_lesson
def test_every_solution_gets_all_points(key):
    assert_solved(key, base_seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("base_seed", range(1, 23))
@each_lesson
def test_every_solution_gets_all_points_for_many_more_learners(key, base_seed):
    assert_solved(key, base_seed)


@pytest.mark.parametrize(("key", "mutant"), list_cases("MUTANTS", fast=36))
def test_every_mutant_fails_with_its_own_name(key, mutant):
    failed = judge(key, mutant.exercise, mutant.answer)
    assert failed is not None, f"the grader accepts {mutant.name}"
    if mutant.says:
        assert mutant.says in failed.sentence
    else:
        assert (failed.outcome, failed.mistake) == ("wrong", mutant.name), failed.sentence


@pytest.mark.parametrize("base_seed", [0, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("key", "right"), list_cases("ALTERNATIVES", fast=4))
def test_every_alternative_passes(key, right, base_seed):
    failed = judge(key, right.exercise, right.answer, base_seed)
    assert failed is None, failed.sentence


@pytest.mark.slow
@each_exercise
def test_a_draw_of_a_class_refuses_no_right_answer(exercise):
    misjudged = find_misjudged(MATERIAL, exercise, base_seed=2**40, draw=0)
    assert [each for each in misjudged if each.endswith("refused")] == []


def list_answers(exercise: Exercise, where: str) -> list[Mutant]:
    answers = getattr(MUTANTS[exercise.key], where)
    return [each for each in answers if each.exercise == exercise.name]


@each_exercise
def test_each_exercise_has_five_mutants_and_an_alternative(exercise):
    assert len(list_answers(exercise, "MUTANTS")) >= 5
    assert list_answers(exercise, "ALTERNATIVES")


@each_lesson
def test_graders_name_only_exercises_that_exist_and_check_each(key):
    names = {exercise.name for exercise in read_exercises(MATERIAL, key)}
    assert set(find_checks(vars(GRADERS[key]))) == names
    answers = MUTANTS[key].MUTANTS + MUTANTS[key].ALTERNATIVES
    assert {each.exercise for each in answers} == names


@each_lesson
def test_no_two_checks_share_a_name_and_each_says_what_it_checks(key):
    tree = ast.parse((MATERIAL.graders / f"test_ex{key}.py").read_text(encoding="utf-8"))
    names = Counter(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    assert [name for name, n in names.items() if name.startswith("test_") and n > 1] == []
    checks = [check for found in find_checks(vars(GRADERS[key])).values() for check in found]
    assert [check.__name__ for check in checks if not check.__doc__] == []


@each_exercise
def test_each_mistake_has_a_sentence_of_its_own(exercise):
    mutants = list_answers(exercise, "MUTANTS")
    sentences = {each.name: each.sentence for each in mutants if each.sentence}
    assert len(set(sentences.values())) == len(sentences)
    assert all(
        len(sentence.split()) >= 5 and sentence[-1] in ".?!" for sentence in sentences.values()
    )
    assert all(bool(each.says) != (each.name in sentences) for each in mutants)


@each_exercise
def test_the_promised_size_is_true(exercise):
    source = (MATERIAL.solutions / f"ex{exercise.key}.py").read_text(encoding="utf-8")
    written = count_answer_lines(source, exercise.name)
    assert written <= exercise.lines <= written + 2


@each_exercise
def test_each_exercise_has_a_task_three_hints_and_an_explanation(exercise):
    assert exercise.task.endswith((".", "?", ":"))
    assert len(exercise.hints) == 3
    assert len(set(exercise.hints)) == 3
    assert all(len(text.split()) >= 4 for text in (*exercise.hints, exercise.explanation))
    assert 1 <= exercise.difficulty <= 5
    assert 1 <= exercise.importance <= 5
    assert exercise.points >= 1
    assert exercise.minutes >= 1


@each_lesson
def test_the_examples_in_the_tasks_are_true(key):
    solution = load_module(MATERIAL.solutions / f"ex{key}.py")
    assert doctest.testmod(solution).failed == 0


@each_lesson
def test_each_lesson_has_three_to_five_exercises(key):
    assert 3 <= len(read_exercises(MATERIAL, key)) <= 5
