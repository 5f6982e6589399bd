"""Offer what a learner does in a workspace: find an exercise, take hints, be graded."""

import datetime
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mini_transformer.course.exercises import Exercise, read_course, read_title
from mini_transformer.course.learner.progress import Progress, find_workspace, read_progress
from mini_transformer.course.learner.reset import put_back_file, put_back_stub, read_answer
from mini_transformer.course.learner.workspace import find_line, make_notebook
from mini_transformer.course.material import (
    CourseError,
    Material,
    find_key,
    find_material,
    write_file,
)
from mini_transformer.nearest import find_nearest
from mini_transformer.terminal import say

# Grading needs torch, which takes a second to import. The rest of the loop does not wait for it.
if TYPE_CHECKING:
    from mini_transformer.course.grading.grade import Report


@dataclass
class Course:
    """A workspace with all exercises, and what its learner did so far."""

    material: Material
    exercises: list[Exercise]
    progress: Progress

    @property
    def folder(self) -> Path:
        return self.progress.folder

    def file_of(self, key: str) -> Path:
        return self.folder / "exercises" / f"ex{key}.py"

    def locate(self, exercise: Exercise) -> str:
        """Return `exercises/ex01_topic.py:12`, seen from where the learner is."""
        path = self.file_of(exercise.key)
        return f"{os.path.relpath(path)}:{find_line(path, exercise.name)}"

    def find_notebook(self, given: str) -> Path:
        """Find the notebook of a lesson in the workspace. Raise CourseError if it is not there."""
        path = self.folder / "lessons" / f"{find_key(given, self.material.list_lessons())}.ipynb"
        if not path.is_file():
            raise CourseError(
                f"there is no {path}: `minilab init {self.folder}` adds what is missing"
            )
        return path

    def find_exercises(self, what: str) -> list[Exercise]:
        """Find the exercises meant by `01`, `ex01`, `01_topic`, `1.2` or a function's name.

        Raise CourseError if there are none.
        """
        named = [each for each in self.exercises if what in (each.name, each.number)]
        if named:
            return named

        if not what.removeprefix("ex")[:1].isdigit():
            names = [exercise.name for exercise in self.exercises]
            nearest = find_nearest(what, names, "there are none yet")
            raise CourseError(f"no exercise is called {what!r}; nearest: {nearest}")

        if "." in what:
            numbers = ", ".join(exercise.number for exercise in self.exercises) or "none yet"
            raise CourseError(f"no exercise has the number {what!r}; there are {numbers}")

        with_exercises = self.material.list_keys()
        for key in set(self.material.list_lessons()) - set(with_exercises):
            if what.removeprefix("ex") in (key, key[:2]):
                raise CourseError(
                    f"lesson {key} has no exercises: read it with `minilab lesson {key[:2]}`"
                )

        key = find_key(what, with_exercises)
        return [exercise for exercise in self.exercises if exercise.key == key]

    def find_next(self, among: list[Exercise] | None = None) -> Exercise | None:
        """Find the first exercise, of the course or of some, that is not solved yet."""
        exercises = self.exercises if among is None else among
        return next((each for each in exercises if not self.progress.of(each).solved), None)

    def take_hint(self, exercise: Exercise) -> list[tuple[int, str]]:
        """Return the next hint with its number from 1, and remember that it was taken.

        When all were taken, return the last one again. If the exercise is solved, return all hints
        and remember nothing.
        """
        record = self.progress.of(exercise)
        numbered = list(enumerate(exercise.hints, start=1))
        if record.solved:
            return numbered

        if record.hints < len(exercise.hints):
            record.hints += 1
            self.progress.save()
        return [numbered[record.hints - 1]]

    def reveal(self, exercise: Exercise) -> str:
        """Return the shipped solution, and remember that it was seen before it was solved."""
        record = self.progress.of(exercise)
        if not record.solved and not record.revealed:
            record.revealed = datetime.date.today().isoformat()
            self.progress.save()
        return read_answer(self.material, exercise)

    def reset(self, what: str) -> tuple[Path, Path | None]:
        """Put back the stubs of a lesson or of one exercise.

        Return the file, and the copy of what was there before, if anything was.
        """
        exercises = self.find_exercises(what)
        path = self.file_of(exercises[0].key)
        if what in (exercises[0].name, exercises[0].number):
            return path, put_back_stub(self.material, path, exercises[0])
        return path, put_back_file(self.material, path, exercises[0].key)

    def grade(self, exercises: list[Exercise]) -> tuple[list["Report"], list[Exercise]]:
        """Grade these exercises; return a report per file, and those solved for the first time."""
        from mini_transformer.course.grading.grade import grade_file

        names = {exercise.name: exercise for exercise in exercises}
        seed = self.progress.base_seed
        reports = []
        newly = []
        for key in dict.fromkeys(exercise.key for exercise in exercises):
            report = grade_file(self.material, key, self.file_of(key), seed, names)
            reports.append(report)
            for result in report.exercises:
                if self.progress.note(names[result.name], result.points):
                    newly.append(names[result.name])
        self.progress.save()
        return reports, newly

    def show_failure(self, exercise: Exercise) -> Path | None:
        """Show the inputs of the first check that fails, and save them as a notebook.

        Return the notebook, or None if there is nothing to show.
        """
        from mini_transformer.course.grading.grade import find_failed_call
        from mini_transformer.course.grading.showing import show_inputs, write_cell

        path = self.file_of(exercise.key)
        failed = find_failed_call(self.material, exercise, path, self.progress.base_seed)
        if failed is None:
            return None
        result, inputs = failed
        say(f"  {exercise.number} {exercise.name}: {result.name}")
        say(f"      {result.sentence}", "red")
        show_inputs(inputs)
        cell = self.folder / "look" / f"{exercise.number}.py"
        text = write_cell(exercise, result.name, inputs, cell.parent)
        write_file(cell, f"# %%\n{text}")
        write_file(cell.with_suffix(".ipynb"), make_notebook(cell))
        return cell.with_suffix(".ipynb")

    def list_status(self) -> list[dict[str, Any]]:
        """List a row per exercise: its lesson, points, minutes, hints, and when it was solved.

        The row also has the day on which its solution was revealed.
        """
        rows = []
        for exercise in self.exercises:
            record = self.progress.of(exercise)
            row = {
                "exercise": exercise.number,
                "name": exercise.name,
                "lesson": exercise.key,
                "points": record.points,
                "of": exercise.points,
                "minutes": exercise.minutes,
                "hints": record.hints,
                "solved": record.solved,
                "revealed": record.revealed,
            }
            rows.append(row)
        return rows

    def list_titles(self) -> dict[str, str]:
        """Map the key of each lesson that has exercises to its title."""
        return {key: read_title(self.material, key) for key in self.material.list_keys()}


def open_course(start: Path) -> Course:
    """Open the course in the workspace that `start` is in. Raise CourseError if it is in none."""
    material = find_material()
    progress = read_progress(find_workspace(start))
    return Course(material, read_course(material), progress)
