"""A small summary with everything in it that a report must show: a failure, a trap, an empty row,
names that look like markup.
"""

from typing import Any

from mini_transformer.board.families import find_family
from mini_transformer.board.report.summary import Run, Summary, summarize

HEADLINES = {name: find_family(name).headline for name in ("circuit", "probe")}
AT, READ = HEADLINES.values()
CIRCUIT = ("circuit", "a_toy/zero")
TRAP = ("probe", "a_trap/unread")


def make_row(which: tuple[str, str], entrant: str, number: int, **changes: Any) -> dict[str, Any]:
    family, problem = which
    row = {
        "family": family,
        "problem": problem,
        "entrant": entrant,
        "number": number,
        "ok": True,
        "error": None,
    }
    return {
        **row,
        "metrics": {},
        "level": "edges" if family == "circuit" and entrant != "of nodes" else "",
        "fell": None,
        "forward": 4.0,
        "backward": 2.0,
        "seconds": 0.5,
        **changes,
    }


def make_rows() -> list[dict[str, Any]]:
    about = {"note": "set by <hand>", "trap": None}
    trap = {
        "note": "known",
        "trap": {"what": "The variable is never read.", "verdict": "it is used"},
    }
    rows = []
    for number in range(3):
        rows += [
            make_row(
                CIRCUIT,
                "good",
                number,
                metrics={AT: 0.8 + number / 10, "f1_best": 0.5},
            ),
            make_row(
                CIRCUIT,
                "[bold]mine[/bold]",
                number,
                ok=False,
                error="ValueError: <b>no</b> [red]such[/red] edge",
            ),
            make_row(CIRCUIT, "empty", number),
            make_row(CIRCUIT, "shy", number, metrics={AT: 1.0} if number else {}),
            make_row(CIRCUIT, "of nodes", number, level="nodes", metrics={AT: 1.0}),
            make_row(CIRCUIT, "random", number, metrics={AT: 0.5}),
            make_row(CIRCUIT, "oracle", number, metrics={AT: 1.0}, about=about),
            make_row(
                TRAP,
                "fooled",
                number,
                metrics={READ: 0.9},
                fell=number > 0,
                forward=0.0,
                backward=0.0,
            ),
            make_row(
                TRAP,
                "careful",
                number,
                metrics={READ: 0.7},
                fell=False,
                forward=0.0,
                backward=0.0,
            ),
            make_row(TRAP, "oracle", number, metrics={READ: 1.0}, fell=False, about=trap),
        ]
    return rows


def make_summary(split: str = "held-out") -> Summary:
    date = "2026-01-02 03:04 UTC"
    run = Run("1.2", date, "3.12", "2.9", split, 77, "minilab board", ["why"])
    return summarize(make_rows(), run)
