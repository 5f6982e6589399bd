"""Find whose submissions are in a folder, and which file answers which lesson.

Folders come as lecturers get them: one per student, flat files, what platforms download, a zip
each, all of it mixed. Nothing that students hand in is imported, and no link is followed. What is
wrong with it becomes a sentence in their report.
"""

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

from mini_transformer.course.grading.sources import SourceError, read_source
from mini_transformer.course.lecturer.alike import Form, read_form
from mini_transformer.course.lecturer.names import (
    NUMBER,
    Named,
    look_alike,
    read_name,
    say_harmless,
    spell,
    split_copy,
)
from mini_transformer.course.lecturer.unpacking import SKIPPED, Unpacked, unpack
from mini_transformer.course.material import CourseError
from mini_transformer.nearest import find_nearest

# A pattern, because building the syntax tree of hostile source can end the process that does it.
FUNCTION = re.compile(r"^def (\w+)(.*?)(?=^[^\s)]|\Z)", re.MULTILINE | re.DOTALL)
UNWRITTEN = "raise NotImplementedError"

Functions = Mapping[str, Collection[str]]  # the names of each lesson's exercises, by its key


@dataclass
class Candidate:
    """Hold a file with its source, or with the reason why it has none."""

    name: str
    source: bytes = b""
    changes: list[str] = field(default_factory=list)
    problem: str = ""

    def __post_init__(self) -> None:
        found = FUNCTION.findall(self.source.decode(errors="replace"))
        self.bodies: dict[str, str] = dict(found)

    @property
    def stem(self) -> str:
        """Return the file's own name without its ending."""
        name = PurePosixPath(self.name).name
        return re.sub(r"\.(ipynb|py|py\.txt)$", "", name, flags=re.IGNORECASE)

    def defines(self, names: Collection[str]) -> bool:
        return any(name in self.bodies for name in names)

    def is_untouched(self, names: Collection[str]) -> bool:
        """Say whether each of these functions that stands here is as it was handed out."""
        return all(UNWRITTEN in self.bodies.get(name, UNWRITTEN) for name in names)


def make_candidate(name: str, content: bytes) -> Candidate:
    try:
        return Candidate(name, *read_source(name, content))
    except SourceError as error:
        return Candidate(name, problem=str(error))


def rank_candidates(key: str, candidates: list[Candidate], functions: Functions) -> list[Candidate]:
    """Rank the files that may answer this lesson, the likeliest first.

    Files that define functions of the lesson come before files that do not, and files in which
    something is written before those that are as they were handed out. Then come those called
    `ex01_topic`, those whose name contains that, and those whose name has the lesson's number. A
    matching name is ignored if the file defines only functions of another lesson. If no name fits,
    or only those of untouched files, any file is listed that defines functions of this lesson. Ties
    go to the latest copy, then to a script before a notebook, then to the file in the outermost
    folder, then to the last one.
    """
    own = functions[key]
    ranked = []
    for order, candidate in enumerate(candidates):
        named = rank_name(key, candidate.stem)
        defined = candidate.defines(own)
        others = any(candidate.defines(names) for other, names in functions.items() if other != key)
        if defined or (named < OTHER and not others):
            copy = split_copy(candidate.stem)[1]
            notebook = candidate.name.lower().endswith(".ipynb")
            depth = candidate.name.count("/")
            untouched = candidate.is_untouched(own)
            foreign = named == OTHER
            entry = (not defined, foreign, untouched, named, -copy, notebook, depth, -order)
            ranked.append((entry, candidate))

    ranked.sort(key=lambda pair: pair[0])
    any_named = any(not foreign and not untouched for (_, foreign, untouched, *_), _ in ranked)
    return [one for entry, one in ranked if not (entry[1] and any_named)]


JUNK = {*SKIPPED, ".DS_Store", ".git", ".ipynb_checkpoints"}  # nobody has handed that in
OTHER = 3  # the rank of a name that has nothing to do with a lesson


def rank_name(key: str, stem: str) -> int:
    """Return 0 if the name is the lesson's, 1 if it contains that, 2 if it has the number.

    >>> stems = ("ex01_topic-1", "test_ex01_topic", "Ex1 final", "answers")
    >>> [rank_name("01_topic", stem) for stem in stems]
    [0, 1, 2, 3]
    """
    if split_copy(stem)[0] == f"ex{key}":
        return 0
    if f"ex{key}" in stem:
        return 1
    number = NUMBER.search(stem)
    return 2 if number and int(number[1]) == int(key[:2]) else OTHER


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


