"""The report, in a terminal and as a page: what it must say is there, and nothing in it is read as markup."""

import io
import re
from html.parser import HTMLParser

from rich.console import Console
from sample_board import make_summary

from mini_transformer.board.figures import draw_costs, draw_heat_map, write_svg
from mini_transformer.board.page import render_page
from mini_transformer.board.table import show_board


class Reader(HTMLParser):
    """The text of a page, its links, and whether its tags close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words, self.sources, self.open = list[str](), list[str](), list[str]()
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list) -> None:
        self.sources += [value for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_the_page_needs_nothing_from_elsewhere() -> None:
    page = render_page(make_summary())
    read = Reader(page)
    assert read.open == []
    assert len(read.sources) == 4
    assert all(source.startswith("data:image/svg+xml;base64,") for source in read.sources)
    assert "@import" not in page
    assert "url(" not in page


def test_the_page_says_who_fell_for_a_trap_what_failed_and_what_is_known() -> None:
    page = render_page(make_summary())
    text = " ".join(Reader(page).words)
    for words in (
        "The variable is never read.",
        "it is used",
        "ValueError: <b>no</b> [red]such[/red] edge",
        "set by <hand>",
    ):
        assert words in text
    assert re.search(r"<td class='fell'>fooled</td><td>careful</td>", page)
    assert "method(activations, labels)" in text


def test_the_same_data_gives_the_same_page() -> None:
    assert render_page(make_summary()) == render_page(make_summary())


def test_the_heat_map_shows_each_headline_each_failure_and_each_fall() -> None:
    summary = make_summary()
    ax = draw_heat_map(summary, "circuit").axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == [
        "good",
        "[bold]mine[/bold]",
        "empty",
        "random",
        "oracle",
    ]
    assert [text.get_text() for text in ax.texts] == ["0.90", "x", "", "0.50", "1.00"]
    assert ax.images[0].get_array().mask.sum() == 2
    dots = draw_heat_map(summary, "probe").axes[0].lines
    assert len(dots) == 1
    assert round(dots[0].get_ydata()[0]) == 0  # the first row: fooled


def test_the_costs_of_methods_are_drawn_and_of_nothing_else() -> None:
    summary = make_summary()
    figure = draw_costs(summary, "circuit")
    labels = [line.get_label() for line in figure.axes[0].lines]
    assert labels == ["good", "[bold]mine[/bold]"]
    assert figure.axes[1].lines[0].get_xdata()[0] == 6
    assert len(draw_costs(summary, "probe").axes) == 1  # no model runs there
    assert write_svg(figure).startswith("<svg")


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
