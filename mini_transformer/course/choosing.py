"""Choose the student's file for a lesson, by its name or by the functions it defines."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from mini_transformer.course.sources import SourceError, read_source

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
