"""The family of a variable's subspace: its record is complete, and its first method has a score."""

from mini_transformer.board.families.variables import FAMILY
from mini_transformer.board.running.jobs import Job, run_job


def test_the_first_method_finds_more_than_a_random_answer():
    problem = FAMILY.quick[0]
    rows = [run_job(Job("variables", problem, name, 0)) for name in ("das", "random")]
    found, guessed = (row["metrics"]["overlap"] for row in rows)
    assert next(iter(FAMILY.entrants)) == "das"
    assert guessed < found <= 1
