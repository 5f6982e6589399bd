"""A small class: what its students handed in, and what they are told."""

import os
from pathlib import Path

from sample_course import SOLUTION

from mini_transformer.course.grading.grade import CheckResult, ExerciseResult, Report
from mini_transformer.course.lecturer.judge import Order
from mini_transformer.course.material import Material

KEY = "01_samples"
SQUARES = "You squared x: twice x is x + x."
CLASS = {
    "ann": SOLUTION,
    "bob": SOLUTION.replace("2 * x", "x**2"),
    "cid": "import os\n" + SOLUTION.replace("return 2 * x", "os._exit(0)"),
    "dee": "def double(x:\n",
    "eve": SOLUTION.replace("total / 2", "total"),
    "fay": "def double(x):\n    return ['2x' for part in x] if hasattr(x, 'shape') else 4\n",
}
POINTS = {"ann": 5, "bob": 3, "cid": 2, "dee": 0, "eve": 3, "fay": 1}
ANSWER = b"def double(x):\n    return 2 * x\n\ndef add_halves(x, y):\n    return (x + y) / 2\n"


def write_class(folder: Path, answers: dict[str, str] = CLASS) -> Path:
    for student, source in answers.items():
        (folder / student).mkdir(parents=True, exist_ok=True)
        (folder / student / f"ex{KEY}.py").write_text(source)
    return folder


def put_folder(folder: Path, name: str | bytes, content: bytes = ANSWER) -> None:
    """Hand in a file in a folder of any name that the file system takes."""
    own = os.path.join(os.fsencode(folder), os.fsencode(name))
    os.makedirs(own)
    with open(os.path.join(own, b"ex01_samples.py"), "wb") as file:
        file.write(content)


def make_order(course: Material, source: str = SOLUTION, seconds: float = 5.0) -> Order:
    folders = tuple(map(str, vars(course).values()))
    return Order(KEY, source, 0, seconds, sandbox="none", material=folders)


def make_report(
    first: float, second: float = 2.0, mistake: str = "squares", output: tuple[str, ...] = ()
) -> Report:
    wrong = CheckResult("A tensor becomes twice as long.", "wrong", SQUARES, mistake, 2.0)
    checks = (
        CheckResult("Two becomes four.", "passed"),
        wrong if first < 3 else CheckResult("A tensor.", "passed"),
    )
    halves = CheckResult(
        "Halves.",
        "passed" if second == 2 else "unwritten",
        "" if second == 2 else "not written yet",
    )
    results = [
        ExerciseResult("1.1", "double", first, 3, checks),
        ExerciseResult("1.2", "add_halves", second, 2, (halves,)),
    ]
    return Report(KEY, results, "", list(output))


def lose(problem: str) -> Report:
    lost = (CheckResult("the file is loaded", "error", problem),)
    names = (("1.1", "double", 3), ("1.2", "add_halves", 2))
    return Report(
        KEY, [ExerciseResult(number, name, 0.0, of, lost) for number, name, of in names], problem
    )
