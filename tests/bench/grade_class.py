"""Grade a class of made-up students, twenty of them odd and ten hostile, and compare the marks.

`python tests/bench/grade_class.py [200] [01]` prints seconds per submission, the most memory that
the command and a judging process took, and each mark that is not what the same file earns when it
is graded alone in this process, at the same seed. The status is 1 if there is one.
"""

import csv
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from sample_class import MATERIAL, find_marks, read_draws, remove, write_class

from mini_transformer.course.material import find_key

SEED = 2**40 + 5
JUDGE = b"course.lecturer.judge"


class Watched(NamedTuple):
    """What a run took: memory is in MB, the most at any moment."""

    status: int
    seconds: float
    own_memory: int
    judges_memory: int


def grade_and_watch(submissions: Path, out: Path, key: str, jobs: int = 2) -> Watched:
    """Run the command as a lecturer does."""
    words = ["grade", key[:2], "--jobs", str(jobs), "--seed", str(SEED)]
    paths = ["--submissions", str(submissions), "--out", str(out)]
    started = time.monotonic()
    running = subprocess.Popen(
        [sys.executable, "-m", "mini_transformer.cli", *words, *paths], stdout=subprocess.DEVNULL
    )
    own = judges = 0
    while running.poll() is None:
        time.sleep(0.2)
        own = max(own, read_peak(running.pid))
        judges = max([judges, *map(read_peak, find_judges(running.pid))])
    return Watched(running.returncode, time.monotonic() - started, own, judges)


def find_judges(pid: int) -> list[int]:
    """Find the judging processes of a run."""
    children = []
    try:
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            children += map(int, task.read_text().split())
        return [one for one in children if JUDGE in Path(f"/proc/{one}/cmdline").read_bytes()]
    except OSError:  # one has just ended
        return []


def read_peak(pid: int) -> int:
    """Read the most memory that a process has ever held, in MB."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM")), 0)


def list_faults(out: Path, marks: dict[str, float]) -> list[str]:
    """Say, a sentence each, whose mark is not what it should be."""
    with (out / "totals.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    found = {row["student"].removeprefix("'"): row["points"] for row in rows}
    faults = [f"{name} stands twice" for name in found if len(rows) > len(found)]
    faults += [f"{name} is no student" for name in found.keys() - marks.keys()]
    for name, mark in marks.items():
        if name not in found:
            faults.append(f"{name} is missing")
        elif found[name] == "" or float(found[name]) != mark:
            faults.append(f"{name} has {found[name] or 'no mark'}, not {mark:g}")
    return faults


def main(students: int, key: str) -> int:
    with tempfile.TemporaryDirectory() as folder:
        submissions, out = Path(folder) / "class", Path(folder) / "grades"
        sources = write_class(submissions, students, key)
        watched = grade_and_watch(submissions, out, key)
        marks = find_marks(sources, key, SEED, read_draws(out))
        faults = list_faults(out, marks)
        remove(submissions)
        print((out / "summary.txt").read_text(encoding="utf-8"))
    each = watched.seconds / students
    print(f"{students} submissions in {watched.seconds:.0f} s: {each:.2f} s each, as {os.getuid()}")
    print(f"MB: {watched.own_memory} the command, {watched.judges_memory} a judge")
    print("\n".join(faults) or f"all {len(marks)} marks are right")
    return bool(faults) or watched.status


if __name__ == "__main__":
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    lesson = sys.argv[2] if len(sys.argv) > 2 else "01"
    sys.exit(main(size, find_key(lesson, MATERIAL.list_keys())))
