"""Write a class of made-up students, as a lecturer finds it, and know what each has earned.

In two hundred, twenty and more are odd (names, encodings, files beside files, platforms) and ten
are hostile; the others are right, wrong and unfinished, in every kind of packing. Grade them with
`minilab grade 01 --submissions DIR`.

python tests/bench/sample_class.py DIR [200] [01]
"""

import ast
import functools
import hashlib
import io
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from mini_transformer.course.exercises import find_functions, read_exercises, read_stub
from mini_transformer.course.grading.grade import grade_student
from mini_transformer.course.grading.student import InProcessStudent
from mini_transformer.course.material import find_key, find_material, load_module
from mini_transformer.isolation.journal import Journal

TESTS = Path(__file__).parents[1]
MATERIAL = find_material()
HOSTILE = (  # of tests/attacks; beside them stand a notebook and two zips
    "forges_what_it_printed",
    "names_a_tensor_often",
    "answers_with_colliding_keys",
    "takes_all_memory",
    "forks_without_end",
    "loops_for_ever",
    "opens_kernel_doors",
)
DEEP = 1100  # folders, more than Python's calls
BOMB = 2**30  # bytes that a zip of a few hundred unpacks to

Files = dict[str | bytes, bytes]


def write_class(folder: Path, n: int = 200, key: str = "01_residual_stream") -> dict[str, str]:
    """Write `n` submissions of a lesson, always the same; return what to grade of each student.

    This is a source, by the name that the tables call the student. It is empty for those who have
    handed in nothing that can be graded.
    """
    odd = list_odd(key)
    hostile = list_hostile(key)
    generator = random.Random(0)
    honest = {}
    for i in range(n - len(odd) - len(hostile)):
        source = write_answers(key, i, generator)
        name, files = pack(f"student{i:03}", 1000 + i, key, source, i % 8)
        honest[name] = source
        write(folder, files)
    for files, _ in (*odd.values(), *hostile.values()):
        write(folder, files)
    make_deep(folder / "deep", f"ex{key}.py", read_solution(key))
    return {name: source for name, (_, source) in (odd | hostile).items()} | honest


def read_draws(out: Path) -> dict[str, int]:
    """Read on which inputs a run graded its class, by exercise."""
    told = Journal(out / "draws.jsonl").entries
    names = [name.split() for name, tells in told.items() if tells]
    return {exercise: int(draw) for exercise, draw, _ in names}


def find_marks(
    sources: dict[str, str], key: str, seed: int, draws: dict[str, int]
) -> dict[str, float]:
    """Grade what each student wrote in this process, on the inputs of the class."""

    def load(parameters: dict[str, str]) -> InProcessStudent:
        student = InProcessStudent(path, seed, parameters=parameters)
        student.draws = draws
        return student

    marks = {"": 0.0}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"ex{key}.py"
        for source in set(sources.values()) - {""}:
            path.write_text(source, encoding="utf-8")
            report = grade_student(MATERIAL, key, load)
            marks[source] = round(sum(result.points for result in report.exercises), 2)
    return {student: marks[source] for student, source in sources.items()}


@functools.cache
def read_solution(key: str) -> str:
    return (MATERIAL.solutions / f"ex{key}.py").read_text(encoding="utf-8")


@functools.cache
def list_answers(key: str) -> dict[str, tuple[list[str], list[str]]]:
    """List the names of right and of wrong answers to each exercise that tests/mutants has."""
    known = load_module(TESTS / "mutants" / f"ex{key}.py")
    return {
        exercise.name: tuple(
            [one.name for one in answers if one.exercise == exercise.name]
            for answers in (known.ALTERNATIVES, known.MUTANTS)
        )
        for exercise in read_exercises(MATERIAL, key)
    }


