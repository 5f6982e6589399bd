"""A draw that cannot tell a known mistake from a right answer is found out."""

import inspect
import itertools

import pytest
import torch
from sample_course import GRADER, LUCKY_GRADER, write_course

from mini_transformer.course.exercises import read_exercises
from mini_transformer.course.grading.draws import find_misjudged
from mini_transformer.course.grading.grade import grade_student
from mini_transformer.course.grading.student import InProcessStudent, NamedModel, draw_seeds
from mini_transformer.course.material import find_material, load_module

SEED = 2**40
MORE_MUTANTS = """
@mutant("double", "You leave a hook.")
def changes_its_input(x):
    y = x + x
    if hasattr(x, "zero_"):
        x.zero_()
    return y


@alternative("double")
def adds(x):
    return x + x


@alternative("double")
def answers_like_nobody(x):
    return 0


@check("double")
"""


@pytest.fixture
def course(tmp_path):
    return write_course(tmp_path)


def list_misjudged(course, grader, draw):
    (course.graders / "test_ex01_samples.py").write_text(grader)
    exercise = read_exercises(course, "01_samples")[0]
    return list(find_misjudged(course, exercise, SEED, draw))


def test_a_mistake_that_half_of_all_draws_accept_is_found_in_these(course):
    check = "double test_tensors_are_doubled"
    expected = []
    for draw in range(12):
        (seed,) = draw_seeds(f"{SEED} {check} {draw}", 1)
        refused = [] if seed % 5 else ["solution is refused"]
        expected.append(refused or ["adds_two is accepted"] * (seed % 2))
    assert [list_misjudged(course, LUCKY_GRADER, draw) for draw in range(12)] == expected
    assert len(set(map(tuple, expected))) == 3


def test_right_and_wrong_answers_of_all_kinds_are_tried(course):
    grader = GRADER.replace('@check("double")\n', MORE_MUTANTS, 1)
    grader = grader.replace("import mutant", "import alternative, mutant")
    assert list_misjudged(course, grader, 0) == ["answers_like_nobody is refused"]


def test_no_two_checks_exercises_draws_or_classes_share_a_seed(course):
    student = InProcessStudent(course.solutions / "ex01_samples.py", SEED)
    student.draws = {"double": 0, "add_halves": 0}
    drawn = []
    for draw, exercise, check in itertools.product(range(3), student.draws, ("test_a", "test_b")):
        student.draws[exercise] = draw
        student.begin(exercise, check)
        drawn += student.seeds(20)
    other = InProcessStudent(course.solutions / "ex01_samples.py", SEED + 1)
    other.draws = student.draws
    other.begin("add_halves", "test_b")
    drawn += other.seeds(20)
    assert len(set(drawn)) == 13 * 20


def test_a_learners_own_seeds_stay_what_they_were(course):
    student = InProcessStudent(course.solutions / "ex01_samples.py", 0)
    student.begin("double", "test_a")
    assert student.seeds(2) == draw_seeds(0, 2) == [1506503743, 599057444]


def answer_from_seeds(base_seed, draws):
    """Read a random model's seed off the callers of 1.3, and with it plant the models of 1.4."""
    material = find_material()
    key = "01_residual_stream"
    grader = load_module(material.graders / f"test_ex{key}.py")
    solution = load_module(material.solutions / f"ex{key}.py")
    seeds = []

    def split_head_by_source(model, tokens, layer, head):
        for info in inspect.stack():
            given = info.frame.f_locals.get("args", ()) or ()
            seeds.extend(value.seed for value in given if isinstance(value, NamedModel))
        return solution.split_head_by_source(model, tokens, layer, head)

    def find_deciders(config, weights, tokens, answer, wrong):
        guessed = [base for base in range(3000) if draw_seeds(base, 1)[0] in seeds]
        seeds.extend(seed for base in guessed for seed in draw_seeds(base, 3))
        cases = map(grader.draw_deciders, set(seeds))
        return next((c.deciders for c in cases if torch.equal(c.tokens, tokens)), ([], []))

    def load(parameters):
        cheats = {each.__name__: each for each in (split_head_by_source, find_deciders)}
        student = InProcessStudent(
            material.solutions / f"ex{key}.py", base_seed, cheats, parameters
        )
        student.draws = draws
        return student

    names = ["split_head_by_source", "find_deciders"]
    split, found = grade_student(material, key, load, names).exercises
    assert split.solved
    assert seeds
    return found.points


@pytest.mark.slow
def test_in_a_class_a_seed_that_was_read_leads_to_no_planted_model():
    assert answer_from_seeds(2025, None) == 5  # of a learner, whose own seed it is
    assert answer_from_seeds(2025, {"split_head_by_source": 0, "find_deciders": 0}) == 0
