"""Test that notebooks cost nothing for what IPython knows, and little for a failing cell.

A cell that fails costs only what depends on it.
"""

import json
import time

import pytest
from learner_file import ANSWER, load, load_notebook

from mini_transformer.course.grading.loading import StudentError
from mini_transformer.course.grading.notebooks import replace_magics
from mini_transformer.course.grading.sources import read_source


def make_notebook(*cells, **more) -> bytes:
    written = [{"cell_type": "code", "source": cell} for cell in cells]
    return json.dumps({"cells": written, **more}).encode()


CELLS = {
    "a command with braces": "import sys\n!{sys.executable} -m pip install einops",
    "a space after it": "! pip install einops",
    "help": "import torch\ntorch.einsum?\nprint??",
    "output in a name": "files = !ls\nfor file in files: print(file)",
    "a magic's result": "t = %timeit -o 1 + 1\nprint(f'{t.best:.3f}', t.average)",
    "over two lines": "%pip install -q \\\n   einops\n"
    "assert __import__('sys')._getframe().f_lineno > 2",
    "a line that begins with a remainder": "a, b = 7, 3\nc = (a\n     %b)\nassert c == 1",
    "a magic in a branch": "if True:\n    %matplotlib inline\n    !ls",
    "await": "import asyncio\nasync def g():\n    return 1\na = await g()\nassert a == 1\n"
    "async with asyncio.Lock(): pass",
    "from the future": "from __future__ import annotations\nb: nothing_like_this = 1",
    "time": "%%time\na = 1",
    "time of one line": "%time a = 1\nassert a == 1",
    "two magics and a title": "#@title Setup\n%%capture out\n%%time\na = 1",
    "another language": "%%bash\nls -l",
    "a page": "%%html\n<b>",
    "a file": "%%writefile other.py\ndef f(x): return 0",
    "an unknown language": "%%sql\nselect * from x",
    "an unknown magic over Python": "%%wandb\na = 1",
    "display": "display(1)\nfrom IPython.display import HTML, display as show\nshow(HTML('a'))",
    "quotes": "a = '''\n%d heads\n!x'''\nb = \"\"\"\\n\"\"\"\n"
    "assert a == '\\n%d heads\\n!x' and len(b) == 1",
    "indented": "\n\n    a = 1\n    b = 2",
    "emoji": "a = '\U0001f600'\nassert len(a) == 1",
    "windows": "a = 1\r\nb = 2\r\n",
    "a backslash": "a = r'\\d' + '\\\\'\nassert a == chr(92) + 'd' + chr(92)",
}


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_a_cell_that_ipython_accepts_costs_nothing_and_is_not_remarked(tmp_path, cell, place):
    cells = [cell, ANSWER] if place == "before" else ["x = 1", ANSWER, cell]
    student = load_notebook(tmp_path, make_notebook(*cells))
    assert student.file.failures == []
    assert student.call("f", 2) == 4
    compile(read_source("a.ipynb", make_notebook(*cells))[0], "a.py", "exec")


FAILING = {
    "1 / 0": "cell 1 line 1 fails when it is imported: ZeroDivisionError: division by zero",
    "a = 1\nf(": "cell 1 line 2 is not Python: '(' was never closed, at `f(`",
    "from google.colab import drive": "cell 1 line 1 fails when it is imported: "
    "ModuleNotFoundError: No module named 'google'",
    "a = '\ud83d'\nraise ValueError": "cell 1 line 2 fails when it is imported: ValueError",
    "a = '\0' b": "cell 1 line 1 is not Python: invalid syntax, at `a = '\ufffd' b`",
    "exit()": "cell 1 line 1 stops Python (exit) when it is imported",
    "return 1": "cell 1 line 1 is not Python: 'return' outside function, at `return 1`",
    "x = 1 \\": "cell 1 line 1 is not Python: unexpected EOF while parsing, at `x = 1 \\`",
    f"x = {'+'.join(['1'] * 20_000)}": "cell 1 line 1 is nested too deeply for Python, "
    "such as a sum of thousands of terms: "
    "use a loop, or a list and sum()",
}


