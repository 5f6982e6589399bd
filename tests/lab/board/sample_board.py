"""A small summary with everything in it that a report must show: a failure, a trap, an empty row,
names that look like markup.
"""

from typing import Any

from mini_transformer.board.report.summary import Summary, summarize

CIRCUIT = ("circuit", "a_toy/zero")
TRAP = ("probe", "a_trap/unread")


def make_row(which: tuple[str, str], entrant: str, seed: int, **changes: Any) -> dict[str, Any]:
    family, problem = which
    row = {
        "family": family,
        "problem": problem,
        "entrant": entrant,
        "seed": seed,
        "ok": True,
        "error": None,
    }
    return {
        **row,
        "metrics": {},
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
    for seed in range(3):
        rows += [
            make_row(
                CIRCUIT, "good", seed, metrics={"auroc_best": 0.8 + seed / 10, "f1_best": 0.5}
            ),
            make_row(
                CIRCUIT,
                "[bold]mine[/bold]",
                seed,
                ok=False,
                error="ValueError: <b>no</b> [red]such[/red] edge",
            ),
            make_row(CIRCUIT, "empty", seed),
            make_row(CIRCUIT, "random", seed, metrics={"auroc_best": 0.5}),
            make_row(CIRCUIT, "oracle", seed, metrics={"auroc_best": 1.0}, about=about),
            make_row(
                TRAP,
                "fooled",
                seed,
                metrics={"cosine": 0.9},
                fell=seed > 0,
                forward=0.0,
                backward=0.0,
            ),
            make_row(
                TRAP,
                "careful",
                seed,
                metrics={"cosine": 0.7},
                fell=False,
                forward=0.0,
                backward=0.0,
            ),
            make_row(TRAP, "oracle", seed, metrics={"cosine": 1.0}, fell=False, about=trap),
        ]
    return rows


def make_summary() -> Summary:
    return summarize(make_rows())
