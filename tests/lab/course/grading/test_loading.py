"""Learners' files as people write them: all that Python or a notebook accepts is accepted, and
disturbs nothing.
"""

import os
import sys

import numpy as np
import pytest
import torch
from learner_file import ANSWER, load

from mini_transformer.course.grading.loading import StudentError

ACCEPTED = {
    "from the future": "from __future__ import annotations\nfrom dataclasses import dataclass\n"
    "@dataclass\nclass A:\n    n: int\n",
    "a quoted annotation": "from dataclasses import dataclass\n@dataclass\n"
    "class A:\n    n: 'A | None' = None\n",
    "pickle": "import pickle\nclass A: pass\npickle.loads(pickle.dumps(A()))\n",
    "its own module": "import sys, inspect\nassert sys.modules[__name__].__file__ == __file__\n",
    "type hints": "import typing\ndef g(x: 'int'): pass\n"
    "assert typing.get_type_hints(g) == {'x': int}\n",
    "its own source": "import inspect\ndef g(): pass\n"
    "assert inspect.getsource(g) == 'def g(): pass\\n'\n",
    "annotations": "n: int = 1\nassert __annotations__ == {'n': int}\n",
    "arguments": "import argparse\nargparse.ArgumentParser().parse_args()\n",
    "utf-8 on Windows": "import sys\nsys.stdout.reconfigure(encoding='utf-8')\n"
    "sys.stderr.reconfigure(errors='replace')\n",
    "bytes": "import sys\nsys.stdout.buffer.write(b'x')\n",
    "another wrapper": "import io, sys\n"
    "sys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding='utf-8')\nprint('ä')\n",
    "a detached one": "import io, sys\n"
    "sys.stdout = io.TextIOWrapper(sys.stdout.detach(), encoding='utf-8')\nprint('ä')\n",
    "closed": "import sys\nsys.stdout.close()\nprint(1)\n",
    "a terminal?": "import sys\nassert not sys.stdout.isatty()\n"
    "assert sys.stdout.encoding == 'utf-8'\nsys.stdout.fileno()\n",
    "faulthandler": "import faulthandler\nfaulthandler.enable()\nfaulthandler.disable()\n",
    "logging": "import logging\nlogging.getLogger('x').addHandler(logging.StreamHandler())\n"
    "logging.getLogger('x').error('a')\n",
    "IPython is named": "from IPython import get_ipython\n"
    "get_ipython().run_line_magic('matplotlib', 'inline')\n",
    "display": "display(1)\nget_ipython().system('ls')\nassert not get_ipython().getoutput('ls')\n",
    "progress": "from tqdm.notebook import tqdm\nlist(tqdm(range(2)))\n",
    "a long sum": f"t = {'+'.join(['1'] * 2500)}\nassert t == 2500\n",
    "commands": "!pip install einops\n%matplotlib inline\nfiles = !ls\nprint?\n",
    "a command of two lines": "%pip install -q \\\n   einops\n"
    "assert __import__('sys')._getframe().f_lineno == 3\n",
    "await": "import asyncio\nawait asyncio.sleep(0)\n",
    "commented out by Colab": "# Commented out IPython magic to ensure Python compatibility.\n"
    "# %%time\n# a = 1\n\nassert a == 1\n!ls\n",
    "nbconvert": "# In[1]:\nget_ipython().run_cell_magic('time', '', 'a = 1\\n')\nassert a == 1\n",
    "not run": "if __name__ == '__main__':\n    raise SystemExit('run')\n",
}


@pytest.mark.parametrize("source", ACCEPTED.values(), ids=ACCEPTED)
def test_what_python_or_a_notebook_accepts_costs_nothing_and_is_not_remarked(tmp_path, source):
    student = load(tmp_path, source + ANSWER)
    assert student.file.failures == []
    assert student.call("f", 2) == 4


def test_a_file_that_was_copied_with_its_prompts_is_read(tmp_path):
    student = load(tmp_path, ">>> a = (1 +\n...      1)\n>>> def f(x):\n...     return a * x\n")
    assert student.call("f", 2) == 4


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


def test_without_any_function_that_is_wanted_the_failure_is_the_files(tmp_path):
    with pytest.raises(
        StudentError, match=r"^ex01\.py line 1 fails when it is imported: ZeroDivisionError"
    ):
        load(tmp_path, "1 / 0\ndef g(): pass\n")


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
        "import sys\n"
        "def f(x):\n"
        "    return [n for n in sys.modules if n.endswith('ex01')], __name__ in sys.modules\n",
    )
    found, own = second.call("f", 1)
    assert own
    assert found == [second.file.module.__name__]
    assert not hasattr(second.file.module, "secret")
    assert first.file.module.__name__ not in sys.modules


def test_what_is_printed_is_kept_whatever_was_done_to_the_stream(tmp_path):
    source = (
        "import io, sys\n"
        "sys.stdout = io.TextIOWrapper(sys.stdout.detach(), encoding='utf-8')\n"
        "print('ä', flush=True)\n"
    )
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
