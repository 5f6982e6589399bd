"""`minilab`: use the lab and the course from a terminal.

Every command calls one function and shows what it returns. What takes long to import (torch) is
imported inside the commands that need it.
"""

import functools
import inspect
import io
import json
import os
import secrets
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from mini_transformer.toys import Case

# Threads that wait for each other make models this small slower, not faster. torch reads this
# when it is imported; `train` chooses its own number.
os.environ.setdefault("OMP_NUM_THREADS", "1")

HELP = (
    "Learn mechanistic interpretability on transformers whose circuits are known. "
    "Start with `minilab init DIR`."
)
app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_show_locals=False, help=HELP
)

What = Annotated[str | None, typer.Argument(metavar="[NN]", show_default=False)]
AsData = Annotated[bool, typer.Option("--json", help="Print data instead of a table.")]


def command(run: Callable[..., int | None]) -> Callable[..., None]:
    """Register a command, whose return value is the exit status.

    Bad input is told in one sentence, with status 2.
    """
    # typer's list of commands would break a paragraph where the docstring breaks it
    paragraphs = (inspect.getdoc(run) or "").split("\n\n")
    text = "\n\n".join(paragraph.replace("\n", " ") for paragraph in paragraphs)

    @app.command(run.__name__.rstrip("_"), help=text)
    @functools.wraps(run)
    def guarded(*args: Any, **kwargs: Any) -> None:
        # Windows writes no ✓ into a file unless it is told to replace it.
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")
        try:
            status = run(*args, **kwargs)
        except (ValueError, KeyError) as error:
            sentence = str(error.args[0]) if error.args else ""
            if " " not in sentence:  # a bare key is a bug of ours, and needs its traceback
                raise
            typer.echo(sentence, err=True)
            status = 2
        raise typer.Exit(status or 0)

    return guarded


def print_data(data: Any) -> None:
    typer.echo(json.dumps(data, indent=2, ensure_ascii=False))


@command
def tour(
    seed: int = 0,
    as_data: AsData = False,
    quick: Annotated[
        bool, typer.Option(help="Take the shipped model instead of training one.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder for the figure.")] = Path("out"),
) -> int:
    """Train induction from scratch, find its two heads, ablate, patch, compare with the truth.
    Status 1 if it is not so.
    """
    from mini_transformer.tour import run_tour

    return 0 if run_tour(seed=seed, json=as_data, quick=quick, out=out).ok else 1


@command
def doctor(as_data: AsData = False) -> int:
    """Check the installation: packages, speed, checkpoints. Status 1 if something is missing."""
    from mini_transformer.course.lecturer.doctor import examine
    from mini_transformer.terminal import say, show_table

    findings = examine()
    bad = [finding for finding in findings if not finding.fine]
    if as_data:
        print_data([vars(finding) for finding in findings])
    else:
        show_table(("", "", "what to do"), [(f.what, f.found, f.advice) for f in findings])
        say(f"{len(bad)} of these need something done." if bad else "All is well.")
    return 1 if bad else 0


@command
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR")],
    seed: Annotated[
        int | None,
        typer.Option(help="Which variant of the inputs your answers are judged on; else drawn."),
    ] = None,
) -> None:
    """Make a workspace: notebooks, exercises to fill in, and your progress.
    Nothing that is there is overwritten.
    """
    from mini_transformer.course.learner.workspace import make_workspace
    from mini_transformer.course.material import find_material
    from mini_transformer.terminal import say

    # Otherwise all learners would have one variant, and its findings could be copied.
    drawn = secrets.randbelow(2**31) if seed is None else seed
    setup = make_workspace(folder, find_material(), drawn)
    added = f": {', '.join(setup.added)}" if setup.kept and setup.added else ""
    say(f"{folder}: {len(setup.added)} files added{added}")
    if setup.kept:
        say(f"kept as they were: {', '.join(setup.kept)}")
    say(f"Now: cd {folder} && minilab next")


@command
def next_(what: What = None) -> None:
    """The next exercise, of the course or of a lesson (06):
    where it is, what to do, how to check it.
    """
    from mini_transformer.course.learner.course import open_course
    from mini_transformer.course.learner.screen import show_next
    from mini_transformer.terminal import say

    course = open_course(Path.cwd())
    exercise = course.find_next(course.find_exercises(what) if what else None)
    if exercise is None:
        every = "Every exercise of these" if what else "Every exercise"
        say(f"{every} is solved. `minilab status` shows what you did.")
    else:
        show_next(exercise, course.progress.of(exercise), course.locate(exercise))


