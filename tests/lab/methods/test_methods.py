"""What is imported from `methods`: every technique, and old names that say the new one."""

import pytest

from mini_transformer import methods
from mini_transformer.methods.renamed import RENAMED


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_an_old_name_is_the_new_function_and_warns(old, new):
    assert old not in methods.__all__
    with pytest.warns(DeprecationWarning, match=f"methods.{old} is called {new}$"):
        assert getattr(methods, old) is getattr(methods, new)


def test_a_name_that_never_was_is_refused():
    with pytest.raises(AttributeError, match="has no attribute 'find_everything'"):
        methods.find_everything  # noqa: B018
