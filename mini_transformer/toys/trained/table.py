"""The table of what the trained toys show over five seeds each.

`python -m mini_transformer.toys.trained.table` writes it. It stands in trained.md beside this file,
and the tests compare it with the bounds in the code. Seeds that are not shipped (the package would
grow too large) are trained first, into `out/toys`; that takes some minutes, once.
"""

import sys
from pathlib import Path

import torch

from mini_transformer import toys
from mini_transformer.toys.trained.shipped import list_seeds, look_also_in
from mini_transformer.toys.trained.training import train_toy
from mini_transformer.toys.truth import Case

PATH = Path(__file__).parent / "trained.md"
N_SEEDS = 5
NOT_SHIPPED = Path("out/toys")  # where seeds that are not shipped are kept
INTRODUCTION = """# What the trained toys show

Every signature of every trained toy, measured on five seeds. The bounds hold for the seeds that \
are shipped; a star marks
one that is not. Written by `python -m mini_transformer.toys.trained.table`.
"""


def describe_toy(name: str) -> str:
    """Describe one toy as a Markdown section.

    It has a row per signature, with its bounds and what it measures on each seed.
    """
    shipped = list_seeds(name)
    others = [seed for seed in range(N_SEEDS) if seed not in shipped][: N_SEEDS - len(shipped)]
    for seed in others:
        if not (NOT_SHIPPED / f"{name}-{seed}.safetensors").exists():
            train_toy(name, seed, folder=NOT_SHIPPED)
    with look_also_in(NOT_SHIPPED):
        cases = [toys.load(name, seed) for seed in shipped + others]
    head = ["", "bound", *(f"seed {case.seed}{'*' * (case.seed in others)}" for case in cases)]
    lines = [f"## {name}", "", toys.load(name, cases[0].seed).task.description + ".", ""]
    lines += ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for signature in cases[0].truth.signatures:
        cells = [signature, describe_bound(cases[0], signature)]
        cells += [f"{case.truth.signatures[signature].measure(case):.4g}" for case in cases]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def describe_bound(case: Case, name: str) -> str:
    """Write the bounds of a signature in words.

    >>> describe_bound(toys.load("max_of_list"), "accuracy")
    'at least 1'
    """
    signature = case.truth.signatures[name]
    low, high = signature.low, signature.high
    parts = [f"at least {low:.4g}"] if low != float("-inf") else []
    parts += [f"at most {high:.4g}"] if high != float("inf") else []
    return " and ".join(parts)


def list_shipped() -> list[str]:
    """List the trained toys that have a checkpoint and can be loaded."""
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