@command
def grade(
    what: What = None,
    as_data: AsData = False,
    submissions: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Grade what a class handed in.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Where a class's tables are written; default grades/NN, or grades/all."),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Students at a time; by default one per core.")
    ] = None,
    variant_by: Annotated[
        str | None,
        typer.Option(
            help="`student`: each has one of eight variants; `class`: all the same. Kept."
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="The class's inputs; by default drawn once, and kept in OUT.")
    ] = None,
    unsafe: Annotated[
        bool,
        typer.Option(
            "--unsafe-no-sandbox", help="Run what a class handed in as it is. Reports say so."
        ),
    ] = False,
    dask: Annotated[
        str | None, typer.Option(help="Address of a Dask cluster (tcp://...) for a large class.")
    ] = None,
    roster: Annotated[
        Path | None,
        typer.Option(metavar="CSV", help="The class, as Canvas, Moodle or Gradescope export it."),
    ] = None,
    column: Annotated[
        str | None,
        typer.Option(
            help="Fill the roster's column that begins so; by default that of the lesson."
        ),
    ] = None,
    bom: Annotated[
        bool, typer.Option("--bom", help="Begin tables with a mark by which Excel knows UTF-8.")
    ] = False,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            metavar="OLD NEW", help="Show whose grades differ, and why. Status 1 if some do."
        ),
    ] = None,
    show: Annotated[
        bool, typer.Option(help="Show what the first failing check gave your function.")
    ] = False,
    container: Annotated[
        bool, typer.Option("--container", help="Grade a class inside Podman or Docker.")
    ] = False,
) -> int:
    """Check your answers: a lesson (01), an exercise (1.2, or its name), or everything.
    Status 1 unless all is solved.

    With --submissions DIR, grade what a class handed in (docs/lecturers.md).
    Status 1 if something could not be graded.
    """
    if compare is not None:
        return compare_grades(*compare, as_data)
    if submissions is not None:
        if variant_by not in (None, "student", "class"):
            raise ValueError(f"--variant-by is {variant_by!r}, expected student or class")
        options = {
            "seed": seed,
            "by_student": variant_by and variant_by == "student",
            "unsafe": unsafe,
            "jobs": jobs,
            "dask": dask,
            "roster": roster,
            "bom": bom,
            "column": column,
        }
        return grade_class(what, as_data, submissions, out, options, container)

    from mini_transformer.course.grading.showing import show_report
    from mini_transformer.course.learner.course import open_course
    from mini_transformer.terminal import say

    course = open_course(Path.cwd())
    exercises = course.find_exercises(what) if what else course.exercises
    reports, newly = course.grade(exercises)
    if as_data:
        print_data([report.as_data() for report in reports])
    else:
        for report in reports:
            show_report(report, exercises if len(exercises) == 1 else newly)
    unsolved = {result.name for report in reports for result in report.exercises
                if not (result.solved or result.unwritten or report.problem)}  # fmt: skip
    for exercise in exercises:
        if show and not as_data and exercise.name in unsolved:
            notebook = course.show_failure(exercise)
            say(f"look at them in {notebook}" if notebook else "there are no inputs to show")
    return 0 if all(report.solved for report in reports) else 1


def grade_class(
    what: str | None,
    as_data: bool,
    folder: Path,
    out: Path | None,
    options: dict[str, Any],
    container: bool = False,
) -> int:
    """Grade a folder of submissions, and show the summary.

    Return status 0 if every file could be judged, whatever the grades.
    """
    from mini_transformer.course.lecturer.container import grade_in_container
    from mini_transformer.course.lecturer.gradebook import grade_folder
    from mini_transformer.course.lecturer.resume import check_seed, hold_folder
    from mini_transformer.course.lecturer.summary import describe_summary
    from mini_transformer.course.material import find_key, find_material
    from mini_transformer.terminal import say

    if options["seed"] is not None:
        check_seed(options["seed"])
    material = find_material()
    keys = [find_key(what, material.list_keys())] if what else material.list_keys()
    out = out or Path("grades") / (keys[0][:2] if what else "all")
    if container:
        arguments = list_arguments(what, **options)
        summary = grade_in_container(arguments, folder, out, options["roster"])
    else:
        options |= {"progress": sys.stderr.isatty(), "all_lessons": what is not None}
        with hold_folder(out):
            summary = grade_folder(material, keys, folder, out, **options)
    if as_data:
        print_data(summary)
    else:
        say(describe_summary(summary))
        upload = "upload.csv, " if "upload" in summary else ""
        tables = f"{out / 'grades.csv'}, totals.csv, {upload}summary.txt"
        say(f"written: {tables}, feedback/ and gradescope/")
    return 1 if summary["failed"] else 0


