"""Learners' files as people write them: encodings, exported scripts, demonstrations that fail, all that Python accepts."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mini_transformer.course.answers import locate_function, read_learner_text
from mini_transformer.course.loading import StudentError, load_learner_file
from mini_transformer.course.sources import read_source
from mini_transformer.course.student import InProcessStudent
from mini_transformer.course.workspace import find_line

ANSWER = "def f(x):\n    return 2 * x\n"
WANTED = {"f": "x"}


def write(folder: Path, source: str | bytes, name: str = "ex01.py") -> Path:
    path = folder / name
    path.write_bytes(source if isinstance(source, bytes) else source.encode())
    return path


def load(folder: Path, source: str | bytes, **options) -> InProcessStudent:
    return InProcessStudent(write(folder, source), parameters=WANTED, **options)


ENCODINGS = {
    "declared cp932": ("# -*- coding: cp932 -*-\nT = '時間表'\n", "cp932", "時間表"),
    "declared gbk": ("# coding: gbk\nT = '注意力'\n", "gbk", "注意力"),
    "declared koi8-r": ("# coding: koi8-r\nT = 'привет'\n", "koi8-r", "привет"),
    "declared on the second line": (
        "#!/usr/bin/python\n# vim: fileencoding=cp1251\nT = 'да'\n",
        "cp1251",
        "да",
    ),
    "declared in an old Mac's file": ("# coding: cp1251\rT = 'да'\r", "cp1251", "да"),
    "latin-1 is not cp1252": ("# coding: latin-1\nT = '\x80'\n", "latin-1", "\x80"),
    "not declared": ("T = 'café'\n", "cp1252", "café"),
    "utf-16": ("T = 'café'\n", "utf-16", "café"),
    "utf-32": ("T = 'café'\n", "utf-32", "café"),
    "bom and crlf": ("\ufeffT = 'café'\r\n", "utf-8", "café"),
    "unknown to Python": ("# coding: utf8-foo\nT = 'café'\n", "utf-8", "café"),
    "declared, but not in it": ("# coding: utf-16\nT = 'ab'\n", "utf-8", "ab"),
    "no text encoding": ("# coding: rot13\nT = 'ab'\n", "utf-8", "ab"),
    "a line end of others in a string": ("T = 'a\u2028b\x85c'\n", "utf-8", "a\u2028b\x85c"),
}


@pytest.mark.parametrize(("text", "codec", "kept"), ENCODINGS.values(), ids=ENCODINGS)
def test_a_string_keeps_its_text_in_every_encoding_and_every_command_reads_it(
    tmp_path, text, codec, kept
):
    path = write(tmp_path, (text + ANSWER).encode(codec))
    assert load_learner_file(path).names["T"] == kept
    source = read_source(path.name, path.read_bytes())[0].decode()
    assert read_learner_text(path) == source
    assert source.split("\n")[locate_function(source, "f")] == ANSWER.split("\n")[:2]
    assert find_line(path, "f") == source[: source.index("def f")].count("\n") + 1


def test_the_second_line_of_a_string_declares_nothing(tmp_path):
    assert (
        load_learner_file(write(tmp_path, 'T = """\n# coding: latin-1\n"""\n')).names["T"]
        == "\n# coding: latin-1\n"
    )


def test_two_encodings_in_one_file_are_said_and_not_guessed():
    with pytest.raises(ValueError, match=r"invalid or missing encoding declaration for 'a\.py'"):
        read_source("a.py", b"x = 1\n" + "y = 'é'".encode("utf-16").replace(b"\0", b""))


