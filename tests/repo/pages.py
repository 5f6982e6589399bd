"""The tables of docs/, made from the code. `python tests/repo/pages.py` writes them; a test compares.

A table stands between `<!-- NAME -->` and `<!-- /NAME -->`.
"""

import importlib
import pkgutil
import re
import typing
from pathlib import Path

import typer

from mini_transformer import cli, methods, toys

ROOT = Path(__file__).parents[2]


def make_rows(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, ("---",) * len(header), *rows))


def list_toys() -> str:
    rows = [(f"`{row['name']}`", row["what"]) for row in toys.describe()]
    return make_rows(("name", "what"), rows)


def list_techniques() -> str:
    """One row per file of methods/: its functions, its sources and its check, as its docstring gives them."""
    rows = []
    for module in pkgutil.iter_modules(methods.__path__):
        loaded = importlib.import_module(f"mini_transformer.methods.{module.name}")
        doc = " ".join((loaded.__doc__ or "").split())
        functions = [
            name for name in methods.__all__ if getattr(methods, name).__module__ == loaded.__name__
        ]
        sources, checked = (
            re.search(rf"{key}: (.*?)\.(?= [A-Z]|$)", doc)
            for key in ("Sources?", "Checked against")
        )
        if functions:
            what = f"**{module.name}**: " + ", ".join(f"`{name}`" for name in functions)
            rows.append((what, sources[1] if sources else "", checked[1] if checked else ""))
    return make_rows(("technique", "source", "checked against"), rows)


def list_commands() -> str:
    group = typing.cast(typing.Any, typer.main.get_command(cli.app))
    rows = []
    for name, command in group.commands.items():
        arguments = [
            p.metavar or p.name.upper() for p in command.params if p.param_type_name == "argument"
        ]
        rows.append((f"`{' '.join(['minilab', name, *arguments])}`", command.help.splitlines()[0]))
    return make_rows(("command", "what it does"), rows)


TABLES = {"toys": list_toys, "techniques": list_techniques, "commands": list_commands}


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
