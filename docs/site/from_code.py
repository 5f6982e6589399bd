"""The pages that are made from the code: exercises, the gallery of toys, techniques."""

import importlib
import inspect
import json
import math
import pkgutil
import re
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import matplotlib

matplotlib.use("agg")
from matplotlib import pyplot
from reading import ROOT

from mini_transformer import methods, play, toys
from mini_transformer.board.families import load_families
from mini_transformer.course.exercises import (
    Exercise,
    find_functions,
    read_exercises,
    read_stub,
    read_title,
)
from mini_transformer.course.material import find_material
from mini_transformer.plots import plot_circuit

sys.path.insert(0, str(ROOT / "tests" / "repo"))
from pages import find_lessons, find_sentence

WINGS = {
    "circuits": "Circuits: which edges do the task",
    "intervening": "Interventions: ablate, patch, steer",
    "looking": "Looking: lenses, patterns, descriptions",
    "representations": "Representations: probes, dictionaries, variables",
    "weights": "Weights: what can be read without data",
}
# What one imports besides the techniques.
API = {
    "model": "The transformer and its configuration",
    "hooks": "Hooks: read and change activations",
    "edges": "Edges, their scores, and the engine that switches them",
    "weights": "Weights put together: circuits of heads",
    "toys.truth": "A case: model, task, truth",
    "train": "Training",
    "checkpoints": "Checkpoints",
    "claims": "Claim cards",
    "plots": "Figures",
    "diagrams": "Drawings of a model's parts",
    "board": "Scores on the board",
}
ARXIV = re.compile(r"\b(\d{4}\.\d{5})\b")
LEGEND = """A line is an edge: orange into a head's queries (q), purple into its keys (k), blue into
its values (v), green into an MLP or the logits."""
FOLD = "<details><summary>{title}</summary>\n\n{text}\n\n</details>"


def write_pages(source: Path) -> None:
    """Write all generated pages into the folder that Sphinx reads."""
    material = find_material()
    for folder in ("exercises", "toys", "techniques", "api"):
        (source / folder).mkdir(exist_ok=True)
    for key in material.list_keys():
        title = read_title(material, key)
        page = make_exercises(key, title, read_exercises(material, key), read_stub(material, key))
        (source / "exercises" / f"{key}.md").write_text(page, encoding="utf-8")
    for name in toys.names():
        (source / "toys" / f"{name}.md").write_text(make_toy(name, source), encoding="utf-8")
    for wing, title in WINGS.items():
        (source / "techniques" / f"{wing}.md").write_text(make_wing(wing, title), encoding="utf-8")
    for name, title in API.items():
        page = f"# {title}\n\n" + show_module(f"mini_transformer.{name}")
        (source / "api" / f"{name}.md").write_text(page, encoding="utf-8")
    for folder, title, pages in (
        ("exercises", "Exercises", material.list_keys()),
        ("api", "Python interface", list(API)),
    ):
        links = "\n".join(f"- [](/{folder}/{page}.md)" for page in pages)
        (source / folder / "index.md").write_text(f"# {title}\n\n{links}\n", encoding="utf-8")


def show_module(name: str) -> str:
    options = "\n   :imported-members:" if name.endswith(".board") else ""
    return f"```{{eval-rst}}\n.. automodule:: {name}\n   :members:{options}\n```\n"


def make_gallery(page: str, folder: Path) -> str:
    """Link each row of the table of toys to the toy's own page, and show its circuit there."""

    def add_picture(row: re.Match) -> str:
        name, what = row.groups()
        picture = next(iter(sorted(folder.glob(f"{name}__*.png"))), None)
        shown = (
            f"[![circuit of {name}](../toys/{picture.name})](../toys/{name}.md)" if picture else ""
        )
        return f"| [`{name}`](../toys/{name}.md) | {what} | {shown} |"

    page = page.replace(
        "| name | what |\n| --- | --- |", "| name | what | circuit |\n| --- | --- | --- |"
    )
    return re.sub(r"^\| `(\w+)` \| (.*) \|$", add_picture, page, flags=re.MULTILINE)


def make_exercises(key: str, title: str, exercises: list[Exercise], stub: str) -> str:
    """Show each exercise as the learner gets it, its hints folded away; no solution."""
    number = int(key[:2])
    parts = [
        f"# Exercises {number} · {title}",
        f"To [lesson {key[:2]}](../lessons/{key}.py). Write them in `exercises/ex{key}.py` of your "
        f"workspace (`minilab init DIR`), and check them with `minilab grade {key[:2]}`.",
    ]
    lines = stub.splitlines()
    for exercise in exercises:
        function = find_functions(stub)[exercise.name]
        code = "\n".join(lines[function.lineno - 1 : function.end_lineno])
        hints = [
            FOLD.format(title=f"Hint {i}", text=hint) for i, hint in enumerate(exercise.hints, 1)
        ]
        heading = f"## {exercise.number} · {exercise.name}"
        parts += [heading, exercise.size.capitalize() + ".", f"```python\n{code}\n```", *hints]
    return "\n\n".join(parts) + "\n"