def list_arguments(
    what: str | None,
    seed: int | None,
    by_student: bool | None,
    unsafe: bool,
    jobs: int | None,
    dask: str | None,
    roster: Path | None,
    bom: bool,
    column: str | None,
) -> list[str]:
    """List the words of `minilab grade` that say the same in a container."""
    if unsafe or dask:
        raise ValueError(
            "--container has sandboxes and no network: without --unsafe-no-sandbox and --dask"
        )
    given = [] if what is None else [what]
    variants = None if by_student is None else "student" if by_student else "class"
    options = {"--seed": seed, "--jobs": jobs, "--variant-by": variants, "--column": column}
    for option, value in options.items():
        given += [] if value is None else [option, str(value)]
    return [*given, "--bom"] if bom else given


def compare_grades(old: Path, new: Path, as_data: bool) -> int:
    """Show whose points differ between two runs. Return status 1 if some do."""
    from mini_transformer.course.lecturer.comparing_runs import Change, compare_runs
    from mini_transformer.terminal import say, show_table

    changes = compare_runs(old, new)
    if as_data:
        print_data([change._asdict() for change in changes])
    elif changes:
        rows = [["" if cell is None else str(cell) for cell in change] for change in changes]
        show_table(Change._fields, rows)
    else:
        say("The grades are the same.")
    return 1 if changes else 0


@command
def exam(
    action: Annotated[str, typer.Argument(metavar="make|grade")],
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="Holds DIR/NAME/ for each student, to hand out, and the tables."
        ),
    ],
    roster: Annotated[
        Path | None,
        typer.Option(metavar="CSV", help="The class: a model for each; e-mails in the tables."),
    ] = None,
    submissions: Annotated[
        Path | None,
        typer.Option(help="Where the answers are that `grade` reads; by default in DIR."),
    ] = None,
    minutes: Annotated[int, typer.Option(min=1, help="What the paper says.")] = 90,
    size: Annotated[int, typer.Option(min=1, max=5, help="Steps of each program.")] = 2,
    key: Annotated[
        Path | None, typer.Option(help="The key to grade with; by default DIR.key.json.")
    ] = None,
    as_data: AsData = False,
) -> None:
    """An unseen model for every student, and the same questions about it (docs/lecturers.md).
    `make` writes DIR and, beside it, the key; `grade` scores the answers and writes
    DIR/totals.csv.
    """
    from mini_transformer.course.lecturer.exam import grade_exam, make_exam
    from mini_transformer.course.lecturer.roster import load_roster
    from mini_transformer.terminal import say, show_table

    key = key or folder.with_name(f"{folder.name}.key.json")
    if action == "make" and roster is not None:
        students = [enrolled.name for enrolled in load_roster(roster).enrolled]
        make_exam(students, folder, minutes, size=size)
        say(f"written: {folder}, a folder for each student, and the key {key}, to keep")
    elif action == "grade":
        rows, nobodys = grade_exam(folder, key, submissions, roster)
        if as_data:
            print_data({"students": rows, "nobodys": nobodys})
            return
        cells = [["" if cell is None else str(cell) for cell in row.values()] for row in rows]
        show_table(tuple(rows[0]), cells)
        for sentence in nobodys:
            say(sentence)
        say(f"written: {folder / 'totals.csv'}{' and upload.csv' if roster else ''}")
    else:
        raise ValueError("say `minilab exam make DIR --roster CSV` or `minilab exam grade DIR`")


@command
def hint(what: What = None) -> None:
    """The next hint, of three, for an exercise, or for the first unsolved one of a lesson
    (by default, of all). No points are lost.
    """
    from mini_transformer.course.learner.course import open_course
    from mini_transformer.terminal import say

    course = open_course(Path.cwd())
    exercises = course.find_exercises(what) if what else course.exercises
    exercise = course.find_next(exercises) or exercises[0]
    solved = " (solved already)" if course.progress.of(exercise).solved else ""
    n_hints = len(exercise.hints)
    for number, text in course.take_hint(exercise):
        last = " (the last)" if number == n_hints else ""
        place = f"{exercise.number} {exercise.name}{solved}"
        say(f"Hint {number} of {n_hints}{last} for {place}", "bold")
        say(text)


