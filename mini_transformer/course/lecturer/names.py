"""Tell by its name whose a file is, as learning platforms write them."""

import os
import re
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from mini_transformer.course.grading.grade import make_harmless
from mini_transformer.course.lecturer.unpacking import is_wanted

# ex01_topic-1, ex01_topic (1), ex01_topic copy
COPY = re.compile(r"(?:-(\d{1,2})| ?\((\d{1,2})\)|[ _-]{1,3}copy)$", re.IGNORECASE)
NUMBER = re.compile(r"(?<![a-z])ex(?:ercises?)?[ _-]?0*(\d{1,2})(?!\d)", re.IGNORECASE)
ENDING = re.compile(r"(\.py\.txt|\.tar\.gz|\.\w+)$", re.IGNORECASE)
ARCHIVES = (".zip", ".rar", ".7z", ".gz", ".tar")
# How platforms name what they download. `order` tells which attempt is the later one.
PLATFORMS = {
    "Moodle": r"(?P<name>.+)_assignsubmission_[a-z]+_?(?P<file>.*)",
    "Canvas, anonymous": r"(?P<late>LATE_)?(?P<name>anon_[^\W_]+)_(?P<order>\d+)_(?P<file>.+)",
    "Canvas": r"(?P<name>.+?)(?P<late>_LATE)?(?P<number>_\d+)_(?P<order>\d+)_(?P<file>.+)",
    "Blackboard": (  # which adds a file about each attempt, `..._attempt_2026-11-29-12-34-56.txt`
        r".+_(?P<name>[^_]+)_attempt_(?P<order>[\d-]{19})(?:_(?P<file>.+)|\.txt)"
    ),
    "Brightspace": (
        r"\d+-\d+ - (?P<name>.+?) - (?P<date>\w+ \d+, \d{4} \d{3,4} [AP]M)(?: - (?P<file>.+))?"
    ),
}


@dataclass(frozen=True)
class Named:
    """What the name of something handed in says.

    `student` is None if the name belongs to nobody, and empty if it names a lesson and no student.
    `file` is what the student called it. `unlabelled` is a file that names no lesson either.
    """

    student: str | None
    file: str
    late: bool = False
    order: str = ""  # sorts attempts, the last one last
    unlabelled: bool = False


def read_name(path: Path, keys: Collection[str]) -> Named:
    """Read the name of a file or folder, with the keys of the lessons.

    >>> named = read_name(Path("doejane_LATE_123_4567_ex01_topic-1.py"), ["01_topic"])
    >>> named.student, named.file, named.late
    ('doejane_123', 'ex01_topic-1.py', True)
    >>> named = read_name(Path("jane_ex01_topic.py"), ["01_topic"])
    >>> named.student, named.file
    ('jane', 'ex01_topic.py')
    """
    for platform, pattern in PLATFORMS.items():
        found = re.fullmatch(pattern, path.name)
        # Canvas hands out files; a folder may well be called team_1_2_of_us
        if found is None or (platform.startswith("Canvas") and os.path.isdir(path)):
            continue
        parts = found.groupdict()
        student = parts["name"] + parts.get("number", "")
        file = parts["file"] or path.name
        return Named(student, file, bool(parts.get("late")), find_order(parts))

    if os.path.isdir(path):  # a link that leads nowhere, or round in circles, is no error here
        return Named(path.name, path.name)
    if not is_wanted(path.name) and path.suffix.lower() not in ARCHIVES:
        return Named(None, path.name)
    return read_flat_name(path.name, keys)


def find_order(parts: dict[str, Any]) -> str:
    """Write what tells earlier from later attempts so that it sorts as text."""
    if "date" in parts:
        day, time, half = parts["date"].rsplit(" ", 2)
        when = datetime.strptime(f"{day} {time:0>4} {half}", "%b %d, %Y %I%M %p")
        return when.isoformat()
    return parts.get("order", "").zfill(20)


def read_flat_name(name: str, keys: Collection[str]) -> Named:
    """Read a name such as `jane_ex01_topic (2).py`."""
    ending = ENDING.search(name)
    stem = name[: ending.start()] if ending else name
    stem = re.sub(r"^copy of ", "", stem, flags=re.IGNORECASE)
    mark = COPY.search(stem)
    bare = stem[: mark.start()] if mark else stem
    lesson = next((f"ex{key}" for key in keys if f"ex{key}" in bare), None)
    if lesson is None:
        number = NUMBER.search(bare)
        lesson = number[0] if number else ""
    student = bare.replace(lesson, "", 1).strip(" _-") if lesson else bare
    file = f"{lesson}{stem[len(bare) :]}{ending[0] if ending else ''}" if lesson else name
    return Named(student, file, unlabelled=not lesson)


def split_copy(stem: str) -> tuple[str, int]:
    """Split a name into what it is without the mark of a copy, and the copy's number.

    >>> split_copy("ex01_topic (2)"), split_copy("ex01_topic-1"), split_copy("ex01_topic")
    (('ex01_topic', 2), ('ex01_topic', 1), ('ex01_topic', 0))
    """
    mark = COPY.search(stem)
    if mark is None:
        return stem, 0
    return stem[: mark.start()], int(mark[1] or mark[2] or 0)


def spell(name: str) -> str:
    """Decode a file's name as UTF-8, or else as old Windows programs write it.

    >>> spell("zo" + chr(0xDCEB))
    'zoë'
    """
    content = name.encode("utf-8", errors="surrogateescape")
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace")


def say_harmless(text: str, longest: int = 300) -> str:
    """Write text that students chose on one line, made harmless."""
    return make_harmless(text, longest).replace("\n", " ")


def look_alike(name: str) -> str:
    """Write a name so that two names that look the same are the same."""
    return say_harmless(unicodedata.normalize("NFC", name))