def write_scenes(folder: Path, names: Sequence[str]) -> None:
    """Write a page for each of these toys, in which its model runs."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        play.write(folder / f"{name}.html", toys.load(name))


def make_toy(name: str, source: Path) -> str:
    """Describe a toy: its task, a prompt, its circuits drawn, what is known and how."""
    case = toys.load(name)
    config, truth = case.model.config, case.truth
    mlp = f", an MLP of {config.d_mlp}" if config.d_mlp else ""
    parts = [
        f"# {name}",
        case.task.description,
        f"{config.n_layers} layers, {config.n_heads} heads{mlp}, a stream of {config.d_model}. "
        f'`toys.load("{name}")`',
    ]
    batch = case.task.draw(3, seed=0)
    prompts = "\n".join(case.task.read(prompt) for prompt in batch.clean)
    parts += ["Three prompts:", f"```text\n{prompts}\n```"]
    parts.append(f'<a href="../play/{name}.html">Take it apart in the browser</a>')
    if case.picture:
        parts.append(f"```text\n{case.picture}\n```")
    if truth.circuits:
        parts.append(LEGEND)
    drawn: dict[tuple, list[str]] = {}
    for ablation, circuits in truth.circuits.items():
        if circuits.edges:
            edges = tuple(sorted(min(circuits.edges, key=lambda one: (len(one), sorted(one)))))
            key = edges, len(circuits.edges), circuits.how, circuits.note
            drawn.setdefault(key, []).append(ablation)
    for (edges, n, how, note), ablations in drawn.items():
        parts += [*draw_truth(case, ablations, edges, n, how, source), note]
    if truth.roles:
        rows = [f"| {role} | `{node}` |" for role, node in truth.roles.items()]
        parts.append("\n".join(["| role | component |", "| --- | --- |", *rows]))
    claims = [make_claim(key, one) for key, one in truth.signatures.items()]
    if claims:
        parts += [
            f"What is claimed of it, and measured again by `minilab toys verify {name}`:",
            "\n".join(claims),
        ]
    if truth.notes:
        parts.append(truth.notes)
    return "\n\n".join(parts) + "\n"


def make_claim(key: str, claim: toys.Signature) -> str:
    """Say a claim in a line: `- accuracy, says the next token: at least 1 (measured)`."""
    bounds = [(claim.low, "at least"), (claim.high, "at most")]
    said = " and ".join(f"{words} {bound:.3g}" for bound, words in bounds if abs(bound) < math.inf)
    what = re.sub(r"(\S+->\S+<\w>)", r"`\1`", claim.what)
    return f"- {key}, {what}: {said} ({claim.how})"


def draw_truth(
    case: toys.Case, ablations: list[str], edges: tuple[str, ...], n: int, how: str, source: Path
) -> list[str]:
    """Draw the smallest of `n` minimal circuits, the same under these ablations."""
    roles = {node: role for role, node in case.truth.roles.items()}
    ax = plot_circuit(case.model, edges, roles=roles)
    path = source / "toys" / f"{case.name}__{ablations[0]}.png"
    ax.figure.savefig(path, dpi=100)
    pyplot.close(ax.figure)
    several = f"One of {n} minimal circuits" if n > 1 else "The minimal circuit"
    known = "measured" if how == "measured" else f"known by {how}"
    return [
        f"## Circuit under {', '.join(ablations)} ablation",
        f"![{len(edges)} edges between components]({path.name})",
        f"{several} ({known}): " + ", ".join(f"`{edge}`" for edge in edges) + ".",
    ]


def make_wing(wing: str, title: str) -> str:
    """Show the techniques of one room, each with its lesson, its papers, its score."""
    room = importlib.import_module(f"mini_transformer.methods.{wing}")
    parts = [f"# {title}"]
    for found in pkgutil.iter_modules(room.__path__):
        module = importlib.import_module(f"{room.__name__}.{found.name}")
        functions = getattr(module, "__all__", [])
        if functions and set(functions) <= set(methods.__all__):
            parts += describe_module(module, functions)
    return "\n\n".join(parts) + "\n"


def describe_module(module, functions: list[str]) -> list[str]:
    doc = inspect.getdoc(module) or ""
    papers = ARXIV.sub(r"[\1](https://arxiv.org/abs/\1)", find_sentence("Sources?", doc))
    heading = module.__name__.rpartition(".")[2].replace("_", " ")
    scores = list_scores(functions)
    facts = [
        f"- Taught in: {find_lessons(functions)}",
        f"- Source: {papers}",
        *([f"- On [the board](../docs/board.md): {', '.join(scores)}"] if scores else []),
    ]
    return [f"## {heading}", "\n".join(facts), show_module(module.__name__)]


def list_scores(functions: list[str]) -> list[str]:
    """List the board's entrants that call one of these functions, with their mean score."""
    overview = json.loads((ROOT / "docs" / "board.json").read_text(encoding="utf-8"))["overview"]
    rows = [row for row in overview if "(untrained)" not in row[1]]
    scores = {(row[0], row[1].split(" ")[0]): row[2] for row in rows}
    found = []
    for family in load_families().values():
        for name, entrant in family.entrants.items():
            called = entrant.func if isinstance(entrant, partial) else entrant
            code = inspect.getsource(called)
            uses = any(re.search(rf"\b{one}\(", code) for one in functions)
            if uses and (family.name, name) in scores:
                found.append(f"{name} {scores[family.name, name]} ({family.name})")
    return found