@command
def watch(what: What = None) -> None:
    """Check again whenever you save: a lesson (01), an exercise (1.2),
    or by default everything. Ctrl-C ends it.
    """
    from mini_transformer.course.grading.showing import show_report
    from mini_transformer.course.learner.course import open_course
    from mini_transformer.course.learner.screen import show_next
    from mini_transformer.course.learner.watching import watch_files
    from mini_transformer.terminal import say

    course = open_course(Path.cwd())
    exercises = course.find_exercises(what) if what else course.exercises
    paths = {course.file_of(exercise.key): exercise.key for exercise in exercises}
    files = f"{len(paths)} file{'s' * (len(paths) != 1)}"
    say(f"Watching {files} in {course.folder / 'exercises'}; save one. Ctrl-C ends.")
    try:
        for saved in watch_files(list(paths)):
            keys = [paths[path] for path in saved]
            chosen = [exercise for exercise in exercises if exercise.key in keys]
            reports, newly = course.grade(chosen)
            for report in reports:
                show_report(report, newly)

            ahead = course.find_next(exercises)
            if newly and ahead:
                show_next(ahead, course.progress.of(ahead), course.locate(ahead))
    except KeyboardInterrupt:
        say("Stopped; your progress is kept.")


@command
def reset(which: Annotated[str, typer.Argument(metavar="NN")]) -> None:
    """Put the stubs of a lesson (01) or of one exercise (1.2) back.
    What you wrote is kept in a copy, your points too.
    """
    from mini_transformer.course.learner.course import open_course
    from mini_transformer.terminal import say

    path, copy = open_course(Path.cwd()).reset(which)
    kept = "" if copy is None else f"; yours is kept in {copy.name}"
    say(f"{path.name} is as it was handed out{kept}.")


@command
def reveal(which: Annotated[str, typer.Argument(metavar="NN")]) -> None:
    """The solution and the explanation of an exercise,
    or of the first unsolved one of a lesson. It is recorded.
    """
    from mini_transformer.course.learner.course import open_course
    from mini_transformer.course.learner.screen import show_answer

    course = open_course(Path.cwd())
    exercises = course.find_exercises(which)
    exercise = course.find_next(exercises) or exercises[0]
    show_answer(exercise, course.reveal(exercise))


@command
def status(what: What = None, as_data: AsData = False) -> None:
    """The map of the course: what is solved, what is next, minutes and points.
    With NN, also that lesson's exercises.
    """
    from mini_transformer.course.learner.course import open_course
    from mini_transformer.course.learner.screen import show_map

    course = open_course(Path.cwd())
    opened = {exercise.key for exercise in course.find_exercises(what)} if what else set()
    if as_data:
        print_data(course.list_status())
    else:
        show_map(course.list_status(), course.list_titles(), course.folder, opened)


@command
def lesson(which: Annotated[str, typer.Argument(metavar="NN")]) -> int:
    """Open a lesson's notebook in JupyterLab, or say how to open it."""
    from mini_transformer.course.learner.course import open_course
    from mini_transformer.course.lecturer.doctor import find_jupyter
    from mini_transformer.terminal import say

    notebook = open_course(Path.cwd()).find_notebook(which)
    jupyter = find_jupyter()
    if jupyter:
        return subprocess.run([sys.executable, "-m", jupyter, str(notebook)]).returncode
    say(str(notebook))
    kernel = f"Open it in VS Code (kernel: {sys.executable})"
    say(f"{kernel}, or `pip install jupyterlab` and run this command again.")
    return 0


@command
def toys(
    action: Annotated[str | None, typer.Argument(metavar="[verify]", show_default=False)] = None,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", show_default=False)] = None,
    seed: Annotated[
        int, typer.Option(help="Which variant, or which shipped model, to verify.")
    ] = 0,
    as_data: AsData = False,
) -> int:
    """List the toys; with `verify`, measure again all that is claimed of one, or of all.
    Status 1 if a claim fails.
    """
    from mini_transformer import toys
    from mini_transformer.terminal import show_table

    if action is None:
        described = toys.describe()
        if as_data:
            print_data(described)
        else:
            show_table(("toy", ""), [row.values() for row in described])
        return 0

    if action != "verify":
        raise ValueError(
            f"minilab toys {action} does not exist: minilab toys, or minilab toys verify [NAME]"
        )
    from mini_transformer.toys.verify import verify

    return show_checks(verify(name, seed), as_data)


