"""Read who is in the class, and give the points back in the file that the platform wants.

A roster is a CSV file as Canvas (gradebook), Moodle (grading worksheet, participants) or Gradescope
(roster) export it, or any with a column for names. What comes back is the same file with the points
filled in, which Canvas and Moodle import.
"""

import csv
import io
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mini_transformer.course.lecturer.names import say_harmless
from mini_transformer.course.material import CourseError
from mini_transformer.nearest import find_nearest

# What each fact is called by one platform or another, in lower case.
COLUMNS = {
    "name": ("student", "full name", "name"),
    "first": ("first name", "given name"),
    "last": ("last name", "surname"),
    "email": ("email address", "email", "e-mail"),
    "section": ("section", "sections", "groups"),
}
PLATFORMS_OWN = ("id", "identifier")  # Canvas's and Moodle's own numbers, those in file names
IDENTITIES = (*PLATFORMS_OWN, "sis user id", "sis login id", "id number", "sid", "username")
POINTS = "grade"  # the column that Moodle reads points from
PREVIEW = "Student, Test"  # whom Canvas puts at the end of its gradebook


@dataclass(frozen=True)
class Enrolled:
    """Hold a line of the roster.

    `known_as` are the words by which a submission may name them, `ids` those that are no names.
    `number` is the platform's own.
    """

    line: int
    name: str
    email: str
    section: str
    known_as: frozenset[str]
    ids: frozenset[str] = frozenset()
    number: str = ""

    def is_called(self, student: str) -> bool:
        """Say whether a submission names them by more than a name."""
        words = {simplify(student), student.rpartition("_")[2]} - {""}
        return bool(words & {self.number, *self.ids})


@dataclass(frozen=True)
class Matched:
    """Say whose each submission is.

    `whose` holds the submissions that are one student's, `unknown` those of nobody in the roster,
    `several` those whose name fits more than one there. `nothing` are the students without a
    submission, `claimed` the lines of the others. `shared` are those of whom more than one
    submission may be: their name, the sentence that says which, and these submissions.
    """

    whose: dict[str, Enrolled]
    unknown: list[str]
    several: list[str]
    nothing: list[Enrolled]
    claimed: list[int]
    shared: list[tuple[str, str, list[str]]]


@dataclass(frozen=True)
class Roster:
    """Hold the class, and the rows of its file as they came."""

    header: list[str]
    rows: list[list[str]]
    enrolled: list[Enrolled]

    @property
    def unique(self) -> set[str]:
        """Return the names that only one student has."""
        names = Counter(one.name for one in self.enrolled)
        return {name for name, n in names.items() if n == 1}

    def find(self, student: str) -> list[Enrolled]:
        """List whose submission this may be, by the platform's number, or else by other words.

        A number that is nobody's in a roster with the platform's numbers is no match.

        >>> roster = read_roster("Student,ID,Section\\n'Doe, Jane',123,Monday\\n".replace("'", '"'))
        >>> len(roster.find("doejane_123")), len(roster.find("Jane Doe")), roster.find("doejane_9")
        (1, 1, [])
        """
        name, _, number = student.rpartition("_")
        last, _, first = student.partition(",")
        numbered = number.isdigit()
        spellings = set(map(simplify, (student, first + last, name if numbered else student)))
        by_name = [one for one in self.enrolled if spellings & one.known_as]
        by_word = [one for one in self.enrolled if simplify(student) in one.ids]
        if by_word or not numbered:
            return by_word or by_name
        if by_number := [one for one in self.enrolled if number == one.number]:
            return by_number
        by_word = [one for one in self.enrolled if number in one.ids]
        both = [one for one in by_name if one in by_word]
        has_numbers = any(one.number for one in self.enrolled)
        return both if both or has_numbers else [*by_name, *by_word]

    def match(self, students: Iterable[str]) -> Matched:
        """Find whose each submission is. The platform's number counts more than a name.

        Two submissions never share a student: what is left in doubt is nobody's.
        """
        found = {student: self.find(student) for student in students}
        claimed = {one.line for fitting in found.values() for one in fitting}
        claims: dict[int, list[str]] = {}
        for student, fitting in found.items():
            if len(fitting) == 1:
                claims.setdefault(fitting[0].line, []).append(student)
        whose = {}
        shared = []
        for one in self.enrolled:
            there = claims.get(one.line, [])
            exact = [each for each in there if one.is_called(each)]
            sure = exact or there
            if len(sure) == 1:
                whose[sure[0]] = one
            if len(there) > 1:
                chosen = f"{sure[0]} counts, by its number or login"
                counts = chosen if len(sure) == 1 else "no mark counts"
                why = f"{len(there)} submissions may be theirs: {', '.join(there)}; {counts}"
                shared.append((say_harmless(one.name), say_harmless(why), there))
        return Matched(
            whose,
            unknown=[student for student, fitting in found.items() if not fitting],
            several=[student for student, fitting in found.items() if len(fitting) > 1],
            nothing=[one for one in self.enrolled if one.line not in claimed],
            claimed=sorted(claimed),
            shared=shared,
        )

    def find_column(self, title: str, asked: str | None = None) -> tuple[int, str]:
        """Return where points go, and the column's name; a new one is called `title`.

        It is the one that begins as `asked`, or else as the title (Canvas adds a number), or
        Moodle's `Grade`. Raise CourseError if no column, or more than one, begins as `asked`.
        """
        names = [name.strip() for name in self.header]
        if asked is not None:
            fitting = [i for i, name in enumerate(names) if name == asked]
            fitting = fitting or [i for i, name in enumerate(names) if name.startswith(asked)]
            if len(fitting) != 1:
                nearest = find_nearest(asked, names)
                many = f"{len(fitting) or 'no'} columns of the roster begin"
                raise CourseError(f"{many} as --column {asked!r}; nearest: {nearest!r}")
            return fitting[0], names[fitting[0]]
        own = re.compile(rf"{re.escape(title)}( \(\d+\))?", re.IGNORECASE)
        for i, name in enumerate(names):
            if own.fullmatch(name):
                return i, name
        lower = [name.lower() for name in names]
        place = lower.index(POINTS) if POINTS in lower else len(names)
        return place, [*names, title][place]

    def fill_in(
        self, points: Mapping[int, int | float | None], title: str, asked: str | None = None
    ) -> str:
        """Write the file with points by line in the column that `find_column` finds.

        None empties a cell.
        """
        column, name = self.find_column(title, asked)
        header = [*self.header, name] if column == len(self.header) else self.header
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        for line, row in enumerate(self.rows):
            cells = [*row, *[""] * (len(header) - len(row))]
            if line in points:
                given = points[line]
                cells[column] = "" if given is None else f"{given:g}"
            writer.writerow(cells)
        return file.getvalue()


