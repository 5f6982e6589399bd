"""The pages are true: snippets run, tables come from the code, the tree is the tree, links lead
somewhere.
"""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from pages import ROOT, TABLES, fill_in, find_page

TEXT = (ROOT / "README.md").read_text()
PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))),
]
SNIPPETS = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", TEXT, re.DOTALL)
MAKE_TARGETS = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize(("code", "printed"), SNIPPETS, ids=range(len(SNIPPETS)))
def test_a_snippet_prints_what_the_readme_says(code, printed):
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60
    )
    assert run.stdout == printed, run.stderr


def test_every_python_block_has_its_output_beside_it():
    assert len(SNIPPETS) == TEXT.count("```python") > 0


@pytest.mark.parametrize("name", TABLES)
def test_the_tables_are_those_that_the_code_makes(name):
    assert fill_in(name) == find_page(name).read_text(), "run: python tests/repo/pages.py"


def test_make_lab_installs_what_opens_the_lessons():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    assert "jupyterlab" in extras["learn"]
    assert "'.[learn]'" in (ROOT / "Makefile").read_text()


def test_the_front_page_is_short():
    assert len(TEXT.split()) <= 900


def test_the_number_of_lines_to_read_is_that_of_the_files_named_beside_it():
    said, named = re.search(r"read these ([\d,]+) lines: (.*?)\.\n\n", TEXT, re.DOTALL).groups()
    files = re.findall(r"`([^`]*)`", named)
    lines = sum(len((ROOT / "mini_transformer" / file).read_text().splitlines()) for file in files)
    assert len(files) == 7
    assert abs(lines - int(said.replace(",", ""))) < 50


@pytest.mark.parametrize("page", PAGES)
def test_every_link_of_a_page_leads_to_a_file(page):
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", (ROOT / page).read_text())
    there = [link for link in links if not link.startswith("http")]
    assert [link for link in there if not ((ROOT / page).parent / link).exists()] == []


def test_every_path_in_the_tree_exists_and_no_module_is_missing_from_it():
    tree = re.search(r"## The tree\n\n```text\n(.*?)```", TEXT, re.DOTALL)[1]
    folder, named = Path(), set()
    for line in tree.splitlines():
        path = line.split()[0]
        folder = Path() if not line.startswith(" ") else folder
        named.add(folder / path)
        folder = Path(path) if not line.startswith(" ") else folder
    assert [str(path) for path in named if not (ROOT / path).exists()] == []
    modules = {
        path.relative_to(ROOT)
        for path in (ROOT / "mini_transformer").glob("*.py")
        if path.name[0] != "_"
    }
    assert modules - named == set()
    folders = {
        path.relative_to(ROOT)
        for path in (ROOT / "tests").iterdir()
        if path.is_dir() and path.name[0] != "_"
    }
    assert folders - named == set()


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_every_command_named_on_a_page_exists(page):
    """The learner's loop and the tour run in tests of their own; here a misspelled command or
    path is found.
    """
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    commands = [
        line.split("#")[0].split()
        for block in blocks
        for line in block.splitlines()
        if line.strip()
    ]
    assert commands
    for command in commands:
        if command[0] == "make":
            assert command[1] in MAKE_TARGETS
        elif command[0].endswith("minilab"):
            words = [
                word
                for word in command[1:]
                if word.islower() and "/" not in word and not word.isdigit()
            ]
            run = [
                sys.executable,
                "-m",
                "mini_transformer.cli",
                *words[: 2 if words[0] == "toys" else 1],
                "--help",
            ]
            assert subprocess.run(run, capture_output=True, timeout=60).returncode == 0, command
        elif command[0].endswith("python"):
            assert [
                part
                for part in command[3:]
                if part.startswith("tests/") and not (ROOT / part).exists()
            ] == []
        else:
            assert command[0] in ("source", "cd"), f"{command} is not checked"