@command
def export(
    name: Annotated[
        str, typer.Argument(help="A toy, forge:7 (an unseen model), or where a class hands in.")
    ],
    where: Annotated[
        str, typer.Argument(help="The folder to write, or the lesson that a class hands in.")
    ],
    seed: Annotated[
        int | None, typer.Option(min=0, help="Which variant; a class's is drawn, others are 0.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The zip for Gradescope; the repository for GitHub.")
    ] = None,
) -> None:
    """Write a model, its task and all that is known of it for other programs (docs/format.md).

    `minilab export gradescope NN` writes autograder.zip for a lesson, and
    `minilab export github-classroom NN` a workflow (docs/lecturers.md).
    """
    from mini_transformer import toys
    from mini_transformer.terminal import say

    if name in ("gradescope", "github-classroom"):
        export_lesson(name, where, seed, out)
        return
    if out is not None:
        raise ValueError(f"--out is for gradescope and github-classroom: {name} is written to DIR")
    say(f"written: {toys.export(load_case(name, seed or 0), Path(where))}")


def load_case(name: str, seed: int) -> "Case":
    """Load a toy, or forge a model: `forge:7`, or `forge` with a seed."""
    from mini_transformer import forge, toys

    kind, colon, number = name.partition(":")
    if kind != "forge":
        return toys.load(name, seed)
    if colon and not number.isdecimal():
        raise ValueError(f"{name} has no seed after the colon: write forge:{seed}")
    return forge.make(int(number) if colon else seed)


def export_lesson(platform: str, which: str, seed: int | None, out: Path | None) -> None:
    """Write what grades a lesson on a platform."""
    from mini_transformer.course.lecturer.classroom import write_classroom
    from mini_transformer.course.lecturer.gradescope import find_kept_seed, write_autograder
    from mini_transformer.course.lecturer.resume import check_seed, draw_seed
    from mini_transformer.course.material import find_key, find_material
    from mini_transformer.terminal import say

    key = find_key(which, find_material().list_keys())
    if platform == "gradescope":
        path = out or Path("autograder.zip")
        kept = find_kept_seed(path) if seed is None else seed
        size = write_autograder(path, key, check_seed(draw_seed() if kept is None else kept))
        whose = "the class's seed" if kept is None or seed is not None else "the seed that it had"
        say(f"written: {path} ({size / 2**20:.0f} MB), with {whose}: keep it to yourself")
    else:
        folder = out or Path(".")
        before = write_classroom(folder, key)
        if before:
            say(f"the workflow there graded lesson {before}: it is replaced")
        say(f"written: {folder / '.github'}, for the repository that students start from")


@command
def play(
    name: Annotated[
        str, typer.Argument(metavar="[TOY]", help="A toy, forge:7, or a folder of `export`.")
    ] = "induction_by_hand",
    seed: Annotated[int, typer.Option(min=0, help="Which variant of a toy.")] = 0,
    out: Annotated[Path | None, typer.Option(help="The file; by default out/TOY.html.")] = None,
    opened: Annotated[bool, typer.Option("--open/--no-open", help="Show it.")] = True,
) -> None:
    """Take a model apart in the browser: one HTML file in which it runs, without a network."""
    from mini_transformer import play as playing
    from mini_transformer import toys
    from mini_transformer.terminal import say

    if name == "forge":
        raise ValueError(f"a forged model is called by its seed: minilab play forge:{seed}")
    is_folder = Path(name, "case.json").is_file()
    case = toys.load_folder(name) if is_folder else load_case(name, seed)
    path = out or Path("out") / f"{case.name}.html"
    say(f"written: {playing.play(case, path=path) if opened else playing.write(path, case)}")


@command
def site() -> None:
    """Open the course as a site in the browser: lessons with their figures, toys, techniques."""
    front = Path(__file__).parents[1] / "out" / "site" / "html" / "index.html"
    if not front.exists():
        raise ValueError(
            f"there is no {front}: `make site` builds it, in a clone of the repository"
        )
    typer.launch(front.as_uri())


