"""Time the grading of 200 students, and see whether the grader's memory stays flat.

`python tests/bench/grade_class.py [students]` prints seconds per submission, the processor's time
per submission (of the graders; what runs in the sandboxes is not counted), and the memory of the
command and of its judging processes at five moments of the run.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from sample_class import write_class

COMMAND = [
    sys.executable,
    "-m",
    "mini_transformer.cli",
    "grade",
    "01",
    "--jobs",
    "2",
    "--seed",
    "0",
]


def find_graders(pid: int) -> list[int]:
    """Find the command and its judging processes."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    threads = [path.read_text().split() for path in children.parents[1].glob("*/children")]
    return [pid, *(int(child) for part in threads for child in part)]


def read_megabytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) // 1024 for line in lines if line.startswith("VmRSS")), 0)


def count_done(out: Path) -> int:
    return len(list((out / "kept").glob("*.jsonl")))


def main(students: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        submissions, out = Path(folder) / "class", Path(folder) / "grades"
        write_class(submissions, students)
        started = time.monotonic()
        command = [*COMMAND, "--submissions", str(submissions), "--out", str(out)]
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        shown = 0
        while running.poll() is None:
            time.sleep(1)
            if count_done(out) >= (shown + 1) * students // 6:
                shown += 1
                memory = [read_megabytes(pid) for pid in find_graders(running.pid)]
                print(
                    f"{count_done(out):4} files done after {time.monotonic() - started:5.0f} s, "
                    f"MB: {memory}",
                    flush=True,
                )
        seconds = time.monotonic() - started
        used = os.times()
        own = (used.children_user + used.children_system) / students
        print(
            f"{students} submissions in {seconds:.0f} s: {seconds / students:.2f} s each, "
            f"{own:.2f} s of graders' time"
        )
        print(f"status {running.returncode}\n{(out / 'summary.txt').read_text()}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
