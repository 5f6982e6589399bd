"""The table of what the trained toys show over their shipped seeds: `python -m mini_transformer.toys.table` writes it.

It stands in trained.md beside this file, and the tests compare it with the bounds in the code.
"""

import sys
from pathlib import Path

import torch

from mini_transformer import toys
from mini_transformer.toys.shipped import list_seeds
from mini_transformer.toys.truth import Case

PATH = Path(__file__).parent / "trained.md"
INTRODUCTION = """# What the trained toys show

Every signature of every trained toy, measured on its shipped seeds. Written by `python -m mini_transformer.toys.table`.
"""


def describe_toy(name: str) -> str:
    """One toy as a Markdown section: a row per signature with its bounds and what it measures on each shipped seed."""
    cases = [toys.load(name, seed) for seed in list_seeds(name)]
    head = ["", "bound", *(f"seed {case.seed}" for case in cases)]
    lines = [f"## {name}", "", toys.load(name, cases[0].seed).task.description + ".", ""]
    lines += ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for signature in cases[0].truth.signatures:
        cells = [signature, describe_bound(cases[0], signature)]
        cells += [f"{case.truth.signatures[signature].measure(case):.4g}" for case in cases]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def describe_bound(case: Case, name: str) -> str:
    """The bounds of a signature in words.

    >>> describe_bound(toys.load("max_of_list"), "accuracy")
    'at least 1'
    """
    low, high = case.truth.signatures[name].low, case.truth.signatures[name].high
    parts = [f"at least {low:.4g}"] if low != float("-inf") else []
    parts += [f"at most {high:.4g}"] if high != float("inf") else []
    return " and ".join(parts)


def list_shipped() -> list[str]:
    """The trained toys that have a checkpoint and can be loaded."""
    return [name for name in toys.names() if list_seeds(name)]


def main() -> None:
    """Measure everything and write the table; with names as arguments print only these."""
    torch.set_num_threads(1)  # of this process: the models are small
    if unknown := [name for name in sys.argv[1:] if name not in list_shipped()]:
        raise SystemExit(f"{unknown[0]} has no trained models: {', '.join(list_shipped())}")
    if sys.argv[1:]:
        print("\n".join(describe_toy(name) for name in sys.argv[1:]))
    else:
        PATH.write_text("\n".join([INTRODUCTION, *(describe_toy(name) for name in list_shipped())]))


if __name__ == "__main__":
    main()
