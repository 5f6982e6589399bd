"""What the search for circuits says to what it cannot search."""

import pytest

from mini_transformer import Config, Transformer, toys
from mini_transformer.toys.find_circuits import find_circuits


def test_the_search_for_circuits_says_what_it_cannot_search():
    case = toys.load("boolean_and")
    batch = case.task.everything()
    with pytest.raises(ValueError, match="level is 'heads', but must be 'edges' or 'nodes'"):
        find_circuits(case.model, batch, "zero", "heads")
    with pytest.raises(
        ValueError, match="ablation is 'median', but must be 'zero', 'mean' or 'resample'"
    ):
        find_circuits(case.model, batch, "median")
    with pytest.raises(KeyError, match="no edge is called 'm0->m1'"):
        find_circuits(case.model, batch, "zero", among=["m0->m1"])
    with pytest.raises(KeyError, match="no node is called 'm1' in this model; it has"):
        find_circuits(case.model, batch, "zero", "nodes", among=["m1"])
    big = Transformer(Config(d_vocab=4, n_ctx=6, d_model=8, n_layers=2, n_heads=2))
    with pytest.raises(
        ValueError, match="29 edges have too many subsets, at most 20 have few enough: give `among`"
    ):
        find_circuits(big, batch, "zero")
