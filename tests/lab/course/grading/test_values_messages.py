"""What the grader says to a model that is named wrongly."""

import pytest

from mini_transformer.course.grading.student import NamedModel


def test_a_model_that_is_named_wrongly_says_what_to_give():
    with pytest.raises(
        ValueError, match="expected 'random' and Config fields; send any other model as it is"
    ):
        NamedModel("toy")
