"""Measure what each knob of the forge does to methods, and draw it for the forge's page.

Each value of a knob is tried on the same seeds, all other knobs at their defaults. Circuit methods
and cheaters are judged by the F1 of as many edges as the circuits have; a variable's subspace by
interchange: how often the answer is what the program says with the other prompt's value.

    python tests/bench/bench_forge.py [models per value]
"""

import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from mini_transformer import forge
from mini_transformer.board.metrics.circuit import compare_sets, keep_highest
from mini_transformer.edges import mask_of
from mini_transformer.methods import eap, patch_edges

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "lab" / "forge"))
from cheaters import score_by_names, score_by_weights  # noqa: E402

N_PAIRS = 16
KNOBS: dict[str, tuple[Any, ...]] = {
    "size": (1, 2, 3),
    "tasks": (0, 1, 2, 4),
    "decoys": (None, 0, 2, 4),
    "redundancy": ("none", "second way", "backup"),
    "saturation": (6, 9, 12, 24),
    "positions": ("fixed", "drawn"),
    "skew": (0.0, 0.3, 0.6),
    "hidden": (False, True),
}


def measure(case: forge.ForgedCase) -> dict[str, float]:
    """Judge methods and cheaters on one model."""
    model = case.model
    batch = case.task.draw(N_PAIRS, seed=1)
    runs = model, batch.clean, batch.corrupt, batch.logit_difference
    found = {}
    for ablation in ("resample", "zero"):
        circuits = case.truth.circuits[ablation].edges
        truth = torch.stack([mask_of(model, one) for one in circuits]).bool().any(dim=0)

        def judge(scores: Tensor, truth: Tensor = truth) -> float:
            return compare_sets(keep_highest(scores, int(truth.sum())), truth)["f1"]

        answers = {
            "patching": patch_edges(*runs, direction="noise", ablation=ablation).values,
            "EAP": eap(*runs, ablation).values,
            "EAP-IG": eap(*runs, ablation, steps=5).values,
        }
        answers |= score_by_weights(model) | score_by_names(model)
        found |= {f"{name}, {ablation}": judge(answer) for name, answer in answers.items()}
    return found | measure_variables(case)


@torch.no_grad()
def measure_variables(case: forge.ForgedCase) -> dict[str, float]:
    """Exchange each variable's span, or as many of its strongest coordinates, between two runs.

    Of the pairs where that must change the answer: how often it is what the program then says.
    """
    program = case.program
    assert program is not None
    assert case.task.everything is not None
    everything = case.task.everything()
    rows = torch.randperm(len(everything.clean), generator=torch.Generator().manual_seed(0))[:64]
    batch = everything.take(rows)
    # The task's prompts in plain numbers stand in the same order as in the program's list.
    shown = {tuple(row): i for i, row in enumerate(show(case).tolist())}
    clean, corrupt = (
        program.prompts[[shown[tuple(row)] for row in side.tolist()]]
        for side in (batch.clean, batch.corrupt)
    )
    values = program.run(corrupt)
    answers = show_answers(case)
    found = defaultdict(list)
    for name, variable in case.truth.variables.items():
        wanted = answers[program.run(clean, {name: values[name]})[program.answer]]
        moved = wanted != batch.answer
        if not moved.any():
            continue
        _, other = case.model.run_with_cache(batch.corrupt, names_filter=[variable.site])
        subspace = variable.subspace
        axes = subspace.square().sum(0).topk(len(subspace)).indices
        bases = {
            "true subspace": torch.linalg.qr(subspace.T)[0],
            "axes only": torch.eye(subspace.shape[1])[:, axes],
        }
        for kind, basis in bases.items():
            said = answer_exchanged(case, batch, variable, other[variable.site], basis)
            found[kind].append((said == wanted)[moved].float().mean().item())
    return {kind: sum(own) / len(own) for kind, own in found.items()}


def show(case: Any) -> Tensor:
    """The program's prompts as the model sees them, in the program's order."""
    return order_of(case)[case.program.prompts]


def show_answers(case: Any) -> Tensor:
    """The token that stands for each value."""
    return order_of(case)[: case.program.layout.n]


def order_of(case: Any) -> Tensor:
    """Token i of the program is shown as order[i]; the task names its tokens."""
    names = list(case.task.token_names)
    return torch.tensor([names.index(name) for name in case.program.layout.names])


def answer_exchanged(case: Any, batch: Any, variable: Any, other: Tensor, basis: Tensor) -> Tensor:
    at = variable.position

    def swap(value: Tensor, hook: Any) -> Tensor:
        value[:, at] += (other[:, at] - value[:, at]) @ basis @ basis.T
        return value

    logits = case.model.run_with_hooks(batch.clean, fwd_hooks=[(variable.site, swap)])
    return batch.at_answer(logits).argmax(dim=1)


def draw_knob(ax: Any, knob: str, table: dict[str, list[float]]) -> None:
    """Draw the methods that a knob moves most, beside the best cheater of each kind."""
    shown = ["patching, resample", "EAP, resample", "EAP-IG, resample", "EAP-IG, zero"]
    shown += ["weights, zero", "names, zero", "true subspace", "axes only"]
    for name in shown:
        ax.plot(range(len(KNOBS[knob])), table[name], marker="o", label=name)
    ax.set_xticks(range(len(KNOBS[knob])), [str(value) for value in KNOBS[knob]])
    ax.set_xlabel(knob)
    ax.set_ylim(-0.03, 1.03)


def main(n: int) -> None:
    figure, axes = plt.subplots(2, 4, figsize=(14, 6.5), sharey=True)
    for ax, (knob, values) in zip(axes.flat, KNOBS.items(), strict=True):
        table: dict[str, list[float]] = defaultdict(list)
        for value in values:
            cases = [forge.make(seed, **{knob: value}) for seed in range(n)]
            scores = defaultdict(list)
            for case in cases:
                for name, score in measure(case).items():
                    scores[name].append(score)
            mean = {name: sum(own) / len(own) for name, own in scores.items()}
            for kind in ("weights", "names"):
                for ablation in ("resample", "zero"):
                    ends = (f"{kind}: ", f", {ablation}")
                    forms = [n for n in mean if n.startswith(ends[0]) and n.endswith(ends[1])]
                    mean[f"{kind}, {ablation}"] = max(mean[form] for form in forms)
            for name, score in mean.items():
                if ": " not in name:
                    table[name].append(score)
        moved = {name: max(own) - min(own) for name, own in table.items()}
        most = max(moved, key=moved.__getitem__)
        print(f"{knob} {values}: most moved is {most}, by {moved[most]:.2f}")
        for name, own in table.items():
            print(f"    {name:22}", *(f"{score:5.2f}" for score in own), flush=True)
        draw_knob(ax, knob, table)
    axes[0, 0].set_ylabel("F1, or answers as exchanged")
    axes[1, 0].set_ylabel("F1, or answers as exchanged")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=len(labels), frameon=False)
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    figure.savefig(ROOT / "docs" / "forge_knobs.png", dpi=80)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
