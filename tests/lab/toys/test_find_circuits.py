"""The enumeration against its definition, on random models where nothing is known and working
sets are not monotone.
"""

from itertools import combinations

import pytest
import torch
from torch import Tensor

from mini_transformer import Config, Transformer, toys
from mini_transformer.edges import list_edges, list_writers, mask_of, run_edges, write_outputs
from mini_transformer.toys.find_circuits import (
    find_circuits,
    is_minimal,
    list_live_edges,
    list_live_switches,
)
from mini_transformer.toys.truth import Batch

BY_HAND = [
    "induction_by_hand",
    "induction_rotated",
    "boolean_xor",
    "boolean_redundant_or",
    "backup_head",
    "unused_feature",
]
ABLATIONS = ["zero", "mean", "resample"]


def make_random_case(seed: int, n_prompts: int, norm: str = "none") -> tuple[Transformer, Batch]:
    """A small random model with biases, and as answers whatever it says."""
    model = Transformer(
        Config(d_vocab=5, n_ctx=4, d_model=6, n_layers=1, d_mlp=8, biases=True, norm=norm), seed
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        clean, corrupt = torch.randint(5, (2, n_prompts, 4), generator=generator)
        answer, wrong = (model(tokens)[:, -1].argmax(dim=-1) for tokens in (clean, corrupt))
    return model, Batch(clean, corrupt, answer, wrong, torch.full((n_prompts,), 3))


def list_working_slowly(
    model: Transformer, batch: Batch, ablation: str, columns: dict[str, Tensor]
) -> list[frozenset[str]]:
    """All subsets that answer every prompt, one forward run each."""
    off = write_outputs(model, batch.corrupt if ablation == "resample" else batch.clean, ablation)
    working = []
    for size in range(len(columns) + 1):
        for subset in combinations(columns, size):
            mask = sum((columns[name] for name in subset), torch.zeros(len(list_edges(model))))
            logits = run_edges(model, batch.clean, mask[None], off)[0]
            if all(logits[i, 3].argmax() == answer for i, answer in enumerate(batch.answer)):
                working.append(frozenset(subset))
    return working


@pytest.mark.parametrize("ablation", ABLATIONS)
@pytest.mark.parametrize("n_prompts", [1, 3])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_circuits_found_are_those_of_which_no_smaller_part_works(
    ablation: str, seed: int, n_prompts: int
) -> None:
    model, batch = make_random_case(seed, n_prompts)
    edges = {edge: mask_of(model, [edge]) for edge in list_edges(model)}
    nodes = {
        n: mask_of(model, [edge for edge in edges if edge.startswith(f"{n}->")])
        for n in list_writers(model)
    }
    for level, columns in (("edges", edges), ("nodes", nodes)):
        working = list_working_slowly(model, batch, ablation, columns)
        minimal = {subset for subset in working if not any(other < subset for other in working)}
        minimal = minimal if level == "edges" else {subset | {"logits"} for subset in minimal}
        assert set(find_circuits(model, batch, ablation, level)) == minimal


@pytest.mark.parametrize("ablation", ABLATIONS)
@pytest.mark.parametrize(("answered", "norm"), [(0, "none"), (1, "none"), (1, "rms")])
def test_the_circuits_by_position_are_those_of_all_sets_of_switches(
    ablation: str, answered: int, norm: str
) -> None:
    """All 2^16 sets, also of switches that cannot matter; the answer is read at either position."""
    model, batch = make_random_case(seed=3, n_prompts=2, norm=norm)
    clean, corrupt = batch.clean[:, :2], batch.corrupt[:, :2]
    with torch.no_grad():
        answer = model(clean)[:, answered].argmax(dim=-1)
    batch = Batch(clean, corrupt, answer, (answer + 1) % 5, torch.full((2,), answered))
    off = write_outputs(model, corrupt if ablation == "resample" else clean, ablation)
    names = [f"{edge} @{position}" for edge in list_edges(model) for position in range(2)]
    assert len(names) == 16
    sets = (torch.arange(2**16).unsqueeze(1) >> torch.arange(16) & 1).float()
    minimal: list[frozenset[str]] = []
    with torch.no_grad():
        runs = [run_edges(model, clean, some.view(-1, 8, 2), off) for some in sets.split(8192)]
    works = batch.correct(torch.cat(runs)).all(dim=1)
    for row in sorted(sets[works].tolist(), key=sum):
        own = frozenset(name for name, on in zip(names, row, strict=True) if on)
        if not any(other <= own for other in minimal):
            minimal.append(own)
    assert set(find_circuits(model, batch, ablation, "positions")) == set(minimal)
    assert minimal
    live = list_live_switches(model, batch, ablation)
    assert set().union(*minimal) <= set(live)
    assert all(int(name[-1]) <= answered for name in live)  # nothing looks ahead
    assert all(is_minimal(model, batch, ablation, one, "positions") for one in minimal[:3])
    assert not is_minimal(model, batch, ablation, minimal[0] | set(names[-3:]), "positions")


def test_some_random_models_work_with_a_part_and_not_with_more_of_it() -> None:
    """So that the test above covers what is hard: monotone cases would forgive a search from
    above.
    """
    model, batch = make_random_case(seed=0, n_prompts=1)
    working = list_working_slowly(
        model, batch, "zero", {edge: mask_of(model, [edge]) for edge in list_edges(model)}
    )
    assert any(part | {edge} not in working for part in working for edge in list_edges(model))


@pytest.mark.parametrize("name", BY_HAND)
def test_switching_an_edge_that_is_not_live_changes_nothing(name: str) -> None:
    case, generator = toys.load(name, seed=1), torch.Generator().manual_seed(0)
    batch, edges = case.task.draw(8), list_edges(case.model)
    live = mask_of(case.model, list_live_edges(case.model))
    masks = torch.randint(2, (32, len(edges)), generator=generator).float()
    others = masks * live + torch.randint(2, masks.shape, generator=generator) * (1 - live)
    for ablation in ABLATIONS:
        off = write_outputs(case.model, batch.corrupt, ablation)
        with torch.no_grad():
            one, other = (run_edges(case.model, batch.clean, some, off) for some in (masks, others))
        torch.testing.assert_close(one, other, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    "name", ["induction_by_hand", "boolean_xor", "boolean_redundant_or", "unused_feature"]
)
def test_every_live_edge_matters_under_some_mask(name: str) -> None:
    case, generator = toys.load(name), torch.Generator().manual_seed(0)
    batch, live = case.task.draw(4), list_live_edges(case.model)
    off = write_outputs(case.model, batch.clean, "zero")
    for edge in live:
        column = mask_of(case.model, [edge])
        masks = (torch.rand(64, len(column), generator=generator) < 0.8).float()
        with torch.no_grad():
            on, without = (
                run_edges(case.model, batch.clean, some, off)
                for some in (masks.clamp(min=column), masks * (1 - column))
            )
        assert (on - without).abs().max() > 1e-3, edge


def test_every_edge_is_live_in_a_random_model_and_behind_a_norm() -> None:
    model, _ = make_random_case(seed=0, n_prompts=1)
    assert list_live_edges(model) == list_edges(model)
    normed = Transformer(Config(d_vocab=5, n_ctx=4, d_model=6, n_layers=1, norm="layer"))
    assert list_live_edges(normed) == list_edges(normed)


def test_a_search_among_some_edges_leaves_the_others_off() -> None:
    case = toys.load("boolean_redundant_or")
    one = case.truth.circuits["zero"].edges[0]
    assert find_circuits(case.model, case.task.everything(), "zero", among=one) == (one,)
    lacking = one - {"m0->logits"}
    assert find_circuits(case.model, case.task.everything(), "zero", among=lacking) == ()


def test_rotation_noise_does_not_count_as_a_connection() -> None:
    """Exactly zero in the plain model is about 1e-9 of the norms in the rotated one; few more
    edges seem live.
    """
    assert len(list_live_edges(toys.load("induction_by_hand").model)) == 7
    assert len(list_live_edges(toys.load("induction_rotated").model)) == 11
