"""The family of a dictionary of features: its record is complete, and its first method has a
score.
"""

from mini_transformer.board.families.features import FAMILY
from mini_transformer.board.running.jobs import Job, run_job


def test_the_first_method_finds_more_than_a_random_answer():
    problem = FAMILY.quick[0]
    rows = [run_job(Job("features", problem, name, 0)) for name in ("sae_topk", "random")]
    found, guessed = (row["metrics"]["f1"] for row in rows)
    assert next(iter(FAMILY.entrants)) == "sae_topk"
    assert guessed < found <= 1
