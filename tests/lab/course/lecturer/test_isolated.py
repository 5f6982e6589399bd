"""A student in a sandbox answers like one in this process, and what happens to its process is
its own affair.
"""

import contextlib
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from sample_course import SOLUTION, write_course
from sandboxed import find_or_skip

from mini_transformer import toys
from mini_transformer.course.exercises import read_stub
from mini_transformer.course.grading.grade import grade_file
from mini_transformer.course.grading.loading import NotWrittenError, StudentError
from mini_transformer.course.grading.student import InProcessStudent, NamedModel
from mini_transformer.course.lecturer.forks import Nursery
from mini_transformer.course.lecturer.isolated import TRIES, IsolatedStudent, grade_isolated
from mini_transformer.course.lecturer.sandbox import NO_SANDBOX, Sandbox
from mini_transformer.course.material import CourseError

SOURCE = """
import os, time, torch
print("loaded")
calls = []

def give_back(x, y, *, z): return {"a": [x, y], "b": (z, None)}
def change(x, y):
    x.zero_(); y["a"].append(1)
    return 1
def slope(x):
    (x * x).sum().backward()
    return x.grad, x.requires_grad
def weight(model): return model.W_E[0, 0]
def count_calls():
    calls.append(1)
    return len(calls)
def fail(x): return x.nothing
def give_nothing(x): pass
def give_function(x): return lambda: x
def give_sparse(x): return x.to_sparse()
def give_deep(x):
    for _ in range(30): x = [x]
    return x
def take_two(x, y): return 1
def leave(x): raise SystemExit
def say(x):
    print("said"); os.write(1, b"noise"); os.system("echo noise")
    return x
def stub(x):
    raise NotImplementedError("stub: not written yet")
def almost(x):
    return count_calls()
    raise NotImplementedError
def loop(x):
    while True: pass
def die(x): os._exit(7)
def die_sometimes(x):
    if x: os._exit(0)
    return 1
def die_later(x):
    import threading
    threading.Timer(0.2, lambda: os._exit(0)).start()
    return 1
def draw(n): return torch.rand(n)
def return_twice(x):
    os.fork()
    return x
def forge(x):
    import struct
    from mini_transformer.course.lecturer.wire import encode
    frame = encode({"value": 42, "output": [], "number": "1"})
    for fd in range(3, 20):
        try: os.write(fd, struct.pack(">Q", len(frame)) + frame)
        except OSError: pass
    return x
"""
PARAMETERS = {"take_two": "x", "almost": "x"}


@pytest.fixture(scope="module")
def student():
    with IsolatedStudent(
        "ex01_samples.py", SOURCE.encode(), 5, PARAMETERS, 1.0, find_or_skip()
    ) as isolated:
        yield isolated


@pytest.fixture
def here(tmp_path):
    path = tmp_path / "ex01_samples.py"
    path.write_text(SOURCE)
    return InProcessStudent(path, 5, parameters=PARAMETERS, seconds=1.0)


def read_sentence(student, *call) -> str:
    with pytest.raises(StudentError) as caught:
        student.call(*call)
    return str(caught.value)


def test_values_go_in_and_values_come_out(student):
    got = student.call("give_back", torch.ones(2), "s", z=1.5)
    assert torch.equal(got["a"][0], torch.ones(2))
    assert got["a"][1] == "s"
    assert got["b"] == (1.5, None)


def test_inputs_stay_as_they_are(student):
    x, y = torch.ones(2), {"a": [0]}
    student.call("change", x, y)
    assert torch.equal(x, torch.ones(2))
    assert y == {"a": [0]}


def test_gradients_can_be_asked_for_and_answers_have_none(student):
    gradient, required = student.call("slope", torch.tensor([3.0], requires_grad=True))
    assert (gradient.item(), required, gradient.requires_grad) == (6.0, True, False)


def test_models_arrive_with_their_weights(student):
    named = NamedModel("random", seed=5, d_vocab=3, n_ctx=4, d_model=6, n_layers=1)
    planted = toys.load("induction_by_hand", seed=3).model
    for model, built in ((named, named.build()), (planted, planted)):
        assert student.call("weight", model).item() == built.W_E[0, 0].item()


