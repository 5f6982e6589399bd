"""What must be true of every trap: somebody falls, somebody else does not, the right answer does
not.
"""

import pytest

from mini_transformer.board.families import find_family
from mini_transformer.board.problem import Problem

SEEDS = range(3)


def fell(problem: Problem, entrant: str) -> bool:
    family = find_family(problem.family)
    method = family.entrants.get(entrant) or family.references[entrant]
    answers = [method(*problem.arguments)]
    metrics = problem.measure(family.check_answer(answers[0], problem.arguments))
    if problem.control:
        metrics = problem.control.add(metrics, method(*problem.control.arguments))
    return problem.trap.falls(metrics)


def check_trap(family: str, name: str, faller: str, other: str) -> None:
    """`faller` falls at some of three drawn models, `other` passes at some, the oracle at all."""
    record = find_family(family)
    problems = [record.build(name, seed) for seed in SEEDS]
    for problem in problems:
        found = problem.measure(record.check_answer(problem.oracle(), problem.arguments))
        assert found[record.headline] == pytest.approx(1, abs=1e-6)
        assert not problem.trap.falls(found)
    assert any(fell(problem, faller) for problem in problems)
    assert not all(fell(problem, other) for problem in problems)
    assert problems[0].trap.what.endswith(".")
    assert 10 < len(problems[0].trap.verdict) < 90
    assert not problems[0].trap.verdict.endswith(".")
