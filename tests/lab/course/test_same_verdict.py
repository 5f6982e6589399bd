"""What is right and what is wrong does not depend on where the code runs: in this process, or
isolated in a sandbox.

By default one file of a lesson holds mutants of some exercises and alternatives of the others; the
slow tests do so for the lessons that take longer, and judge each answer by itself.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sandboxed import find_or_skip

from mini_transformer.course.exercises import read_exercises, read_stub
from mini_transformer.course.grading.grade import (
    Report,
    grade_file,
    grade_student,
)
from mini_transformer.course.lecturer.isolated import IsolatedStudent
from mini_transformer.course.material import find_material, load_module

MATERIAL = find_material()
MUTANTS = Path(__file__).parents[2] / "mutants"
KEYS = [key for key in MATERIAL.list_keys() if (MUTANTS / f"ex{key}.py").exists()]
QUICK = ("01", "03", "04")
each_lesson = pytest.mark.parametrize("key", KEYS, ids="ex{}".format)

REPLACING = """
import types

registered = types.ModuleType("registered")
exec(compile({text!r}, "registered.py", "exec"), registered.__dict__)
"""


def list_registered(key: str, where: str) -> dict[str, list[tuple[int, str]]]:
    """For each exercise the mutants, or alternatives, by their number in the file and their
    name.
    """
    found: dict[str, list[tuple[int, str]]] = {}
    for i, each in enumerate(getattr(load_module(MUTANTS / f"ex{key}.py"), where)):
        found.setdefault(each.exercise, []).append((i, each.name))
    return found


def write_source(key: str, where: str, numbers: dict[str, int]) -> bytes:
    """The solution, with the registered functions of these numbers in the place of its own."""
    source = (MATERIAL.solutions / f"ex{key}.py").read_text()
    source += REPLACING.format(text=(MUTANTS / f"ex{key}.py").read_text())
    source += "".join(f"{name} = registered.{where}[{i}].answer\n" for name, i in numbers.items())
    return source.encode()


def write_mixture(key: str) -> tuple[str, bytes]:
    """One file with the first mutant of every other exercise, and the first alternative of those
    between.
    """
    wrong, right = list_registered(key, "MUTANTS"), list_registered(key, "ALTERNATIVES")
    source = write_source(key, "MUTANTS", {name: wrong[name][0][0] for name in list(wrong)[::2]})
    chosen = "".join(
        f"{name} = registered.ALTERNATIVES[{right[name][0][0]}].answer\n"
        for name in list(wrong)[1::2]
    )
    return "mixture", source + chosen.encode()


def grade_in_turn(
    key: str, cases: list[tuple[str, bytes]], folder: Path
) -> Iterator[tuple[str, Report, Report]]:
    """Each file graded in this process, and isolated: in one sandbox after the other, to save
    the start.
    """
    path = folder / f"ex{key}.py"
    parameters = {exercise.name: exercise.parameters for exercise in read_exercises(MATERIAL, key)}
    with IsolatedStudent(path.name, b"", parameters=parameters, sandbox=find_or_skip()) as student:
        for what, source in cases:
            path.write_bytes(source)
            student.order["source"] = source.hex()
            student.load()
            yield (
                what,
                grade_file(MATERIAL, key, path),
                grade_student(MATERIAL, key, lambda _: student),
            )


def is_same(isolated: Report, here: Report) -> bool:
    """Everything but what was printed: some warnings torch gives only once in a process."""
    return replace(isolated, output=[]) == replace(here, output=[])


@pytest.mark.parametrize(
    "key",
    [key if key[:2] in QUICK else pytest.param(key, marks=pytest.mark.slow) for key in KEYS],
    ids="ex{}".format,
)
def test_the_verdict_is_the_same_in_this_process_and_isolated(key, tmp_path):
    stub = ("stub", read_stub(MATERIAL, key).encode())
    for what, here, isolated in grade_in_turn(key, [stub, write_mixture(key)], tmp_path):
        assert is_same(isolated, here), what


@pytest.mark.slow
@each_lesson
def test_the_verdict_on_every_solution_is_the_same(key, tmp_path):
    solution = ("solution", (MATERIAL.solutions / f"ex{key}.py").read_bytes())
    for _, here, isolated in grade_in_turn(key, [solution], tmp_path):
        assert is_same(isolated, here)
        assert isolated.solved


@pytest.mark.slow
@each_lesson
def test_the_verdict_is_the_same_for_every_mutant_and_alternative_by_itself(key, tmp_path):
    for where in ("MUTANTS", "ALTERNATIVES"):
        numbers = list_registered(key, where)
        names = [(exercise, *pair) for exercise, pairs in numbers.items() for pair in pairs]
        cases = [
            (f"{exercise} {name}", write_source(key, where, {exercise: i}))
            for exercise, i, name in names
        ]
        graded = grade_in_turn(key, cases, tmp_path)
        for (exercise, i, name), (what, here, isolated) in zip(names, graded, strict=True):
            assert is_same(isolated, here), what
            (result,) = [result for result in isolated.exercises if result.name == exercise]
            failed = [check for check in result.checks if check.outcome != "passed"]
            answer = getattr(load_module(MUTANTS / f"ex{key}.py"), where)[i]
            assert bool(failed) == (where == "MUTANTS"), what
            if failed and not answer.says:
                assert failed[0].mistake == name, what
