"""Find whose submissions are in a folder, and which file answers which lesson.

Folders come as lecturers get them: one per student, flat files, what Canvas and Moodle download, a
zip each, all of it mixed. Nothing that students hand in is imported, and no link is followed. What
is wrong with it becomes a sentence in their report.
"""

import hashlib
import os
import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from mini_transformer.course.grading.grade import make_harmless
from mini_transformer.course.grading.sources import SourceError, read_source
from mini_transformer.course.lecturer.unpacking import Unpacked, is_wanted, unpack
from mini_transformer.course.material import CourseError

# ex01_topic-1, ex01_topic (1), ex01_topic copy
COPY = re.compile(r"(?:-(\d{1,2})| ?\((\d{1,2})\)|[ _-]{1,3}copy)$", re.IGNORECASE)
NUMBER = re.compile(r"(?<![a-z])ex(?:ercises?)?[ _-]?0*(\d{1,2})(?!\d)", re.IGNORECASE)
# A pattern, because building the syntax tree of hostile source can end the process that does it.
DEFINED = re.compile(r"^def (\w+)", re.MULTILINE)

Functions = Mapping[str, Collection[str]]  # the names of each lesson's exercises, by its key


@dataclass
class Candidate:
    """Hold a file with its source, or with the reason why it has none."""

    name: str
    source: bytes = b""
    changes: list[str] = field(default_factory=list)
    problem: str = ""

    @property
    def stem(self) -> str:
        """Return the file's own name without its ending."""
        name = PurePosixPath(self.name).name
        return re.sub(r"\.(ipynb|py|py\.txt)$", "", name, flags=re.IGNORECASE)

    def defines(self, names: Collection[str]) -> bool:
        return not set(names).isdisjoint(DEFINED.findall(self.source.decode(errors="replace")))


def make_candidate(name: str, content: bytes) -> Candidate:
    try:
        return Candidate(name, *read_source(name, content))
    except SourceError as error:
        return Candidate(name, problem=str(error))


def rank_candidates(key: str, candidates: list[Candidate], functions: Functions) -> list[Candidate]:
    """Rank the files that may answer this lesson, the likeliest first.

    A file named `ex01_topic` comes first, then one whose name has the lesson's number. A matching
    name is ignored if the file defines only functions of another lesson. If no name fits, any file
    counts that defines functions of this lesson. Ties go to the latest copy, then to a script
    before a notebook, then to the file in the outermost folder, then to the last one.
    """
    ranked = []
    for order, candidate in enumerate(candidates):
        named = rank_name(key, candidate.stem)
        others = any(candidate.defines(names) for other, names in functions.items() if other != key)
        if candidate.defines(functions[key]) or (named < 2 and not others):
            copy = split_copy(candidate.stem)[1]
            notebook = candidate.name.lower().endswith(".ipynb")
            depth = candidate.name.count("/")
            ranked.append((named, -copy, notebook, depth, -order, candidate))

    ranked.sort(key=lambda entry: entry[:-1])
    return [candidate for named, *_, candidate in ranked if named < 2 or ranked[0][0] == 2]


def rank_name(key: str, stem: str) -> int:
    """Return 0 if the name is the lesson's, 1 if it has the lesson's number, otherwise 2.

    >>> [rank_name("01_topic", stem) for stem in ("jane_ex01_topic-1", "Ex1 final", "answers")]
    [0, 1, 2]
    """
    if f"ex{key}" in stem:
        return 0
    number = NUMBER.search(stem)
    return 1 if number and int(number[1]) == int(key[:2]) else 2


def split_copy(stem: str) -> tuple[str, int]:
    """Split a name into what it is without the mark of a copy, and the copy's number.

    >>> split_copy("ex01_topic (2)"), split_copy("ex01_topic-1"), split_copy("ex01_topic")
    (('ex01_topic', 2), ('ex01_topic', 1), ('ex01_topic', 0))
    """
    mark = COPY.search(stem)
    if mark is None:
        return stem, 0
    return stem[: mark.start()], int(mark[1] or mark[2] or 0)


def say_missing(keys: Collection[str], there: Sequence[str]) -> str:
    """Say that a lesson's file was not handed in, and name the files that were.

    >>> say_missing(["01_topic", "02_other"], ["notes.pdf"])
    'no ex01_topic.py, ex02_other.py was handed in; there were notes.pdf'
    """
    missing = f"no {', '.join(f'ex{key}.py' for key in keys)} was handed in"
    if not there:
        return missing
    more = f" and {len(there) - 5} more" if len(there) > 5 else ""
    return f"{missing}; there were {', '.join(there[:5])}{more}"


CANVAS = re.compile(r"(?P<name>[^_]+)(?P<late>_LATE)?_(?P<number>\d+)_(?P<upload>\d+)_(?P<file>.+)")
MOODLE = re.compile(r"(?P<name>.+_\d+)_assignsubmission_[a-z]+_?(?P<file>.*)")


@dataclass
class Handed:
    """Hold all paths that one student handed in, each with the name the student gave it."""

    student: str
    paths: list[tuple[Path, str]] = field(default_factory=list)  # later ones were uploaded later
    late: bool = False


