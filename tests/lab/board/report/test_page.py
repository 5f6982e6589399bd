"""The page: what it must say is there, it needs nothing else, and nothing in it is read as
markup.
"""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from sample_board import make_summary

from mini_transformer.board.report import page as page_module
from mini_transformer.board.report.page import BIBTEX, render_page
from mini_transformer.board.report.summary import Section


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
    assert len(read.sources) == 6
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
    assert "fooled 2 of 3, careful 0 of 3" in text
    assert "method(activations, labels" in text


@pytest.mark.slow
def test_the_same_data_gives_the_same_page() -> None:
    assert render_page(make_summary()) == render_page(make_summary())


def test_the_page_says_how_it_came_about_and_how_to_cite_it() -> None:
    text = " ".join(Reader(render_page(make_summary())).words)
    for words in (
        "2026-01-02 03:04 UTC, mini-transformer 1.2, torch 2.9, Python 3.12",
        "up to 3 held-out models of each problem, seed 77. Its models were drawn for this run",
        "minilab board --seed 77",
        "@software{mini_transformer",
        "year = {2026}",
    ):
        assert words in text
    tuning = " ".join(Reader(render_page(make_summary("tuning"))).words)
    assert "up to 3 tuning models of each problem. These models are the same" in tuning
    assert "seed 77" not in tuning
    cited = (Path(__file__).parents[4] / "CITATION.cff").read_text()
    title = re.search(r'title: "(.*)"', cited)[1]
    assert title in " ".join(BIBTEX.split())


def test_a_section_is_shown_with_its_figure_and_its_table(monkeypatch) -> None:
    section = Section("Proxies", "a <text>", Figure(), ("proxy", "tau"), [("loss", "0.1")])
    monkeypatch.setattr(page_module, "SECTIONS", (lambda summary: section, lambda summary: None))
    page = render_page(make_summary())
    assert "<h2>Proxies</h2><p>a &lt;text&gt;</p><img" in page
    assert "<td>loss</td><td>0.1</td>" in page
