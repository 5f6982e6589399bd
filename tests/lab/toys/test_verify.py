"""The proof of the zoo: every case holds, and one damaged weight in any model set by hand is
noticed.
"""

import copy
import dataclasses

import pytest
import torch
from damaging import damage, list_broken

from mini_transformer import forge, toys
from mini_transformer.toys.trained.shipped import list_seeds
from mini_transformer.toys.truth import Circuits
from mini_transformer.toys.verify import verify, verify_case

BY_HAND = [
    "induction_by_hand",
    "induction_rotated",
    "boolean_and",
    "boolean_or",
    "boolean_xor",
    "boolean_redundant_or",
    "backup_head",
    "unused_feature",
    "opposite_positions",
]
ATTENTION = [f"blocks.0.attn.W_{part}" for part in "QKVO"]
NEURONS = ["blocks.0.mlp.W_in", "blocks.0.mlp.W_out"]
DAMAGES = {
    "induction_rotated": [
        "W_E",
        "W_pos",
        "W_U",
        "blocks.0.attn.W_V",
        "blocks.0.attn.W_O",
        "blocks.1.attn.W_K",
    ],
    "boolean_and": ["W_pos", *ATTENTION, *NEURONS, "W_U"],
    "boolean_or": ["W_pos", *ATTENTION, *NEURONS, "W_U"],
    "boolean_xor": ["W_pos", *ATTENTION, *NEURONS, "W_U"],
    "boolean_redundant_or": [
        "W_pos",
        *ATTENTION,
        *NEURONS,
        "blocks.1.mlp.W_in",
        "blocks.1.mlp.W_out",
        "W_U",
    ],
    "backup_head": [
        "W_E",
        "blocks.0.attn.W_K",
        *(f"blocks.{i}.attn.W_{x}" for i in (1, 2, 3) for x in "QKVO"),
        "W_U",
    ],
    "unused_feature": ["W_E", "W_pos", *ATTENTION, *NEURONS, "W_U"],
    "opposite_positions": ["W_pos", *(f"blocks.1.attn.W_{x}" for x in "QKVO"), *NEURONS],
}
WEIGHTS_OF_C = [  # those of the token c (3), and of position 5, in the plain induction_by_hand
    ("W_E", (3, 3)),
    ("W_pos", (5, 21)),
    ("blocks.0.attn.W_Q", (0, 21, 4)),
    ("blocks.0.attn.W_K", (0, 20, 4)),
    ("blocks.0.attn.W_V", (0, 3, 3)),
    ("blocks.0.attn.W_O", (0, 3, 43)),
    ("blocks.1.attn.W_Q", (0, 3, 3)),
    ("blocks.1.attn.W_K", (0, 43, 3)),
    ("blocks.1.attn.W_V", (0, 3, 3)),
    ("blocks.1.attn.W_O", (0, 3, 59)),
    ("W_U", (59, 3)),
]


SLOW = ("tracr_shuffle_dyck2",)  # circuits of 33 edges
# Each toy's first seed, and its further seeds among the slow tests.
SHIPPED = [
    pytest.param(
        name, seed, marks=[pytest.mark.slow] * (i > 0 or name in SLOW), id=f"{name}-{seed}"
    )
    for name in toys.names()
    for i, seed in enumerate(list_seeds(name) or [0])
]


@pytest.mark.parametrize(("name", "seed"), SHIPPED)
def test_every_truth_holds_on_every_shipped_seed(name: str, seed: int) -> None:
    rows = verify(name, seed)
    assert rows
    assert [row for row in rows if not row.ok] == []


@pytest.mark.parametrize("seed", [1, 11])
@pytest.mark.parametrize("name", [name for name in BY_HAND if name != "backup_head"])
def test_every_truth_holds_for_other_seeds(name: str, seed: int) -> None:
    assert [row for row in verify(name, seed) if not row.ok] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", BY_HAND)
def test_every_truth_holds_for_many_seeds(name: str) -> None:
    assert [row for seed in range(20, 26) for row in verify(name, seed) if not row.ok] == []


