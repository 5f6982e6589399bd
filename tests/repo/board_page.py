"""The tables of docs/board.md, made from a run of the board.

`minilab board` and then `python tests/repo/board_page.py` write them, with docs/board.json, which
holds what the page shows of that run; a test compares.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pages import make_rows

from mini_transformer.board.report.summary import Score, Summary, overview, read_summary
from mini_transformer.board.report.table import is_reference, sort_lines

PAGE = Path(__file__).parents[2] / "docs" / "board.md"
SHOWN = PAGE.with_suffix(".json")
RUN = Path("out/board/board.json")

# What the trap is, and the problems in which it is met.
TRAPS = {
    "decodable, unread": (("probe", "unused_feature/y"), ("circuit", "unused_feature/resample")),
    "dormant and disconnected direction": (("variables", "dormant/x"),),
    "unrestricted map on random weights": (("variables", "unused_feature/x_beside_untrained"),),
    "backup head": (("circuit", "backup_head/zero"),),
    "noising and denoising disagree": (
        ("circuit", "boolean_or/both_bits"),
        ("circuit", "boolean_and/both_bits"),
    ),
    "saturated softmax": (("circuit", "induction_by_hand/sharp"),),
    "cancelling paths": (("circuit", "cancelling/resample"),),
    "strong attention, nothing written": (("circuit", "induction_by_hand/zero"),),
    "a value that resampling cannot change": (("circuit", "boolean_and/needed_by_resample"),),
    "an activation that is never zero": (("circuit", "boolean_and/informative_by_zero"),),
    "XOR that can be decoded": (("probe", "refusal_with_trigger/harm_xor_trigger"),),
    "parent and child (absorption)": (("features", "planted_hierarchical/families"),),
    "pairs in a narrow dictionary (hedging)": (("features", "planted_correlated/narrow"),),
    "variance explained, wrong features": (("features", "planted_features/plain"),),
    "several right circuits": (("circuit", "boolean_or/two_circuits"),),
    "one period only": (("circuit", "fixed_period/zero"),),
}
KINDS = {
    "which edges must be there?": {
        "zero": "boolean_and/zero",
        "resample": "boolean_and/needed_by_resample",
    },
    "which edges carry x or y?": {
        "zero": "boolean_and/informative_by_zero",
        "resample": "boolean_and/resample",
    },
}
Shown = dict[str, Any]


def shorten(summary: Summary) -> Shown:
    """What the page shows of a run."""
    scores = {(s.family, s.problem, s.entrant): s for s in summary.scores}
    about = {(known.family, known.problem): known.trap for known in summary.problems}
    lines = [
        line
        for family in dict.fromkeys(key[0] for key in scores)
        for line in sort_lines(overview(summary), family)
    ]
    return {
        "overview": [
            {
                "family": line.family,
                "entrant": line.entrant,
                "mean": line.mean,
                "worst": line.worst,
                "problems": line.problems,
                "traps": [line.fallen, line.met],
            }
            for line in lines
        ],
        "traps": [
            {
                "trap": title,
                "family": family,
                "problem": problem,
                "verdict": about[family, problem]["verdict"],
                **sides,
            }
            for title, problems in TRAPS.items()
            for family, problem in problems
            for sides in [list_sides(summary, family, problem)]
        ],
        "kinds": [
            {
                "question": question,
                "kind": kind,
                **read_kind(scores["circuit", problem, "edge_patching"]),
            }
            for question, problems in KINDS.items()
            for kind, problem in problems.items()
        ],
        "mechanisms": [asdict(mechanism) for mechanism in summary.mechanisms],
    }


def list_sides(summary: Summary, family: str, problem: str) -> dict[str, list[str]]:
    """Which methods fell for the trap of a problem, at one seed or more, and which at none."""
    met = [
        s
        for s in summary.scores
        if (s.family, s.problem) == (family, problem) and s.fell is not None
    ]
    met = [s for s in met if not is_reference(s.entrant)]
    return {
        "fell": [s.entrant for s in met if s.fell],
        "stood": [s.entrant for s in met if not s.fell],
    }


def read_kind(score: Score) -> dict[str, float]:
    return {name: score.metrics[f"{name}_best"].mean for name in ("auroc", "f1")}


def list_overview(shown: Shown) -> str:
    rows = [
        (
            line["family"],
            line["entrant"],
            "" if line["mean"] is None else f"{line['mean']:.2f}",
            "" if line["worst"] is None else f"{line['worst']:.2f}",
            f"{line['traps'][0]} of {line['traps'][1]}"
            if line["traps"][1] and not is_reference(line["entrant"])
            else "",
        )
        for line in shown["overview"]
    ]
    return make_rows(("family", "method", "mean", "worst", "traps fallen for"), rows)


def list_traps(shown: Shown) -> str:
    rows = [
        (
            entry["trap"],
            f"`{entry['problem']}` ({entry['family']})",
            entry["verdict"],
            ", ".join(entry["fell"]) or "nobody",
            ", ".join(entry["stood"]) or "nobody",
        )
        for entry in shown["traps"]
    ]
    return make_rows(("trap", "problem", "false verdict", "fell", "did not"), rows)


def list_kinds(shown: Shown) -> str:
    rows = [
        (entry["question"], entry["kind"], f"{entry['auroc']:.3f}", f"{entry['f1']:.3f}")
        for entry in shown["kinds"]
    ]
    return make_rows(("question", "asked with", "AUROC", "F1"), rows)


def list_mechanisms(shown: Shown) -> str:
    figures = ("accuracy", "gradient_symmetry", "distance_irrelevance", "accuracy_uniform")
    rows = [
        (entry["model"], str(entry["seed"]), *(f"{entry[figure]:.3f}" for figure in figures))
        for entry in shown["mechanisms"]
    ]
    head = (
        "accuracy",
        "gradient symmetry",
        "distance irrelevance",
        "accuracy, attention made uniform",
    )
    return make_rows(("model", "seed", *head), rows)


TABLES = {
    "overview": list_overview,
    "traps": list_traps,
    "kinds": list_kinds,
    "mechanisms": list_mechanisms,
}


def fill_in(text: str, shown: Shown) -> str:
    for name, make in TABLES.items():
        start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        before, rest = text.split(start)
        text = before + start + make(shown) + "\n" + end + rest.split(end)[1]
    return text


if __name__ == "__main__":
    run = Path(sys.argv[1]) if len(sys.argv) > 1 else RUN
    found = shorten(read_summary(json.loads(run.read_text())))
    SHOWN.write_text(json.dumps(found, indent=1) + "\n")
    PAGE.write_text(fill_in(PAGE.read_text(), found))
