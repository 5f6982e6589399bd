"""Try many draws of every exercise's inputs on all its right and wrong answers, and count errors.

`python tests/bench/try_draws.py OUT.jsonl DRAWS [part of lesson/exercise ...]`. A draw of all
lessons takes about four minutes of a processor. What OUT.jsonl has already is not tried again.
"""

import sys
import time
from collections import Counter
from pathlib import Path

from mini_transformer.course.exercises import read_course
from mini_transformer.course.grading.draws import find_misjudged
from mini_transformer.course.material import find_material
from mini_transformer.isolation.journal import Journal

BASE_SEED = 2**40 + 17


def main(out: str, n_draws: str, *parts: str) -> None:
    material = find_material()
    journal = Journal(Path(out))
    exercises = [
        exercise
        for exercise in read_course(material)
        if any(part in f"{exercise.key}/{exercise.name}" for part in parts or ("",))
    ]
    for draw in range(int(n_draws)):
        for exercise in exercises:
            key = f"{exercise.key}/{exercise.name} {draw}"
            if key not in journal.entries:
                started = time.process_time()
                misjudged = list(find_misjudged(material, exercise, BASE_SEED, draw))
                seconds = round(time.process_time() - started, 2)
                journal.append(key, {"misjudged": misjudged, "seconds": seconds})
    print(describe(journal))


def describe(journal: Journal) -> str:
    """Make a table: an exercise's draws, seconds for each, and what they misjudge how often."""
    draws = Counter(key.split()[0] for key in journal.entries)
    lines = []
    for name, n in draws.items():
        entries = [entry for key, entry in journal.entries.items() if key.split()[0] == name]
        seconds = sum(entry["seconds"] for entry in entries) / n
        found = Counter(each for entry in entries for each in entry["misjudged"])
        said = ", ".join(f"{each} ({times})" for each, times in found.items()) or "-"
        lines.append(f"{name:45}{n:4} draws{seconds:7.1f} s  {said}")
    return "\n".join(lines)


if __name__ == "__main__":
    main(*sys.argv[1:])
