"""Grading a folder of submissions: students spread over the cores, each file's result kept as soon as it is there.

After `kill -9` the same command finds in OUT what is done and grades the rest. What is kept counts only for the same source, seed,
limits and graders: a changed submission is graded again.
"""

import hmac
import queue
from collections.abc import Collection, Iterable, Sequence
from dataclasses import astuple, dataclass, field
from pathlib import Path

from mini_transformer.course.choosing import say_missing
from mini_transformer.course.exercises import Exercise, read_exercises
from mini_transformer.course.judge import Judge, Order, UnjudgeableError
from mini_transformer.course.judges import open_judges
from mini_transformer.course.kept import Kept, hash_order, name_file
from mini_transformer.course.material import CourseError, Material, find_material
from mini_transformer.course.report import CheckResult, ExerciseResult, Report, make_harmless
from mini_transformer.course.sandbox import find_sandbox
from mini_transformer.course.submissions import Handed, Submission, find_students, read_submission


@dataclass(frozen=True)
class Settings:
    """How a batch is graded: the course's seed, whether each student has a variant, seconds per call, no sandbox."""

    seed: int
    by_student: bool = False
    seconds: int | float = 10.0
    unsafe: bool = False

    def seed_for(self, student: str) -> int:
        """The base seed of a student's inputs; who does not know the course's seed cannot compute another's.

        >>> Settings(7).seed_for("jane"), Settings(7, by_student=True).seed_for("jane")
        (7, 4283343975010551367)
        """
        if not self.by_student:
            return self.seed
        digest = hmac.digest(str(self.seed).encode(), student.encode(), "sha256")
        return int.from_bytes(digest[:8]) >> 1


@dataclass
class Graded:
    """All reports on one student, by lesson; `missing` lessons were not handed in, `failed` ones could not be graded now."""

    student: str
    reports: dict[str, Report] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    there: list[str] = field(default_factory=list)  # the names of all files

    @property
    def points(self) -> float:
        return round(sum(result.points for report in self.reports.values() for result in report.exercises), 2)

    @property
    def of(self) -> int:
        return sum(result.of for report in self.reports.values() for result in report.exercises)

    def drop_lessons(self, keys: Collection[str]) -> None:
        """Leave lessons out, as if they were not part of the course."""
        self.reports = {key: report for key, report in self.reports.items() if key not in keys}
        self.missing = [key for key in self.missing if key not in keys]

    def list_problems(self) -> list[str]:
        """Why whole files are worth nothing; of all those that are missing in one sentence."""
        there = [r.problem for key, r in self.reports.items() if r.problem and key not in self.missing]
        return [*there, say_missing(self.missing, self.there)] if self.missing else there


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
    """The grades of every student in `folder` by name, and the names of what is in there and belongs to nobody.

    `jobs` students are graded at a time, by default one per core, or one per thread of the cluster at the address `dask`;
    results are kept in `out`. CourseError if there are no submissions, or no sandbox.
    """
    from joblib import Parallel, delayed
    from tqdm import tqdm

    if not settings.unsafe and dask is None:
        find_sandbox()
    students, nobodys = find_students(folder, keys, leave_out=out)
    exercises = {key: read_exercises(material, key) for key in keys}
    with open_judges(jobs, dask) as judges, tqdm(total=len(students), disable=not progress, unit="student") as bar:
        grader = Grader(material, exercises, out, settings, judges)
        parallel = Parallel(n_jobs=judges.qsize(), backend="threading", return_as="generator_unordered", batch_size=1)
        graded = []
        for one in parallel(delayed(grader.grade)(handed) for handed in students):
            graded.append(one)
            bar.update()
    return sorted(graded, key=lambda one: one.student), nobodys


@dataclass
class Grader:
    """Grades one student after the other, each with a judge that is free."""

    material: Material
    exercises: dict[str, list[Exercise]]
    out: Path
    settings: Settings
    judges: "queue.Queue[Judge]"

    def grade(self, handed: Handed) -> Graded:
        """What is known already is taken from OUT; each new report is written there at once. Never raises for a student's sake."""
        functions = {key: [exercise.name for exercise in exercises] for key, exercises in self.exercises.items()}
        try:
            submission = read_submission(handed, functions)
        except Exception as error:  # nobody has thought of it: only this student is not graded, and it is said aloud
            why = f"what was handed in cannot be read ({type(error).__name__}: {error})"
            return self.lose_student(handed.student, make_harmless(why))
        graded = Graded(
            submission.student, missing=submission.missing, remarks=submission.remarks, there=submission.there
        )
        kept = Kept(self.out / "kept" / f"{name_file(submission.student)}.json")
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
        reports = {key: lose_all(key, exercises, f"not graded yet: {why}") for key, exercises in self.exercises.items()}
        return Graded(student, reports, failed=dict.fromkeys(self.exercises, why))

    def grade_file(self, key: str, submission: Submission, judge: Judge, kept: "Kept", graded: Graded) -> None:
        source, base_seed = submission.sources[key].decode(), self.settings.seed_for(submission.student)
        folders = () if self.material == find_material() else tuple(map(str, astuple(self.material)))
        order = Order(key, source, base_seed, self.settings.seconds, self.settings.unsafe, folders)
        fingerprint = hash_order(order, self.material)
        report = kept.find(key, fingerprint)
        if report is None:
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


def lose_all(key: str, exercises: Iterable[Exercise], problem: str) -> Report:
    """A report in which every exercise is worth nothing."""
    lost = (CheckResult("the file is loaded", "error", problem),)
    return Report(key, [ExerciseResult(e.number, e.name, 0.0, e.points, lost) for e in exercises], problem)
