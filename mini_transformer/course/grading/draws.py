"""Say whether a draw of an exercise's inputs tells wrong answers from right ones.

Any draw might be one on which a wrong answer gives what a right one gives. An exercise comes with
wrong answers and right ones, so this can be tried: in a class, draws that misjudge one of them are
not used.
"""

from collections.abc import Iterator

from mini_transformer.course.exercises import Exercise
from mini_transformer.course.grading.checks import find_checks, passes
from mini_transformer.course.grading.mutants import locate_mutants
from mini_transformer.course.grading.student import InProcessStudent
from mini_transformer.course.material import Material, load_module


def find_misjudged(
    material: Material, exercise: Exercise, base_seed: int, draw: int
) -> Iterator[str]:
    """Say what a draw misjudges: right answers that it refuses, wrong ones that it accepts.

    One sentence each. They are judged in this process, but not told what is wrong with them.
    """
    path = material.graders / f"test_ex{exercise.key}.py"
    grader = load_module(path)
    mutants = locate_mutants(path)
    known = vars(load_module(mutants)) if mutants.exists() else vars(grader)
    checks = find_checks(vars(grader))[exercise.name]
    answers: list[tuple[str, dict, bool]] = [("solution", {}, True)]
    for where in ("ALTERNATIVES", "MUTANTS"):
        answers += [
            (each.name, {exercise.name: each.answer}, where == "ALTERNATIVES")
            for each in known.get(where, [])
            if each.exercise == exercise.name
        ]
    solution = material.solutions / f"ex{exercise.key}.py"
    parameters = {exercise.name: exercise.parameters}
    for name, answer, is_right in answers:
        student = InProcessStudent(solution, base_seed, answer, parameters)
        student.draws = {exercise.name: draw}
        if all(passes(check, student) for check in checks) != is_right:
            yield f"{name} is {'refused' if is_right else 'accepted'}"