@pytest.mark.parametrize(
    ("name", "parameter"), [(name, part) for name, parts in DAMAGES.items() for part in parts]
)
def test_one_damaged_weight_breaks_a_signature(name: str, parameter: str) -> None:
    assert list_broken(damage(toys.load(name), parameter))


@pytest.mark.parametrize(("parameter", "index"), WEIGHTS_OF_C)
def test_each_weight_of_a_token_is_needed_for_induction(
    parameter: str, index: tuple[int, ...]
) -> None:
    case = toys.load("induction_by_hand")
    model = copy.deepcopy(case.model)
    with torch.no_grad():
        assert model.get_parameter(parameter)[index] != 0
        model.get_parameter(parameter)[index] = 0
    assert list_broken(dataclasses.replace(case, model=model))


@pytest.mark.parametrize("name", [name for name in BY_HAND if name != "backup_head"])
def test_verifying_a_damaged_model_fails(name: str) -> None:
    rows = verify_case(damage(toys.load(name), "W_pos"))
    assert not all(row.ok for row in rows)
    assert all(row.ok == (row.low <= row.measured <= row.high) for row in rows)


def test_a_wrong_claim_about_circuits_fails() -> None:
    """Each of: one too few, one too many, one that is not minimal; also where completeness is
    not claimed.
    """
    case = toys.load("boolean_redundant_or")
    zero = case.truth.circuits["zero"]
    (some, *others), extra = zero.edges, "m0->logits"

    def count_wrong(*edges: frozenset[str], complete: bool) -> float:
        claimed = Circuits(tuple(edges), zero.nodes, "enumeration", complete)
        truth = dataclasses.replace(
            case.truth, circuits={"zero": claimed}, signatures={}, variables={}
        )
        rows = {row.signature: row for row in verify_case(dataclasses.replace(case, truth=truth))}
        assert rows["zero circuits of nodes, wrong or missing"].ok
        return rows["zero circuits of edges, wrong or missing"].measured

    whole = frozenset().union(*zero.edges)
    assert count_wrong(*zero.edges, complete=True) == 0
    assert count_wrong(*others, complete=True) == 1
    assert count_wrong(*zero.edges, whole, complete=True) == 1
    assert count_wrong(*others, complete=False) == 0
    assert count_wrong(some, whole, some - {extra}, complete=False) == 2


def test_a_wrong_claim_about_circuits_by_position_fails() -> None:
    case = toys.load("opposite_positions")
    (right,) = case.truth.by_position["mean"].edges

    def count_wrong(*edges: frozenset[str]) -> float:
        claimed = dataclasses.replace(case.truth.by_position["mean"], edges=edges)
        truth = dataclasses.replace(
            case.truth, circuits={}, signatures={}, variables={}, by_position={"mean": claimed}
        )
        (row,) = verify_case(dataclasses.replace(case, truth=truth))
        assert row.signature == "mean circuits by position, wrong or missing"
        assert row.ok == (row.measured == 0)
        return row.measured

    assert count_wrong(right) == 0
    assert count_wrong() == 1
    assert count_wrong(right - {"input->m0 @1"}) == 2
    assert count_wrong(right, right | {"input->logits @2"}) == 1


def test_circuits_by_position_of_a_forged_case_are_checked() -> None:
    case = forge.make(0, size=1, positions="fixed")
    rows = [row for row in verify_case(case) if "by position" in row.signature]
    assert len(rows) == 3
    assert all(row.ok for row in rows)


def test_a_wrong_claim_about_a_variable_fails() -> None:
    case = toys.load("unused_feature")
    x, y = case.truth.variables["x"], case.truth.variables["y"]

    def find_bad(**changes: object) -> list[str]:
        variables = {"y": dataclasses.replace(y, **changes)}
        truth = dataclasses.replace(case.truth, circuits={}, signatures={}, variables=variables)
        return [
            row.signature
            for row in verify_case(dataclasses.replace(case, truth=truth))
            if not row.ok
        ]

    assert find_bad() == []
    assert find_bad(used=True) == ["y: change of logits when resampled"]
    assert find_bad(subspace=x.subspace) == [
        "y: read from its subspace",
        "y: change of logits when resampled",
    ]
    assert find_bad(compute=x.compute) == ["y: read from its subspace"]
