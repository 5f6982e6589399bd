"""The page: what it must say is there, it needs nothing else, and nothing in it is read as
markup.
"""

import dataclasses
import re
from html.parser import HTMLParser

from sample_board import make_summary

from mini_transformer.board.report.page import render_page
from mini_transformer.board.report.summary import Mechanism, Summary


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
    assert re.search(r"<td>fooled</td><td>careful</td>", page)
    assert "method(activations, labels)" in text


def test_the_same_data_gives_the_same_page() -> None:
    assert render_page(make_summary()) == render_page(make_summary())


def test_the_page_shows_the_mechanisms_where_they_were_compared() -> None:
    summary = Summary([], [], [])
    assert "Equal answers" not in render_page(summary)
    compared = dataclasses.replace(summary, mechanisms=[Mechanism("clock", 0, 1.0, 0.4, 0.7, 0.8)])
    page = render_page(compared)
    assert "Equal answers" in page
    assert "<th>gradient symmetry</th>" in page
    assert "<td>clock</td><td>0</td><td>1.0</td>" in page
