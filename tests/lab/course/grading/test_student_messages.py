"""What a learner reads whose answer fails when it is called: one sentence, with a line number."""

import threading
import time

import pytest
import torch

from mini_transformer.course.grading.student import InProcessStudent, StudentError


def load(tmp_path, source, **options):
    path = tmp_path / "ex01_samples.py"
    path.write_text(source)
    return InProcessStudent(path, **options)


def read_sentence(run, *args, **kwargs) -> str:
    with pytest.raises(StudentError) as caught:
        run(*args, **kwargs)
    return str(caught.value)


FAILS = "f line 2 fails when called with (tensor(2,3)): "
RETURN = "return a tensor, number or string, or a list or dict of these"
ENDLESS = "was still running after 0.3 s: is there an endless loop?"
SUBCLASS = """
import torch
class Mine(torch.Tensor):
    def __eq__(self, other): return True
def f(x): return x.as_subclass(Mine)
"""
ON_CALLING = {
    "def f(x): pass": "f returned None: did you forget `return`?",
    "def f(x):\n    return x.nothing": FAILS
    + "AttributeError: 'Tensor' object has no attribute 'nothing'",
    "def g(x):\n    return x[9]\ndef f(x):\n    return g(x)": FAILS.replace("2 f", "2 (in g) f")
    + "IndexError: index 9 is out of bounds for dimension 0 with size 2",
    "def f(x):\n    raise ValueError": FAILS + "ValueError",
    "def f(x):\n    raise KeyboardInterruptish": FAILS
    + "NameError: name 'KeyboardInterruptish' is not defined",
    "def f(x):\n    raise BaseException('own')": FAILS + "BaseException: own",
    "def f(x):\n    return f(x)": FAILS + "RecursionError: maximum recursion depth exceeded",
    "import sys\ndef f(x): sys.exit(0)": "f line 2 stops Python (exit): return a value instead",
    "def f(x):\n    return input()": FAILS + "EOFError: EOF when reading a line",
    "def f(x):\n    while True: x = x": f"f line 2 {ENDLESS}",
    "import time\ndef f(x):\n    time.sleep(9)": f"f line 3 {ENDLESS}",
    "import time\ndef f(x):\n    try:\n        while True: time.sleep(0.01)\n"
    "    except Exception: return 1": f"f line 4 {ENDLESS}",
    "def f(): return 1": "f takes (), expected (x): give it back the stub's",
    "def f(x, y): return 1": "f takes (x, y), expected (x): give it back the stub's",
    "def ff(x): return 1": "ex01_samples.py has no function f; nearest: ff: "
    "give it back the stub's name",
    "f = 3": "f is an int, expected a function: is the name used twice?",
    "def f(x): return lambda: x": f"f returned a function: {RETURN}",
    "def f(x): return [x, object()]": f"f returned an object: {RETURN}",
    "def f(x): return b'x'": f"f returned a bytes: {RETURN}",
    SUBCLASS: "f returned a Mine, a subclass of Tensor: return a plain tensor",
    "def f(x):\n    y = []\n    y.append(y)\n    return y": "f returned lists within lists, "
    "more than 20 deep: return a flat one",
    "def g(x):\n    raise NotImplementedError('g: not written yet')\ndef f(x): return g(x)": (
        "f needs something that is not written yet: g: not written yet"
    ),
    "def f(x): yield x": f"f returned a generator: {RETURN}",
}


# Where recursion is too deep, a callback of Python's own may be what goes beyond it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
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
