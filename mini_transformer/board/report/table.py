"""Show the board in a terminal: one line per method of a family, then what failed."""

from collections import Counter

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mini_transformer.board.families import find_family
from mini_transformer.board.report.summary import Comparison, Line, Summary, overview
from mini_transformer.intervals import Interval

__all__ = [
    "COLUMNS",
    "LEGEND",
    "find_rank",
    "is_reference",
    "list_cells",
    "list_failures",
    "show_board",
    "show_comparison",
    "sort_lines",
]

COLUMNS = ("", "mean", "95%", "worst", "done", "traps", "passes", "s")
NARROWEST = 72  # columns: in a narrower window lines break, but no number is lost
UNTRAINED = " (untrained)"
LEGEND = (
    "95%: bootstrap interval of the mean over models; worst: of the problems; done: share of "
    "models answered (only methods that answered all are ranked together, scores of edges and of "
    "nodes apart); traps: share of models at which it fell; passes: of the problem's batch through "
    "the model, forward and backward; s: CPU seconds; below: what others must beat"
)


def show_board(summary: Summary, console: Console | None = None) -> None:
    """Print the board. Names and sentences from outside are never read as markup."""
    console = console or Console(highlight=False)
    lines = overview(summary)
    for family in dict.fromkeys(line.family for line in lines):
        headline = find_family(family).headline
        own = sort_lines(lines, family)
        models = max(len(score.numbers) for score in summary if score.family == family)
        title = f"\n{family}: {headline}, {max(line.problems for line in own)} problems"
        console.print(Text(f"{title}, up to {models} models each", style="bold"))
        table = Table(box=None, pad_edge=False)
        for column in COLUMNS:
            if column:
                table.add_column(column, justify="right", no_wrap=True)
            else:  # in a narrow window a long name is folded, so that no number is lost
                table.add_column(column, overflow="fold")
        levels = len({line.level for line in own if line.level}) > 1
        for i, line in enumerate(own):
            if i and find_rank(line, own) != find_rank(own[i - 1], own):
                table.add_row("")
            aside = is_reference(family, line.entrant)
            style = "dim" if aside else "red" if line.failed else ""
            table.add_row(*map(Text, list_cells(line, levels)), style=style)
        if console.width < NARROWEST:
            table.width = NARROWEST
        console.print(table, crop=False)
    console.print(Text(f"\n{LEGEND}", style="dim"))
    for sentence in list_failures(summary):
        console.print(Text(sentence, style="red"), soft_wrap=True)
    if summary.run is not None:
        for note in summary.run.notes:
            console.print(Text(note, style="dim"), soft_wrap=True)
        seed = "" if summary.run.drawn is None else f" of --seed {summary.run.drawn}"
        said = f"{summary.run.split} models{seed}"
        console.print(Text(said, style="dim"), soft_wrap=True)


def show_comparison(found: Comparison, console: Console | None = None) -> None:
    """Print which of two entrants is ahead, by how much, how sure."""
    console = console or Console(highlight=False)
    headline = find_family(found.family).headline
    for name, mean in ((found.a, found.mean_a), (found.b, found.mean_b)):
        console.print(Text(f"{mean.mean:.3f}  {_show_ends(mean)}  {name}"), soft_wrap=True)
    difference = found.difference
    console.print(
        Text(f"{difference.mean:+.3f}  {_show_ends(difference)}  difference of {headline}, 95%")
    )
    console.print(
        Text(
            f"ahead at {found.ahead} of {found.models} models, behind at {found.behind}, "
            f"equal at {found.ties}; {', '.join(found.problems)}"
        ),
        soft_wrap=True,
    )


def list_failures(summary: Summary) -> list[str]:
    """Say each failure once: who, where first and how often, what."""
    met: dict[tuple[str, str], Counter[str]] = {}
    for score in summary:
        for sentence in score.errors:
            name = score.entrant.removesuffix(UNTRAINED)
            met.setdefault((name, sentence), Counter())[score.problem] += 1
    return [
        f"{name} on {next(iter(places))}"
        + (f" (and {len(places) - 1} more)" if len(places) > 1 else "")
        + f": {sentence}"
        for (name, sentence), places in met.items()
    ]


def find_rank(line: Line, lines: list[Line]) -> int:
    """Find the set in which a line is ranked: 0 all answered, 1 at another level, 2 in part.

    3 are the references.
    """
    methods = [each for each in lines if not is_reference(each.family, each.entrant)]
    levels = Counter(each.level for each in methods if each.coverage == 1 and each.level)
    if is_reference(line.family, line.entrant):
        return 3
    if line.coverage < 1:
        return 2
    most = max(levels, key=lambda level: levels[level], default="")
    return int(line.level not in (most, ""))  # without one it failed everywhere, or there are none


def sort_lines(lines: list[Line], family: str) -> list[Line]:
    """Sort a family's lines: sets that can be compared together, in each the best first."""
    own = [line for line in lines if line.family == family]
    return sorted(own, key=lambda line: (find_rank(line, own), -_find_mean(line)))


def _find_mean(line: Line) -> float:
    return 0.0 if line.mean is None else line.mean.mean


def is_reference(family: str, entrant: str) -> bool:
    """Tell whether an entrant is there to be beaten, and is no method.

    >>> is_reference("probe", "random"), is_reference("probe", "linear (untrained)")
    (True, True)
    >>> is_reference("probe", "linear")
    False
    """
    known = ("random", "oracle", *find_family(family).references)
    return entrant in known or entrant.endswith(UNTRAINED)


def list_cells(line: Line, levels: bool = True) -> list[str]:
    """Write a line as text, one cell for each of COLUMNS; name its level if there are several."""
    passes = None if line.forward is None else line.forward + (line.backward or 0)
    return [
        line.entrant + (f" [{line.level}]" if levels and line.level else ""),
        "" if line.mean is None else f"{line.mean.mean:.3f}",
        "" if line.mean is None else _show_ends(line.mean),
        _show(line.worst, ".3f"),
        "all" if line.coverage == 1 else f"{100 * line.coverage:.0f}%",
        _show(line.fallen, ".2f"),
        _show(passes or None, ".4g"),
        _show(line.seconds, ".2f"),
    ]


def _show_ends(mean: Interval) -> str:
    return "" if mean.low is None else f"{mean.low:.2f}-{mean.high:.2f}"


def _show(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
