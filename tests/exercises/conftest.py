"""Let pytest judge the shipped solutions, as `minilab grade` judges a learner's file."""

from pathlib import Path

import pytest

from mini_transformer.course.grading.student import InProcessStudent

SOLUTIONS = Path(__file__).parents[2] / "solutions"


@pytest.fixture(scope="module")
def student(request: pytest.FixtureRequest) -> InProcessStudent:
    return InProcessStudent(
        SOLUTIONS / f"{Path(request.module.__file__).stem.removeprefix('test_')}.py"
    )
