"""Models that run programs, in a basis that can be read."""

import random

import pytest
import torch

from mini_transformer.edges import list_edges
from mini_transformer.forge.building import (
    STRENGTH,
    THRESHOLD,
    Head,
    Neurons,
    build,
    find_places,
    list_parts,
    make_stream,
    place_steps,
)
from mini_transformer.forge.program import draw_layout, draw_program
from mini_transformer.toys.find_circuits import list_live_edges


def draw(seed: int, size: int = 3, redundancy: str | None = None, positions: str = "fixed", most=3):
    rng = random.Random(seed)
    layout = draw_layout(rng, size, positions, 1, 0)
    program = draw_program(rng, layout, size, redundancy)
    placement = place_steps(program, rng, most)
    stream = make_stream([program], [placement])
    parts = list_parts(program, placement, stream, 0, 12)
    made = build(parts, stream, program, n_layers=placement.n_layers, rng=rng)
    return program, parts, made


@pytest.mark.parametrize("redundancy", [None, "second way", "backup"])
@pytest.mark.parametrize("positions", ["fixed", "drawn"])
@pytest.mark.parametrize("seed", range(6))
def test_a_built_model_says_what_the_program_says(
    seed: int, positions: str, redundancy: str | None
) -> None:
    program, _, made = draw(seed, 1 + seed, redundancy, positions)
    with torch.no_grad():
        logits = made.model(program.prompts)[:, -1]
    assert torch.equal(logits.argmax(dim=1), program.compute(program.prompts))
    top = logits.topk(2).values
    # "." comes second.
    assert (top[:, 0] - top[:, 1]).min() > (1 - THRESHOLD) * STRENGTH - 0.1


def test_a_step_has_its_own_directions_and_carries_the_variable_there() -> None:
    program, parts, made = draw(3)
    with torch.no_grad():
        _, cache = made.model.run_with_cache(program.prompts)
    values = program.run(program.prompts)
    for name, step in program.steps.items():
        if name != program.answer:
            last = made.model.config.n_layers - 1
            found = cache["resid_post", last][:, step.at] @ made.stream[f"0:{name}"].T
            right = torch.nn.functional.one_hot(values[name], program.layout.n).float()
            torch.testing.assert_close(found, right, rtol=0, atol=1e-2)
    assert {part.role for part in parts} <= {"fetch", "mark", "look_up", "copy"}


@pytest.mark.parametrize("seed", range(6))
def test_edges_act_at_the_positions_they_are_meant_for(seed: int) -> None:
    _, parts, made = draw(seed)
    places = find_places(made, parts)
    assert set(places) == set(list_live_edges(made.model))
    assert set(places) <= set(list_edges(made.model))


def test_no_two_neurons_or_heads_need_be_equally_strong() -> None:
    """What is equally strong in every model can be read off the weights."""
    _, parts, _ = draw(0)
    gains = torch.cat([1 - part.bias for part in parts if isinstance(part, Neurons)])
    strengths = [part.always or part.query.norm() for part in parts if isinstance(part, Head)]
    assert len(gains.unique()) > 0.9 * len(gains)
    assert len({round(float(one), 3) for one in strengths}) == len(strengths) > 1


def test_a_program_is_placed_and_looks_in_many_ways() -> None:
    """Where a circuit's edges stand must not be the same in every model."""
    placements = []
    for seed in range(40):
        rng = random.Random(seed)
        program = draw_program(rng, draw_layout(rng, 3, "fixed", 1, 0), 3)
        placements.append(place_steps(program, rng, most=4))
    layers = [layer for one in placements for layer in one.layers.values()]
    assert {0, 1, 2, 3, 4} <= set(layers)
    asks = [way for one in placements for way in one.asks.values()]
    finds = [way for one in placements for way in one.finds.values()]
    assert set(asks) == {"mark", "position", "everywhere"}
    assert set(finds) == {"mark", "position"}
    assert max(asks.count("position"), finds.count("position")) < 0.3 * len(asks)
