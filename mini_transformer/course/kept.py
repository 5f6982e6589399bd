"""What a batch keeps in OUT, so that it can be killed at any moment and go on: each file's report, and the course's seed."""

import hashlib
import json
import re
import secrets
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from mini_transformer.course.judge import Order, read_report
from mini_transformer.course.material import CourseError, Material
from mini_transformer.course.progress import write_atomically
from mini_transformer.course.report import Report

PACKAGE = Path(__file__).parents[1]
LONGEST_NAME = 80  # bytes of UTF-8; file systems allow 255, those that encrypt names 143
# Windows keeps these for devices, with any ending
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d|conin\$|conout\$)(\..*)?", re.IGNORECASE)


class Kept:
    """The reports on one student that are in OUT already; a damaged file counts as none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.entries: dict[str, Any] = dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            self.entries = {}

    def find(self, key: str, fingerprint: str) -> Report | None:
        try:
            entry = self.entries[key]
            return read_report(entry["report"]) if entry["fingerprint"] == fingerprint else None
        except (KeyError, TypeError):
            return None

    def keep(self, key: str, fingerprint: str, report: Report) -> None:
        data = report.as_data()
        data.pop("solved")
        self.entries[key] = {"fingerprint": fingerprint, "report": data}
        make_folder(self.path.parent)
        write_atomically(self.path, json.dumps(self.entries))


def hash_order(order: Order, material: Material) -> str:
    """Everything that a verdict depends on: source, seed and limits, the grader, this package."""
    text = json.dumps(asdict(order) | {"material": ""}) + hash_graders(material, order.key)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@cache
def hash_graders(material: Material, key: str) -> str:
    files = [material.graders / f"test_ex{key}.py", *material.solutions.glob(f"ex{key}.*"), *PACKAGE.rglob("*.py")]
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def name_file(student: str) -> str:
    """A file name for a student; two students never share one, and an ending, or a temporary name, may be added.

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


def find_seed(out: Path, given: int | None = None) -> int:
    """The course's seed: the one given, or the one kept in OUT, or else a new one that nobody can guess; it is kept in OUT."""
    path = out / "seed.txt"
    try:
        seed = int(path.read_text()) if given is None and path.exists() else given
    except (OSError, ValueError):
        raise CourseError(f"{path} cannot be read as a number: give --seed, or delete it") from None
    seed = secrets.randbits(48) if seed is None else seed
    make_folder(out)
    write_atomically(path, f"{seed}\n")
    return seed
