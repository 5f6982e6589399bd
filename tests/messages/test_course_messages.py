"""What a learner reads when their file, or what they typed, is wrong: one sentence each, with a line number."""

import threading
import time

import pytest
import torch
from typer.testing import CliRunner

from mini_transformer.cli import app
from mini_transformer.course.material import find_material
from mini_transformer.course.student import InProcessStudent, NamedModel, StudentError


def load(tmp_path, source, **options):
    path = tmp_path / "ex01_samples.py"
    path.write_text(source)
    return InProcessStudent(path, **options)


def read_sentence(run, *args, **kwargs) -> str:
    with pytest.raises(StudentError) as caught:
        run(*args, **kwargs)
    return str(caught.value)


ON_LOADING = {
    "def f(x:\n    return 1": "ex01_samples.py line 1 is not Python: '(' was never closed, at `def f(x:`",
    "def f(x):\nreturn 1": "ex01_samples.py line 2 is not Python: expected an indented block after function definition "
    "on line 1, at `return 1`",
    "def f():\n    x = 1\nreturn x": "ex01_samples.py line 3 is not Python: 'return' outside function, at `return x`",
    "raise BaseException('own')": "ex01_samples.py line 1 fails when it is imported: BaseException: own",
    "x = 1\0": "ex01_samples.py is not Python: source code string cannot contain null bytes",
    "import nothing_like_this": "ex01_samples.py line 1 fails when it is imported: "
    "ModuleNotFoundError: No module named 'nothing_like_this'",
    "def f():\n    return 1 / 0\n\nf()": "ex01_samples.py line 2 fails when it is imported: ZeroDivisionError: division by zero",
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


ON_CALLING = {
    "def f(x): pass": "f returned None: did you forget `return`?",
    "def f(x):\n    return x.nothing": "f line 2 fails when called with (tensor(2,3)): "
    "AttributeError: 'Tensor' object has no attribute 'nothing'",
    "def g(x):\n    return x[9]\ndef f(x):\n    return g(x)": "f line 2 fails when called with (tensor(2,3)): "
    "IndexError: index 9 is out of bounds for dimension 0 with size 2",
    "def f(x):\n    raise ValueError": "f line 2 fails when called with (tensor(2,3)): ValueError",
    "def f(x):\n    raise KeyboardInterruptish": "f line 2 fails when called with (tensor(2,3)): "
    "NameError: name 'KeyboardInterruptish' is not defined",
    "def f(x):\n    raise BaseException('own')": "f line 2 fails when called with (tensor(2,3)): BaseException: own",
    "def f(x):\n    return f(x)": "f line 2 fails when called with (tensor(2,3)): "
    "RecursionError: maximum recursion depth exceeded",
    "import sys\ndef f(x):\n    sys.exit(0)": "f line 3 stops Python (exit): return a value instead",
    "def f(x):\n    return input()": "f line 2 fails when called with (tensor(2,3)): EOFError: EOF when reading a line",
    "def f(x):\n    while True: x = x": "f line 2 was still running after 0.3 s: is there an endless loop?",
    "import time\ndef f(x):\n    time.sleep(9)": "f line 3 was still running after 0.3 s: is there an endless loop?",
    "import time\ndef f(x):\n    try:\n        while True: time.sleep(0.01)\n    except Exception: return 1":
    "f line 4 was still running after 0.3 s: is there an endless loop?",
    "def f(): return 1": "f takes (), expected (x): give it back the stub's",
    "def f(x, y): return 1": "f takes (x, y), expected (x): give it back the stub's",
    "def ff(x): return 1": "ex01_samples.py has no function f; nearest: ff: give it back the stub's name",
    "f = 3": "f is an int, expected a function: is the name used twice?",
    "def f(x): return lambda: x": "f returned a function: return a tensor, number or string, or a list or dict of these",
    "def f(x): return [x, {1}]": "f returned a set: return a tensor, number or string, or a list or dict of these",
    "def f(x): return x.numpy()": "f returned a ndarray: return a tensor, number or string, or a list or dict of these",
    "import torch\nclass Mine(torch.Tensor):\n    def __eq__(self, other): return True\ndef f(x): return x.as_subclass(Mine)":
    "f returned a Mine, a subclass of Tensor: return a plain tensor",
    "def f(x):\n    y = []\n    y.append(y)\n    return y":
    "f returned lists within lists, more than 20 deep: return a flat one",
    "def g(x):\n    raise NotImplementedError('g: not written yet')\ndef f(x): return g(x)":
    "f needs something that is not written yet: g: not written yet",
    "def f(x): yield x": "f returned a generator: return a tensor, number or string, or a list or dict of these",
}  # fmt: skip


@pytest.mark.parametrize(("source", "sentence"), ON_CALLING.items(), ids=range(len(ON_CALLING)))
def test_an_answer_that_fails_says_where_and_why(tmp_path, source, sentence):
    student = load(tmp_path, source, seconds=0.3, parameters={"f": "x"})
    assert read_sentence(student.call, "f", torch.ones(2, 3)) == sentence


def test_without_a_stub_a_wrong_signature_is_compared_with_the_call(tmp_path):
    student = load(tmp_path, "def f(x): return 1")
    assert (
        read_sentence(student.call, "f", 1, mask=None)
        == "f takes (x), expected (1, mask): give it back the stub's"
    )


def test_an_endless_loop_is_stopped_in_time_and_only_once(tmp_path):
    student = load(tmp_path, "def f():\n    while True: pass", seconds=0.3)
    started, used = time.monotonic(), time.process_time()
    first, second = (read_sentence(student.call, "f") for _ in range(2))
    assert first == second
    assert time.monotonic() - started > 0.25
    assert time.process_time() - used < 0.5  # waiting for a busy processor does not count


def test_outside_the_main_thread_there_is_no_time_limit_but_calls_work(tmp_path):
    student, got = load(tmp_path, "def f():\n    return 1"), []
    thread = threading.Thread(target=lambda: got.append(student.call("f")))
    thread.start()
    thread.join()
    assert got == [1]


def test_a_model_that_is_named_wrongly_says_what_to_give():
    with pytest.raises(
        ValueError, match="expected 'random' and Config fields; send any other model as it is"
    ):
        NamedModel("toy")


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    CliRunner().invoke(app, ["init", str(tmp_path / "mine")])
    monkeypatch.chdir(tmp_path / "mine")
    return tmp_path / "mine"


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        (["grade", "77"], "no lesson is called '77'; there are 01_residual_stream"),
        (
            ["grade", "01_residual_strem"],
            "no lesson is called '01_residual_strem'; nearest: 01_residual_stream",
        ),
        (["grade", "1.9"], "no exercise has the number '1.9'; there are 1.1, 1.2"),
        (
            ["hint", "attention_patern"],
            "no exercise is called 'attention_patern'; nearest: attention_pattern",
        ),
        (["lesson", "77"], "no lesson is called '77'"),
        (["hint", "zzz"], "no exercise is called 'zzz'; nearest: "),
    ],
)
def test_what_is_not_there_is_answered_with_the_nearest_thing_that_is(workspace, typed, sentence):
    result = CliRunner().invoke(app, typed)
    assert result.exit_code == 2
    assert result.stderr.startswith(sentence)
    assert result.stderr.count("\n") == 1


