"""Grade a folder of submissions on all cores, and keep each file's result at once.

After `kill -9` the same command finds in OUT what is done and grades the rest. A kept result
counts only for the same source, seed, limits and graders: a changed submission is graded again.
"""

import hmac
import queue
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mini_transformer.course.exercises import Exercise, read_exercises
from mini_transformer.course.grading.grade import ExerciseResult, Report, lose_all
from mini_transformer.course.lecturer.alike import Form
from mini_transformer.course.lecturer.class_draws import ClassDraws
from mini_transformer.course.lecturer.judge import (
    Judge,
    LostError,
    Order,
    UnjudgeableError,
    list_folders,
)
from mini_transformer.course.lecturer.judge_pool import open_judges
from mini_transformer.course.lecturer.names import say_harmless
from mini_transformer.course.lecturer.overrides import (
    Override,
    Overrides,
    check_students,
    name_as_handed,
    read_overrides,
)
from mini_transformer.course.lecturer.resume import Kept, hash_order, name_file
from mini_transformer.course.lecturer.roster import Roster
from mini_transformer.course.lecturer.sandbox import find_sandbox
from mini_transformer.course.lecturer.submissions import (
    Handed,
    Submission,
    find_students,
    lose_submission,
    say_missing,
)
from mini_transformer.course.material import CourseError, Material

VARIANTS = 8  # of each exercise, where each student has one of them


@dataclass(frozen=True)
class Settings:
    """Say how a batch is graded.

    `seed` is the course's seed. With `by_student`, each student gets one of VARIANTS inputs of each
    exercise. `seconds` is the time that one call may take. `sandbox` is a kind that `find_sandbox`
    knows.
    """

    seed: int
    by_student: bool = False
    seconds: int | float = 10.0
    sandbox: str = "bubblewrap"

    @property
    def variants(self) -> int:
        return VARIANTS if self.by_student else 1

    def pick_draws(self, student: str, found: Mapping[str, Sequence[int]]) -> dict[str, int]:
        """Pick a student's draw of each exercise among those that were found for the class.

        Nobody can compute another student's without knowing the course's seed.

        >>> found = {"double": range(8), "add_halves": range(8)}
        >>> Settings(7).pick_draws("jane", found)
        {'double': 2, 'add_halves': 5}
        """
        picked = {}
        for name, draws in found.items():
            digest = hmac.digest(str(self.seed).encode(), f"{student} {name}".encode(), "sha256")
            picked[name] = draws[int.from_bytes(digest[:8]) % len(draws)]
        return picked


