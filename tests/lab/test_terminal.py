"""Brackets stay brackets, and a line that is copied is whole."""

from mini_transformer.terminal import say, show_table


def test_what_looks_like_markup_is_printed_as_it_is(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    say("[bold]no[/bold] " + "a" * 50)
    assert capsys.readouterr().out == "[bold]no[/bold] " + "a" * 50 + "\n"


def test_a_table_has_a_line_for_each_row_and_its_columns_stand_below_each_other(capsys):
    show_table(("name", "count"), [("[red]x", 1), ("y", None)])
    head, *rows = capsys.readouterr().out.splitlines()
    assert [row.split() for row in rows] == [["[red]x", "1"], ["y", "None"]]
    assert {row.index(row.split()[1]) for row in rows} == {head.index("count")}
