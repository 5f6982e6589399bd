"""Does faithfulness follow truth? CPR and CMD of circuits beside what is known of them."""

from matplotlib.figure import Figure

from mini_transformer import plots
from mini_transformer.board.families import find_family
from mini_transformer.board.report.proxies import correlate_proxy, show
from mini_transformer.board.report.summary import Section, Summary

__all__ = ["draw_faithfulness", "make_section"]

GROUPS = {"forge/zero": "zero", "forge/mean": "mean", "forge/resample": "resample", "twin": "twins"}
PROXIES = {"cpr": "CPR", "cmd": "low CMD"}
TEXT = (
    "Where nobody knows the circuit, methods are compared by how much of the metric their circuits "
    "keep: CPR, the area under faithfulness over sizes of circuit, and CMD, the area between it "
    "and 1 (Mueller et al. 2025). Here the circuit is known, too. Shown is the rank correlation "
    "(Spearman) of both with the average precision over methods that score edges, per model; its "
    "mean and 95% interval over models; then the same with the trivial scores among them. In the "
    "figure each point is a method on a model; trivial ones are grey. Near 1, the more faithful of "
    "two methods is the truer; a cloud in which true circuits have any CPR says that it is not."
)


def draw_faithfulness(summary: Summary) -> Figure:
    """Draw average precision over CPR: a panel for each ablation, and for twins."""
    family = find_family("circuit")
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    axes = figure.subplots(1, len(GROUPS), sharey=True)
    for ax, (start, title) in zip(axes, GROUPS.items(), strict=True):
        for names, colour in ((family.references, "#999999"), (family.entrants, plots.LINES[0])):
            points = [
                (x, y)
                for score in summary.scores
                if score.family == family.name and score.entrant in names
                if score.problem.startswith(start) and "cpr" in score.values
                for x, y in zip(score.values["cpr"], score.headlines, strict=True)
                if x is not None and y is not None
            ]
            if points:
                ax.scatter(*zip(*points, strict=True), s=10, color=colour, alpha=0.6, linewidths=0)
        ax.set_title(title)
        ax.set_xlabel("CPR")
        ax.set_xlim(-0.03, 1.03)
        plots.tidy(ax)
    axes[0].set_ylabel("average precision")
    return figure


def make_section(summary: Summary) -> Section | None:
    """Make the part of the page on faithfulness; None if too few methods were compared."""
    family = find_family("circuit")
    groups = family.entrants.keys(), family.entrants.keys() | family.references.keys()
    rows = [
        [
            f"{words}, {title}",
            *(show(correlate_proxy(summary, proxy, group, start, "circuit")) for group in groups),
        ]
        for start, title in GROUPS.items()
        for proxy, words in PROXIES.items()
    ]
    if not any(row[1] for row in rows):
        return None
    head = ["", "methods", "and trivial scores"]
    return Section("Does faithfulness follow truth?", TEXT, draw_faithfulness(summary), head, rows)