def write_answers(key: str, number: int, generator: random.Random) -> str:
    """Write a student's file: the better the student, the more of it is right."""
    solution = read_solution(key)
    lines = solution.split("\n")
    functions = find_functions(solution)
    skill = generator.choice((0.2, 0.5, 0.8, 0.9, 1.0, 1.0))
    mutants = (TESTS / "mutants" / f"ex{key}.py").read_text(encoding="utf-8")
    parts = [mutants, KNOWN, solution]
    for name, (right, wrong) in list_answers(key).items():
        function = functions[name]
        is_right = generator.random() < skill
        chosen = generator.choice(right if is_right else wrong) if right or not is_right else ""
        if not is_right and generator.random() < 0.2:
            head = "\n".join(lines[function.lineno - 1 : function.body[0].lineno - 1])
            parts.append(f"{head}\n    raise NotImplementedError")
        elif chosen:
            own = f"own_{number}"
            given = ", ".join(argument.arg for argument in function.args.args)
            parts.append(
                f"def {name}({ast.unparse(function.args)}):\n"
                f"    {own} = known[{name!r}, {chosen!r}]({given})\n    return {own}"
            )
    return "\n\n".join(parts) + "\n"


KNOWN = "known = {(each.exercise, each.name): each.answer for each in MUTANTS + ALTERNATIVES}"


def pack(name: str, number: int, key: str, source: str, way: int) -> tuple[str, Files]:
    """Pack one submission in one of eight ways; return its student's name and its files."""
    file = f"ex{key}.py"
    data = source.encode()
    windows = source.replace("\n", "\r\n").encode("utf-8-sig")
    moodle = f"{name} Doe_{number}"
    ways: list[tuple[str, Files]] = [
        (name, {f"{name}/{file}": data}),
        (name, {f"{name}_{file}": data}),
        (f"{name}_{number}", {f"{name}_{number}_{number + 5}_ex{key}-1.py": data}),
        (moodle, {f"{moodle}_assignsubmission_file_/{file}": data}),
        (name, {f"{name}.zip": zip_up({f"exercises/{file}": data})}),
        (name, {f"{name}/ex{key[:2]}.py": windows}),
        (name, {f"{name}/answers.ipynb": make_notebook(source)}),
        (name, {f"{name}/exercises/ex{key} (1).py": data}),
    ]
    return ways[way]


def list_odd(key: str) -> dict[str, tuple[Files, str]]:
    """List who is read with difficulty: the files, and what of them is to be graded."""
    file = f"ex{key}.py"
    stub = read_stub(MATERIAL, key)
    right = read_solution(key)
    new, old = right.encode(), stub.encode()
    own_test = f"from ex{key} import *\n\ndef test_it():\n    assert True\n".encode()
    checkpoint = f".ipynb_checkpoints/ex{key}-checkpoint.py"
    twin = "Zo\u00eb"  # the other one's name is spelled in two characters, and sorts before it
    marked = f"{twin} {hashlib.sha256(twin.encode()).hexdigest()[:4]}"
    formula = "=cmd|'C calc'!A0"
    declared = f"# -*- coding: latin-1 -*-\n# {twin}\n{right}"
    return {
        twin: ({f"Zoe\u0308/{file}": new}, right),
        marked: ({f"{twin}/{file}": old}, stub),
        "Müller": ({b"M\xfcller/" + file.encode(): new}, right),
        "Möller": ({b"M\xf6ller/" + file.encode(): old}, stub),
        "中" * 84: ({f"{'中' * 84}/{file}": new}, right),
        "\U0001d400" * 61: ({f"{chr(0x1D400) * 61}/{file}": new}, right),
        "deep": ({}, right),
        "clone": (
            {"clone.zip": zip_up({f"solutions/{file}": new, f"exercises/{file}": old})},
            stub,
        ),
        "tester": ({f"tester/{file}": new, f"tester/test_{file}": own_test}, right),
        "older": ({f"older/{file}": new, f"older/ex{key}_old.py": old}, right),
        "saved": (
            {"saved.zip": zip_up({"ex.ipynb": make_notebook(right), checkpoint: old})},
            right,
        ),
        "both": ({f"both/{file}": old, f"both/ex{key}.ipynb": make_notebook(right)}, right),
        "wide": ({f"wide/{file}": right.encode("utf-16")}, right),
        "latin": ({f"latin/{file}": declared.encode("latin-1")}, right),
        "anon_x9K2f": ({f"LATE_anon_x9K2f_2003_{file}": new}, right),
        "team_alpha3_55": (
            {f"team_alpha3_55_9_{file}": old, f"team_alpha3_55_10_ex{key}-1.py": new},
            right,
        ),
        "jdoe": (
            {
                f"Lab 1_jdoe_attempt_2026-11-29-12-34-56_{file}": new,
                f"Lab 1_jdoe_attempt_2026-11-28-12-34-56_{file}": old,
            },
            right,
        ),
        "Jane Doe": (
            {
                f"12-678 - Jane Doe - Dec 1, 2026 105 AM - {file}": new,
                f"12-678 - Jane Doe - Nov 30, 2026 1155 PM - {file}": old,
            },
            right,
        ),
        formula: ({f"{formula}/{file}": new}, right),
        "new line,9,9": ({f"new\nline,9,9/{file}": new}, right),
        "letter": ({"letter/answers.pdf": b"%PDF"}, ""),
        "broken": ({f"broken/{file}": b"def f(:\n"}, ""),
        "loud": ({f"loud/{file}": new + b"\nraise ValueError('left over')\n"}, right),
    }


