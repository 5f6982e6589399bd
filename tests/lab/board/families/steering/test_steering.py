"""The family of a steering vector and its hook: its record is complete, and its first method has a
score.
"""

from mini_transformer.board.families.steering import FAMILY
from mini_transformer.board.running.jobs import Job, run_job


def test_the_first_method_finds_more_than_a_random_answer():
    problem = FAMILY.quick[0]
    rows = [run_job(Job("steering", problem, name, 0)) for name in ("mean_difference", "random")]
    found, guessed = (row["metrics"]["specificity"] for row in rows)
    assert next(iter(FAMILY.entrants)) == "mean_difference"
    assert guessed < found <= 1
