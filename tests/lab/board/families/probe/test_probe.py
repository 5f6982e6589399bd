"""The family of a probe of a label: its record is complete, and its first method has a score."""

from mini_transformer.board.families.probe import FAMILY
from mini_transformer.board.running.jobs import Job, run_job


def test_the_first_method_finds_more_than_a_random_answer():
    problem = FAMILY.quick[0]
    rows = [run_job(Job("probe", problem, name, 0)) for name in ("linear", "random")]
    found, guessed = (row["metrics"]["cosine"] for row in rows)
    assert next(iter(FAMILY.entrants)) == "linear"
    assert guessed < found <= 1
