"""What a learner reads whose file does not load: one sentence, with a line number."""

import pytest

from mini_transformer.course.grading.student import InProcessStudent, StudentError


def load(tmp_path, source, **options):
    path = tmp_path / "ex01_samples.py"
    path.write_text(source)
    return InProcessStudent(path, **options)


def read_sentence(run, *args, **kwargs) -> str:
    with pytest.raises(StudentError) as caught:
        run(*args, **kwargs)
    return str(caught.value)


ON_LOADING = {
    "def f(x:\n    return 1": "ex01_samples.py line 1 is not Python: '(' was never closed, at "
    "`def f(x:`",
    "def f(x):\nreturn 1": "ex01_samples.py line 2 is not Python: expected an indented block "
    "after function definition "
    "on line 1, at `return 1`",
    "def f():\n    x = 1\nreturn x": "ex01_samples.py line 3 is not Python: 'return' outside "
    "function, at `return x`",
    "raise BaseException('own')": "ex01_samples.py line 1 fails when it is imported: "
    "BaseException: own",
    "x = 1\0": "ex01_samples.py is not Python: source code string cannot contain null bytes",
    "import nothing_like_this": "ex01_samples.py line 1 fails when it is imported: "
    "ModuleNotFoundError: No module named 'nothing_like_this'",
    "def f():\n    return 1 / 0\n\nf()": "ex01_samples.py line 2 fails when it is imported: "
    "ZeroDivisionError: division by zero",
    "import sys\nsys.exit(0)": "ex01_samples.py line 2 stops Python (exit) when it is imported",
    "while True:\n    pass": "ex01_samples.py line 1 runs for more than 0.3 s when it is imported: "
    "is there an endless loop outside the functions?",
}


@pytest.mark.parametrize(("source", "sentence"), ON_LOADING.items(), ids=range(len(ON_LOADING)))
def test_a_file_that_does_not_load_says_where_and_why(tmp_path, source, sentence):
    said = read_sentence(load, tmp_path, source, seconds=0.3)
    assert (
        said.replace("line 2 runs", "line 1 runs") == sentence
    )  # the loop is interrupted on either of its lines


def test_a_missing_file_names_the_nearest_one(tmp_path):
    (tmp_path / "ex01_sample.py").write_text("")
    said = read_sentence(InProcessStudent, tmp_path / "ex01_samples.py")
    assert (
        said
        == f"there is no file {tmp_path / 'ex01_samples.py'}; nearest in its folder: ex01_sample.py"
    )


def test_a_missing_file_in_an_empty_folder_is_missing(tmp_path):
    assert read_sentence(InProcessStudent, tmp_path / "a.py").endswith(
        "a.py, and its folder holds no .py file"
    )


def test_a_file_that_is_no_text_cannot_be_read(tmp_path):
    (tmp_path / "ex01_samples.py").write_bytes(b"x = '\xff\xfe'")
    assert "ex01_samples.py" in read_sentence(InProcessStudent, tmp_path / "ex01_samples.py")


def test_a_folder_in_the_files_place_cannot_be_read(tmp_path):
    (tmp_path / "ex01_samples.py").mkdir()
    assert "cannot be read: IsADirectoryError" in read_sentence(
        InProcessStudent, tmp_path / "ex01_samples.py"
    )
