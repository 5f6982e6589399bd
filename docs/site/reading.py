"""Read a lesson for the site: checks are folded away, terms and lessons become links."""

import re
from pathlib import Path

import jupytext
from nbformat import NotebookNode

ROOT = Path(__file__).parents[2]
ENTRY = re.compile(r"^\*\*(.+?)\*\*: ", re.MULTILINE)
# What stays as it is: code, formulas, links, headings.
KEPT = r"```.*?```|`[^`]*`|\$[^$]*\$|\[[^\]]*\]\([^)]*\)|^#.*?$"
LESSONS = {path.stem[:2]: path.stem for path in sorted((ROOT / "lessons").glob("*.py"))}


def list_terms() -> list[str]:
    """List the glossary's terms, the longest first: `path patching` before `patching`."""
    terms = ENTRY.findall((ROOT / "docs" / "glossary.md").read_text(encoding="utf-8"))
    return sorted(terms, key=len, reverse=True)


def name_anchor(term: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", term.lower()).strip("-")


def mark_terms(glossary: str) -> str:
    """Put an anchor before each entry, which GitHub would show as text."""
    marked = ENTRY.sub(lambda found: f"({name_anchor(found[1])})=\n{found[0]}", glossary)
    lesson = r"\((\d\d)\)\.$"
    return re.sub(lesson, lambda found: link_number(found[1]), marked, flags=re.MULTILINE)


def link_number(number: str) -> str:
    return f"([lesson {number}](../lessons/{LESSONS[number]}.py))."


def read_lesson(source: str) -> NotebookNode:
    """Read a lesson's script as a notebook with links."""
    notebook = jupytext.reads(source, fmt="py:percent")
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    notebook.metadata["language_info"] = {"name": "python", "pygments_lexer": "ipython3"}
    left = list_terms()
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if "check" in tags:
            cell.metadata["tags"] = [*tags, "hide-input"]
            cell.metadata["mystnb"] = {"code_prompt_show": "What is checked here"}
        if cell.cell_type == "markdown":
            cell.source = link_lessons(link_terms(cell.source, left))
    key = next((key for key in LESSONS.values() if is_lesson(notebook, key)), "00")
    if key[:2] != "00":
        page = f"../exercises/{key}.md"
        notebook.cells.append(
            jupytext.reads(f"# %% [markdown]\n# [The exercises of this lesson]({page})\n").cells[0]
        )
    return notebook


def is_lesson(notebook: NotebookNode, key: str) -> bool:
    """Tell a lesson by the number in its title, `# 8 · Path patching`."""
    return notebook.cells[0].source.startswith(f"# {int(key[:2])} ")


def link_terms(text: str, left: list[str]) -> str:
    """Link each term that is still in `left` where it stands first, and take it from there."""
    for term in list(left):
        words = re.escape(term).replace(r"\ ", r"\s+")
        pattern = re.compile(
            rf"({KEPT})|(?<!answer )\b({words})(s?)\b", re.DOTALL | re.MULTILINE | re.I
        )
        found = next((one for one in pattern.finditer(text) if one[2]), None)
        if found:
            link = f"[{found[2]}{found[3]}](../docs/glossary.md#{name_anchor(term)})"
            text = text[: found.start()] + link + text[found.end() :]
            left.remove(term)
    return text


def link_lessons(text: str) -> str:
    """Link `lesson 08` to that lesson."""
    pattern = re.compile(rf"({KEPT})|\b([Ll]esson)\s+(\d\d)\b", re.DOTALL | re.MULTILINE)

    def link(found: re.Match) -> str:
        if found[1] or found[3] not in LESSONS:
            return found[0]
        return f"[{found[2]} {found[3]}]({LESSONS[found[3]]}.py)"

    return pattern.sub(link, text)