@pytest.mark.parametrize(
    "name",
    [
        "fail",
        "give_nothing",
        "give_function",
        "give_sparse",
        "give_deep",
        "take_two",
        "leave",
        "loop",
        "fial",
    ],
)
def test_what_goes_wrong_is_said_as_in_this_process(student, here, name):
    assert read_sentence(student, name, torch.ones(2, 3)) == read_sentence(
        here, name, torch.ones(2, 3)
    )


def test_a_stub_is_not_written_yet(student):
    with pytest.raises(NotWrittenError, match=r"^stub: not written yet$"):
        student.call("stub", 1)


def test_remarks_seeds_and_called_names_are_those_of_this_process(student, here):
    assert student.remarks == here.remarks != {}
    assert student.seeds(5) == here.seeds(5)
    assert student.find_called("almost") == here.find_called("almost")
    assert "count_calls" in here.find_called("almost")
    assert student.find_called("nothing") == here.find_called("nothing") == []


def test_what_a_call_leaves_behind_is_noticed_as_in_this_process(student, here):
    model = NamedModel("random", seed=1, d_vocab=3, n_ctx=4, d_model=6, n_layers=1)
    for each in (student, here):
        each.calls.clear()
        each.call("change", torch.ones(2), {"a": [0]})
        each.call("weight", model)
    assert [call.effects for call in student.calls] == [call.effects for call in here.calls]
    assert [effect.kind for effect in here.calls[0].effects] == ["changes_inputs"]
    assert student.find_unused("count_calls") == here.find_unused("count_calls") == []


def test_random_answers_are_the_same_twice_and_those_of_this_process(student, here):
    assert torch.equal(student.call("draw", 3), student.call("draw", 3))
    assert torch.equal(student.call("draw", 3), here.call("draw", 3))


def test_what_is_printed_is_kept_and_disturbs_nothing(student):
    assert student.call("say", 1) == 1
    assert student.output[0] == "loaded"
    assert student.output[-1] == "said"


def test_the_process_that_died_is_started_again_and_only_its_call_is_lost(student):
    student.call("count_calls")
    sentence = (
        "die ends the process that it runs in (it ended with status 7): return a value instead"
    )
    assert read_sentence(student, "die", 1) == sentence
    assert student.call("count_calls") == 1  # a new process, in which the file ran again
    assert student.call("die_sometimes", 0) == 1
    assert "status 0" in read_sentence(student, "die_sometimes", 1)
    assert student.call("die_sometimes", 0) == 1


def test_a_process_that_dies_between_two_calls_costs_neither(student):
    assert student.call("die_later", 1) == 1
    time.sleep(1)
    assert student.call("count_calls") == 1


def test_a_reply_that_was_written_by_hand_is_none(student):
    assert "it is no reply to what was asked" in read_sentence(student, "forge", 1)
    assert student.call("count_calls") == 1


def test_a_submission_that_forks_answers_once(student):
    assert student.call("return_twice", 1) == 1
    before = student.child
    time.sleep(0.5)
    assert student.call("return_twice", 2) == 2
    assert student.child is before  # nothing came unasked


def test_a_function_that_kills_its_process_again_and_again_is_given_up(student):
    said = {read_sentence(student, "die", 1) for _ in range(TRIES)}
    before = student.child
    assert read_sentence(student, "die", 1) in said
    assert student.child is before


def test_an_endless_loop_is_waited_for_once_also_after_a_restart(student):
    first = read_sentence(student, "loop", 1)
    student.child.kill()
    started = time.monotonic()
    assert read_sentence(student, "loop", 1) == first
    assert time.monotonic() - started < 0.5


def test_it_works_in_any_thread(student):
    got = []
    thread = threading.Thread(target=lambda: got.append(student.call("give_back", 1, 2, z=3)["b"]))
    thread.start()
    thread.join()
    assert got == [(3, None)]


def test_nothing_is_left_when_it_is_closed():
    with IsolatedStudent(
        "ex01_samples.py", b"def f(): return 1", sandbox=find_or_skip()
    ) as isolated:
        folder = isolated.folder.name
        sandbox = isolated.child.nursery.process.process.pid
        assert count_below(sandbox) == 3  # bubblewrap's own, the nursery, the worker
    assert isolated.child.is_dead
    assert count_below(sandbox) == 2
    assert not Path(folder).exists()


