"""Compare EAP and EAP-IG as hannamw/EAP-IG computes them with `eap` of this package, edge by edge.

    python tests/peers/compare_eap.py tests/peers/eap_edges.json

A row is a model of the board. Differences are the largest of any edge, as a share of the largest
score. `eap_ig_inputs` averages at midpoints, theirs at left end points, so both are compared: with
`eap` as it is, and with the same sum taken at theirs. `by_sign` and `by_size` are the average
precision of their EAP scores ranked as they are, and by absolute value, as their circuits are cut.
With zero ablation edges from the input differ: theirs is the token's embedding without position.
"""

import importlib.metadata
import json
import platform
import sys
from pathlib import Path
from typing import Any

import torch
from enter_board import forget_cuda, load_methods
from torch import Tensor

from mini_transformer import __version__
from mini_transformer.board.families import find_family
from mini_transformer.edges import list_edges, replace_by, write_outputs
from mini_transformer.methods import eap
from mini_transformer.methods.circuits.eap import find_reader_slopes, sum_products

STEPS = 10  # as in docs/foreign_methods.md
RESAMPLE = ("forge/resample", "sharp/resample", "cancelling/resample")
MODELS = 4


def average(model: Any, clean: Tensor, corrupt: Tensor, metric: Any, points: list[float]) -> Tensor:
    """Average the scores over gradients at these points between the corrupt and the clean run."""
    with torch.no_grad():
        on = write_outputs(model, clean)
        changes = on - replace_by("resample", write_outputs(model, corrupt))
        streams = torch.stack([on[0] - (1 - point) * changes[0] for point in points])
    return sum_products(changes, find_reader_slopes(model, streams, metric)) / len(points)


def compare(theirs: Tensor, ours: Tensor) -> float:
    """Return the largest difference as a share of the largest score."""
    return float((theirs - ours).abs().max() / ours.abs().max())


def main(out: Path) -> None:
    """Compare on all problems, and write the table."""
    if not torch.cuda.is_available():
        torch.zeros = forget_cuda(torch.zeros)
    methods, circuit = load_methods("EAP-IG"), find_family("circuit")
    rows: list[dict[str, Any]] = []
    for name in RESAMPLE:
        for number in range(MODELS):
            problem = circuit.build(name, number)
            model, *given = problem.arguments[:4]
            edges = list_edges(model)
            found = methods["hannamw_eap"](*problem.arguments)
            plain = torch.tensor([found[edge] for edge in edges])
            found = methods["hannamw_eap_ig_inputs"](*problem.arguments)
            ig = torch.tensor([found[edge] for edge in edges])
            left = average(model, *given, points=[step / STEPS for step in range(STEPS)])
            row = {
                "problem": name,
                "model": number,
                "edges": len(edges),
                "eap": compare(plain, eap(model, *given).values),
                "eap_ig_at_midpoints": compare(ig, eap(model, *given, steps=STEPS).values),
                "eap_ig_at_left_ends": compare(ig, left),
                "by_sign": problem.measure(plain)["auprc_best"],
                "by_size": problem.measure(plain.abs())["auprc_best"],
            }
            rows.append(row)
            print(*row.values(), sep="  ", flush=True)
    for number in range(MODELS):
        problem = circuit.build("forge/zero", number)
        found = methods["hannamw_eap"](*problem.arguments)
        ours = eap(*problem.arguments).values
        edges = list_edges(problem.arguments[0])
        apart = torch.tensor([found[edge] for edge in edges]) - ours
        starts = torch.tensor([edge.startswith("input") for edge in edges])
        row = {
            "problem": "forge/zero",
            "model": number,
            "edges": len(ours),
            "eap_from_input": float(apart[starts].abs().max() / ours.abs().max()),
            "eap_of_others": float(apart[~starts].abs().max() / ours.abs().max()),
        }
        rows.append(row)
        print(*row.values(), sep="  ", flush=True)
    names = ("eap", "transformer-lens", "torch")
    peers = {name: importlib.metadata.version(name) for name in names}
    data = {
        "versions": {"python": platform.python_version(), "mini-transformer": __version__} | peers,
        "command": f"python tests/peers/compare_eap.py tests/peers/{out.name}",
        "split": "tuning",
        "rows": rows,
    }
    out.write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
