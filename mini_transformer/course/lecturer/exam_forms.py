"""Find whose answers to an exam lie in a folder, whatever learning platforms have called them.

A form is known by the number of the paper that stands in it (`paper`), and by its own name or a
folder's: what the student's folder is called, the name in the roster, or what a platform makes of
it. Where the two say different students, it is a neighbour's form.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from mini_transformer.course.lecturer.names import (
    ARCHIVES,
    read_name,
    say_harmless,
    spell,
    split_copy,
)
from mini_transformer.course.lecturer.resume import name_file
from mini_transformer.course.lecturer.roster import Enrolled, Roster, read_line
from mini_transformer.course.lecturer.submissions import list_named
from mini_transformer.course.lecturer.unpacking import Unpacked, walk

ENDING = re.compile(r"\.json(\.txt)?$", re.IGNORECASE)  # some browsers append .txt
TASK = re.compile(r"model_\d\d\b.*", re.IGNORECASE)  # which was handed out
NAMESAKE = re.compile(r" \(\d+\)$")
MOST_FILES = 1_000_000
LARGEST = 100_000  # letters of a form that are read; a blank one has 700


@dataclass(frozen=True)
class Form:
    """Hold what stands in a file, or why it cannot be read.

    `owner` is whose paper it is if that is a neighbour's, else empty.
    """

    path: str
    given: Any
    problem: str = ""
    owner: str = ""
    late: bool = False


def find_forms(
    folder: Path, numbers: Mapping[str, str], people: Mapping[str, Enrolled] | None = None
) -> tuple[dict[str, list[Form]], list[str]]:
    """Find the forms of each student, the last attempt last, and sentences on what is nobody's.

    `numbers` are of papers, with the student of each; `people` is who they are in the roster. Raise
    CourseError if the folder cannot be read.
    """
    enrolled = people or {
        student: read_line(i, [NAMESAKE.sub("", student)], {"name": 0}, ())
        for i, student in enumerate(numbers.values())
    }
    roster = Roster([], [], list(enrolled.values()))
    students = {one.line: student for student, one in enrolled.items()}
    exact = {name_file(student): student for student in numbers.values()}

    def find_student(label: str) -> str:
        found = roster.find(label)
        return exact.get(label) or (students[found[0].line] if len(found) == 1 else "")

    forms: dict[str, list[Form]] = {}
    unpacked = Unpacked(files_left=MOST_FILES)
    nobodys = []
    for top, named in list_named(folder, (), None):
        for _, file in walk(top, top.name, unpacked):
            path = say_harmless(spell(str(file.relative_to(folder))), 100)
            if file.name.lower().endswith(ARCHIVES):
                nobodys.append(f"{path} is packed: unpack it, and grade again")
            if not ENDING.search(file.name) or TASK.fullmatch(file.name) or not file.is_file():
                continue
            given, problem = read_form(file)
            number = given.get("paper") if isinstance(given, dict) else None
            owner = numbers.get(number, "") if isinstance(number, str) else ""
            called = next(filter(None, map(find_student, list_labels(folder, file))), "")
            if not owner and not called:
                nobodys.append(f"{path} is nobody's: no student has its name or its `paper`")
                continue
            # A name fits all namesakes, of whom the number says which it is.
            if owner and NAMESAKE.sub("", owner) == NAMESAKE.sub("", called):
                called = owner
            student = called or owner
            form = Form(path, given, problem, owner if owner != student else "", named.late)
            forms.setdefault(student, []).append(form)
    return forms, nobodys + [say_harmless(remark) for remark in unpacked.remarks]


def list_labels(folder: Path, file: Path) -> Iterator[str]:
    """Yield what may be a student's name in that of a file, the outermost folder's first.

    >>> list(list_labels(Path("in"), Path("in/doejane_1_22_answers.json")))
    ['doejane_1', 'doejane_1_22_answers', 'doejane_1_22_answers']
    """
    parts = PurePosixPath(file.relative_to(folder)).parts
    for depth, part in enumerate(parts):
        named = read_name(folder.joinpath(*parts[: depth + 1]), ())
        stem = ENDING.sub("", part)
        yield from filter(None, (named.student, stem, split_copy(stem)[0]))


def read_form(file: Path) -> tuple[Any, str]:
    """Read the answers in a file, or say why they cannot be read."""
    try:
        with file.open(encoding="utf-8-sig") as opened:
            given = json.loads(opened.read(LARGEST))
    except (OSError, ValueError, RecursionError) as error:
        return None, f"cannot be read ({say_harmless(str(error), 100)})"
    if not isinstance(given, dict):
        return None, "cannot be read (it holds no answers by question)"
    return given, ""
