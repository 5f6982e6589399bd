import json

import pytest
from sample_course import write_course

from mini_transformer.course.exercises import read_course, read_stub
from mini_transformer.course.loop import Course
from mini_transformer.course.material import CourseError
from mini_transformer.course.progress import read_progress
from mini_transformer.course.workspace import find_line, make_workspace

FILES = {"README.md", "exercises/ex01_samples.py", "lessons/01_samples.ipynb", "progress.toml"}


@pytest.fixture
def material(tmp_path):
    return write_course(tmp_path / "course")


@pytest.fixture
def course(tmp_path, material):
    make_workspace(tmp_path / "mine", material)
    return Course(material, read_course(material), read_progress(tmp_path / "mine"))


def test_a_workspace_holds_notebooks_stubs_a_readme_and_progress(tmp_path, material):
    setup = make_workspace(tmp_path / "a" / "b", material, base_seed=4)
    there = {
        str(path.relative_to(setup.folder)) for path in setup.folder.rglob("*") if path.is_file()
    }
    assert there == set(setup.added) == FILES
    assert setup.kept == ()
    assert read_progress(setup.folder).base_seed == 4
    assert (setup.folder / "exercises/ex01_samples.py").read_text() == read_stub(
        material, "01_samples"
    )


def test_the_notebook_holds_the_lessons_cells_and_no_outputs(tmp_path, material):
    setup = make_workspace(tmp_path / "mine", material)
    notebook = json.loads((setup.folder / "lessons/01_samples.ipynb").read_text())
    assert [cell["cell_type"] for cell in notebook["cells"]] == ["markdown", "code"]
    assert notebook["cells"][1]["outputs"] == []
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"


def test_nothing_that_is_there_is_overwritten_and_what_is_missing_is_added(tmp_path, material):
    folder = tmp_path / "mine"
    make_workspace(folder, material)
    (folder / "exercises/ex01_samples.py").write_text("my work")
    (folder / "progress.toml").write_text("base_seed = 9")
    (folder / "README.md").unlink()
    setup = make_workspace(folder, material)
    assert (setup.added, set(setup.kept)) == (("README.md",), FILES - {"README.md"})
    assert (folder / "exercises/ex01_samples.py").read_text() == "my work"
    assert (folder / "progress.toml").read_text() == "base_seed = 9"


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path, material):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        CourseError, match=r"file/mine cannot be made into a workspace: Not a directory"
    ):
        make_workspace(tmp_path / "file" / "mine", material)


def test_a_file_that_cannot_be_written_is_one_sentence(tmp_path, material, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.mkstemp", refuse)
    with pytest.raises(CourseError, match=r"README.md cannot be written: Permission denied"):
        make_workspace(tmp_path / "mine", material)


def test_a_function_is_found_where_the_learner_has_it(tmp_path):
    path = tmp_path / "x.py"
    path.write_text("# one\n# two\ndef double(x): ...")
    assert (
        find_line(path, "double"),
        find_line(path, "triple"),
        find_line(tmp_path / "y.py", "double"),
    ) == (3, 1, 1)
    path.write_text("def double(x:")
    assert find_line(path, "double") == 1


def test_exercises_are_found_by_lesson_number_and_name(course):
    names = {
        what: [e.name for e in course.find_exercises(what)]
        for what in ("1", "01_samples", "1.2", "double")
    }
    both = ["double", "add_halves"]
    assert names == {"1": both, "01_samples": both, "1.2": ["add_halves"], "double": ["double"]}


def test_hints_come_one_by_one_and_the_last_one_stays(course):
    first = course.exercises[0]
    hints = [(1, "Think of sums."), (2, "x + x."), (3, "return x + x")]
    assert [course.take_hint(first) for _ in range(4)] == [[hint] for hint in (*hints, hints[-1])]
    assert read_progress(course.folder).of(first).hints == 3


def test_hints_to_what_is_solved_are_all_shown_and_not_counted(course):
    first = course.exercises[0]
    course.progress.note(first, float(first.points))
    assert [number for number, _ in course.take_hint(first)] == [1, 2, 3]
    assert course.progress.of(first).hints == 0


def test_grading_remembers_what_was_solved_and_the_next_exercise_follows(course):
    path = course.file_of("01_samples")
    path.write_text(
        path.read_text().replace(
            'raise NotImplementedError("double: not written yet")', "return x + x"
        )
    )
    reports, newly = course.grade(course.exercises)
    assert [result.points for result in reports[0].exercises] == [3, 0]
    assert [exercise.name for exercise in newly] == ["double"]
    assert course.grade(course.exercises)[1] == []  # no longer news
    assert course.find_next().name == "add_halves"
    assert [row["points"] for row in course.list_status()] == [3, 0]
    assert read_progress(course.folder).records["double"].points == 3


def test_only_the_exercises_asked_for_are_in_the_report(course):
    reports, _ = course.grade(course.find_exercises("add_halves"))
    assert [result.name for report in reports for result in report.exercises] == ["add_halves"]


def test_a_notebook_that_was_deleted_can_be_had_again(course):
    assert course.find_notebook("1").name == "01_samples.ipynb"
    course.find_notebook("1").unlink()
    with pytest.raises(CourseError, match=r"`minilab init .*` adds what is missing"):
        course.find_notebook("1")
