"""What went wrong is said in a few words, whatever the exception holds."""

import pytest

from mini_transformer.isolation.explaining import describe_kind, summarize


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("a\nb"), "ValueError: a"),
        (ValueError("\n\n  late"), "ValueError: late"),
        (ValueError("x" * 1000), "ValueError: " + "x" * 300),
        (KeyError("k"), "KeyError: 'k'"),
        (RuntimeError(), "RuntimeError"),
    ],
    ids=range(5),
)
def test_an_exception_is_its_kind_and_the_first_line_of_what_it_says(error, said):
    assert summarize(error) == said


def test_a_kind_has_its_article():
    kinds = [describe_kind(value) for value in (None, 1, 1.0, [], OSError())]
    assert kinds == ["None", "an int", "a float", "a list", "a OSError"]
