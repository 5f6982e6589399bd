"""The board in a terminal: per family one line per method, then what failed, in words."""

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mini_transformer.board.families import FAMILIES
from mini_transformer.board.summary import overview

COLUMNS = ("", "mean", "worst", "of", "traps", "fwd", "bwd", "s")

NARROWEST = 72  # columns: in a narrower window lines break, but no number is lost
LEGEND = "traps: fallen for; fwd, bwd: passes of the problem's batch through the model, forward and backward; s: CPU seconds"


def show_board(summary: dict[str, Any], console: Console | None = None) -> None:
    """Print it. Names and sentences that came from outside are never read as markup."""
    console = console or Console(highlight=False)
    lines = overview(summary)
    for family in dict.fromkeys(line["family"] for line in lines):
        headline = FAMILIES[family].headline
        console.print(Text(f"\n{family}: {headline}, mean and worst of all problems", style="bold"))
        table = Table(*COLUMNS, box=None, pad_edge=False)
        for column in table.columns:
            column.justify = "right"
            column.no_wrap = True
        table.columns[0].justify = "left"
        table.columns[
            0
        ].no_wrap = False  # where the window is narrow a long name is folded, and no number is lost
        table.columns[0].overflow = "fold"
        for line in sort_lines(lines, family):
            style = "dim" if is_reference(line["entrant"]) else "red" if line["failed"] else ""
            table.add_row(*map(Text, list_cells(line)), style=style)
        if console.width < NARROWEST:
            table.width = NARROWEST
        console.print(table, crop=False)
    console.print(Text(f"\n{LEGEND}", style="dim"))
    for score in summary["scores"]:
        for sentence in score["errors"]:
            console.print(
                Text(f"{score['entrant']} on {score['problem']}: {sentence}", style="red"),
                soft_wrap=True,
            )


def sort_lines(lines: list[dict[str, Any]], family: str) -> list[dict[str, Any]]:
    """A family's lines of the overview, the best first; random, oracle and untrained models after the methods."""
    own = (line for line in lines if line["family"] == family)
    return sorted(own, key=lambda line: (is_reference(line["entrant"]), -(line["mean"] or 0.0)))


def is_reference(entrant: str) -> bool:
    """Whether a row is there to compare with, and is no method.

    >>> is_reference("random"), is_reference("eap (untrained)"), is_reference("eap")
    (True, True, False)
    """
    return entrant in ("random", "oracle") or entrant.endswith(" (untrained)")


def list_cells(line: dict[str, Any]) -> list[str]:
    """A line of the overview as text, one cell for each of COLUMNS."""
    fallen, met = line["traps"]
    failed = f" ({line['failed']} failed)" if line["failed"] else ""
    scores = [
        _show(line["mean"], ".3f"),
        _show(line["worst"], ".3f"),
        f"{line['problems']}{failed}",
    ]
    costs = [_show(line[name], ".4g") for name in ("forward", "backward")] + [
        _show(line["seconds"], ".3f")
    ]
    return [line["entrant"], *scores, f"{fallen} of {met}" if met else "", *costs]


def _show(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
