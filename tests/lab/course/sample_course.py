"""A course of one lesson and two exercises, small enough to see through, written into a
temporary folder.
"""

from pathlib import Path

from mini_transformer.course.material import Material

SOLUTION = '''"""Exercises of lesson 01."""

import torch


def double(x):
    """Return twice x.

    The rest of the task.
    """
    # ANSWER
    # no thought needed
    return 2 * x
    # END ANSWER


def add_halves(x, y):
    """Return half of x plus half of y."""
    # ANSWER
    total = x + y

    return total / 2
    # END ANSWER
'''

FACTS = """title = "Samples"

[[exercise]]
name = "double"
lines = 1
difficulty = 1
importance = 5
minutes = 2
points = 3
hints = ["Think of sums.", "x + x.", "return x + x"]
explanation = "Doubling is adding to itself."

[[exercise]]
name = "add_halves"
lines = 2
difficulty = 2
importance = 3
minutes = 5
points = 2
hints = ["Halve later.", "Halve the sum.", "return (x + y) / 2"]
explanation = "Halving is linear."
"""

GRADER = '''
import torch
from mini_transformer.course.grading.checks import check, expect
from mini_transformer.course.grading.mutants import mutant


@mutant("double", "You squared x: twice x is x + x.")
def squares(x):
    return x**2


@mutant("add_halves", "You added x and y, but did not halve them.")
def forgets_to_halve(x, y):
    return x + y


@check("double")
def test_two_is_doubled(student):
    """Two becomes four."""
    expect(student.call("double", 2), 4)


@check("double", weight=2)
def test_tensors_are_doubled(student):
    """A tensor becomes twice as long."""
    for seed in student.seeds(2):
        x = torch.randn(3, generator=torch.Generator().manual_seed(seed))
        expect(student.call("double", x), x + x)


@check("add_halves")
def test_halves_add_up(student):
    """One and five are halved to three."""
    expect(student.call("add_halves", 1, 5), 3.0)
'''

# Of the draws of `double`, one in two cannot tell x + 2 from 2 * x, and one in five fails itself.
LUCKY_GRADER = GRADER.replace(
    "squares(x):\n    return x**2", "adds_two(x):\n    return x + 2"
).replace(
    """    for seed in student.seeds(2):
""",
    """    for seed in student.seeds(1):
        assert seed % 5
        if seed % 2:
            return
""",
)

LESSON = """# %% [markdown]
# # 1 · Samples
# ### Exercise 1.1: double

# %%
assert 1 + 1 == 2
"""


def write_course(folder: Path) -> Material:
    """Lay the sample course out like the shipped one."""
    material = Material(
        *(folder / name for name in ("lessons", "exercises", "solutions", "graders"))
    )
    for part in (material.lessons, material.exercises, material.solutions, material.graders):
        part.mkdir(parents=True)
    (material.solutions / "ex01_samples.py").write_text(SOLUTION)
    (material.solutions / "ex01_samples.toml").write_text(FACTS)
    (material.graders / "test_ex01_samples.py").write_text(GRADER)
    (material.lessons / "01_samples.py").write_text(LESSON)
    return material