def list_hostile(key: str) -> dict[str, tuple[Files, str]]:
    """List who means harm. Nobody of them has earned anything."""
    first = read_exercises(MATERIAL, key)[0]
    given = first.parameters.split(",")[0]
    found: dict[str, tuple[Files, str]] = {}
    for name in HOSTILE:
        text = (TESTS / "attacks" / f"{name}.py").read_text(encoding="utf-8")
        # written for another course: `double` gets the name and parameters of the first exercise
        text = text.replace("def double(x)", f"def {first.name}({first.parameters})")
        text = re.sub(r"\bx\b(?!\")", given, text)
        compile(text, name, "exec")
        found[name] = ({f"{name}/ex{key}.py": text.encode()}, "")
    lines = {"cell_type": "code", "source": [f"x = 1{chr(10) * 100_000}"]}
    found["lines"] = ({f"lines/ex{key}.ipynb": json.dumps({"cells": [lines]}).encode()}, "")
    for name, method in (("bomb", zipfile.ZIP_DEFLATED), ("bomb2", zipfile.ZIP_BZIP2)):
        found[name] = ({f"{name}.zip": make_bomb(f"ex{key}.py", method)}, "")
    return found


@functools.cache
def make_bomb(name: str, method: int) -> bytes:
    """Pack a file of zeros that is much larger than its zip."""
    packed = io.BytesIO()
    with (
        zipfile.ZipFile(packed, "w", method) as archive,
        archive.open(name, "w", force_zip64=True) as file,
    ):
        for _ in range(BOMB // 2**24):
            file.write(bytes(2**24))
    return packed.getvalue()


def write(folder: Path, files: Files) -> None:
    for name, content in files.items():
        path = os.path.join(os.fsencode(folder), os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)


def make_deep(folder: Path, name: str, source: str) -> None:
    """Write a file into the innermost of many folders."""
    here = os.getcwd()
    folder.mkdir(parents=True)
    os.chdir(folder)
    try:
        for _ in range(DEEP):
            os.mkdir("a")
            os.chdir("a")
        Path(name).write_text(source, encoding="utf-8")
    finally:
        os.chdir(here)


def remove(folder: Path) -> None:
    """Remove a class, whose folders may be deeper than Python's calls."""
    subprocess.run(["rm", "-rf", folder], check=True)


def zip_up(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


def make_notebook(source: str) -> bytes:
    cells = [("markdown", "# My answers"), ("code", "%matplotlib inline"), ("code", source)]
    written = [
        {"cell_type": kind, "source": text.splitlines(keepends=True)} for kind, text in cells
    ]
    return json.dumps(
        {"cells": written, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    ).encode()


if __name__ == "__main__":
    size = int(sys.argv[2]) if len(sys.argv) > 2 else 200
    lesson = find_key(sys.argv[3] if len(sys.argv) > 3 else "01", MATERIAL.list_keys())
    print(f"{len(write_class(Path(sys.argv[1]), size, lesson))} students in {sys.argv[1]}")