@dataclass(frozen=True)
class Submission:
    """Hold, for each lesson, the source of a student's file, or why there is none.

    `missing` are the lessons for which no file was handed in. `there` are the names of all files.
    `remarks` say how the files came.
    """

    student: str
    sources: dict[str, bytes]
    problems: dict[str, str]
    missing: list[str]
    there: list[str]
    remarks: list[str]


def find_students(
    folder: Path, keys: Collection[str], leave_out: Path | None = None
) -> tuple[list[Handed], list[str]]:
    """Find what each student handed in, sorted by name, and what belongs to nobody.

    Raise CourseError if there is no submission in `folder`.
    """
    if not folder.is_dir():
        raise CourseError(
            f"{folder} is no folder: give the one that the submissions were unpacked into"
        )
    try:
        paths = sorted(folder.iterdir(), key=sort_uploads)
    except OSError as error:
        raise CourseError(f"{folder} cannot be read: {error.strerror or error}") from None

    students: dict[str, Handed] = {}
    nobodys: list[str] = []
    exact_names: dict[str, str] = {}  # by the name that is shown
    for path in paths:
        is_left_out = leave_out and folder.resolve() / path.name == leave_out.resolve()
        if path.name.startswith((".", "__")) or is_left_out:
            continue

        student, name, late = name_student(path, keys)
        if student is None:
            nobodys.append(say_harmless(spell(path.name), 100))
            continue

        exact = unicodedata.normalize("NFC", spell(student or folder.resolve().name))
        shown = say_harmless(exact)
        # Two names may differ only in what cannot be shown.
        if exact_names.setdefault(shown, exact) != exact:
            shown = f"{shown} {hashlib.sha256(exact.encode(errors='replace')).hexdigest()[:4]}"
        handed = students.setdefault(shown, Handed(shown))
        handed.paths.append((path, spell(name)))
        handed.late |= late

    if not students:
        raise CourseError(
            f"{folder} holds no submissions: "
            "a folder, a zip or .py files for each student are expected"
        )
    return sorted(students.values(), key=lambda handed: handed.student), nobodys


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


def sort_uploads(path: Path) -> tuple[int, str]:
    """Return a key that sorts by Canvas' number of the upload, which grows, then by name."""
    canvas = CANVAS.fullmatch(path.name)
    return int(canvas["upload"]) if canvas else 0, path.name


def name_student(path: Path, keys: Collection[str]) -> tuple[str | None, str, bool]:
    """Return the student, the file's name without them, and whether it says LATE.

    The student is None if the file is nobody's, and empty if the file's name does not say whose it
    is.

    >>> name_student(Path("doejane_LATE_123_4567_ex01_topic-1.py"), ["01_topic"])
    ('doejane_123', 'ex01_topic-1.py', True)
    >>> name_student(Path("jane_ex01_topic.py"), ["01_topic"])
    ('jane', 'jane_ex01_topic.py', False)
    """
    moodle = MOODLE.fullmatch(path.name)
    if moodle:
        return moodle["name"], moodle["file"] or path.name, False

    if os.path.isdir(path):  # a link that leads nowhere, or round in circles, is no error here
        return path.name, path.name, False

    canvas = CANVAS.fullmatch(path.name)
    if canvas:
        return f"{canvas['name']}_{canvas['number']}", canvas["file"], bool(canvas["late"])

    is_archive = path.suffix.lower() in (".zip", ".rar", ".7z", ".gz", ".tar")
    if not is_wanted(path.name) and not is_archive:
        return None, path.name, False

    stem = COPY.sub("", re.sub(r"(\.py\.txt|\.tar\.gz|\.\w+)$", "", path.name))
    for key in keys:
        stem = stem.replace(f"ex{key}", "")
    return NUMBER.sub("", stem).strip(" _-"), path.name, False


def read_submission(handed: Handed, functions: Functions) -> Submission:
    """Find the file for each lesson in what a student handed in; never raise."""
    unpacked = Unpacked()
    for path, name in handed.paths:
        unpack(path, name, unpacked)
    remarks = ["handed in late, says the file's name"] * handed.late + unpacked.remarks
    candidates = [make_candidate(name, content) for name, content in unpacked.files.items()]
    there = [say_harmless(name, 100) for name in (*unpacked.files, *unpacked.others)]

    sources = {}
    problems = {}
    missing = []
    for key in functions:
        ranked = rank_candidates(key, candidates, functions)
        if not ranked:
            missing.append(key)
            problems[key] = say_missing([key], there)
            continue
        remarks += remark_choice(key, ranked)
        if ranked[0].problem:
            problems[key] = say_harmless(f"{ranked[0].name} {ranked[0].problem}")
        else:
            sources[key] = ranked[0].source

    harmless = [say_harmless(remark) for remark in dict.fromkeys(remarks)]
    return Submission(handed.student, sources, problems, missing, there, harmless)


def remark_choice(key: str, ranked: list[Candidate]) -> list[str]:
    """List what there is to say of the chosen file, which is the first."""
    chosen = ranked[0]
    remarks = [f"{chosen.name} {change}" for change in chosen.changes]
    if rank_name(key, chosen.stem) > 0:
        remarks.append(f"{chosen.name} was taken for ex{key}.py")

    rivals = [rival.name for rival in ranked[1:] if rival.problem or rival.source != chosen.source]
    if rivals:
        remarks.append(f"{chosen.name} was graded for ex{key}.py, and not {', '.join(rivals)}")
    return remarks