def show_checks(rows: list[Any], as_data: bool) -> int:
    """Show what was measured beside its bounds. Return status 1 if a claim fails."""
    from mini_transformer.terminal import say, show_table

    failed = [row for row in rows if not row.ok]
    if as_data:
        print_data([row._asdict() for row in rows])
    else:
        table = []
        for row in rows:
            bound = f"{row.low:.4g} to {row.high:.4g}"
            mark = "ok" if row.ok else "NO"
            table.append((row.case, row.signature, f"{row.measured:.4g}", bound, mark))
        show_table(("toy", "", "measured", "bound", ""), table)
        if failed:
            say(f"{len(failed)} of {len(rows)} claims fail.")
        else:
            say(f"All {len(rows)} claims hold.")
    return 1 if failed else 0


@command
def board(
    compared: Annotated[
        list[str] | None,
        typer.Argument(metavar="[compare A B]", help="Put two methods on the same models."),
    ] = None,
    quick: Annotated[bool, typer.Option(help="A first look: few problems, few models.")] = False,
    method: Annotated[str | None, typer.Option(help="Your own, as module:function.")] = None,
    family: Annotated[
        str | None, typer.Option(help="One family only; by default all, or that of your method.")
    ] = None,
    cases: Annotated[
        list[str] | None,
        typer.Option(help="A problem (case/variant), or all of a case; may be repeated."),
    ] = None,
    models: Annotated[
        int | None, typer.Option(min=1, help="Of each problem; by default what the family says.")
    ] = None,
    split: Annotated[
        str, typer.Option(help="`held-out`, or `tuning`: models to develop a method on.")
    ] = "held-out",
    seed: Annotated[
        int | None, typer.Option(help="Of the held-out models; by default a new one per folder.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Worker processes; by default one per core.")
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Where rows are kept, and board.json and board.html written.")
    ] = Path("out/board"),
    csv: Annotated[
        Path | None, typer.Option(help="Write every value of every metric there, too.")
    ] = None,
    dask: Annotated[
        str | None, typer.Option(help="Address of a Dask cluster (tcp://...), or `local`.")
    ] = None,
    time_limit: Annotated[
        float, typer.Option(min=0.1, help="Seconds that one method may take on one problem.")
    ] = 120.0,
    as_data: AsData = False,
) -> int:
    """Score interpretability methods against models whose mechanism is known.
    Status 1 if a method failed somewhere.
    """
    from dataclasses import asdict

    from mini_transformer import board
    from mini_transformer.board.running.run import choose_families
    from mini_transformer.course.learner.screen import say

    options: dict[str, Any] = {
        "split": split,
        "seed": seed,
        "out": out,
        "workers": jobs,
        "dask": dask,
        "seconds": time_limit,
        "progress": sys.stderr.isatty(),
    }
    if compared:
        if compared[0] != "compare" or len(compared) != 3:
            raise ValueError(f"{' '.join(compared)!r} is not `compare A B`, two methods' names")
        found = board.compare(compared[1], compared[2], family, cases, models, **options)
        if as_data:
            print_data(asdict(found))
        else:
            board.show(found)
        return 0
    command = shlex.join(["minilab", *sys.argv[1:]])
    chosen = choose_families(family, method)
    asked: dict[str, Any] = {"models": models, "quick": quick, "cases": cases, "command": command}
    summary = board.run_board(chosen, method, **asked, **options)
    if csv is not None:
        summary.write_csv(csv)
    if as_data:
        print_data(summary.as_data())
    else:
        board.show(summary)
        say(f"written: {out / 'board.html'} and {out / 'board.json'}")
    return 1 if any(score.errors for score in summary.scores) else 0


