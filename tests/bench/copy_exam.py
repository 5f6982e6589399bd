"""See what somebody earns in an exam who knows only a neighbour's right answers.

`python tests/bench/copy_exam.py [200]` makes an exam and prints the mean total of all students,
each with the answers of ten neighbours, by how the answers are copied and how firmly they are
believed (the rest is what is right as often in the class). 0 is a guess, 1 knows all.
"""

import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mini_transformer.course.lecturer.exam import (
    Answers,
    Paper,
    count_right,
    make_exam,
    name_kind,
    read_papers,
    score_question,
)

BELIEFS = (1.0, 0.5, 0.2)


WAYS = {  # what of a name is not looked at, where answers to items of the same name are copied
    "name": "^$",
    "name but for heads": r"\.h\d+",
    "kind": r"\d+",
    "position": ".*",  # then the n-th answer is
}


def find_copies(question: str, paper: Paper, other: Paper, way: str) -> Iterator[list[Any]]:
    """Yield for each item the answers that are copied."""
    named = [(re.sub(WAYS[way], "", name), right) for name, right in other.right[question].items()]
    for i, item in enumerate(paper.right[question]):
        if way == "position":
            yield [right for _, right in named[i : i + 1]]
        else:
            yield [right for name, right in named if name == re.sub(WAYS[way], "", item)]


def copy_answers(paper: Paper, other: Paper, way: str, belief: float, prior: dict) -> Answers:
    """Answer as another student, believed so far, and else as a guess does."""
    given: Answers = {}
    for question, items in paper.right.items():
        given[question] = {}
        for item, seen in zip(items, find_copies(question, paper, other, way), strict=True):
            known = prior[name_kind(question, item)]
            count = Counter(map(str, seen))
            trust = belief if seen else 0.0
            chances = {
                answer: trust * count[answer] / max(1, len(seen)) + (1 - trust) * share
                for answer, share in (dict.fromkeys(count, 0.0) | known).items()
            }
            given[question][item] = chances if question == "roles" else chances.get("True", 0.0)
    return given


def measure(papers: list[Paper], way: str, belief: float, neighbours: int = 10) -> float:
    """Return the mean total of all, with one neighbour's answers each, for some neighbours."""
    prior = count_right(papers)
    totals = []
    for i, paper in enumerate(papers):
        for shift in range(1, min(neighbours + 1, len(papers))):
            given = copy_answers(paper, papers[i - shift], way, belief, prior)
            scores = [
                score_question(question, right, given, prior, [])
                for question, right in paper.right.items()
            ]
            totals.append(sum(scores) / len(scores))
    return sum(totals) / len(totals)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        n = int(sys.argv[1]) if len(sys.argv) > 1 else 200
        make_exam([f"Student {i}" for i in range(n)], Path(folder) / "exam")
        papers = read_papers(Path(folder) / "exam.key.json")
    for way in WAYS:
        earned = [f"{measure(papers, way, belief):6.3f}" for belief in BELIEFS]
        print(f"{way:20}", *earned, f"  believed {BELIEFS}")