@pytest.mark.parametrize(("cell", "sentence"), FAILING.items(), ids=range(len(FAILING)))
def test_a_cell_that_fails_costs_nothing_and_is_named_with_its_line(tmp_path, cell, sentence):
    student = load_notebook(tmp_path, make_notebook(cell, ANSWER))
    assert student.file.failures == [f"ex01.py {sentence}"]
    assert student.call("f", 2) == 4


def test_a_failing_answer_is_named_by_its_cell(tmp_path):
    student = load_notebook(
        tmp_path, make_notebook("a = 1", "b = 1\ndef f(x):\n    return x.nothing")
    )
    with pytest.raises(
        StudentError, match=r"^f cell 2 line 3 fails when called with \(2\): AttributeError"
    ):
        student.call("f", 2)


def test_a_function_in_a_cell_that_is_not_python_says_so(tmp_path):
    student = load_notebook(tmp_path, make_notebook(ANSWER, "def g(x):\n    return (x\n"))
    with pytest.raises(
        StudentError,
        match=r"there is no function g, since ex01\.py cell 2 line 2 is not Python: '\(' was",
    ):
        student.call("g", 2)


def test_an_endless_cell_costs_only_what_stands_behind_it_in_the_cell(tmp_path):
    student = load_notebook(
        tmp_path, make_notebook("while True: pass\na = 1\n" + ANSWER, "b = 1", "f(1)"), seconds=0.3
    )
    assert student.call("f", 2) == 4
    assert ("a" in student.file.names, "b" in student.file.names) == (False, True)
    assert [sentence.split(" runs")[0] for sentence in student.file.failures] == [
        "ex01.py cell 1 line 1"
    ]


def test_stubs_and_leftover_raises_are_found_in_cells(tmp_path):
    stub = "def g(x):\n    raise NotImplementedError('g')"
    left = "def f(x):\n    raise NotImplementedError\n    return 2 * x"
    student = load_notebook(tmp_path, make_notebook(stub, "%%time\n" + left))
    assert student.file.unwritten == {"g"}
    assert student.remarks == {
        "f": "cell 2 line 3 still has `raise NotImplementedError`: delete it"
    }
    assert student.call("f", 2) == 4


def test_the_source_of_a_function_in_a_cell_is_found(tmp_path):
    student = load_notebook(
        tmp_path, make_notebook("a = '''b'''", ANSWER + "import inspect\ns = inspect.getsource(f)")
    )
    assert student.file.names["s"] == ANSWER


def test_a_notebook_that_was_saved_as_a_script_is_read(tmp_path):
    assert load(tmp_path, make_notebook(ANSWER, metadata={"a": None})).call("f", 2) == 4


def test_a_function_that_calls_a_magic_returns_its_answer(tmp_path):
    student = load_notebook(
        tmp_path, make_notebook("def f(x):\n    %time y = 1\n    !ls\n    return 2 * x")
    )
    assert student.call("f", 2) == 4


def test_what_ipython_cannot_transform_stays_as_it_is(monkeypatch):
    monkeypatch.setattr("IPython.core.inputtransformer2.TRANSFORM_LOOP_LIMIT", 10)  # it is 500
    few, many = ("\n".join(["!ls"] * n) for n in (5, 20))
    assert replace_magics(few).count("get_ipython") == 5
    assert replace_magics(many) == many


@pytest.mark.parametrize("filler", ["\n", " \n", "#\n", "%%time\n", "\\\n"], ids=repr)
def test_a_notebook_of_any_text_is_read_in_time_that_grows_as_its_length(filler):
    started = time.process_time()
    read_source("ex01.ipynb", make_notebook("x = 1" + 100_000 * filler))
    assert time.process_time() - started < 2
