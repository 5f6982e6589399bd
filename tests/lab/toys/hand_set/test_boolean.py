"""The boolean family: truth tables, and circuits against loops over every subset of every edge,
live or not.
"""

from itertools import product

import pytest
import torch

from mini_transformer import toys
from mini_transformer.edges import list_edges, run_edges, write_outputs

TABLES = {  # (0, 0), (0, 1), (1, 0), (1, 1)
    "boolean_and": [0, 0, 0, 1],
    "boolean_or": [0, 1, 1, 1],
    "boolean_xor": [0, 1, 1, 0],
    "boolean_redundant_or": [0, 1, 1, 1],
}


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", TABLES)
def test_the_truth_table(name: str, seed: int) -> None:
    model = toys.load(name, seed).model
    for (x, y), answer in zip(product((0, 1), repeat=2), TABLES[name], strict=True):
        assert model(torch.tensor([[x, y, 2, 2, 2, 3]]))[0, -1].argmax() == answer


@pytest.mark.parametrize("name", TABLES)
def test_everything_pairs_each_prompt_with_each_other_one(name: str) -> None:
    batch = toys.load(name).task.everything()
    pairs = {
        (tuple(clean), tuple(corrupt))
        for clean, corrupt in zip(batch.clean.tolist(), batch.corrupt.tolist(), strict=True)
    }
    assert len(pairs) == len(batch.clean) == 12
    assert all(clean != corrupt for clean, corrupt in pairs)
    assert batch.answer.tolist() == [TABLES[name][2 * x + y] for x, y, *_ in batch.clean.tolist()]


@pytest.mark.parametrize(("corrupt", "flipped"), [("x", (1, 0)), ("y", (0, 1)), ("both", (1, 1))])
def test_a_corruption_flips_what_it_names(corrupt: str, flipped: tuple[int, int]) -> None:
    batch = toys.load("boolean_or").task.draw(40, corrupt=corrupt)
    assert ((batch.clean != batch.corrupt)[:, :2].int() == torch.tensor(flipped)).all()


@pytest.mark.parametrize("ablation", ["zero", "mean", "resample"])
@pytest.mark.parametrize("name", ["boolean_and", "boolean_or", "boolean_xor"])
def test_circuits_are_the_smallest_of_all_8192_subsets_that_work(name: str, ablation: str) -> None:
    case = toys.load(name, seed=1)
    edges, batch = list_edges(case.model), case.task.everything()
    subsets = list(product((0, 1), repeat=len(edges)))
    off = write_outputs(
        case.model, batch.corrupt if ablation == "resample" else batch.clean, ablation
    )
    working = set()
    for chunk in torch.tensor(subsets).float().split(1024):
        with torch.no_grad():
            logits = run_edges(case.model, batch.clean, chunk, off)[:, :, -1]
        right = (logits.argmax(dim=-1) == batch.answer) & (
            logits.topk(2).values.diff(dim=-1).abs().squeeze(-1) > 1e-3
        )
        working |= {tuple(mask) for mask in chunk[right.all(dim=1)].int().tolist()}

    def parts(mask: tuple[int, ...]) -> list[tuple[int, ...]]:
        return [(*mask[:i], 0, *mask[i + 1 :]) for i in range(len(mask)) if mask[i]]

    holds_working = set()  # subsets with a working part
    for mask in sorted(subsets, key=sum):
        if any(part in working or part in holds_working for part in parts(mask)):
            holds_working.add(mask)
    minimal = {
        frozenset(e for e, on in zip(edges, mask, strict=True) if on)
        for mask in working - holds_working
    }
    assert minimal == set(case.truth.circuits[ablation].edges)


def test_the_three_ablations_have_three_truths() -> None:
    circuits = toys.load("boolean_redundant_or").truth.circuits
    assert [len(circuits[ablation].edges) for ablation in ("zero", "mean", "resample")] == [4, 4, 1]
    assert [len(circuits[ablation].nodes) for ablation in ("zero", "mean", "resample")] == [2, 1, 1]
    assert len({circuits[ablation].edges for ablation in circuits}) == 3