@dataclass
class Graded:
    """Hold all reports on one student, by lesson.

    `missing` lists the lessons that were not handed in. `failed` says of each lesson that could
    not be graded now why this is so; it has no report, and neither have those that are `excused`.
    `looks` says, by lesson, what to look at.
    """

    student: str
    reports: dict[str, Report] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    looks: dict[str, list[str]] = field(default_factory=dict)
    there: list[str] = field(default_factory=list)  # the names of all files
    late: bool = False
    excused: list[str] = field(default_factory=list)
    forms: dict[str, dict[str, Form]] = field(default_factory=dict)

    @property
    def points(self) -> int | float:
        return round(sum(result.points for result in self.results), 2)

    @property
    def mark(self) -> int | float | None:
        """Return the points; None where something could not be graded, or all is excused."""
        return None if self.failed or (self.excused and not self.reports) else self.points

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
        self.failed = {key: why for key, why in self.failed.items() if key not in keys}
        self.looks = {key: said for key, said in self.looks.items() if key not in keys}

    def decide(self, key: str, override: Override, exercises: Sequence[Exercise]) -> None:
        """Change what a lecturer has decided about a lesson."""
        if override.excused:
            self.drop_lessons([key])
            self.excused.append(key)
            self.remarks.append(f"ex{key[:2]}: excused")
        elif override.points:
            self.failed.pop(key, None)
            self.reports[key] = override.change(self.reports.get(key), key, exercises)
        if override.remark:
            self.remarks.append(f"ex{key[:2]}: {override.remark}")

    def find_stake(self, key: str) -> int | float:
        """Return the points of a lesson that were not reached."""
        report = self.reports.get(key)
        results = report.exercises if report else []
        return round(sum(result.of - result.points for result in results), 2)

    def list_failures(self) -> list[str]:
        """List what could not be graded now, which is no fault of the student's."""
        return [f"ex{key}.py is not graded yet: {why}" for key, why in self.failed.items()]

    def list_problems(self) -> list[str]:
        """List why whole files earn nothing; one sentence covers all missing files."""
        there = [
            say_harmless(report.problem)
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
    people: Roster | None = None,
) -> tuple[list[Graded], list[str]]:
    """Grade every student in `folder`, and list the files in it that belong to nobody.

    The grades are sorted by student. `jobs` students are graded at a time, by default one per
    core, or one per thread of the Dask cluster at the address `dask`. Results are kept in `out`.
    Of `people`, those who handed in nothing are there if a lecturer decided about them.
    Raise CourseError if there are no submissions, or no sandbox.
    """
    from joblib import Parallel, delayed
    from tqdm import tqdm

    if dask is None:
        find_sandbox(settings.sandbox)
    students, nobodys = find_students(folder, keys, leave_out=out)
    exercises = {key: read_exercises(material, key) for key in keys}
    path = out / "overrides.toml"
    overrides = read_overrides(path, exercises)
    names = [handed.student for handed in students]
    if people:
        overrides = name_as_handed(overrides, people, names)
        nothing = {one.name for one in people.match(names).nothing} & people.unique
        students += [Handed(name) for name in overrides if name in nothing]
    check_students(path, overrides, [handed.student for handed in students])
    graded = []
    with (
        open_judges(jobs, dask) as judges,
        tqdm(total=len(students), disable=not progress, unit="student") as bar,
        tqdm(total=0, disable=not progress, desc="inputs that tell mistakes") as found,
    ):
        draws = ClassDraws(material, out, settings.seed, settings.variants, found)
        grader = Grader(material, exercises, out, settings, judges, draws, overrides)
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
    draws: ClassDraws
    overrides: Overrides = field(default_factory=dict)

    def grade(self, handed: Handed) -> Graded:
        """Grade one student. Reports that OUT has already are reused, new ones are written there.

        No submission makes this raise anything but CourseError, when OUT cannot be written: an
        unforeseen error costs this student's grades, and is said.
        """
        judge = self.judges.get()
        try:
            return self.try_to_grade(handed, judge)
        except LostError as error:
            why = str(error)
        except CourseError:
            raise
        except Exception as error:
            why = f"an unforeseen error ({type(error).__name__}: {error})"
        finally:
            self.judges.put(judge)
        return Graded(handed.student, failed=dict.fromkeys(self.exercises, say_harmless(why)))

    def try_to_grade(self, handed: Handed, judge: Judge) -> Graded:
        functions = {
            key: [exercise.name for exercise in exercises]
            for key, exercises in self.exercises.items()
        }
        own = self.overrides.get(handed.student, {})
        wanted = {key: override.file for key, override in own.items() if override.file}
        try:
            submission = judge.read(handed, functions, wanted)
        except UnjudgeableError as error:
            submission = lose_submission(handed.student, functions, say_harmless(str(error)))
        graded = Graded(
            submission.student,
            missing=submission.missing,
            remarks=submission.remarks,
            looks=submission.looks,
            there=submission.there,
            late=handed.late,
            forms=submission.forms,
        )
        kept = Kept(self.out / "kept" / f"{name_file(submission.student)}.jsonl")

        for key, exercises in self.exercises.items():
            if key in submission.problems:
                graded.reports[key] = lose_all(key, exercises, submission.problems[key])
            else:
                self.grade_file(key, submission, judge, kept, graded)
        for key, override in own.items():
            graded.decide(key, override, self.exercises[key])
        return graded

    def grade_file(
        self, key: str, submission: Submission, judge: Judge, kept: Kept, graded: Graded
    ) -> None:
        """Add the report on one file to `graded`: the kept one, or else a new one by `judge`."""
        try:
            found = self.draws.find(self.exercises[key], judge)
        except CourseError as error:
            graded.failed[key] = say_harmless(str(error))
            return

        order = Order(
            key,
            submission.sources[key].decode(),
            self.settings.seed,
            self.settings.seconds,
            self.settings.sandbox,
            list_folders(self.material),
            self.settings.pick_draws(submission.student, found),
        )
        fingerprint = hash_order(order, self.material)

        report = kept.find(key, fingerprint)
        if report is not None:
            graded.reports[key] = report
            return

        try:
            report = judge.ask(order)
        except UnjudgeableError as error:
            report = lose_all(key, self.exercises[key], str(error))
        except CourseError as error:  # the machine's doing, which is no mark
            graded.failed[key] = say_harmless(str(error))
            return

        kept.keep(key, fingerprint, report)
        graded.reports[key] = report
