"""The formula found is the best of all, reads as it is written, and is no longer than it must be.

Checked against: all formulas in slow loops.
"""

import itertools

import numpy as np
import pytest
import torch

from mini_transformer.methods.looking.formula_search import Formula, find_formula


def list_formulas(names, size):
    """Every formula of a size, from the definition: joins of two smaller ones in every way."""
    if size == 1:
        return [Formula(kind, (name,)) for name in names for kind in ("is", "not")]
    return [
        Formula(kind, pair)
        for left in range(1, size)
        for pair in itertools.product(list_formulas(names, left), list_formulas(names, size - left))
        for kind in ("and", "or")
    ]


@pytest.mark.parametrize("penalty", [0.0, 0.03, 0.3])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_formula_found_is_the_best_of_all_formulas(seed, penalty):
    generator = torch.Generator().manual_seed(seed)
    truth = {name: torch.rand(40, generator=generator) > 0.5 for name in "abc"}
    values = torch.randn(40, generator=generator) + 2 * (truth["a"] & ~truth["b"]) + truth["c"]

    def score(formula):
        holds = formula.holds(truth)
        if holds.all() or not holds.any():
            return -penalty * len(formula.names)
        r = np.corrcoef(holds.numpy(), values.double().numpy())[0, 1]
        return r * abs(r) - penalty * len(formula.names)

    best = max(score(formula) for size in (1, 2, 3) for formula in list_formulas("abc", size))
    found = find_formula(truth, values, max_size=3, penalty=penalty, beam=10_000)
    assert score(found) == pytest.approx(best, abs=1e-9)


def test_a_higher_penalty_gives_a_shorter_formula():
    generator = torch.Generator().manual_seed(3)
    truth = {name: torch.rand(200, generator=generator) > 0.5 for name in "abcd"}
    values = (
        torch.randn(200, generator=generator) + truth["a"] + 0.7 * truth["b"] + 0.5 * truth["c"]
    )
    sizes = [len(find_formula(truth, values, 4, penalty, 64).names) for penalty in (0.0, 0.05, 0.5)]
    assert sizes[0] > sizes[1] > sizes[2] == 1


def test_formulas_that_say_the_same_do_not_crowd_others_out_of_the_beam():
    a, b = torch.rand(2, 100, generator=torch.Generator().manual_seed(0)) > 0.5
    truth = {"a": a, "a again": a, "a once more": a, "b": b}
    found = find_formula(truth, (a ^ b).float(), max_size=4, penalty=0.01, beam=4)
    assert torch.equal(found.holds(truth), a ^ b)


def test_a_formula_reads_and_computes_as_it_is_written():
    a, b, c = (Formula("is", (name,)) for name in "abc")
    rows = torch.tensor(list(itertools.product((False, True), repeat=3)))
    truth = dict(zip("abc", rows.T, strict=True))
    for formula in (
        Formula("or", (Formula("and", (a, Formula("not", ("b",)))), c)),
        Formula("and", (a, Formula("or", (b, Formula("not", ("c",)))))),
        Formula("or", (Formula("or", (a, b)), c)),
    ):
        said = [eval(str(formula), {}, dict(zip("abc", row, strict=True))) for row in rows.tolist()]
        assert formula.holds(truth).tolist() == said
