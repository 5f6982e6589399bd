"""The board as one HTML file that needs nothing else: heat maps, traps, costs, failures; for a screen and for paper."""

import base64
from html import escape
from typing import Any

from mini_transformer.board.families import FAMILIES
from mini_transformer.board.figures import draw_costs, draw_heat_map, write_svg
from mini_transformer.board.summary import overview
from mini_transformer.board.table import COLUMNS, LEGEND, is_reference, list_cells, sort_lines

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 1180px; margin: 2rem auto; padding: 0 1.5rem; color: #1b1b1b; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; border-bottom: 1px solid #bbb; }
img { max-width: 100%; height: auto; display: block; margin: .8rem 0; }
table { border-collapse: collapse; font-size: .85rem; } th, td { text-align: left; vertical-align: top; padding: .25rem .8rem .25rem 0;
border-bottom: 1px solid #ddd; } code { font-size: .9em; } .fell { color: #a34700; font-weight: 600; } .note { color: #555; }
.numbers td + td, .numbers th + th { text-align: right; font-variant-numeric: tabular-nums; }
@media print { body { font-size: 10pt; max-width: none; margin: 0; padding: 0; } h2 { break-after: avoid; }
img { max-height: 24cm; }
img, tr { break-inside: avoid; } @page { size: A4; margin: 12mm; } }
"""

READING = """Each square is the family's headline metric, a mean over seeds: 1 is the known truth, and the oracle's row says so. An
orange dot marks a trap that the method fell for, x a method that failed (why is said below). A blank square has no defined score.
Rows that end in <i>(untrained)</i> are the same method on random weights: what it scores there, it does not find."""


def render_page(summary: dict[str, Any]) -> str:
    """The whole page as text."""
    families = dict.fromkeys(score["family"] for score in summary["scores"])
    parts = [_render_family(summary, family) for family in families]
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'><title>The board</title>"
        f"<meta name='viewport' content='width=device-width'><style>{STYLE}</style></head><body>"
        "<h1>The board: does a method find what is really there?</h1>"
        f"<p>{READING}</p><p>In the tables: {LEGEND}.</p>{''.join(parts)}{_render_traps(summary)}{_render_mechanisms(summary)}{_render_failures(summary)}{_render_problems(summary)}"
        "</body></html>\n"
    )


def _render_family(summary: dict[str, Any], family: str) -> str:
    what = FAMILIES[family]
    return (
        f"<h2>{family}</h2><p class='note'><code>{escape(what.signature)}</code>; headline: {what.headline}</p>"
        + _embed(write_svg(draw_heat_map(summary, family)), f"{family}: method by problem")
        + _render_overview(summary, family)
        + _embed(write_svg(draw_costs(summary, family)), f"{family}: score over cost")
    )


def _render_overview(summary: dict[str, Any], family: str) -> str:
    head = "".join(f"<th>{column}</th>" for column in COLUMNS)
    rows = [list_cells(line) for line in sort_lines(overview(summary), family)]
    cells = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows)
    return f"<table class='numbers'><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in cells)}</table>"


def _embed(svg: str, title: str) -> str:
    data = base64.b64encode(svg.encode()).decode()
    return f"<img alt='{escape(title)}' src='data:image/svg+xml;base64,{data}'>"


def _render_traps(summary: dict[str, Any]) -> str:
    """Each trap: why it fools, the false verdict, who fell, who did not."""
    rows = []
    for problem in summary["problems"]:
        if problem["trap"] is None:
            continue
        met = [score for score in summary["scores"] if score["problem"] == problem["problem"]]
        met = [
            score
            for score in met
            if score["fell"] is not None and not is_reference(score["entrant"])
        ]
        fell, stood = (
            [s["entrant"] for s in met if bool(s["fell"]) is side] for side in (True, False)
        )
        trap = problem["trap"]
        cells = [problem["problem"], trap["what"], trap["verdict"]]
        rows.append(
            f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}"
            f"<td class='fell'>{escape(', '.join(fell)) or 'nobody'}</td><td>{escape(', '.join(stood)) or 'nobody'}</td></tr>"
        )
    head = "<tr><th>trap</th><th>why</th><th>false verdict</th><th>fell for it</th><th>did not</th></tr>"
    return f"<h2>Traps</h2><table>{head}{''.join(rows)}</table>" if rows else ""


def _render_mechanisms(summary: dict[str, Any]) -> str:
    """Clock and pizza, if they were compared: one row per model and seed."""
    if not (entries := summary.get("mechanisms")):
        return ""
    head = "".join(f"<th>{escape(name.replace('_', ' '))}</th>" for name in entries[0])
    cells = (
        "".join(f"<td>{escape(str(value))}</td>" for value in entry.values()) for entry in entries
    )
    rows = "".join(f"<tr>{row}</tr>" for row in cells)
    note = "Both models add modulo 59 and answer every pair; gradients and logits tell the two algorithms apart."
    return f"<h2>Equal answers, different mechanisms</h2><p>{note}</p><table class='numbers'><tr>{head}</tr>{rows}</table>"


def _render_failures(summary: dict[str, Any]) -> str:
    rows = [
        f"<tr><td>{escape(score['entrant'])}</td><td>{escape(score['problem'])}</td><td>{escape(sentence)}</td></tr>"
        for score in summary["scores"]
        for sentence in score["errors"]
    ]
    return f"<h2>What failed</h2><table>{''.join(rows)}</table>" if rows else ""


def _render_problems(summary: dict[str, Any]) -> str:
    rows = [
        f"<tr><td>{escape(known['family'])}</td><td>{escape(known['problem'])}</td><td>{escape(known['note'])}</td></tr>"
        for known in summary["problems"]
    ]
    return f"<h2>What is known</h2><table>{''.join(rows)}</table>"
