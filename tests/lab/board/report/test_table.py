"""The board in a terminal: every method, the best first, and nothing is read as markup."""

import io

from rich.console import Console
from sample_board import make_summary

from mini_transformer.board.report.summary import Line, overview
from mini_transformer.board.report.table import COLUMNS, list_cells, show_board, sort_lines


def test_the_table_shows_every_method_and_reads_nothing_as_markup() -> None:
    console = Console(file=io.StringIO(), width=120, highlight=False)
    show_board(make_summary(), console)
    shown = console.file.getvalue()
    assert "[bold]mine[/bold] on a_toy/zero: ValueError: <b>no</b> [red]such[/red] edge" in shown
    lines = {line.split()[0]: line.split() for line in shown.splitlines() if line.strip()}
    assert lines["good"][1:] == ["0.900", "0.900", "1", "4", "2", "0.500"]
    assert lines["fooled"][4:7] == ["1", "of", "1"]
    assert "(1 failed)" in shown
    assert (
        shown.index("\ngood") < shown.index("\nempty") < shown.index("\nrandom")
    )  # methods first, the best on top


def test_references_come_after_the_methods_however_good_they_are() -> None:
    lines = sort_lines(overview(make_summary()), "circuit")
    assert [line.entrant for line in lines] == [
        "good",
        "[bold]mine[/bold]",
        "empty",
        "oracle",
        "random",
    ]


def test_a_line_has_a_cell_for_each_column_and_leaves_empty_what_is_not_known() -> None:
    line = Line("circuit", "mine", None, None, 0, 2, 0, 0, None, 1.5, None)
    assert list_cells(line) == ["mine", "", "", "0 (2 failed)", "", "", "1.5", ""]
    assert len(list_cells(line)) == len(COLUMNS)


def test_no_number_is_lost_in_a_narrow_window() -> None:
    console = Console(file=io.StringIO(), width=30, highlight=False)
    show_board(make_summary(), console)
    assert "0.900" in console.file.getvalue()
    assert "0.500" in console.file.getvalue()