def count_below(pid: int) -> int:
    """Count the processes that a process has started, and those that these have started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return sum(1 + count_below(int(child)) for child in children)


BAD_FILES = {
    b"def f(x:\n    return 1": "ex01_samples.py line 1 is not Python: '(' was never closed, at "
    "`def f(x:`",
    b"import nothing_like_this": "ex01_samples.py line 1 fails when it is imported: "
    "ModuleNotFoundError: No module named 'nothing_like_this'",
    b"x = '\xff\xfe'": "ex01_samples.py is not Python: invalid or missing encoding declaration "
    "for 'ex01_samples.py'",
    b"import os\nos._exit(0)": "ex01_samples.py ends the process that it runs in (it ended with "
    "status 0): "
    "return a value instead",
    b"#" * (2**20 + 1): "ex01_samples.py has 1048577 bytes, at most 1048576 are read",
}


@pytest.mark.parametrize(("source", "sentence"), BAD_FILES.items(), ids=range(len(BAD_FILES)))
def test_a_file_that_does_not_load_says_why(source, sentence):
    with pytest.raises(StudentError) as caught:
        IsolatedStudent("ex01_samples.py", source, sandbox=find_or_skip())
    assert str(caught.value) == sentence


def test_a_sandbox_that_does_not_start_is_no_fault_of_the_student(tmp_path):
    broken = Sandbox(
        "bubblewrap", (sys.executable, "-c", "import sys; sys.exit('no room for namespaces')")
    )
    with pytest.raises(CourseError, match="the sandbox does not start: no room for namespaces"):
        grade_isolated(write_course(tmp_path), "01_samples", SOLUTION.encode(), sandbox=broken)


def test_a_sandbox_that_breaks_in_the_middle_is_no_fault_of_the_student_either(
    tmp_path, monkeypatch
):
    whole = find_or_skip()
    broken = Sandbox("bubblewrap", (sys.executable, "-c", "import sys; sys.exit('gone')"))
    take = Nursery.take
    taken = []

    def take_once(sandbox):
        taken.append(sandbox)
        return take(sandbox) if len(taken) == 1 else Nursery(broken)

    monkeypatch.setattr(Nursery, "take", take_once)
    source = SOLUTION.replace("return 2 * x", "__import__('os')._exit(0)")
    with pytest.raises(CourseError, match="the sandbox does not start: it does not answer"):
        grade_isolated(write_course(tmp_path), "01_samples", source.encode(), sandbox=whole)


def test_without_a_sandbox_it_runs_only_when_told_to(tmp_path):
    with IsolatedStudent(
        "ex01_samples.py", b"import os\ndef f(): return os.getcwd()", sandbox=NO_SANDBOX
    ) as isolated:
        assert isolated.call("f") == isolated.folder.name


@pytest.mark.parametrize(
    "source", [SOLUTION, None, SOLUTION.replace("return 2 * x", "return x * x")]
)
def test_a_file_gets_the_same_report_here_and_isolated(tmp_path, source):
    material = write_course(tmp_path / "course")
    path = tmp_path / "ex01_samples.py"
    path.write_text(source or read_stub(material, "01_samples"))
    isolated = grade_isolated(material, "01_samples", path.read_bytes(), 7, sandbox=find_or_skip())
    assert isolated == grade_file(material, "01_samples", path, 7)


@contextlib.contextmanager
def busy_processors():
    """Keep processors busy with processes as other people's: a fair share each."""
    spin = [sys.executable, "-c", "while True: pass"]
    processes = [subprocess.Popen(spin, start_new_session=True) for _ in range(6)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


WORK = b"""
import time
def work(seconds):
    until = time.process_time() + seconds
    while time.process_time() < until: pass
    return 1
"""


@pytest.mark.slow
def test_an_honest_answer_is_given_its_time_while_other_processes_keep_the_processors_busy():
    student = IsolatedStudent("ex01_samples.py", WORK, seconds=1.0, sandbox=find_or_skip())
    with student as isolated, busy_processors():
        assert isolated.call("work", 0.7) == 1
        assert "still running after 1 s" in read_sentence(isolated, "work", 60)
