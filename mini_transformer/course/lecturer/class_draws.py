"""Find the draws of inputs on which a class is graded: those that tell mistakes from right answers.

They are found when a lesson's first file comes, and kept in OUT/draws.jsonl: the same seed,
graders and package have the same draws.
"""

import hashlib
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mini_transformer.course.exercises import Exercise
from mini_transformer.course.lecturer.judge import Judge, Trial, UnjudgeableError, list_folders
from mini_transformer.course.lecturer.resume import hash_graders
from mini_transformer.course.material import CourseError, Material
from mini_transformer.isolation.journal import Journal

TRIES = 20  # draws of an exercise that may fail


class ClassDraws:
    """Find the first `wanted` draws of each exercise that misjudge no known answer.

    `bar` shows how many are found. Raise CourseError if what OUT keeps cannot be read.
    """

    def __init__(self, material: Material, out: Path, seed: int, wanted: int, bar: Any) -> None:
        self.material = material
        self.seed = seed
        self.wanted = wanted
        self.bar = bar
        self.found: dict[str, list[int]] = {}
        self.locks: dict[str, threading.Lock] = {}
        self.writing = threading.Lock()
        path = out / "draws.jsonl"
        try:
            self.kept = Journal(path)
        except OSError as error:
            raise CourseError(f"{path} cannot be read: {error.strerror or error}") from None

    def find(self, exercises: Sequence[Exercise], judge: Judge) -> dict[str, list[int]]:
        """Find the draws of these exercises, by name; threads that come together share the work.

        Raise CourseError if there are none, or if they cannot be kept.
        """
        with self.writing:
            new = [exercise.name for exercise in exercises if exercise.name not in self.locks]
            self.locks |= {name: threading.Lock() for name in new}
            self.bar.total += self.wanted * len(new)
        for wait in (False, True):
            for exercise in exercises:
                if self.locks[exercise.name].acquire(wait):
                    try:
                        self.search(exercise, judge)
                    finally:
                        self.locks[exercise.name].release()
        return {exercise.name: self.found[exercise.name] for exercise in exercises}

    def search(self, exercise: Exercise, judge: Judge) -> None:
        """Try the exercise's draws in order, until enough are found."""
        if exercise.name in self.found:
            return
        found: list[int] = []
        for draw in range(self.wanted + TRIES):
            if self.tells(exercise, draw, judge):
                found.append(draw)
                self.bar.update()
            if len(found) == self.wanted:
                self.found[exercise.name] = found
                return
        raise CourseError(
            f"{len(found)} of {self.wanted + TRIES} draws of {exercise.name} tell known mistakes "
            f"from right answers, expected {self.wanted}: give another --seed"
        )

    def tells(self, exercise: Exercise, draw: int, judge: Judge) -> bool:
        """Say whether a draw misjudges none of the exercise's known answers."""
        conditions = f"{self.seed} {draw} {hash_graders(self.material, exercise.key)}"
        name = f"{exercise.name} {draw} {hashlib.sha256(conditions.encode()).hexdigest()[:32]}"
        if name not in self.kept.entries:
            folders = list_folders(self.material)
            trial = Trial(exercise.key, exercise.name, self.seed, draw, folders)
            try:
                told = judge.try_draw(trial)
            except UnjudgeableError as error:  # of known answers: no student's doing
                raise CourseError(
                    f"draw {draw} of {exercise.name} was not tried: {error}"
                ) from None
            self.keep(name, told)
        return self.kept.entries[name]

    def keep(self, name: str, told: bool) -> None:
        try:
            with self.writing:
                self.kept.append(name, told)
        except OSError as error:
            why = error.strerror or error
            raise CourseError(f"{self.kept.path} cannot be written: {why}") from None
