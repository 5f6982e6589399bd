"""What a task says to prompts that it cannot draw: one sentence, with what it can."""

import re

import pytest

from mini_transformer import toys


@pytest.mark.parametrize("name", toys.names())
def test_an_unknown_corruption_lists_those_that_exist(name):
    task = toys.load(name).task
    known = re.escape(f"this task can corrupt prompts by {task.corruptions}")
    with pytest.raises(ValueError, match=f"corrupt is 'nothing', but {known}"):
        task.draw(3, corrupt="nothing")


def test_a_batch_needs_a_prompt():
    with pytest.raises(ValueError, match="a batch of 0 prompts was asked for; expected at least 1"):
        toys.load("unused_feature").task.draw(0)
