"""Read who is in the class, and give the points back in the file that the platform wants.

A roster is a CSV file as Canvas (gradebook), Moodle (grading worksheet, participants) or Gradescope
(roster) export it, or any with a column for names. What comes back is the same file with the points
filled in, which Canvas and Moodle import.
"""

import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mini_transformer.course.material import CourseError

# What each fact is called by one platform or another, in lower case.
COLUMNS = {
    "name": ("student", "full name", "name"),
    "first": ("first name", "given name"),
    "last": ("last name", "surname"),
    "email": ("email address", "email", "e-mail"),
    "section": ("section", "sections", "groups"),
}
IDENTITIES = ("id", "sis user id", "sis login id", "identifier", "id number", "sid", "username")
POINTS = "grade"  # the column that Moodle reads points from; Canvas gets one of its own


@dataclass(frozen=True)
class Enrolled:
    """Hold a line of the roster. `known_as` are the words by which a submission may name them."""

    line: int
    name: str
    email: str
    section: str
    known_as: frozenset[str]


@dataclass(frozen=True)
class Roster:
    """Hold the class, and the rows of its file as they came."""

    header: list[str]
    rows: list[list[str]]
    enrolled: list[Enrolled]

    def find(self, student: str) -> Enrolled | None:
        """Find whose submission this is, by name, number or e-mail; None if not exactly one fits.

        >>> roster = read_roster("Student,ID,Section\\n'Doe, Jane',123,Monday\\n".replace("'", '"'))
        >>> roster.find("doejane_123").section, roster.find("Jane Doe_9"), roster.find("jim")
        ('Monday', Enrolled(line=0, ...), None)
        """
        name, _, number = student.rpartition("_")
        last, _, first = student.partition(",")
        spellings = {simplify(student), simplify(first + last)}
        if number.isdigit():
            by_number = [one for one in self.enrolled if number in one.known_as]
            if len(by_number) == 1:
                return by_number[0]
            spellings.add(simplify(name))
        found = [one for one in self.enrolled if spellings & one.known_as]
        return found[0] if len(found) == 1 else None

    def fill_in(self, points: dict[int, float], title: str) -> str:
        """Write the file with points by line: in Moodle's `Grade`, else in a column `title`."""
        header = list(self.header)
        lower = [name.strip().lower() for name in header]
        column = lower.index(POINTS) if POINTS in lower else len(header)
        if column == len(header):
            header.append(title)
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        for line, row in enumerate(self.rows):
            cells = [*row, *[""] * (len(header) - len(row))]
            if line in points:
                cells[column] = f"{points[line]:g}"
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
    enrolled = [
        read_line(line, row, places, identities)
        for line, row in enumerate(rows)
        if any(cell.strip() for cell in row) and "points possible" not in row[0].lower()
    ]
    return Roster(header, rows, enrolled)


def read_line(
    line: int, row: Sequence[str], places: dict[str, int | None], identities: Iterable[int]
) -> Enrolled:
    def get(fact: str) -> str:
        place = places[fact]
        return row[place].strip() if place is not None and place < len(row) else ""

    name = get("name") or f"{get('last')}, {get('first')}"
    last, _, first = (part.strip() for part in name.partition(","))
    own = [get("email"), *(row[i].strip() for i in identities if i < len(row))]
    words = [name, f"{first} {last}", f"{last} {first}", *own]
    words += [re.sub("@.*", "", word) for word in own]  # a login is often an address
    words += [re.sub(r"\D", "", word) for word in own if "@" not in word]
    known = frozenset(map(simplify, words)) - {""}
    return Enrolled(line, name, get("email"), get("section"), known)


def simplify(name: str) -> str:
    """Write a name without case, accents, spaces and signs, as Canvas does in file names.

    >>> simplify("Müller-Doe, Zoë")
    'mullerdoezoe'
    """
    plain = unicodedata.normalize("NFKD", name.casefold())
    return "".join(letter for letter in plain if letter.isalnum())
