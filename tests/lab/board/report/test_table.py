"""The board in a terminal: every method, the best first, and nothing is read as markup."""

import dataclasses
import io

from rich.console import Console
from sample_board import CIRCUIT, HEADLINES, make_row, make_summary

from mini_transformer.board.report.summary import (
    Line,
    Summary,
    compare_entrants,
    overview,
    summarize,
)
from mini_transformer.board.report.table import (
    COLUMNS,
    is_reference,
    list_cells,
    list_failures,
    show_board,
    show_comparison,
    sort_lines,
)


def show(summary: Summary, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    show_board(summary, console)
    return console.file.getvalue()


def test_the_table_shows_every_method_and_reads_nothing_as_markup() -> None:
    shown = show(make_summary(), 120)
    assert "[bold]mine[/bold] on a_toy/zero: ValueError: <b>no</b> [red]such[/red] edge" in shown
    lines = {line.split()[0]: line.split() for line in shown.splitlines() if line.strip()}
    assert lines["good"][1:] == ["[edges]", "0.900", "0.80-1.00", "0.900", "all", "6", "0.50"]
    assert lines["fooled"][1:6] == ["0.900", "0.90-0.90", "0.900", "all", "0.67"]
    assert lines["shy"][5] == "67%"
    assert "held-out models of --seed 77" in shown
    assert "tuning models\n" in show(make_summary("tuning"), 120)
    assert "why" in shown


def test_only_what_can_be_compared_is_ranked_together_and_references_come_last() -> None:
    lines = sort_lines(overview(make_summary()), "circuit")
    assert [line.entrant for line in lines] == [
        "good",
        "[bold]mine[/bold]",
        "of nodes",
        "shy",
        "empty",
        "oracle",
        "random",
    ]


def test_references_are_those_of_the_family_and_what_every_family_has() -> None:
    assert is_reference("erasure", "nothing")
    assert is_reference("erasure", "oracle")
    assert is_reference("erasure", "leace (untrained)")
    assert not is_reference("erasure", "leace")


def test_a_line_has_a_cell_for_each_column_and_leaves_empty_what_is_not_known() -> None:
    line = Line("circuit", "mine", "", None, None, 0, 0.25, 2, None, None, 1.5, None)
    assert list_cells(line) == ["mine", "", "", "", "25%", "", "", ""]
    line = dataclasses.replace(line, forward=2.0, level="nodes")
    assert list_cells(line)[0] == "mine [nodes]"
    assert list_cells(line)[6] == "3.5"
    assert list_cells(line, levels=False)[0] == "mine"
    assert len(list_cells(line)) == len(COLUMNS)


def test_no_number_is_lost_with_a_name_of_75_characters_nor_in_a_narrow_window() -> None:
    name = "a_very_long_package_name.of_somebody_else:a_function_that_has_a_long_name_it"
    rows = [
        make_row(CIRCUIT, name, i, metrics={HEADLINES["circuit"]: 0.123}, seconds=3.21)
        for i in range(2)
    ]
    for width in (80, 30):
        shown = show(summarize(rows), width)
        table = shown.partition("95%: ")[0]
        assert all(part in table for part in ("0.123", "0.12-0.12", "all", "3.21"))
        assert max(map(len, table.splitlines())) <= max(width, 72)


def test_a_failure_is_said_once() -> None:
    rows = [
        make_row(("probe", problem), name, 0, ok=False, error="it is tired")
        for problem in ("a/x", "a/y")
        for name in ("mine", "mine (untrained)")
    ]
    assert list_failures(summarize(rows)) == ["mine on a/x (and 1 more): it is tired"]


def test_a_comparison_says_by_how_much_how_sure_and_where() -> None:
    console = Console(file=io.StringIO(), width=60, highlight=False)
    show_comparison(compare_entrants(make_summary(), "circuit", "good", "of nodes"), console)
    shown = " ".join(console.file.getvalue().split())
    assert "0.900 0.80-1.00 good" in shown
    assert "-0.100 -0.20-0.00 difference" in shown
    assert "ahead at 0 of 3 models, behind at 2, equal at 1" in shown
