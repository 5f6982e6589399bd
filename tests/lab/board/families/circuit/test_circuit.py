"""The family of edges or nodes of a model: its record is complete, and its first method has a
score.
"""

from mini_transformer.board.families.circuit import FAMILY
from mini_transformer.board.running.jobs import Job, run_job


def test_the_first_method_finds_more_than_a_random_answer():
    problem = FAMILY.quick[0]
    rows = [run_job(Job("circuit", problem, name, 0)) for name in ("edge_patching", "random")]
    found, guessed = (row["metrics"]["auroc_best"] for row in rows)
    assert next(iter(FAMILY.entrants)) == "edge_patching"
    assert guessed < found <= 1
