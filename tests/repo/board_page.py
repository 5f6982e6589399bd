"""The tables of docs/board.md, made from a run of the board.

`minilab board` and then `python tests/repo/board_page.py` write them, with docs/board.json, which
holds what the page shows of that run; a test compares.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pages import make_rows

from mini_transformer.board.report.faithfulness import draw_faithfulness
from mini_transformer.board.report.page import SECTIONS
from mini_transformer.board.report.summary import Score, Summary, overview, read_summary
from mini_transformer.board.report.table import COLUMNS, is_reference, list_cells, sort_lines

PAGE = Path(__file__).parents[2] / "docs" / "board.md"
SHOWN = PAGE.with_suffix(".json")
FIGURE = PAGE.with_name("board_faithfulness.png")
RUN = Path("out/board/board.json")
Shown = dict[str, Any]
CHEAP = {  # one of each family that is computed again by a test
    "circuit": "composition",
    "probe": "linear",
    "erasure": "leace",
    "steering": "mean_difference",
}


def shorten(summary: Summary) -> Shown:
    """What the page shows of a run."""
    assert summary.run is not None
    families = dict.fromkeys(score.family for score in summary)
    lines = [line for family in families for line in sort_lines(overview(summary), family)]
    sections = [section for make in SECTIONS if (section := make(summary))]
    checks = {
        score.family: [score.problem, score.entrant, score.headlines[0]]
        for score in reversed(summary.scores)
        if score.entrant == CHEAP.get(score.family)
    }
    return {
        "run": {**asdict(summary.run), "models": count_models(summary)},
        "overview": [[line.family, *list_cells(line)[:6]] for line in lines],
        "traps": [
            [f"`{known.problem}` ({known.family})", known.trap["what"], known.trap["verdict"], fell]
            for known in summary.problems
            if known.trap
            for fell in [list_fallen(summary, known.family, known.problem)]
        ],
        "sections": {
            part.title: {"text": part.text, "rows": [list(part.head), *map(list, part.rows)]}
            for part in sections
        },
        "checks": checks,
    }


def count_models(summary: Summary) -> int:
    return len({(score.problem.split("/")[0], i) for score in summary for i in score.numbers})


def list_fallen(summary: Summary, family: str, problem: str) -> str:
    """Which methods fell for the trap of a problem, at how many of its models."""
    met: list[Score] = [
        score
        for score in summary
        if (score.family, score.problem) == (family, problem)
        and score.fell is not None
        and not is_reference(family, score.entrant)
    ]
    met.sort(key=lambda score: -(score.fell or 0) / score.n)
    return ", ".join(f"{score.entrant} {score.fell} of {score.n}" for score in met)


def list_run(shown: Shown) -> str:
    run = shown["run"]
    return (
        f"{run['date']}, version {run['version']}, torch {run['torch']}, Python {run['python']}: "
        f"{run['models']} {run['split']} models, `minilab board --seed {run['seed']}`."
    )


def fill_in(text: str, shown: Shown) -> str:
    """Fill every table of the page."""
    tables = {
        "run": list_run(shown),
        "overview": make_rows(("family", "method", *COLUMNS[1:6]), shown["overview"]),
        "traps": make_rows(("trap", "why", "false verdict", "fell"), shown["traps"]),
    }
    for title, part in shown["sections"].items():
        head, *rows = part["rows"]
        tables[title] = f"{part['text']}\n\n{make_rows(tuple(head), rows)}"
    for name, table in tables.items():
        start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        before, rest = text.split(start)
        text = before + start + table + "\n" + end + rest.split(end)[1]
    return text


if __name__ == "__main__":
    run = Path(sys.argv[1]) if len(sys.argv) > 1 else RUN
    summary = read_summary(json.loads(run.read_text()))
    draw_faithfulness(summary).savefig(FIGURE, dpi=120)
    found = shorten(summary)
    SHOWN.write_text(json.dumps(found, indent=1) + "\n")
    PAGE.write_text(fill_in(PAGE.read_text(), found))
