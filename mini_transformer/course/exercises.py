"""Exercises: what solutions/exNN_topic.toml says about each, and the stub that is made from its solution.

python -m mini_transformer.course.exercises      # writes exercises/ again from solutions/
"""

import ast
import tomllib
from dataclasses import dataclass
from pathlib import Path

from mini_transformer.course.material import CourseError, Material, find_material

BEGIN, END = "# ANSWER", "# END ANSWER"
REQUIRED = {"name": str, "lines": int, "difficulty": int, "importance": int, "minutes": int, "points": int,
            "hints": list, "explanation": str}  # fmt: skip


@dataclass(frozen=True)
class Exercise:
    """One function for the learner to write. `task` and `parameters` are read from the solution's own text."""

    key: str  # NN_topic
    number: str  # 1.1
    name: str
    task: str
    parameters: str
    lines: int
    difficulty: int
    importance: int
    minutes: int
    points: int
    hints: tuple[str, ...]
    explanation: str

    @property
    def size(self) -> str:
        """The promise that stands above the stub.

        >>> Exercise("01_a", "1.1", "f", "Do.", "x", 4, 2, 5, 10, 3, ("a",), "b").size
        'about 4 lines · difficulty 2/5 · importance 5/5 · 10 minutes · 3 points'
        """
        lines, points = (f"{n} {word}{'s' * (n != 1)}" for n, word in ((self.lines, "line"), (self.points, "point")))
        ranks = f"difficulty {self.difficulty}/5 · importance {self.importance}/5"
        return f"about {lines} · {ranks} · {self.minutes} minutes · {points}"


def read_exercises(material: Material, key: str) -> list[Exercise]:
    """The exercises of lesson `key` in order. CourseError if the TOML and the solution do not fit together."""
    path = material.solutions / f"ex{key}.toml"
    functions = find_functions((material.solutions / f"ex{key}.py").read_text(encoding="utf-8"))
    facts = tomllib.loads(path.read_text(encoding="utf-8")).get("exercise", [])
    names = [fact.get("name") for fact in facts]
    if names != [name for name in functions if name in names]:
        raise CourseError(
            f"{path.name} lists {names}, but the solution defines {list(functions)}: same names, same order"
        )
    return [make_exercise(key, i, fact, functions[fact["name"]]) for i, fact in enumerate(facts, start=1)]


def read_title(material: Material, key: str) -> str:
    """The title of lesson `key`, as its TOML gives it."""
    facts = tomllib.loads((material.solutions / f"ex{key}.toml").read_text(encoding="utf-8"))
    return facts.get("title") or key[3:].replace("_", " ")


def read_course(material: Material) -> list[Exercise]:
    """All exercises of all lessons, in course order; names are unique."""
    course = [exercise for key in material.list_keys() for exercise in read_exercises(material, key)]
    names = [exercise.name for exercise in course]
    if twice := [name for name in names if names.count(name) > 1]:
        raise CourseError(f"two exercises are called {twice[0]}: give one of them another name")
    return course


def make_exercise(key: str, i: int, fact: dict, function: ast.FunctionDef) -> Exercise:
    where = f"exercise {fact['name']} in ex{key}.toml"
    for field, kind in REQUIRED.items():
        if not isinstance(fact.get(field), kind):
            raise CourseError(f"{where} has {field} = {fact.get(field)!r}, expected {kind.__name__}")
    if unknown := set(fact) - set(REQUIRED):
        raise CourseError(f"{where} has a field {min(unknown)!r}, expected only {', '.join(REQUIRED)}")
    task = " ".join((ast.get_docstring(function) or "").split("\n\n")[0].split())
    fields = {field: fact[field] for field in REQUIRED if field != "hints"}
    parameters = ", ".join(
        arg.arg for arg in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)
    )
    return Exercise(key, f"{int(key[:2])}.{i}", task=task, parameters=parameters, hints=tuple(fact["hints"]), **fields)


def find_functions(source: str) -> dict[str, ast.FunctionDef]:
    """The top-level functions of a module by name, in order."""
    return {node.name: node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}


def find_answer(lines: list[str], function: ast.FunctionDef) -> tuple[int, int]:
    """The indices of the lines `# ANSWER` and `# END ANSWER`, which enclose everything after the docstring."""
    body = function.body[1:] if ast.get_docstring(function) is not None else []
    if not body:
        raise CourseError(f"{function.name} needs a docstring, then {BEGIN}, the answer and {END}")
    first, last = body[0].lineno, body[-1].end_lineno or body[-1].lineno
    # the syntax tree knows no comments: BEGIN stands above the first statement, END within two lines of the last
    begin = [i for i in range(function.lineno, first - 1) if lines[i].strip() == BEGIN]
    end = [i for i in range(last, min(last + 2, len(lines))) if lines[i].strip() == END]
    if len(begin) != 1 or len(end) != 1:
        raise CourseError(f"{function.name} has statements outside {BEGIN} and {END}: enclose the whole body, once")
    return begin[0], end[0]


def count_answer_lines(source: str, name: str) -> int:
    """Lines of code in an answer: neither blank nor only a comment."""
    lines = source.splitlines()
    begin, end = find_answer(lines, find_functions(source)[name])
    return sum(bool(line.strip()) and not line.strip().startswith("#") for line in lines[begin + 1 : end])


def make_stub(source: str, exercises: list[Exercise]) -> str:
    """The solution's text with every answer replaced by a raise, and each exercise's promise above its function."""
    lines, functions = source.splitlines(), find_functions(source)
    for exercise in reversed(exercises):  # from the end, so that line numbers before it stay true
        function = functions[exercise.name]
        begin, end = find_answer(lines, function)
        lines[begin : end + 1] = [f'    raise NotImplementedError("{exercise.name}: not written yet")']
        first = min([function.lineno, *(decorator.lineno for decorator in function.decorator_list)]) - 1
        lines.insert(first, f"# Exercise {exercise.number} · {exercise.size}")
    return "\n".join(lines) + "\n"


def read_stub(material: Material, key: str) -> str:
    """What exercises/ex<key>.py has to hold."""
    source = (material.solutions / f"ex{key}.py").read_text(encoding="utf-8")
    return make_stub(source, read_exercises(material, key))


def write_stubs(material: Material) -> list[Path]:
    """Write exercises/ again from solutions/, and return the files."""
    material.exercises.mkdir(exist_ok=True)
    written = []
    for key in material.list_keys():
        written.append(material.exercises / f"ex{key}.py")
        written[-1].write_text(read_stub(material, key), encoding="utf-8")
    return written


if __name__ == "__main__":
    for path in write_stubs(find_material()):
        print(path.name)
