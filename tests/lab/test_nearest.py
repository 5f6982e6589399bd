"""The nearest of some names is found whatever was asked for."""

from mini_transformer.nearest import find_nearest


def test_the_nearest_name_is_found_whatever_was_asked_for():
    assert find_nearest("a0h1", ["m0", "a0.h1", "a0.h0"]) == "a0.h1"
    assert find_nearest("twoo", iter(["one", "two"])) == "two"
    assert find_nearest(7, ["m0", "a0.h7"]) == "a0.h7"
    assert find_nearest("anything else", ["m0"]) == "m0"


def test_where_nothing_is_alike_it_says_so():
    assert find_nearest("a0", []) == "none"
    assert find_nearest("a0", [], "none, no layers") == "none, no layers"
    assert find_nearest("double", ["f"], "", likeness=0.5) == ""
