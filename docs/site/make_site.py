"""Build the site: `python docs/site/make_site.py [OUT]`, by default into out/site.

The folder that Sphinx reads holds copies of docs/ and lessons/, the README as the front page, and
the pages that are made from the code. Warnings are errors, and so is a link that leads nowhere.
"""

import re
import shutil
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

SITE = Path(__file__).parent
ROOT = SITE.parents[1]
sys.path.insert(0, str(SITE))

CONTENTS = """
```{toctree}
:hidden:
%s
%s
```
"""
COPIED = ("lessons/*.py", "docs/*.md", "docs/*.png", "mini_transformer/**/trained.md")


def lay_out(source: Path) -> None:
    """Write all pages that Sphinx reads into a folder of their own."""
    from from_code import API, WINGS, make_gallery, write_pages
    from reading import LESSONS, mark_terms

    if source.exists():
        shutil.rmtree(source)
    for path in [found for pattern in COPIED for found in ROOT.glob(pattern)]:
        copy = source / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    shutil.copyfile(ROOT / "CONTRIBUTING.md", source / "CONTRIBUTING.md")
    shutil.copyfile(ROOT / "README.md", source / "index.md")
    write_pages(source)
    rewrite(source / "docs" / "glossary.md", mark_terms)
    rewrite(source / "docs" / "toys.md", lambda page: make_gallery(page, source / "toys"))

    exercises = [f"/exercises/{key}" for key in LESSONS.values() if key[:2] != "00"]
    toys = sorted(f"/toys/{path.stem}" for path in (source / "toys").glob("*.md"))
    below = {
        "docs/lessons": [f"/lessons/{key}" for key in LESSONS.values()],
        "exercises/index": exercises,
        "docs/techniques": [f"/techniques/{wing}" for wing in WINGS],
        "docs/toys": [*toys, "/mini_transformer/toys/trained/trained"],
        "docs/board": ["/docs/board_reference"],
        "docs/lecturers": ["/docs/syllabus"],
        "api/index": [f"/api/{name}" for name in API],
    }
    for page, children in below.items():
        add_contents(source / f"{page}.md", "", children)
    chapters = {
        "Learn": ["docs/lessons", "exercises/index", "docs/glossary"],
        "Teach": ["docs/lecturers"],
        "Look up": ["docs/techniques", "docs/toys", "docs/forge", "docs/commands", "api/index"],
        "Research": ["docs/board", "docs/testing_your_library", "docs/format"],
    }
    placed = {page for pages in chapters.values() for page in pages} | set(below)
    placed |= {page.removeprefix("/") for pages in below.values() for page in pages}
    others = sorted(f"docs/{path.stem}" for path in (source / "docs").glob("*.md"))
    chapters["Use"] = [*(page for page in others if page not in placed), "CONTRIBUTING"]
    for name, pages in chapters.items():
        add_contents(source / "index.md", name, pages)


def rewrite(page: Path, change: Callable[[str], str]) -> None:
    page.write_text(change(page.read_text(encoding="utf-8")), encoding="utf-8")


def add_contents(page: Path, caption: str, pages: list[str]) -> None:
    """Say which pages stand below this one, in the margin only."""
    rewrite(
        page,
        lambda text: (
            text + CONTENTS % (f":caption: {caption}\n" if caption else "", "\n".join(pages))
        ),
    )


def mend_signature(found: re.Match) -> str:
    """Turn a list of descriptions without terms, one for each argument, into plain lines."""
    lines = found[1].replace("<dd>", '<div class="argument">').replace("</dd>", "</div>")
    return f"<div>\n{lines}</div>"


# What a screen reader stumbles over in pages of the theme and of Sphinx, as axe says.
MENDS = (
    (r'role="heading">', 'role="heading" aria-level="2">'),
    (r'<summary aria-label="Toggle hidden content">', "<summary>"),
    (r"<dl>\n((?:<dd>.*?</dd>\n)+)</dl>", mend_signature),
)


def mend_pages(html: Path) -> None:
    for page in html.rglob("*.html"):
        if page.parent.name != "play":
            rewrite(page, mend)


def mend(text: str) -> str:
    for found, instead in MENDS:
        text = re.sub(found, instead, text)
    return text


class Links(HTMLParser):
    """Collect what a page links to, and what can be linked to in it."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name in ("href", "src") and value:
                self.links.append(value)
            elif name == "id" and value:
                self.anchors.add(value)


def find_dead_links(html: Path) -> list[str]:
    """List every link within the site that leads to no page, file or place in a page."""
    pages = {path: Links(path) for path in sorted(html.rglob("*.html"))}
    dead = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            known = pages.get(target)
            lost = known and parts.fragment and unquote(parts.fragment) not in known.anchors
            if not target.exists() or lost:
                dead.append(f"{path.relative_to(html)} -> {link}")
    return dead


def main(out: Path) -> int:
    from from_code import write_scenes
    from sphinx.cmd.build import main as run_sphinx

    from mini_transformer import toys

    source, html = out / "source", out / "html"
    lay_out(source)
    options = [
        "-W",
        "--keep-going",
        "-q",
        "-j",
        "auto",
        "-d",
        str(out / "doctrees"),
        "-c",
        str(SITE),
    ]
    status = run_sphinx([*options, str(source), str(html)])
    mend_pages(html)
    write_scenes(html / "play", toys.names())
    dead = find_dead_links(html)
    print(*dead, sep="\n", end="\n" if dead else "")
    return status or bool(dead)


if __name__ == "__main__":
    out = Path(sys.argv[1]) if sys.argv[1:] else ROOT / "out" / "site"
    sys.exit(main(out.resolve()))