def test_the_courses_own_folder_is_not_made_into_a_workspace(tmp_path):
    top = find_material().solutions.parent
    result = CliRunner().invoke(app, ["init", str(top)])
    assert result.exit_code == 2
    assert result.stderr == f"{top} is where the course itself is kept: give another folder\n"


@pytest.mark.parametrize("typed", [["next"], ["grade"], ["hint"], ["status"], ["lesson", "01"]])
def test_outside_a_workspace_every_command_names_the_way_in(tmp_path, monkeypatch, typed):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, typed)
    assert result.exit_code == 2
    assert (
        result.stderr
        == f"{tmp_path} is not in a workspace: make one with `minilab init DIR`, then `cd DIR`\n"
    )


def test_a_tour_that_cannot_write_its_figure_is_one_sentence_before_any_work(tmp_path):
    (tmp_path / "file").write_text("")
    result = CliRunner().invoke(app, ["tour", "--out", str(tmp_path / "file")])
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "choose another folder with --out" in result.stderr


def test_a_tour_of_a_model_that_is_not_shipped_is_one_sentence(tmp_path):
    result = CliRunner().invoke(app, ["tour", "--quick", "--seed", "999", "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert result.stderr.startswith("no trained induction with seed 999 is shipped")


def test_a_bug_of_ours_keeps_its_traceback(monkeypatch, tmp_path):
    def stumble(path):
        raise KeyError("logits")

    monkeypatch.setattr("mini_transformer.course.loop.open_course", stumble)
    result = CliRunner().invoke(app, ["status"])
    assert result.exit_code == 1
    assert isinstance(result.exception, KeyError)


def test_a_workspace_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    result = CliRunner().invoke(app, ["init", str(tmp_path / "file")])
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "cannot be made into a workspace: " in result.stderr
