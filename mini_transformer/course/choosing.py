"""Which of a student's files holds the answers to a lesson: by its name, or by the functions that it defines."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from mini_transformer.course.sources import SourceError, read_source

COPY = re.compile(r"(?:-(\d{1,2})| ?\((\d{1,2})\)|[ _-]{1,3}copy)$", re.IGNORECASE)  # ex01_topic-1, ex01_topic (1)
NUMBER = re.compile(r"(?<![a-z])ex(?:ercises?)?[ _-]?0*(\d{1,2})(?!\d)", re.IGNORECASE)
# A pattern, not a syntax tree: building the tree of hostile source can end the process that does it.
DEFINED = re.compile(r"^def (\w+)", re.MULTILINE)

Functions = Mapping[str, Collection[str]]  # the names of each lesson's exercises, by its key


@dataclass
class Candidate:
    """A file with its source, or why it has none."""

    name: str
    source: bytes = b""
    changes: list[str] = field(default_factory=list)
    problem: str = ""

    @property
    def stem(self) -> str:
        """The file's own name without its ending."""
        return re.sub(r"\.(ipynb|py|py\.txt)$", "", PurePosixPath(self.name).name, flags=re.IGNORECASE)

    def defines(self, names: Collection[str]) -> bool:
        return not set(names).isdisjoint(DEFINED.findall(self.source.decode(errors="replace")))


def make_candidate(name: str, content: bytes) -> Candidate:
    try:
        return Candidate(name, *read_source(name, content))
    except SourceError as error:
        return Candidate(name, problem=str(error))


def rank_candidates(key: str, candidates: list[Candidate], functions: Functions) -> list[Candidate]:
    """Those that may hold the answers to lesson `key`, the likeliest first.

    First by name: `ex01_topic`, then any with the number. A name is not believed if the file defines functions of another lesson
    and none of this one. If no name fits, any file that defines functions of this lesson. Then the latest copy, a
    script before a notebook, the outermost, the last.
    """
    ranked = []
    for order, candidate in enumerate(candidates):
        named = rank_name(key, candidate.stem)
        others = any(candidate.defines(names) for other, names in functions.items() if other != key)
        if candidate.defines(functions[key]) or (named < 2 and not others):
            notebook, depth = candidate.name.lower().endswith(".ipynb"), candidate.name.count("/")
            ranked.append((named, -split_copy(candidate.stem)[1], notebook, depth, -order, candidate))
    ranked.sort(key=lambda entry: entry[:-1])
    return [candidate for named, *_, candidate in ranked if named < 2 or ranked[0][0] == 2]


def rank_name(key: str, stem: str) -> int:
    """0 if a file of this name is the lesson's, 1 if it has its number, 2 if it says nothing of it.

    >>> [rank_name("01_topic", stem) for stem in ("jane_ex01_topic-1", "Ex1 final", "answers")]
    [0, 1, 2]
    """
    number = NUMBER.search(stem)
    return 0 if f"ex{key}" in stem else 1 if number and int(number[1]) == int(key[:2]) else 2


def split_copy(stem: str) -> tuple[str, int]:
    """A name without the mark of a copy or resubmission, and the number of that.

    >>> split_copy("ex01_topic (2)"), split_copy("ex01_topic-1"), split_copy("ex01_topic")
    (('ex01_topic', 2), ('ex01_topic', 1), ('ex01_topic', 0))
    """
    mark = COPY.search(stem)
    return (stem[: mark.start()], int(mark[1] or mark[2] or 0)) if mark else (stem, 0)


def say_missing(keys: Collection[str], there: Sequence[str]) -> str:
    """That there are no files, and what there is instead.

    >>> say_missing(["01_topic", "02_other"], ["notes.pdf"])
    'no ex01_topic.py, ex02_other.py was handed in; there were notes.pdf'
    """
    names = ", ".join(there[:5]) + (f" and {len(there) - 5} more" if len(there) > 5 else "")
    return f"no {', '.join(f'ex{key}.py' for key in keys)} was handed in" + (f"; there were {names}" if there else "")
