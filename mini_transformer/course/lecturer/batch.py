"""Grade a folder of submissions on all cores, and keep each file's result at once.

After `kill -9` the same command finds in OUT what is done and grades the rest. A kept result
counts only for the same source, seed, limits and graders: a changed submission is graded again.
"""

import hmac
import queue
from collections.abc import Collection, Sequence
from dataclasses import astuple, dataclass, field
from pathlib import Path

from mini_transformer.course.exercises import Exercise, read_exercises
from mini_transformer.course.grading.grade import ExerciseResult, Report, lose_all, make_harmless
from mini_transformer.course.lecturer.judge import Judge, Order, UnjudgeableError
from mini_transformer.course.lecturer.judge_pool import open_judges
from mini_transformer.course.lecturer.resume import Kept, hash_order, name_file
from mini_transformer.course.lecturer.sandbox import find_sandbox
from mini_transformer.course.lecturer.submissions import (
    Handed,
    Submission,
    find_students,
    read_submission,
    say_missing,
)
from mini_transformer.course.material import CourseError, Material, find_material


@dataclass(frozen=True)
class Settings:
    """Say how a batch is graded.

    `seed` is the course's seed. With `by_student`, each student gets inputs of their own.
    `seconds` is the time that one call may take. `unsafe` means without a sandbox.
    """

    seed: int
    by_student: bool = False
    seconds: int | float = 10.0
    unsafe: bool = False

    def seed_for(self, student: str) -> int:
        """Compute the base seed of a student's inputs.

        Nobody can compute another student's seed without knowing the course's seed.

        >>> Settings(7).seed_for("jane"), Settings(7, by_student=True).seed_for("jane")
        (7, 4283343975010551367)
        """
        if not self.by_student:
            return self.seed
        digest = hmac.digest(str(self.seed).encode(), student.encode(), "sha256")
        return int.from_bytes(digest[:8]) >> 1


@dataclass
class Graded:
    """Hold all reports on one student, by lesson.

    `missing` lists the lessons that were not handed in. `failed` says of each lesson that could
    not be graded now why this is so.
    """

    student: str
    reports: dict[str, Report] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    there: list[str] = field(default_factory=list)  # the names of all files

    @property
    def points(self) -> float:
        return round(sum(result.points for result in self.results), 2)

    @property
    def of(self) -> int:
        return sum(result.of for result in self.results)

    @property
    def results(self) -> list[ExerciseResult]:
        return [result for report in self.reports.values() for result in report.exercises]

    def drop_lessons(self, keys: Collection[str]) -> None:
        """Leave lessons out, as if they were not part of the course."""
        self.reports = {key: report for key, report in self.reports.items() if key not in keys}
        self.missing = [key for key in self.missing if key not in keys]

    def list_problems(self) -> list[str]:
        """List why whole files earn nothing; one sentence covers all missing files."""
        there = [
            report.problem
            for key, report in self.reports.items()
            if report.problem and key not in self.missing
        ]
        if self.missing:
            there.append(say_missing(self.missing, self.there))
        return there


def grade_submissions(
    material: Material,
    keys: Sequence[str],
    folder: Path,
    out: Path,
    settings: Settings,
    jobs: int | None = None,
    dask: str | None = None,
    progress: bool = False,
) -> tuple[list[Graded], list[str]]:
    """Grade every student in `folder`, and list the files in it that belong to nobody.

    The grades are sorted by student. `jobs` students are graded at a time, by default one per
    core, or one per thread of the Dask cluster at the address `dask`. Results are kept in `out`.
    Raise CourseError if there are no submissions, or no sandbox.
    """
    from joblib import Parallel, delayed
    from tqdm import tqdm

    if not settings.unsafe and dask is None:
        find_sandbox()
    students, nobodys = find_students(folder, keys, leave_out=out)
    exercises = {key: read_exercises(material, key) for key in keys}
    graded = []
    with (
        open_judges(jobs, dask) as judges,
        tqdm(total=len(students), disable=not progress, unit="student") as bar,
    ):
        grader = Grader(material, exercises, out, settings, judges)
        parallel = Parallel(
            n_jobs=judges.qsize(),
            backend="threading",
            return_as="generator_unordered",
            batch_size=1,
        )
        for one in parallel(delayed(grader.grade)(handed) for handed in students):
            graded.append(one)
            bar.update()
    return sorted(graded, key=lambda one: one.student), nobodys


@dataclass
class Grader:
    """Grade one student after the other, each with a judge that is free."""

    material: Material
    exercises: dict[str, list[Exercise]]
    out: Path
    settings: Settings
    judges: "queue.Queue[Judge]"

    def grade(self, handed: Handed) -> Graded:
        """Grade one student. Reports that OUT has already are reused, new ones are written there.

        No submission makes this raise: one that cannot be read is reported as not graded.
        """
        functions = {
            key: [exercise.name for exercise in exercises]
            for key, exercises in self.exercises.items()
        }
        try:
            submission = read_submission(handed, functions)
        except Exception as error:  # an unforeseen error may cost only this student's grades
            why = f"what was handed in cannot be read ({type(error).__name__}: {error})"
            return self.lose_student(handed.student, make_harmless(why))

        graded = Graded(
            submission.student,
            missing=submission.missing,
            remarks=submission.remarks,
            there=submission.there,
        )
        kept = Kept(self.out / "kept" / f"{name_file(submission.student)}.jsonl")

        judge = self.judges.get()
        try:
            for key, exercises in self.exercises.items():
                if key in submission.problems:
                    graded.reports[key] = lose_all(key, exercises, submission.problems[key])
                else:
                    self.grade_file(key, submission, judge, kept, graded)
        finally:
            self.judges.put(judge)
        return graded

    def lose_student(self, student: str, why: str) -> Graded:
        """Report that none of a student's files could be graded now."""
        reports = {
            key: lose_all(key, exercises, f"not graded yet: {why}")
            for key, exercises in self.exercises.items()
        }
        return Graded(student, reports, failed=dict.fromkeys(self.exercises, why))

    def grade_file(
        self, key: str, submission: Submission, judge: Judge, kept: Kept, graded: Graded
    ) -> None:
        """Add the report on one file to `graded`: the kept one, or else a new one by `judge`."""
        source = submission.sources[key].decode()
        base_seed = self.settings.seed_for(submission.student)
        is_installed = self.material == find_material()
        folders = () if is_installed else tuple(map(str, astuple(self.material)))
        order = Order(key, source, base_seed, self.settings.seconds, self.settings.unsafe, folders)
        fingerprint = hash_order(order, self.material)

        report = kept.find(key, fingerprint)
        if report is not None:
            graded.reports[key] = report
            return

        try:
            report = judge.ask(order)
        except UnjudgeableError as error:
            report = lose_all(key, self.exercises[key], str(error))
        except CourseError as error:
            graded.failed[key] = str(error)
            report = lose_all(key, self.exercises[key], f"not graded yet: {error}")

        if key not in graded.failed:
            kept.keep(key, fingerprint, report)
        graded.reports[key] = report