ACCEPTED = {
    "from the future": "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass A:\n    n: int\n",
    "a quoted annotation": "from dataclasses import dataclass\n@dataclass\nclass A:\n    n: 'A | None' = None\n",
    "pickle": "import pickle\nclass A: pass\npickle.loads(pickle.dumps(A()))\n",
    "its own module": "import sys, inspect\nassert sys.modules[__name__].__file__ == __file__\n",
    "type hints": "import typing\ndef g(x: 'int'): pass\nassert typing.get_type_hints(g) == {'x': int}\n",
    "its own source": "import inspect\ndef g(): pass\nassert inspect.getsource(g) == 'def g(): pass\\n'\n",
    "annotations": "n: int = 1\nassert __annotations__ == {'n': int}\n",
    "arguments": "import argparse\nargparse.ArgumentParser().parse_args()\n",
    "utf-8 on Windows": "import sys\nsys.stdout.reconfigure(encoding='utf-8')\nsys.stderr.reconfigure(errors='replace')\n",
    "bytes": "import sys\nsys.stdout.buffer.write(b'x')\n",
    "another wrapper": "import io, sys\nsys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding='utf-8')\nprint('ä')\n",
    "a detached one": "import io, sys\nsys.stdout = io.TextIOWrapper(sys.stdout.detach(), encoding='utf-8')\nprint('ä')\n",
    "closed": "import sys\nsys.stdout.close()\nprint(1)\n",
    "a terminal?": "import sys\nassert not sys.stdout.isatty()\nassert sys.stdout.encoding == 'utf-8'\nsys.stdout.fileno()\n",
    "faulthandler": "import faulthandler\nfaulthandler.enable()\nfaulthandler.disable()\n",
    "logging": "import logging\nlogging.getLogger('x').addHandler(logging.StreamHandler())\nlogging.getLogger('x').error('a')\n",
    "IPython is named": "from IPython import get_ipython\nget_ipython().run_line_magic('matplotlib', 'inline')\n",
    "display": "display(1)\nget_ipython().system('ls')\nassert not get_ipython().getoutput('ls')\n",
    "progress": "from tqdm.notebook import tqdm\nlist(tqdm(range(2)))\n",
    "a long sum": f"t = {'+'.join(['1'] * 2500)}\nassert t == 2500\n",
    "commands": "!pip install einops\n%matplotlib inline\nfiles = !ls\nprint?\n",
    "a command of two lines": "%pip install -q \\\n   einops\nassert __import__('sys')._getframe().f_lineno == 3\n",
    "await": "import asyncio\nawait asyncio.sleep(0)\n",
    "commented out by Colab": "# Commented out IPython magic to ensure Python compatibility.\n# %%time\n# a = 1\n\nassert a == 1\n!ls\n",
    "nbconvert": "# In[1]:\nget_ipython().run_cell_magic('time', '', 'a = 1\\n')\nassert a == 1\n",
    "not run": "if __name__ == '__main__':\n    raise SystemExit('run')\n",
}


@pytest.mark.parametrize("source", ACCEPTED.values(), ids=ACCEPTED)
def test_what_python_or_a_notebook_accepts_costs_nothing_and_is_not_remarked(tmp_path, source):
    student = load(tmp_path, source + ANSWER)
    assert student.file.failures == []
    assert student.call("f", 2) == 4


FAILING = {
    "1 / 0": "line 1 fails when it is imported: ZeroDivisionError: division by zero",
    "exit()": "line 1 stops Python (exit) when it is imported",
    "import nothing_like_this": "line 1 fails when it is imported: ModuleNotFoundError: "
    "No module named 'nothing_like_this'",
    "a = 1; 1 / 0; b = 2\nassert b == 2": "line 1 fails when it is imported: ZeroDivisionError: division by zero",
    "input()": "line 1 fails when it is imported: EOFError: EOF when reading a line",
    "import warnings; warnings.simplefilter('error'); warnings.warn('a')": "line 1 fails when it is imported: "
    "UserWarning: a",
}


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize(("statement", "sentence"), FAILING.items(), ids=range(len(FAILING)))
def test_a_statement_that_fails_costs_nothing_that_does_not_need_it(
    tmp_path, statement, sentence, place
):
    source = f"{statement}\n{ANSWER}" if place == "before" else f"{ANSWER}{statement}\n"
    student = load(tmp_path, source)
    line = 1 if place == "before" else 3
    assert student.output == [f"ex01.py {sentence.replace('line 1', f'line {line}')}"]
    assert student.call("f", 2) == 4


def test_a_file_that_was_copied_with_its_prompts_is_read(tmp_path):
    student = load(tmp_path, ">>> a = (1 +\n...      1)\n>>> def f(x):\n...     return a * x\n")
    assert student.call("f", 2) == 4


def test_every_statement_runs_once(tmp_path):
    student = load(
        tmp_path, "n = []\nn.append(1)\n1 / 0\nn.append(2)\n[][1]; n.append(3)\n" + ANSWER
    )
    assert student.file.names["n"] == [1, 2, 3]
    assert len(student.file.failures) == 2


def test_what_needs_a_statement_that_failed_says_which(tmp_path):
    student = load(
        tmp_path,
        "import nothing_like_this as n\n" + ANSWER + "@n.cached\ndef g(x):\n    return n.h(x)\n",
    )
    with pytest.raises(
        StudentError, match=r"there is no function g, since ex01\.py line 4 fails .* NameError"
    ):
        student.call("g", 1)
    student = load(
        tmp_path, "import nothing_like_this as n\n" + ANSWER + "def g(x):\n    return n.h(x)\n"
    )
    with pytest.raises(
        StudentError,
        match=r"NameError: name 'n' is not defined; ex01\.py line 1 fails .*ModuleNotFound",
    ):
        student.call("g", 1)


