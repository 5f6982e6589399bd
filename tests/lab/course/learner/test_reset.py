"""A stub is put back without losing what the learner has written."""

from learner_file import ANSWER

from mini_transformer.course.learner.reset import locate_function


def test_the_stub_is_put_back_into_a_script_with_commands(tmp_path):
    text = "%pip install \\\n  einops\n# %%\nbroken(\n# %%\n" + ANSWER
    assert locate_function(text, "f") == slice(5, 7)
