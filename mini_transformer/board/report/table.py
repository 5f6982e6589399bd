"""Show the board in a terminal: one line per method of a family, then what failed."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mini_transformer.board.families import find_family
from mini_transformer.board.report.summary import Line, Summary, overview

__all__ = ["COLUMNS", "LEGEND", "is_reference", "list_cells", "show_board", "sort_lines"]

COLUMNS = ("", "mean", "worst", "of", "traps", "fwd", "bwd", "s")
NARROWEST = 72  # columns: in a narrower window lines break, but no number is lost
LEGEND = (
    "traps: fallen for; "
    "fwd, bwd: passes of the problem's batch through the model, forward and backward; "
    "s: CPU seconds"
)


def show_board(summary: Summary, console: Console | None = None) -> None:
    """Print the board. Names and sentences from outside are never read as markup."""
    console = console or Console(highlight=False)
    lines = overview(summary)
    for family in dict.fromkeys(line.family for line in lines):
        headline = find_family(family).headline
        console.print(Text(f"\n{family}: {headline}, mean and worst of all problems", style="bold"))
        table = Table(box=None, pad_edge=False)
        for column in COLUMNS:
            if column:
                table.add_column(column, justify="right", no_wrap=True)
            else:  # in a narrow window a long name is folded, so that no number is lost
                table.add_column(column, overflow="fold")
        for line in sort_lines(lines, family):
            style = "dim" if is_reference(line.entrant) else "red" if line.failed else ""
            table.add_row(*map(Text, list_cells(line)), style=style)
        if console.width < NARROWEST:
            table.width = NARROWEST
        console.print(table, crop=False)
    console.print(Text(f"\n{LEGEND}", style="dim"))
    for score in summary.scores:
        for sentence in score.errors:
            failure = Text(f"{score.entrant} on {score.problem}: {sentence}", style="red")
            console.print(failure, soft_wrap=True)


def sort_lines(lines: list[Line], family: str) -> list[Line]:
    """Sort a family's lines, the best first; references come after the methods."""
    own = (line for line in lines if line.family == family)
    return sorted(own, key=lambda line: (is_reference(line.entrant), -(line.mean or 0.0)))


def is_reference(entrant: str) -> bool:
    """Tell whether an entrant is there to compare with, and is no method.

    >>> is_reference("random"), is_reference("eap (untrained)"), is_reference("eap")
    (True, True, False)
    """
    return entrant in ("random", "oracle") or entrant.endswith(" (untrained)")


def list_cells(line: Line) -> list[str]:
    """Write a line as text, one cell for each of COLUMNS."""
    failed = f" ({line.failed} failed)" if line.failed else ""
    return [
        line.entrant,
        _show(line.mean, ".3f"),
        _show(line.worst, ".3f"),
        f"{line.problems}{failed}",
        f"{line.fallen} of {line.met}" if line.met else "",
        _show(line.forward, ".4g"),
        _show(line.backward, ".4g"),
        _show(line.seconds, ".3f"),
    ]


def _show(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
