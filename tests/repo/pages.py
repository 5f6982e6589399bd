"""The tables of docs/, made from the code. `python tests/repo/pages.py` writes them; a test
compares.

A table stands between `<!-- NAME -->` and `<!-- /NAME -->`.
"""

import ast
import importlib
import json
import pkgutil
import re
import typing
from collections.abc import Iterable
from pathlib import Path

import typer

from mini_transformer import cli, methods, toys
from mini_transformer.board.families import load_families
from mini_transformer.board.problem import Family
from mini_transformer.course.exercises import read_exercises
from mini_transformer.course.material import find_material

ROOT = Path(__file__).parents[2]


def make_rows(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, ("---",) * len(header), *rows))


def list_toys() -> str:
    rows = [(f"`{row['name']}`", row["what"]) for row in toys.describe()]
    return make_rows(("name", "what"), rows)


def list_techniques() -> str:
    """List each file in a room of methods/: its functions, its sources and its check.

    The sources stand in the module's docstring, the check at the head of its test file.
    """
    rows = []
    for module in pkgutil.walk_packages(methods.__path__, "mini_transformer.methods."):
        loaded = importlib.import_module(module.name)
        functions = getattr(loaded, "__all__", [])
        room, _, name = module.name.split(".", 2)[2].rpartition(".")
        if not functions or not set(functions) <= set(methods.__all__):
            continue
        named = ", ".join(f"`{function}`" for function in functions)
        test = ROOT / "tests" / "lab" / "methods" / room / f"test_{name}.py"
        head = ast.get_docstring(ast.parse(test.read_text())) or ""
        sources = find_sentence("Sources?", loaded.__doc__ or "")
        checked = find_sentence("Checked against", head)
        rows.append((f"**{room}/{name}**: {named}", find_lessons(functions), sources, checked))
    return make_rows(("technique", "taught in", "source", "checked against"), rows)


def find_lessons(functions: list[str]) -> str:
    """Link the lessons that call or quote one of these; or say who else uses one."""

    def name_any(path: Path, after: str) -> bool:
        text = path.read_text()
        return any(re.search(rf"\b{one}{after}", text) for one in functions)

    lessons = [path for path in sorted((ROOT / "lessons").glob("*.py")) if name_any(path, "[(`]")]
    if lessons:
        return ", ".join(f"[{path.name[:2]}](../lessons/{path.name})" for path in lessons)
    package = ROOT / "mini_transformer"
    users = [
        user
        for user in ("board", "toys", "tour", "forge")
        if any(name_any(path, r"\b") for path in (package / user).rglob("*.py"))
    ]
    return f"no lesson; used by {' and '.join(users)}" if users else "no lesson"


def find_sentence(key: str, text: str) -> str:
    """Find what a docstring says after `key` and a colon, up to the end of the sentence."""
    found = re.search(rf"{key}: (.*?)\.(?= [A-Z]|$)", " ".join(text.split()))
    return found[1] if found else ""


def list_commands() -> str:
    group = typing.cast(typing.Any, typer.main.get_command(cli.app))
    rows = []
    for name, command in group.commands.items():
        arguments = [
            p.metavar or p.name.upper() for p in command.params if p.param_type_name == "argument"
        ]
        words = " ".join(["minilab", name, *arguments]).replace("|", "\\|")  # | ends a cell
        rows.append((f"`{words}`", command.help.splitlines()[0]))
    return make_rows(("command", "what it does"), rows)


def list_hours() -> str:
    """List what each lesson asks of a student: exercises, points, and hours for them."""
    material = find_material()
    rows = []
    for key in material.list_keys():
        exercises = read_exercises(material, key)
        points = sum(exercise.points for exercise in exercises)
        hours = sum(exercise.minutes for exercise in exercises) / 60
        title = key.replace("_", " ")
        rows.append((title, str(len(exercises)), str(points), f"{hours:.1f}"))
    return make_rows(("lesson", "exercises", "points", "hours for them"), rows)


def list_board_families() -> str:
    """Describe each family of the board: what a method is given, and what is measured."""
    return "\n\n".join(describe_family(family) for family in load_families().values())


def describe_family(family: Family) -> str:
    doc = importlib.import_module(f"mini_transformer.board.families.{family.name}").__doc__ or ""
    given = [(f"`{name}`", what) for name, what in family.parameters.items()]
    given += [(f"`{name}` (if you name it)", what) for name, what in family.options.items()]
    measured = [
        (f"`{name}`" + " (headline)" * (name == family.headline), what)
        for name, what in family.metrics.items()
    ]
    problems = [f"`{name}`" + " (trap)" * (name in family.traps) for name in family.names]
    few = sorted(set(family.shipped.values()))
    some = f" (of shipped ones, {', '.join(map(str, few))})" if few else ""
    return "\n\n".join(
        (
            f"## {family.name}",
            doc.strip(),
            f"```python\n{family.signature}\n```",
            make_rows(("argument", "what it is"), given),
            make_rows(("metric", "what it says"), measured),
            f"Problems, of {family.models} models each{some}: {', '.join(problems)}.",
            f"Methods: {name_all(family.entrants)}. References: {name_all(family.references)}; "
            "`random`, `oracle`.",
        )
    )


def list_foreign_methods() -> str:
    """List what methods of other libraries reached on the board, ours beside them: means."""
    rows = []
    for row in read_foreign_rows():
        version = f"{row['library']} {row['version']}"
        ours = ", ".join(f"{mean(values)} `{name}`" for name, values in row["ours"].items())
        problem = f"{row['family']}: {row['problem']}"
        rows.append((f"`{row['method']}`", version, problem, mean(row["values"]), ours))
    return make_rows(("method", "library", "problem", "theirs", "ours"), rows)


def read_foreign_rows() -> list[dict[str, typing.Any]]:
    """Read the rows of tests/peers/*.json that tests/peers/enter_board.py wrote."""
    paths = sorted((ROOT / "tests" / "peers").glob("*.json"))
    found = [row for path in paths for row in json.loads(path.read_text())["rows"]]
    return [row for row in found if "ours" in row]


def mean(values: list[float]) -> str:
    return f"{sum(values) / len(values):.3f}"


def name_all(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


TABLES = {
    "toys": list_toys,
    "techniques": list_techniques,
    "commands": list_commands,
    "syllabus": list_hours,
    "board_reference": list_board_families,
    "foreign_methods": list_foreign_methods,
}


def fill_in(name: str) -> str:
    """The page of this name with its table made anew."""
    text = find_page(name).read_text()
    start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    before, rest = text.split(start)
    return before + start + TABLES[name]() + "\n" + end + rest.split(end)[1]


def find_page(name: str) -> Path:
    return ROOT / "docs" / f"{name}.md"


if __name__ == "__main__":
    for page in TABLES:
        find_page(page).write_text(fill_in(page))