@dataclass
class Handed:
    """Hold all paths that one student handed in, each with the name the student gave it.

    `doubts` say why it may be somebody else's.
    """

    student: str
    paths: list[tuple[Path, str]] = field(default_factory=list)  # later ones were uploaded later
    late: bool = False
    doubts: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Submission:
    """Hold, for each lesson, the source of a student's file, or why there is none.

    `missing` are the lessons for which no file was handed in. `there` are the names of all files.
    `remarks` say how the files came, `looks` what a lecturer should look at, by lesson. `forms` are
    the functions as tokens, by lesson.
    """

    student: str
    sources: dict[str, bytes]
    problems: dict[str, str]
    missing: list[str]
    there: list[str]
    remarks: list[str]
    looks: dict[str, list[str]]
    forms: dict[str, dict[str, Form]]

    def as_data(self) -> dict[str, Any]:
        """Return it as plain data, from which `from_data` makes it again."""
        return {**vars(self), "sources": {key: s.decode() for key, s in self.sources.items()}}

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> "Submission":
        sources = {key: source.encode() for key, source in data["sources"].items()}
        forms = {
            key: {name: tuple(form) for name, form in own.items()}
            for key, own in data["forms"].items()
        }
        return cls(**{**data, "sources": sources, "forms": forms})


def find_students(
    folder: Path, keys: Collection[str], leave_out: Path | None = None
) -> tuple[list[Handed], list[str]]:
    """Find what each student handed in, sorted by name, and what belongs to nobody.

    Nobody is merged with anybody: names that only look the same stay two students, with a doubt.
    Raise CourseError if there is no submission in `folder`.
    """
    found = list_named(folder, keys, leave_out)
    nobodys = [
        say_harmless(spell(path.name), 100) for path, named in found if named.student is None
    ]
    found = [(path, named) for path, named in found if named.student is not None]
    nameless = [(path, named) for path, named in found if not named.student]
    # Files without a student's name are one student's, unless two of them answer one lesson.
    lessons = [split_copy(PurePosixPath(named.file).stem)[0] for _, named in nameless]
    is_one = len(set(lessons)) == len(lessons)
    whose = folder.resolve().name

    students: dict[str, Handed] = {}  # by exact name
    taken: dict[str, str] = {}  # exact names, by what they look like
    for path, named in found:
        exact = spell(named.student or "")
        doubts = []
        if nameless and is_one and (not exact or named.unlabelled):
            exact = spell(whose)
        elif not exact:
            exact = spell(path.stem)
            doubts = [f"{path.name} names no student, and neither do other files of this lesson"]
        if exact not in students:
            shown = look_alike(exact)
            if taken.setdefault(shown, exact) != exact:
                doubts.append(f"another student's name looks like {shown}")
                shown = f"{shown} {hashlib.sha256(exact.encode(errors='replace')).hexdigest()[:4]}"
            students[exact] = Handed(shown, doubts=list(map(say_harmless, doubts)))
        students[exact].paths.append((path, spell(named.file)))
        students[exact].late |= named.late

    if not students:
        raise CourseError(
            f"{folder} holds no submissions: "
            "a folder, a zip or .py files for each student are expected"
        )
    return sorted(students.values(), key=lambda handed: handed.student), nobodys


def check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise CourseError(
            f"{folder} is no folder: give the one that the submissions were unpacked into"
        )


def list_named(
    folder: Path, keys: Collection[str], leave_out: Path | None
) -> list[tuple[Path, Named]]:
    """List what was handed in with what its name says, the last attempt of a student last.

    Raise CourseError if the folder cannot be read.
    """
    check_folder(folder)
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise CourseError(f"{folder} cannot be read: {error.strerror or error}") from None
    own = leave_out.resolve() if leave_out else None
    there = [
        path
        for path in paths
        if folder.resolve() / path.name != own and not (path.name in JUNK or path.name[:2] == "._")
    ]
    found = [
        (path, Named(None, path.name) if path.name[0] == "." else read_name(path, keys))
        for path in there
    ]
    return sorted(found, key=lambda pair: (pair[1].order, pair[0].name))


