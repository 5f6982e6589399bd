"""Random programs: what they compute, and which are refused."""

import random

import pytest
import torch

from mini_transformer.forge.program import (
    Layout,
    Program,
    Step,
    draw_layout,
    draw_program,
    refuse,
)


def make_program(layout: Layout, *tables: tuple[str, tuple[str, str], tuple[int, ...]]) -> Program:
    """Tables at the last position, after fetching every token there."""
    last = layout.length - 1
    steps = {f"{name}@": Step("fetch", (name,), last) for name in layout.tokens}
    steps |= {name: Step("table", reads, last, table) for name, reads, table in tables}
    return Program(layout, steps, where=layout.tokens | dict.fromkeys(steps, last))


THREE = Layout(2, 4, {"x0": 0, "x1": 1, "x2": 2})
AND, OR, XOR = (0, 0, 0, 1), (0, 1, 1, 1), (0, 1, 1, 0)


def test_a_program_computes_its_tables() -> None:
    program = make_program(THREE, ("u", ("x0@", "x1@"), AND), ("v", ("u", "x2@"), XOR))
    rows = program.prompts[:, :3].tolist()
    assert program.compute(program.prompts).tolist() == [(x & y) ^ z for x, y, z in rows]
    assert program.prompts[:, 3].unique().tolist() == [THREE.marks[0]]


def test_a_step_whose_value_is_given_is_not_computed() -> None:
    program = make_program(THREE, ("u", ("x0@", "x1@"), AND), ("v", ("u", "x2@"), XOR))
    given = {"u": torch.tensor([1, 0, 1, 1, 0, 0, 1, 0])}
    rows = zip(given["u"].tolist(), program.prompts[:, 2].tolist(), strict=True)
    assert program.run(program.prompts, given)["v"].tolist() == [u ^ x2 for u, x2 in rows]


def test_a_match_brings_the_value_beside_the_key() -> None:
    layout = Layout(3, 7, {"q0": 5}, keys=2)
    program = Program(layout, {"m": Step("match", ("q0",), 5)})
    for prompt, value in zip(
        program.prompts.tolist(), program.compute(program.prompts).tolist(), strict=True
    ):
        assert prompt[prompt[:5].index(prompt[5]) + 1] == value
    assert len(program.prompts) == 2 * 9 * 2  # orders, values, queries


@pytest.mark.parametrize(
    ("tables", "why"),
    [
        ([("u", ("x0@", "x1@"), AND), ("v", ("u", "x2@"), (0, 0, 0, 0))], "constant"),
        ([("u", ("x0@", "x1@"), XOR), ("v", ("u", "x1@"), XOR)], "ignores x1"),
        ([("u", ("x0@", "x1@"), AND), ("v", ("u", "x2@"), OR)], "a sum of single inputs"),
        (
            [
                ("u", ("x0@", "x1@"), XOR),
                ("w", ("u", "x1@"), XOR),
                ("t", ("w", "x1@"), XOR),
                ("v", ("t", "x2@"), XOR),
            ],
            "equals a shorter one",
        ),
        ([("u", ("x0@", "x1@"), XOR), ("v", ("u", "x2@"), AND)], None),
    ],
)
def test_what_is_not_worth_building_is_refused(tables: list, why: str | None) -> None:
    assert refuse(make_program(THREE, *tables)) == why


def test_renaming_inputs_and_values_changes_no_form_and_another_function_does() -> None:
    one = make_program(THREE, ("u", ("x0@", "x1@"), XOR), ("v", ("u", "x2@"), AND))
    turned = make_program(THREE, ("u", ("x2@", "x1@"), XOR), ("v", ("u", "x0@"), AND))
    flipped = tuple(1 - AND[3 - i] for i in range(4))  # and, with 0 and 1 exchanged everywhere
    exchanged = make_program(
        THREE,
        ("u", ("x0@", "x1@"), tuple(1 - XOR[3 - i] for i in range(4))),
        ("v", ("u", "x2@"), flipped),
    )
    other = make_program(THREE, ("u", ("x0@", "x1@"), AND), ("v", ("u", "x2@"), XOR))
    assert one.canonical() == turned.canonical() == exchanged.canonical() != other.canonical()


def test_programs_differ() -> None:
    forms = []
    for seed in range(60):
        rng = random.Random(seed)
        program = draw_program(rng, draw_layout(rng, 3, "fixed", 1, 0), 3)
        if refuse(program) is None:
            forms.append(program.canonical())
    assert len(forms) > 20
    assert len(set(forms)) > 0.8 * len(forms)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("positions", ["fixed", "drawn"])
def test_drawn_programs_read_only_what_stands_where_they_read(positions: str, size: int) -> None:
    for seed in range(10):
        rng = random.Random(seed)
        layout = draw_layout(rng, size, positions, 2, 3)
        program = draw_program(rng, layout, size, rng.choice([None, "backup"]))
        known = dict(layout.tokens)
        for name, step in program.steps.items():
            for read in step.reads:
                assert known[read] <= step.at
                assert step.op == "fetch" or known[read] == step.at
            known[name] = step.at
        assert known[program.answer] == layout.length - 1
        assert len(program.prompts) <= 36
        values = program.compute(program.prompts)
        assert 0 <= values.min() <= values.max() < layout.n
        assert torch.equal(values, program.compute(program.prompts))
