"""The site's pages: terms and lessons are linked, no solution is shown, no link leads nowhere."""

import ast
import json
import re
import subprocess
import sys

import pytest
from docstrings import to_restructured
from from_code import list_scores, make_exercises, make_gallery, make_toy, write_scenes
from make_site import find_dead_links, mend_pages
from reading import ENTRY, LESSONS, ROOT, link_terms, list_terms, name_anchor, read_lesson

from mini_transformer.course.exercises import read_exercises, read_stub, read_title
from mini_transformer.course.material import find_material

MATERIAL = find_material()
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text()


def read(key: str) -> str:
    notebook = read_lesson((ROOT / "lessons" / f"{key}.py").read_text())
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


@pytest.mark.parametrize("key", LESSONS.values())
def test_a_lesson_links_each_term_of_the_glossary_once(key):
    linked = re.findall(r"\(\.\./docs/glossary\.md#([a-z0-9-]+)\)", read(key))
    assert len(linked) == len(set(linked)) >= 3
    assert set(linked) <= {name_anchor(term) for term in list_terms()}


def test_a_term_is_linked_where_it_stands_first_and_not_in_code_formulas_or_headings():
    text = "# A hook\n\n`hook` and $hook$ and [a hook](x.md). Two hooks, one hook."
    linked = link_terms(text, ["hook"])
    assert linked == text.replace("Two hooks", "Two [hooks](../docs/glossary.md#hook)")


def test_a_longer_term_is_not_cut_by_a_shorter_one():
    linked = link_terms(
        "By activation\npatching an activation.", ["activation patching", "activation"]
    )
    assert linked.count("](") == 2
    assert "[activation\npatching](../docs/glossary.md#activation-patching)" in linked


@pytest.mark.parametrize(
    ("term", "text"), re.findall(r"^\*\*(.+?)\*\*: (.*)$", GLOSSARY, re.MULTILINE)
)
def test_an_entry_of_the_glossary_names_a_lesson_that_uses_the_term(term, text):
    number = re.search(r"\((\d\d)\)\.$", text)
    if number is None:
        assert term == "truth"
        return
    words = " ".join(
        (ROOT / "lessons" / f"{LESSONS[number[1]]}.py").read_text().replace("#", " ").split()
    )
    assert re.search(rf"\b{re.escape(term)}s?\b", words, re.IGNORECASE)


def test_the_glossary_stands_in_order():
    terms = ENTRY.findall(GLOSSARY)
    assert terms == sorted(terms, key=str.lower)


def test_lessons_are_linked_and_checks_are_folded_away():
    lesson = LESSONS["08"]
    notebook = read_lesson((ROOT / "lessons" / f"{lesson}.py").read_text())
    assert f"[lesson 03]({LESSONS['03']}.py)" in read(lesson)
    tags = [cell.metadata.get("tags", []) for cell in notebook.cells]
    assert all("hide-input" in tag for tag in tags if "check" in tag)
    assert any("check" in tag for tag in tags)
    assert notebook.cells[-1].source == f"[The exercises of this lesson](../exercises/{lesson}.md)"


@pytest.mark.parametrize("key", MATERIAL.list_keys())
def test_the_page_of_exercises_shows_specification_and_folded_hints_but_no_solution(key):
    exercises = read_exercises(MATERIAL, key)
    page = make_exercises(key, read_title(MATERIAL, key), exercises, read_stub(MATERIAL, key))
    code = "".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL))
    functions = ast.parse(code).body
    assert [one.name for one in functions] == [one.name for one in exercises]
    for function in functions:
        assert [type(one) for one in function.body] == [ast.Expr, ast.Raise]
    for exercise in exercises:
        assert exercise.explanation not in page
        for hint in exercise.hints:
            folded = page.split(hint)[0].rsplit("<", 1)[1]
            assert folded == "/summary>\n\n"


def test_a_toy_has_its_circuit_drawn_and_a_page_to_take_it_apart(tmp_path):
    (tmp_path / "toys").mkdir()
    page = make_toy("boolean_and", tmp_path)
    write_scenes(tmp_path / "play", ["boolean_and"])
    links = re.findall(r"!\[[^\]]*\]\(([^)]*)\)|href=\"([^\"]*)\"", page)
    assert len(links) >= 2
    assert all((tmp_path / "toys" / "".join(link)).exists() for link in links)


def test_a_technique_has_the_score_of_the_method_and_not_of_its_control():
    overview = json.loads((ROOT / "docs" / "board.json").read_text())["overview"]
    (score,) = [row[2] for row in overview if row[1] == "edge_patching [edges]"]
    scores = list_scores(["patch_edges"])
    assert f"edge_patching {score} (circuit)" in scores
    assert sum("edge_patching " in one for one in scores) == 1


def test_a_toy_without_a_circuit_does_not_show_that_of_a_toy_whose_name_goes_on(tmp_path):
    (tmp_path / "induction_by_hand__zero.png").touch()
    page = make_gallery("| `induction` | A |\n| `induction_by_hand` | B |", tmp_path)
    first, second = page.splitlines()
    assert ".png" not in first
    assert "induction_by_hand__zero.png" in second


def test_a_link_that_leads_nowhere_is_found(tmp_path):
    (tmp_path / "a.html").write_text(
        '<h1 id="top">A</h1><a href="b.html#there">1</a><a href="b.html#lost">2</a>'
        '<a href="#top">3</a><img src="c.png"><a href="https://example.org/x">4</a>'
    )
    (tmp_path / "b.html").write_text('<p id="there">B</p>')
    assert find_dead_links(tmp_path) == ["a.html -> b.html#lost", "a.html -> c.png"]


def test_pages_are_mended_for_screen_readers(tmp_path):
    page = tmp_path / "a.html"
    page.write_text(
        '<p role="heading">A</p><summary aria-label="Toggle hidden content">B</summary>'
        "<dl>\n<dd>x: int</dd>\n<dd>y: int</dd>\n</dl><dl>\n<dt>t</dt><dd>d</dd>\n</dl>"
    )
    mend_pages(tmp_path)
    assert page.read_text() == (
        '<p role="heading" aria-level="2">A</p><summary>B</summary><div>\n'
        '<div class="argument">x: int</div>\n<div class="argument">y: int</div>\n</div>'
        "<dl>\n<dt>t</dt><dd>d</dd>\n</dl>"
    )


def test_a_docstring_is_read_as_plain_text():
    doc = "Add *all*.\n\nTake `x_` and y_.\n>>> f(2)\n4\n\n- one\n- two"
    assert to_restructured(doc) == (
        "Add \\*all\\*.\n\nTake ``x_``\\  and y\\_.\n\n.. code-block:: python\n\n    >>> f(2)\n"
        "    4\n\n- one\n- two\n"
    )


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("sphinx", reason="make site installs it")
    build = [sys.executable, str(ROOT / "docs" / "site" / "make_site.py"), str(tmp_path)]
    run = subprocess.run(build, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
