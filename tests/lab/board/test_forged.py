"""Forged models of problems: the same one for the same seed, the first that fits."""

from mini_transformer.board.forged import draw_case, order_tokens, salt
from mini_transformer.edges import list_edges


def test_a_name_and_a_seed_give_one_model_and_the_first_that_fits_is_taken() -> None:
    case = draw_case("test", 1, size=1, tasks=0)
    assert draw_case("test", 1, size=1, tasks=0) is case
    assert draw_case("test", 2, size=1, tasks=0).seed != case.seed
    edges = len(list_edges(case.model))
    other = draw_case("test", 1, lambda one: len(list_edges(one.model)) != edges, size=1, tasks=0)
    assert len(list_edges(other.model)) != edges


def test_salted_seeds_have_48_bits_and_differ() -> None:
    seeds = {salt(name, seed) for name in ("a", "b") for seed in range(50)}
    assert len(seeds) == 100
    assert 0 <= min(seeds) < max(seeds) < 2**48


def test_tokens_stand_for_the_numbers_of_the_program() -> None:
    case = draw_case("test", 1, size=1, tasks=0)
    shown = order_tokens(case)[case.program.prompts]
    everything = case.task.everything().distinct().clean
    assert {tuple(row) for row in shown.tolist()} == {tuple(row) for row in everything.tolist()}
