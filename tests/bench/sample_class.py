"""Write a class of made-up students, as a lecturer finds it.

They are right, wrong, unfinished, crashing and hostile, in every kind of packing. Grade them with
`minilab grade 01 --submissions DIR`.

python tests/bench/sample_class.py DIR [200]
"""

import io
import json
import random
import re
import sys
import zipfile
from pathlib import Path

from mini_transformer.course.exercises import find_functions, read_exercises, read_stub
from mini_transformer.course.material import find_material, load_module

TESTS = Path(__file__).parents[1]
ATTACKS = TESTS / "attacks"
KEY = "01_residual_stream"
CRASHES = [
    "raise ValueError('left over')",
    "import nothing_like_this",
    "def broken(:",
    "import os\nos._exit(0)",
]
KINDS = ["right"] * 8 + ["wrong"] * 6 + ["unfinished"] * 2 + ["crashing"] * 2 + ["attacking"] * 2


def write_class(folder: Path, n: int) -> dict[str, str]:
    """Write `n` submissions of lesson 01; return each student's kind by name.

    It is the same class every time.
    """
    generator = random.Random(0)
    kinds = {}
    for i in range(n):
        kind = KINDS[i % len(KINDS)]
        name = f"{kind}{i:03}"
        student = pack(folder, name, 1000 + i, make_source(kind, i, generator), i % 8)
        kinds[student] = kind
    return kinds


def make_source(kind: str, i: int, generator: random.Random) -> str:
    material = find_material()
    solution = (material.solutions / f"ex{KEY}.py").read_text(encoding="utf-8")
    exercises = [exercise.name for exercise in read_exercises(material, KEY)]
    if kind == "wrong":
        return make_wrong(solution, generator)
    if kind == "unfinished":
        return leave_unfinished(read_stub(material, KEY), solution, exercises[: i % len(exercises)])
    if kind == "crashing":
        return f"{solution}\n\n{generator.choice(CRASHES)}\n"
    if kind == "attacking":
        attacks = sorted(ATTACKS.glob("*.py"))
        text = attacks[(i // 20 * 2 + i % 2) % len(attacks)].read_text(encoding="utf-8")
        # written for another course: `double` gets the name and parameters of the first exercise
        text = re.sub(r"\bdouble\(x\)", f"{exercises[0]}(q, k)", text).replace(
            "add_halves(x, y)", "add_halves(x, y=0)"
        )
        return re.sub(r"\bx\b", "q", text)
    return solution


def leave_unfinished(stub: str, solution: str, written: list[str]) -> str:
    """Write the stubs, with the solution's answers to a few exercises after them."""
    lines = solution.split("\n")
    functions = find_functions(solution)
    answers = [
        "\n".join(lines[functions[name].lineno - 1 : functions[name].end_lineno])
        for name in written
    ]
    return "\n\n".join([stub, *answers]) + "\n"


def make_wrong(solution: str, generator: random.Random) -> str:
    """Replace one or two of the solution's answers by mutants."""
    path = TESTS / "mutants" / f"ex{KEY}.py"
    mutants = load_module(path).MUTANTS
    chosen = {each.exercise: each.answer.__name__ for each in generator.sample(mutants, 2)}
    swaps = [f"{exercise} = _wrong['{name}']" for exercise, name in chosen.items()]
    return (
        "\n".join([path.read_text(encoding="utf-8"), "_wrong = dict(globals())", solution, *swaps])
        + "\n"
    )


def pack(folder: Path, name: str, number: int, source: str, way: int) -> str:
    """Write one submission in one of eight ways; return the name that the grader will read."""
    file = f"ex{KEY}.py"
    data = source.encode()
    if way == 0:
        path = folder / name / file
        student = name
    elif way == 1:
        path = folder / f"{name}_{file}"
        student = name
    elif way == 2:
        path = folder / f"{name}_{number}_{number + 5}_ex{KEY}-1.py"
        student = f"{name}_{number}"
    elif way == 3:
        path = folder / f"{name} Doe_{number}_assignsubmission_file_" / file
        student = f"{name} Doe_{number}"
    elif way == 4:
        path = folder / f"{name}.zip"
        student = name
        data = zip_up({f"exercises/{file}": data})
    elif way == 5:
        path = folder / name / "ex01.py"
        student = name
        data = source.replace("\n", "\r\n").encode("utf-8-sig")
    elif way == 6:
        path = folder / name / "answers.ipynb"
        student = name
        data = make_notebook(source)
    else:
        path = folder / name / "exercises" / f"ex{KEY} (1).py"
        student = name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return student


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
    kinds = write_class(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 200)
    print(f"{len(kinds)} students in {sys.argv[1]}")
