import json

import pytest
from sample_course import write_course

from mini_transformer.course.exercises import read_stub
from mini_transformer.course.learner.progress import read_progress
from mini_transformer.course.learner.workspace import find_line, make_notebook, make_workspace
from mini_transformer.course.material import CourseError

FILES = {"README.md", "exercises/ex01_samples.py", "lessons/01_samples.ipynb", "progress.toml"}


@pytest.fixture
def material(tmp_path):
    return write_course(tmp_path / "course")


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


def test_a_cell_that_only_checks_is_folded_in_the_notebook(tmp_path):
    lesson = tmp_path / "01_samples.py"
    lesson.write_text('# %%\nx = 1\n\n# %% tags=["check"]\nassert x == 1\n')
    shown, folded = (cell["metadata"] for cell in json.loads(make_notebook(lesson))["cells"])
    assert shown == {}
    assert folded == {"jupyter": {"source_hidden": True}, "tags": ["check"]}


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
