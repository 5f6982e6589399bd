"""Read what solutions/exNN_topic.toml says of each exercise, and make stubs of solutions.

python -m mini_transformer.course.exercises      # writes exercises/ again from solutions/
"""

import ast
import tomllib
from dataclasses import dataclass
from pathlib import Path

from mini_transformer.course.material import CourseError, Material, find_material

BEGIN = "# ANSWER"
END = "# END ANSWER"
REQUIRED = {
    "name": str,
    "lines": int,
    "difficulty": int,
    "importance": int,
    "minutes": int,
    "points": int,
    "hints": list,
    "explanation": str,
}


@dataclass(frozen=True)
class Exercise:
    """Describe one function for the learner to write.

    `task` and `parameters` are read from the solution's own text.
    """

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
        """Return the promise that stands above the stub.

        >>> Exercise("01_a", "1.1", "f", "Do.", "x", 4, 2, 5, 10, 3, ("a",), "b").size
        'about 4 lines · difficulty 2/5 · importance 5/5 · 10 minutes · 3 points'
        """
        lines = f"{self.lines} line{'s' * (self.lines != 1)}"
        points = f"{self.points} point{'s' * (self.points != 1)}"
        ranks = f"difficulty {self.difficulty}/5 · importance {self.importance}/5"
        return f"about {lines} · {ranks} · {self.minutes} minutes · {points}"


def read_exercises(material: Material, key: str) -> list[Exercise]:
    """Read the exercises of lesson `key` in order.

    Raise CourseError if the TOML file and the solution do not fit together.
    """
    path = material.solutions / f"ex{key}.toml"
    functions = find_functions((material.solutions / f"ex{key}.py").read_text(encoding="utf-8"))
    facts = tomllib.loads(path.read_text(encoding="utf-8")).get("exercise", [])
    names = [fact.get("name") for fact in facts]
    if names != [name for name in functions if name in names]:
        raise CourseError(
            f"{path.name} lists {names}, but the solution defines {list(functions)}: "
            "same names, same order"
        )
    return [
        make_exercise(key, i, fact, functions[fact["name"]])
        for i, fact in enumerate(facts, start=1)
    ]


def read_title(material: Material, key: str) -> str:
    """Read the title of lesson `key` from its TOML file."""
    facts = tomllib.loads((material.solutions / f"ex{key}.toml").read_text(encoding="utf-8"))
    return facts.get("title") or key[3:].replace("_", " ")


def read_course(material: Material) -> list[Exercise]:
    """Read all exercises of all lessons in course order.

    Raise CourseError if two exercises have the same name.
    """
    course = [
        exercise for key in material.list_keys() for exercise in read_exercises(material, key)
    ]
    names = [exercise.name for exercise in course]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise CourseError(f"two exercises are called {twice[0]}: give one of them another name")
    return course


def make_exercise(key: str, i: int, fact: dict, function: ast.FunctionDef) -> Exercise:
    where = f"exercise {fact['name']} in ex{key}.toml"
    for field, kind in REQUIRED.items():
        if not isinstance(fact.get(field), kind):
            raise CourseError(
                f"{where} has {field} = {fact.get(field)!r}, expected {kind.__name__}"
            )
    unknown = set(fact) - set(REQUIRED)
    if unknown:
        raise CourseError(
            f"{where} has a field {min(unknown)!r}, expected only {', '.join(REQUIRED)}"
        )

    docstring = ast.get_docstring(function) or ""
    args = function.args
    return Exercise(
        key,
        f"{int(key[:2])}.{i}",
        task=" ".join(docstring.split("\n\n")[0].split()),
        parameters=", ".join(arg.arg for arg in (*args.posonlyargs, *args.args, *args.kwonlyargs)),
        hints=tuple(fact["hints"]),
        **{field: fact[field] for field in REQUIRED if field != "hints"},
    )


def find_functions(source: str) -> dict[str, ast.FunctionDef]:
    """Find the top-level functions of a module by name, in order."""
    return {node.name: node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}


def find_answer(lines: list[str], function: ast.FunctionDef) -> tuple[int, int]:
    """Find the indices of the lines `# ANSWER` and `# END ANSWER` of a solution.

    The two must enclose everything after the docstring; raise CourseError if they do not.
    """
    body = function.body[1:] if ast.get_docstring(function) is not None else []
    if not body:
        raise CourseError(f"{function.name} needs a docstring, then {BEGIN}, the answer and {END}")
    first = body[0].lineno
    last = body[-1].end_lineno or body[-1].lineno

    # The syntax tree knows no comments. BEGIN must stand above the first statement, and END
    # within two lines of the last one.
    begin = [i for i in range(function.lineno, first - 1) if lines[i].strip() == BEGIN]
    end = [i for i in range(last, min(last + 2, len(lines))) if lines[i].strip() == END]
    if len(begin) != 1 or len(end) != 1:
        raise CourseError(
            f"{function.name} has statements outside {BEGIN} and {END}: "
            "enclose the whole body, once"
        )
    return begin[0], end[0]


def count_answer_lines(source: str, name: str) -> int:
    """Count the lines of code in an answer, without blank lines and comments."""
    lines = source.splitlines()
    begin, end = find_answer(lines, find_functions(source)[name])
    answer = [line.strip() for line in lines[begin + 1 : end]]
    return sum(bool(line) and not line.startswith("#") for line in answer)


def make_stub(source: str, exercises: list[Exercise]) -> str:
    """Replace every answer in a solution's text by a raise.

    Each exercise's promise is put above its function.
    """
    lines = source.splitlines()
    functions = find_functions(source)
    for exercise in reversed(exercises):  # from the end, so that line numbers before it stay true
        function = functions[exercise.name]
        begin, end = find_answer(lines, function)
        stub = f'    raise NotImplementedError("{exercise.name}: not written yet")'
        lines[begin : end + 1] = [stub]
        starts = [function.lineno, *(decorator.lineno for decorator in function.decorator_list)]
        lines.insert(min(starts) - 1, f"# Exercise {exercise.number} · {exercise.size}")
    return "\n".join(lines) + "\n"


def read_stub(material: Material, key: str) -> str:
    """Make the text that exercises/ex<key>.py must hold."""
    source = (material.solutions / f"ex{key}.py").read_text(encoding="utf-8")
    return make_stub(source, read_exercises(material, key))


def write_stubs(material: Material) -> list[Path]:
    """Write exercises/ again from solutions/, and return the files."""
    material.exercises.mkdir(exist_ok=True)
    written = []
    for key in material.list_keys():
        path = material.exercises / f"ex{key}.py"
        path.write_text(read_stub(material, key), encoding="utf-8")
        written.append(path)
    return written


if __name__ == "__main__":
    for path in write_stubs(find_material()):
        print(path.name)