def load_roster(path: Path) -> Roster:
    """Read a roster. Raise CourseError if it cannot be read."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise CourseError(f"{path} cannot be read as CSV in UTF-8: {error}") from None
    try:
        return read_roster(text)
    except CourseError as error:
        raise CourseError(f"{path} is no roster: {error}") from None


def read_roster(text: str) -> Roster:
    """Read a roster's text. Raise CourseError if no column holds names."""
    first = text.partition("\n")[0]
    delimiter = ";" if first.count(";") > first.count(",") else ","
    header, *rows = list(csv.reader(io.StringIO(text), delimiter=delimiter)) or [[]]
    lower = [name.strip().lower() for name in header]
    places = {
        fact: next((lower.index(name) for name in names if name in lower), None)
        for fact, names in COLUMNS.items()
    }
    if places["name"] is None and places["last"] is None:
        there = ", ".join(header) or "nothing"
        raise CourseError(f"its columns are {there}, expected one called Student or Full name")
    identities = [i for i, name in enumerate(lower) if name in IDENTITIES]
    own = next((lower.index(name) for name in PLATFORMS_OWN if name in lower), None)
    enrolled = [
        read_line(line, row, places | {"number": own}, identities)
        for line, row in enumerate(rows)
        if any(cell.strip() for cell in row) and "points possible" not in row[0].lower()
    ]
    return Roster(header, rows, [one for one in enrolled if one.name != PREVIEW])


def read_line(
    line: int, row: Sequence[str], places: Mapping[str, int | None], identities: Iterable[int]
) -> Enrolled:
    def get(fact: str) -> str:
        place = places.get(fact)
        return row[place].strip() if place is not None and place < len(row) else ""

    name = get("name") or f"{get('last')}, {get('first')}"
    last, _, first = (part.strip() for part in name.partition(","))
    own = [get("email"), *(row[i].strip() for i in identities if i < len(row))]
    ids = [*own, *(re.sub("@.*", "", word) for word in own)]  # a login is often an address
    words = [name, f"{first} {last}", f"{last} {first}", *ids]
    known, by_id = (frozenset(map(simplify, each)) - {""} for each in (words, ids))
    number = re.sub(r"\D", "", get("number"))  # Moodle writes `Participant 123`
    return Enrolled(line, name, get("email"), get("section"), known, by_id, number)


def simplify(name: str) -> str:
    """Write a name without case, accents, spaces and signs, as Canvas does in file names.

    >>> simplify("Müller-Doe, Zoë")
    'mullerdoezoe'
    """
    plain = unicodedata.normalize("NFKD", name.casefold())
    return "".join(letter for letter in plain if letter.isalnum())
