"""Render the board as one HTML file that needs nothing else, for a screen and for paper.

It shows heat maps, traps, costs and failures.
"""

import base64
from collections.abc import Iterable, Sequence
from html import escape

from mini_transformer.board.families import find_family
from mini_transformer.board.report import faithfulness, proxies
from mini_transformer.board.report.figures import (
    draw_costs,
    draw_heat_map,
    draw_means,
    write_svg,
)
from mini_transformer.board.report.summary import ProblemNote, Section, Summary, overview
from mini_transformer.board.report.table import (
    COLUMNS,
    LEGEND,
    is_reference,
    list_cells,
    list_failures,
    sort_lines,
)

__all__ = ["render_page"]

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1b1b1b;
       max-width: 1180px; margin: 2rem auto; padding: 0 1.5rem; }
h1 { font-size: 1.6rem; }
h2 { font-size: 1.2rem; margin-top: 2.5rem; border-bottom: 1px solid #bbb; }
img { max-width: 100%; height: auto; display: block; margin: .8rem 0; }
table { border-collapse: collapse; font-size: .85rem; }
th, td { text-align: left; vertical-align: top; padding: .25rem .8rem .25rem 0;
         border-bottom: 1px solid #ddd; }
code { font-size: .9em; }
.traps td:nth-child(4) { color: #a34700; font-weight: 600; }
.note { color: #555; }
.numbers td + td, .numbers th + th { text-align: right; font-variant-numeric: tabular-nums; }
@page { size: A4; margin: 12mm; }
@media print {
  body { font-size: 10pt; max-width: none; margin: 0; padding: 0; }
  h2 { break-after: avoid; }
  img { max-height: 24cm; }
  img, tr { break-inside: avoid; }
}
"""

SECTIONS = (faithfulness.make_section, proxies.make_section)  # of all scores together

READING = """Each square is the family's headline metric, a mean over models: 1 is the known truth,
and the oracle's row says so. An orange dot marks a trap that the method fell for at half of the
models or more, x a method that failed (why is said below), which counts 0. A blank square has no
defined score. What stands below the methods is there to be beaten: random answers, methods that are
trivial, and rows that end in <i>(untrained)</i>, the same method on random weights."""

SPLITS = {
    "held-out": "Its models were drawn for this run; no method was tuned on them.",
    "tuning": "These models are the same for everybody, and methods may have been tuned on them.",
}

BIBTEX = """@software{mini_transformer,
  title = {mini-transformer: a lab for mechanistic interpretability on transformers whose circuits
           are known},
  author = {{the mini-transformer authors}},
  version = {%s},
  year = {%s}
}"""


def render_page(summary: Summary) -> str:
    """Render the whole page as text."""
    sections = [make(summary) for make in SECTIONS]
    families = dict.fromkeys(score.family for score in summary.scores)
    parts = [
        _render_run(summary),
        *(_render_family(summary, family) for family in families),
        _render_traps(summary),
        *(_render_section(section) for section in sections if section),
        _render_failures(summary),
        _render_problems(summary),
        _render_citation(summary),
    ]
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'><title>The board</title>"
        f"<meta name='viewport' content='width=device-width'><style>{STYLE}</style></head><body>"
        "<h1>The board: does a method find what is really there?</h1>"
        f"<p>{READING}</p><p>In the tables: {LEGEND}.</p>{''.join(parts)}</body></html>\n"
    )


def _render_run(summary: Summary) -> str:
    """Say how the page came about, and how it comes about again."""
    if (run := summary.run) is None:
        return ""
    most = max((len(score.numbers) for score in summary), default=0)
    seed = "" if run.drawn is None else f", seed {run.drawn}"
    said = (
        f"{run.date}, mini-transformer {run.version}, torch {run.torch}, Python {run.python}; "
        f"up to {most} {run.split} models of each problem{seed}. {SPLITS[run.split]}"
    )
    notes = "".join(f" {escape(note)}." for note in run.notes)
    is_told = run.drawn is None or "--seed" in run.command
    again = "" if is_told else f" --seed {run.drawn}"
    return f"<p>{escape(said)}{notes}</p><pre>{escape(run.command + again)}</pre>"


def _render_section(section: Section) -> str:
    figure = _embed(write_svg(section.figure), section.title) if section.figure else ""
    table = _render_table(section.rows, section.head, kind="numbers") if section.rows else ""
    return f"<h2>{escape(section.title)}</h2><p>{escape(section.text)}</p>{figure}{table}"


def _render_citation(summary: Summary) -> str:
    if (run := summary.run) is None:
        return ""
    return f"<h2>Cite</h2><pre>{escape(BIBTEX % (run.version, run.date[:4]))}</pre>"


def _render_table(rows: Iterable[Sequence[str]], head: Sequence[str] = (), kind: str = "") -> str:
    """Render cells of plain text, the header first."""
    lines = ["".join(f"<th>{escape(cell)}</th>" for cell in head)] if head else []
    lines += ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows]
    name = f" class='{kind}'" if kind else ""
    return f"<table{name}>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def _render_family(summary: Summary, name: str) -> str:
    family = find_family(name)
    lines = sort_lines(overview(summary), name)
    meaning = f"{family.headline}: {family.metrics[family.headline]}".removesuffix(": ")
    about = f"<code>{escape(family.signature)}</code>; headline: {escape(meaning)}"
    return (
        f"<h2>{name}</h2><p class='note'>{about}</p>"
        + _embed(write_svg(draw_heat_map(summary, name)), f"{name}: method by problem")
        + _render_table(map(list_cells, lines), COLUMNS, kind="numbers")
        + _embed(write_svg(draw_means(summary, name)), f"{name}: means and intervals")
        + _embed(write_svg(draw_costs(summary, name)), f"{name}: score over cost")
    )


def _embed(svg: str, title: str) -> str:
    data = base64.b64encode(svg.encode()).decode()
    return f"<img alt='{escape(title)}' src='data:image/svg+xml;base64,{data}'>"


def _render_traps(summary: Summary) -> str:
    """Render each trap: why it fools, the false verdict, and who falls at how many models."""
    rows = [_list_trap_cells(summary, known) for known in summary.problems if known.trap]
    head = ("trap", "why", "false verdict", "fell at so many models")
    return f"<h2>Traps</h2>{_render_table(rows, head, kind='traps')}" if rows else ""


def _list_trap_cells(summary: Summary, known: ProblemNote) -> list[str]:
    assert known.trap is not None
    met = [
        score
        for score in summary
        if (score.family, score.problem) == (known.family, known.problem)
        and score.fell is not None
        and not is_reference(score.family, score.entrant)
    ]
    met.sort(key=lambda score: -(score.fell or 0) / score.n)
    fell = ", ".join(f"{score.entrant} {score.fell} of {score.n}" for score in met)
    return [known.problem, known.trap["what"], known.trap["verdict"], fell]


def _render_failures(summary: Summary) -> str:
    rows = [[sentence] for sentence in list_failures(summary)]
    return f"<h2>What failed</h2>{_render_table(rows)}" if rows else ""


def _render_problems(summary: Summary) -> str:
    rows = [(known.family, known.problem, known.note) for known in summary.problems]
    return f"<h2>What is known</h2>{_render_table(rows)}"