@command
def forge(
    seed: Annotated[int, typer.Option(min=0)] = 0,
    size: Annotated[int | None, typer.Option(help="Steps of the program, 1 to 8.")] = None,
    decoys: Annotated[
        int | None, typer.Option(help="Heads per layer that serve no task, at least.")
    ] = None,
    tasks: Annotated[int | None, typer.Option(help="Other programs in the same model.")] = None,
    redundancy: Annotated[
        str | None, typer.Option(help="none, 'second way' or backup; by default drawn.")
    ] = None,
    positions: Annotated[
        str | None, typer.Option(help="fixed, or drawn per prompt; by default drawn.")
    ] = None,
    saturation: Annotated[float | None, typer.Option(help="Attention score of a match.")] = None,
    skew: Annotated[
        float | None, typer.Option(help="How far variables are from orthogonal, up to 0.6.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Write the model to this .safetensors file, or the score as JSON."),
    ] = None,
    verify: Annotated[
        bool, typer.Option(help="Measure all that is claimed of it; status 1 if a claim fails.")
    ] = False,
    blind: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write models without their truth here.")
    ] = None,
    n: Annotated[int, typer.Option(min=1, help="How many models, with --blind.")] = 20,
    answers: Annotated[
        Path | None, typer.Option("--score", metavar="JSON", help="Score these answers.")
    ] = None,
    key: Annotated[
        Path | None, typer.Option(help="The key to the models of --blind; by default DIR.key.json.")
    ] = None,
    as_data: AsData = False,
) -> int:
    """Make an unseen model whose mechanism is known: the program it runs, and its circuits.

    With --blind DIR, write many models and tasks without their truth, and a sealed key apart.
    With --score JSON --key KEY, score answers to them; with --blind DIR also verify the key.
    """
    from mini_transformer import checkpoints
    from mini_transformer.forge import make, write_blind
    from mini_transformer.terminal import say
    from mini_transformer.toys.verify import verify_case

    if blind is not None and key is None:
        key = blind.with_name(f"{blind.name}.key.json")
    if answers is not None:
        return score_blind_answers(answers, key, blind, out, as_data)
    given: dict[str, Any] = {"size": size, "decoys": decoys, "tasks": tasks}
    given |= {"redundancy": redundancy, "positions": positions}
    given |= {"saturation": saturation, "skew": skew}
    knobs = {name: value for name, value in given.items() if value is not None}
    if blind is not None and key is not None:
        write_blind(blind, key, n, seed, **knobs)
        say(f"written: {blind}, to hand out, and its key {key}, to keep")
        return 0

    case = make(seed, **knobs)
    if verify:
        return show_checks(verify_case(case), as_data)
    circuits = {
        ablation: [sorted(circuit) for circuit in found.edges]
        for ablation, found in case.truth.circuits.items()
    }
    if as_data:
        data = {"name": case.name, "roles": case.truth.roles, "circuits": circuits}
        print_data(data | {"picture": case.picture})
    else:
        say(repr(case))
        for ablation, found in circuits.items():
            say(f"{ablation}: {len(found)} minimal circuits of edges", "bold")
            for circuit in found:
                say(f"  {' '.join(circuit)}")
    if out is not None:
        say(f"written: {checkpoints.save(out, case.model, seed=seed)}")
    return 0


def score_blind_answers(
    answers: Path, key: Path | None, folder: Path | None, out: Path | None, as_data: bool
) -> int:
    """Score answers to blind models, and show the scores beside those of guesses."""
    from mini_transformer.forge import score_blind
    from mini_transformer.isolation.files import write_atomically
    from mini_transformer.terminal import say, show_table

    if key is None:
        raise ValueError("--score needs the key: give --key KEY, or --blind DIR for DIR.key.json")
    score = score_blind(answers, key, folder)
    if out is not None:
        write_atomically(out, json.dumps(score.as_data(), indent=1) + "\n")
    if as_data:
        print_data(score.as_data())
        return 0
    for note in score.notes:
        say(note)
    table = []
    for name, own in score.metrics.items():
        ends = "" if own.low is None else f"{own.low:.2f} to {own.high:.2f}"
        guesses = [f"{found[name].mean:.3f}" for found in score.baselines.values()]
        table.append((name, f"{own.mean:.3f}", ends, *guesses))
    show_table(("", "answers", "95% over models", *score.baselines), table)
    sealed = "models and key are as they were sealed" if folder else "not compared with a folder"
    say(f"key {score.commitment[:16]}... ({sealed}), answers {score.answers[:16]}...")
    if out is not None:
        say(f"written: {out}")
    return 0


@command
def train(
    name: str,
    seed: int = 0,
    replace: Annotated[
        bool, typer.Option(help="Write over a checkpoint that is there already.")
    ] = False,
) -> None:
    """Train a toy from scratch and write its checkpoint where `toys.load` looks for it."""
    from mini_transformer.terminal import say
    from mini_transformer.toys.trained.training import train_toy

    say(f"written: {train_toy(name, seed, replace=replace)}")


if __name__ == "__main__":
    app()
