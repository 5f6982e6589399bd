"""The worker answers each frame with one frame, whatever the submission in it does."""

import json
import subprocess
import sys

import pytest

from mini_transformer.course.lecturer.wire import decode, encode
from mini_transformer.course.lecturer.worker import Worker

SOURCE = """
def double(x): return 2 * x
def give_itself(x): return give_itself
def stub(x):
    raise NotImplementedError("stub: not written yet")
def fail(x): raise ValueError(__file__)
print("loaded")
"""


@pytest.fixture
def ask(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    worker = Worker()

    def ask(**request):
        return decode(worker.answer(encode({"number": 7} | request)))

    source = SOURCE.encode().hex()
    ask.loaded = ask(
        name="ex01.py", source=source, parameters={"double": "x", "fail": "x"}, seconds=5.0
    )
    ask.worker = worker
    return ask


def call(ask, name):
    return ask(function=name, args=(3,), kwargs={})


def test_every_answer_carries_the_number_of_its_request_and_what_was_printed(ask):
    assert ask.loaded["number"] == 7
    assert ask.loaded["output"] == ["loaded"]
    answer = {"value": 6, "effects": {}, "runs": [], "number": 7, "output": ["loaded"]}
    assert call(ask, "double") == answer
    assert ask.worker.answer(b"") == b""


def test_what_is_wrong_with_the_file_is_in_the_answer(ask):
    assert call(ask, "stub")["unwritten"] == "stub: not written yet"
    failed = call(ask, "fail")
    assert failed["error"] == "fail line 6 fails when called with (3): ValueError: ex01.py"
    assert failed["final"] is False
    assert call(ask, "give_itself")["error"].startswith("give_itself returned a function")


def test_limits_are_set_for_good_and_never_raised():
    script = """
import json, resource
from mini_transformer.course.lecturer.worker import lower
lower(resource.RLIMIT_NOFILE, 100)
lower(resource.RLIMIT_NOFILE, 200)
print(json.dumps(resource.getrlimit(resource.RLIMIT_NOFILE)))
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert json.loads(run.stdout) == [100, 100]