def read_submission(
    handed: Handed, functions: Functions, wanted: Mapping[str, str] = MappingProxyType({})
) -> Submission:
    """Find the file for each lesson in what a student handed in.

    `wanted` names the file of a lesson where a lecturer has decided. Raise CourseError if it is not
    there.
    """
    unpacked = Unpacked()
    for path, name in handed.paths:
        unpack(path, name, unpacked)
    late = ["handed in late, says the file's name"] * handed.late
    remarks = [*handed.doubts, *late, *unpacked.remarks]
    candidates = [make_candidate(name, content) for name, content in unpacked.files.items()]
    there = [say_harmless(name, 100) for name in (*unpacked.files, *unpacked.others)]

    sources = {}
    problems = {}
    missing = []
    looks = {}
    forms = {}
    for key in functions:
        ranked = rank_candidates(key, candidates, functions)
        if key in wanted:
            ranked = [choose(handed.student, wanted[key], candidates)]
        doubts = list(handed.doubts)
        if not ranked:
            missing.append(key)
            problems[key] = say_missing([key], there)
        else:
            chosen = ranked[0]
            changes = [f"{chosen.name} {change}" for change in chosen.changes]
            choice = remark_choice(key, ranked)
            remarks += [*changes, *doubts, *choice]
            doubts += [] if is_ordinary(key, ranked, functions[key]) else choice
            if chosen.problem:
                problems[key] = say_harmless(f"{chosen.name} {chosen.problem}")
                doubts.append(problems[key])
            else:
                sources[key] = chosen.source
                own = {name: chosen.bodies.get(name, "") for name in functions[key]}
                forms[key] = {
                    name: read_form("" if UNWRITTEN in body else body) for name, body in own.items()
                }
        if doubts:
            looks[key] = [say_harmless(doubt) for doubt in dict.fromkeys(doubts)]

    if len(missing) == len(functions) and (there or unpacked.remarks):
        looks[missing[0]] = [*unpacked.remarks, say_missing(missing[:1], there)]

    harmless = [say_harmless(remark) for remark in dict.fromkeys(remarks)]
    return Submission(handed.student, sources, problems, missing, there, harmless, looks, forms)


def lose_submission(student: str, keys: Collection[str], why: str) -> Submission:
    """Return what stands for files that cannot be read at all."""
    problems = dict.fromkeys(keys, why)
    looks = {key: [why] for key in keys}
    return Submission(student, {}, problems, [], [], [], looks, {})


def choose(student: str, name: str, candidates: list[Candidate]) -> Candidate:
    """Return the file of this name."""
    for candidate in candidates:
        if candidate.name == name or candidate.name.endswith(f"/{name}"):
            return candidate
    nearest = find_nearest(name, [candidate.name for candidate in candidates])
    raise CourseError(f"{student} handed in no {name!r}; nearest: {nearest!r}")


def is_ordinary(key: str, ranked: list[Candidate], names: Collection[str]) -> bool:
    """Say whether the first file needs no look, although its name may not be the lesson's.

    It is the only one that defines what was asked for, with the lesson's name or number, or the
    others are earlier uploads of it, as platforms number them (`-1`).
    """
    chosen, *rivals = ranked
    place = PurePosixPath(chosen.name)
    name, copy = split_copy(chosen.stem)
    for rival in rivals:
        other = PurePosixPath(rival.name)
        earlier, number = split_copy(rival.stem)
        is_marked = chosen.stem == f"{name}-{copy}"
        is_same = (earlier, other.parent, other.suffix) == (name, place.parent, place.suffix)
        if not (is_marked and is_same and number < copy):
            return False
    return chosen.defines(names) and rank_name(key, chosen.stem) < OTHER


def remark_choice(key: str, ranked: list[Candidate]) -> list[str]:
    """List what may be wrong with choosing the first file."""
    chosen = ranked[0]
    rivals = [rival.name for rival in ranked[1:] if rival.problem or rival.source != chosen.source]
    if rivals:
        return [f"{chosen.name} was graded for ex{key}.py, and not {', '.join(rivals)}"]
    is_named = rank_name(key, chosen.stem) == 0
    return [] if is_named else [f"{chosen.name} was taken for ex{key}.py"]