def test_an_endless_loop_outside_costs_nothing_and_is_waited_for_twice_at_most(tmp_path):
    loops = "while True: pass\n"
    student = load(tmp_path, loops * 2 + "a = 1\n" + ANSWER + loops, seconds=0.3)
    assert student.call("f", 2) == 4
    assert "a" not in student.file.names
    assert [sentence.split(" runs")[0] for sentence in student.file.failures] == [
        "ex01.py line 1",
        "ex01.py line 2",
    ]


def test_without_any_function_that_is_wanted_the_failure_is_the_files(tmp_path):
    with pytest.raises(
        StudentError, match=r"^ex01\.py line 1 fails when it is imported: ZeroDivisionError"
    ):
        load(tmp_path, "1 / 0\ndef g(): pass\n")


@pytest.mark.parametrize("terms", [5000, 50_000])
def test_an_expression_that_is_too_deep_is_one_sentence(tmp_path, terms):
    with pytest.raises(StudentError, match=r"^ex01\.py is nested too deeply for Python"):
        load(tmp_path, ANSWER + f"x = {'+'.join(['1'] * terms)}\n")


def test_a_leftover_raise_in_a_file_with_a_long_sum_is_still_dropped(tmp_path):
    answer = "def f(x):\n    raise NotImplementedError(\n        'f'\n    )\n    return 2 * x\n"
    student = load(tmp_path, answer + f"t = {'+'.join(['1'] * 2500)}\n1 / 0\n")
    assert student.call("f", 2) == 4
    assert student.remarks == {"f": "line 2 still has `raise NotImplementedError`: delete it"}


def test_how_deep_a_call_may_go_does_not_depend_on_who_grades(tmp_path):
    deep = "def down(n):\n    return 0 if n == 0 else down(n - 1)\ndef f(x):\n    return down(x)\n"
    student = load(tmp_path, deep)

    def from_below(n):
        return student.call("f", 950) if n == 0 else from_below(n - 1)

    assert from_below(300) == 0
    assert load(tmp_path, "import sys\nsys.setrecursionlimit(9000)\n" + deep).call("f", 5000) == 0


def test_a_learners_code_leaves_the_process_as_it_was(tmp_path):
    source = """
import os, sys, tempfile, torch, numpy
os.environ["NEW"] = "1"; os.environ.pop("PATH")
sys.argv.append("more"); sys.setrecursionlimit(5000)
torch.set_default_device("meta"); numpy.seterr(all="raise"); torch.autograd.set_detect_anomaly(True)
torch.use_deterministic_algorithms(True)
os.chdir(tempfile.mkdtemp()); os.rmdir(os.getcwd())
"""

    def look():
        torches = (
            torch.zeros(1).device,
            torch.is_anomaly_enabled(),
            torch.are_deterministic_algorithms_enabled(),
        )
        return (
            os.getcwd(),
            dict(os.environ),
            list(sys.argv),
            sys.getrecursionlimit(),
            np.geterr(),
            torches,
        )

    before = look()
    assert load(tmp_path, source + ANSWER).file.failures == []
    assert look() == before


def test_two_students_do_not_see_each_other(tmp_path):
    first = load(tmp_path, "secret = 1\n" + ANSWER)
    second = load(
        tmp_path,
        "import sys\ndef f(x):\n    return [n for n in sys.modules if n.endswith('ex01')], __name__ in sys.modules\n",
    )
    found, own = second.call("f", 1)
    assert own
    assert found == [second.file.module.__name__]
    assert not hasattr(second.file.module, "secret")
    assert first.file.module.__name__ not in sys.modules


def test_what_is_printed_is_kept_whatever_was_done_to_the_stream(tmp_path):
    source = "import io, sys\nsys.stdout = io.TextIOWrapper(sys.stdout.detach(), encoding='utf-8')\nprint('ä', flush=True)\n"
    student = load(tmp_path, source + "def f(x):\n    print('later \\ud800')\n    return x\n")
    student.call("f", 1)
    assert student.output == ["ä", "later \\ud800"]


def test_no_window_is_opened_also_after_another_file_asked_for_one(tmp_path):
    load(tmp_path, "import matplotlib\nmatplotlib.use('TkAgg')\n" + ANSWER)
    student = load(
        tmp_path,
        "import matplotlib.pyplot as plt\nplt.plot([1])\nplt.show()\nplt.close('all')\n" + ANSWER,
    )
    assert [sentence for sentence in student.file.failures if "TkAgg" in sentence] == []


def test_the_stub_is_put_back_into_a_script_with_commands(tmp_path):
    text = "%pip install \\\n  einops\n# %%\nbroken(\n# %%\n" + ANSWER
    assert locate_function(text, "f") == slice(5, 7)
