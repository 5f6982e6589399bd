"""The family of an eraser of a label: its record is complete, and its first method has a score."""

from mini_transformer.board.families.erasure import FAMILY
from mini_transformer.board.running.jobs import Job, run_job


def test_the_first_method_finds_more_than_a_random_answer():
    problem = FAMILY.quick[0]
    rows = [run_job(Job("erasure", problem, name, 0)) for name in ("leace", "random")]
    found, guessed = (row["metrics"]["balance"] for row in rows)
    assert next(iter(FAMILY.entrants)) == "leace"
    assert guessed < found <= 1
