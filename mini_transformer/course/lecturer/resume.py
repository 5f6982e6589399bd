"""Keep each file's report and the course's seed in OUT, so that a killed batch can resume."""

import contextlib
import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator
from dataclasses import asdict
from functools import cache
from pathlib import Path

from mini_transformer.course.grading.grade import Report
from mini_transformer.course.grading.mutants import locate_mutants
from mini_transformer.course.lecturer.judge import Order, read_report
from mini_transformer.course.material import CourseError, Material, write_file
from mini_transformer.isolation.files import hash_files
from mini_transformer.isolation.journal import Journal

PACKAGE = Path(__file__).parents[2]
LEAST_SEED = 2**40  # smaller ones are found by trying them all within the time of a few calls
LONGEST_NAME = 80  # bytes of UTF-8; file systems allow 255, those that encrypt names 143
# Windows reserves these names for devices, with any ending.
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d|conin\$|conout\$)(\..*)?", re.IGNORECASE)


class Kept:
    """Keep the reports on one student in OUT. A line that a crash has torn counts as none."""

    def __init__(self, path: Path) -> None:
        try:
            self.journal = Journal(path)
        except OSError as error:
            raise CourseError(f"{path} cannot be read: {error.strerror or error}") from None

    def find(self, key: str, fingerprint: str) -> Report | None:
        """Find the report on this lesson, if it was made under the same conditions."""
        entry = self.journal.entries.get(f"{key} {fingerprint}")
        try:
            return None if entry is None else read_report(entry)
        except (KeyError, TypeError):
            return None

    def keep(self, key: str, fingerprint: str, report: Report) -> None:
        """Keep a report; it is on the disk when this returns.

        Raise CourseError if it cannot be written.
        """
        data = report.as_data()
        data.pop("solved")
        try:
            self.journal.append(f"{key} {fingerprint}", data)
        except OSError as error:
            why = error.strerror or error
            raise CourseError(f"{self.journal.path} cannot be written: {why}") from None


def hash_order(order: Order, material: Material) -> str:
    """Hash all that a verdict depends on: source, seed, limits, grader, and this package."""
    conditions = asdict(order) | {"material": ""}
    text = json.dumps(conditions) + hash_graders(material, order.key)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@cache
def hash_graders(material: Material, key: str) -> str:
    """Hash the grader of a lesson, its mutants and solution, and this package."""
    grader = material.graders / f"test_ex{key}.py"
    mutants = filter(Path.exists, [locate_mutants(grader)])
    solutions = material.solutions.glob(f"ex{key}.*")
    return hash_files([grader, *mutants, *solutions, *PACKAGE.rglob("*.py")])


def name_file(student: str) -> str:
    """Name a file for a student, so that two students never share a name.

    An ending, or what marks a temporary file, may be added to the name.

    >>> name_file("Jane Doe_123"), name_file("../jane"), name_file("con")
    ('Jane Doe_123', 'jane-59d0ad3a', 'con-1143da2b')
    """
    short = re.sub(r"[^\w .@+-]", "_", student).encode()[:LONGEST_NAME]
    safe = short.decode(errors="ignore").strip(" ._")
    if safe == student and not RESERVED.fullmatch(safe):
        return safe
    return f"{safe}-{hashlib.sha256(student.encode()).hexdigest()[:8]}"


def make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CourseError(f"{path} cannot be written: {error.strerror or error}") from None


def draw_seed() -> int:
    """Draw a seed that nobody can guess."""
    return LEAST_SEED + secrets.randbits(60)


def check_seed(seed: int) -> int:
    """Return a class's seed. Raise ValueError if students can guess it."""
    if not LEAST_SEED <= seed < 2**63:
        can = f"leave it out, or give {LEAST_SEED} or more, below 2**63"
        raise ValueError(f"--seed is {seed}, which students can guess: {can}")
    return seed


@contextlib.contextmanager
def hold_folder(out: Path) -> Iterator[None]:
    """Make OUT, and keep other runs out of it until the block, or this process, ends.

    Raise CourseError if another run writes there, or if there can be no such folder.
    """
    import fcntl  # not on Windows, where nothing is graded

    make_folder(out)
    try:
        folder = os.open(out, os.O_RDONLY)
    except OSError as error:
        raise CourseError(f"{out} cannot be read: {error.strerror or error}") from None
    try:
        with contextlib.suppress(OSError):  # of file systems without locks
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                wait = "wait until it has ended, or give another --out"
                raise CourseError(f"another run writes into {out}: {wait}") from None
        yield
    finally:
        os.close(folder)


def find_settings(
    out: Path, seed: int | None = None, by_student: bool | None = None
) -> tuple[int, bool]:
    """Return the course's seed, and whether each student has inputs of their own; keep both in OUT.

    They are those given, or else those kept in OUT, or else a new seed that nobody can guess and
    one variant for all. Raise CourseError if what is kept cannot be read.
    """
    path = out / "settings.json"
    try:
        kept = json.loads(path.read_text()) if path.exists() else {}
        own_seed = int(kept.get("seed", draw_seed())) if seed is None else seed
        own_variants = bool(kept.get("by_student")) if by_student is None else by_student
    except (OSError, ValueError, AttributeError, TypeError):
        raise CourseError(f"{path} cannot be read: give --seed, or delete it") from None
    make_folder(out)
    write_file(path, json.dumps({"seed": own_seed, "by_student": own_variants}) + "\n")
    return own_seed, own_variants
