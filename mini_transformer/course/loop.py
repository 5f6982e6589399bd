"""What a learner does, in a workspace: look for the next exercise, take a hint, be graded, see how far it went."""

import datetime
import difflib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mini_transformer.course.answers import put_back_file, put_back_stub, read_answer
from mini_transformer.course.exercises import Exercise, read_course, read_title
from mini_transformer.course.material import CourseError, Material, find_key, find_material
from mini_transformer.course.progress import Progress, find_workspace, read_progress
from mini_transformer.course.workspace import find_line

if TYPE_CHECKING:  # grading needs torch, which takes a second to import; the rest of the loop does not wait for it
    from mini_transformer.course.report import Report


@dataclass
class Course:
    """A workspace with all exercises and what its learner did so far."""

    material: Material
    exercises: list[Exercise]
    progress: Progress

    @property
    def folder(self) -> Path:
        return self.progress.folder

    def file_of(self, key: str) -> Path:
        return self.folder / "exercises" / f"ex{key}.py"

    def locate(self, exercise: Exercise) -> str:
        """`exercises/ex01_topic.py:12`, seen from where the learner is."""
        path = self.file_of(exercise.key)
        return f"{os.path.relpath(path)}:{find_line(path, exercise.name)}"

    def find_notebook(self, given: str) -> Path:
        """The notebook of a lesson in the workspace; CourseError if it is not there."""
        path = self.folder / "lessons" / f"{find_key(given, self.material.list_lessons())}.ipynb"
        if not path.is_file():
            raise CourseError(f"there is no {path}: `minilab init {self.folder}` adds what is missing")
        return path

    def find_exercises(self, what: str) -> list[Exercise]:
        """The exercises that `01`, `ex01`, `01_topic`, `1.2` or a function's name means; CourseError if none."""
        if named := [exercise for exercise in self.exercises if what in (exercise.name, exercise.number)]:
            return named
        if not what.removeprefix("ex")[:1].isdigit():
            near = difflib.get_close_matches(what, [exercise.name for exercise in self.exercises], n=1, cutoff=0.0)
            raise CourseError(f"no exercise is called {what!r}; nearest: {near[0] if near else 'there are none yet'}")
        if "." in what:
            there = ", ".join(exercise.number for exercise in self.exercises)
            raise CourseError(f"no exercise has the number {what!r}; there are {there or 'none yet'}")
        key = find_key(what, self.material.list_keys())
        return [exercise for exercise in self.exercises if exercise.key == key]

    def find_next(self, among: list[Exercise] | None = None) -> Exercise | None:
        """The first exercise (of the course, or of some) that is not solved yet."""
        unsolved = (e for e in (self.exercises if among is None else among) if not self.progress.of(e).solved)
        return next(unsolved, None)

    def take_hint(self, exercise: Exercise) -> list[tuple[int, str]]:
        """The next hint with its number from 1, remembered; the last one again when all were taken.

        All of them, and nothing is remembered, where the exercise is solved.
        """
        record, numbered = self.progress.of(exercise), list(enumerate(exercise.hints, start=1))
        if record.solved:
            return numbered
        if record.hints < len(exercise.hints):
            record.hints += 1
            self.progress.save()
        return [numbered[record.hints - 1]]

    def reveal(self, exercise: Exercise) -> str:
        """The shipped solution; that it was looked at is remembered, unless the exercise was solved before."""
        record = self.progress.of(exercise)
        if not record.solved and not record.revealed:
            record.revealed = datetime.date.today().isoformat()
            self.progress.save()
        return read_answer(self.material, exercise)

    def reset(self, what: str) -> tuple[Path, Path | None]:
        """Put the stubs of a lesson, or of one exercise, back: the file, and the copy of what was there before."""
        exercises = self.find_exercises(what)
        path = self.file_of(exercises[0].key)
        if what in (exercises[0].name, exercises[0].number):
            return path, put_back_stub(self.material, path, exercises[0])
        return path, put_back_file(self.material, path, exercises[0].key)

    def grade(self, exercises: list[Exercise]) -> tuple[list["Report"], list[Exercise]]:
        """One report per file, on these exercises, and the exercises that are solved for the first time."""
        from mini_transformer.course.report import grade_file

        reports, names = [], {exercise.name: exercise for exercise in exercises}
        newly = []
        for key in dict.fromkeys(exercise.key for exercise in exercises):
            report = grade_file(self.material, key, self.file_of(key), self.progress.base_seed, names)
            newly += [names[r.name] for r in report.exercises if self.progress.note(names[r.name], r.points)]
            reports.append(report)
        self.progress.save()
        return reports, newly

    def list_status(self) -> list[dict[str, Any]]:
        """One row per exercise: where it belongs, points so far and in all, minutes, hints taken, when it was solved."""
        rows = []
        for exercise in self.exercises:
            record = self.progress.of(exercise)
            row: dict[str, Any] = {"exercise": exercise.number, "name": exercise.name, "lesson": exercise.key}
            row |= {"points": record.points, "of": exercise.points, "minutes": exercise.minutes}
            rows.append(row | {"hints": record.hints, "solved": record.solved, "revealed": record.revealed})
        return rows

    def list_titles(self) -> dict[str, str]:
        """The title of each lesson that has exercises, by key."""
        return {key: read_title(self.material, key) for key in self.material.list_keys()}


def open_course(start: Path) -> Course:
    """The course in the workspace that `start` is in. CourseError if it is in none."""
    material, progress = find_material(), read_progress(find_workspace(start))
    return Course(material, read_course(material), progress)
