"""Keep a learner's progress in a text file, which also marks a folder as a workspace."""

import datetime
import json
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

from mini_transformer.course.exercises import Exercise
from mini_transformer.course.material import CourseError, write_file

FILE = "progress.toml"
HEADER = (
    "# Your progress in mini-transformer, kept by minilab. "
    "Plain text: read it, copy it, delete it to start again.\n"
)


@dataclass
class Record:
    """Remember one exercise: best points, hints taken, and when it was solved and revealed."""

    points: float = 0.0
    hints: int = 0
    solved: str = ""  # ISO date, or empty
    revealed: str = ""  # the day the solution was looked at before it was solved, or empty


@dataclass
class Progress:
    """Hold all records of a workspace by exercise name.

    `base_seed` picks this learner's variant of every input.
    """

    folder: Path
    base_seed: int = 0
    records: dict[str, Record] = field(default_factory=dict)

    def of(self, exercise: Exercise) -> Record:
        return self.records.setdefault(exercise.name, Record())

    def note(self, exercise: Exercise, points: float) -> bool:
        """Remember points if they are the best so far.

        Return True if this solves the exercise for the first time.
        """
        record = self.of(exercise)
        record.points = max(record.points, points)
        newly = not record.solved and points >= exercise.points
        if newly:
            record.solved = datetime.date.today().isoformat()
        return newly

    def save(self) -> None:
        """Write the file in one step, so that a crash leaves the old file or the new one.

        Raise CourseError if it cannot be written.
        """
        lines = [HEADER, f"base_seed = {self.base_seed}"]
        for name, record in self.records.items():
            facts = {key: value for key, value in vars(record).items() if value}
            if facts:
                lines += ["", f"[exercise.{name}]"]
                # what JSON writes for strings and numbers is also TOML
                lines += [f"{key} = {json.dumps(value)}" for key, value in facts.items()]
        write_file(self.folder / FILE, "\n".join(lines) + "\n")


def read_progress(folder: Path) -> Progress:
    """Read the progress kept in a workspace. Raise CourseError if the file was damaged."""
    path = folder / FILE
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        records = {name: Record(**facts) for name, facts in data.get("exercise", {}).items()}
        return Progress(folder, int(data["base_seed"]), records)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        advice = "put it right, or delete it and run `minilab init` again"
        raise CourseError(f"{path} cannot be read ({error}): {advice}") from None


def find_workspace(start: Path) -> Path:
    """Find the folder, `start` or one above it, that holds a progress file.

    Raise CourseError if there is none.
    """
    for folder in (start, *start.parents):
        if (folder / FILE).is_file():
            return folder
    raise CourseError(
        f"{start} is not in a workspace: make one with `minilab init DIR`, then `cd DIR`"
    )
