import signal
import sys

import pytest
import torch

from mini_transformer import toys
from mini_transformer.course.grading.student import (
    InProcessStudent,
    NamedModel,
    NotWrittenError,
    StudentError,
)


def write(tmp_path, source, **options):
    path = tmp_path / "ex01_samples.py"
    path.write_text(source)
    return InProcessStudent(path, **options)


def test_values_go_in_and_values_come_out(tmp_path):
    student = write(tmp_path, "def f(x, y, *, z):\n    return {'a': [x, y], 'b': (z, None)}")
    got = student.call("f", torch.ones(2), "s", z=1.5)
    assert torch.equal(got["a"][0], torch.ones(2))
    assert got["a"][1] == "s"
    assert got["b"] == (1.5, None)


def test_inputs_are_copied_before_the_call(tmp_path):
    student = write(tmp_path, "def f(x, y):\n    x.zero_()\n    y['a'].append(1)\n    return 1")
    x, y = torch.ones(2), {"a": [0]}
    student.call("f", x, y)
    assert torch.equal(x, torch.ones(2))
    assert y == {"a": [0]}


def test_inputs_that_require_gradients_still_do(tmp_path):
    source = "def f(x):\n    (x * x).sum().backward()\n    return x.grad, x.requires_grad"
    gradient, required = write(tmp_path, source).call("f", torch.tensor([3.0], requires_grad=True))
    assert required
    assert gradient.item() == 6


def test_returned_tensors_are_detached_plain_copies(tmp_path):
    source = (
        "import torch\nw = torch.nn.Parameter(torch.ones(2))\ndef f():\n    return w\n"
        "def g():\n    w.data.zero_()\n    return 1"
    )
    student = write(tmp_path, source)
    got = student.call("f")
    student.call("g")
    assert type(got) is torch.Tensor
    assert not got.requires_grad
    assert torch.equal(got, torch.ones(2))


def test_a_named_model_is_built_afresh_for_every_call(tmp_path):
    source = (
        "def f(model, value):\n    old = model.W_E[0, 0].item()\n"
        "    model.W_E.data.fill_(value)\n    return old"
    )
    student = write(tmp_path, source)
    model = NamedModel("random", seed=5, d_vocab=3, n_ctx=4, d_model=6, n_layers=1)
    assert (
        student.call("f", model, 1.0)
        == student.call("f", model, 2.0)
        == model.build().W_E[0, 0].item()
    )


def test_a_model_is_sent_as_a_copy_of_its_weights_without_hooks(tmp_path):
    source = (
        "def f(model):\n    model.W_E.data.fill_(7.0)\n"
        "    return [type(x).__name__ for p in model.hook_points.values() for x in p.listeners]"
    )
    model = toys.load("induction_by_hand").model
    before = model.W_E.clone()
    with model.hooks(fwd_hooks=[("hook_embed", lambda value, hook: None)]):
        # Only those that notice whether a learner takes others' hooks away.
        assert set(write(tmp_path, source).call("f", model)) == {"Listener"}
        model(torch.zeros(1, 2, dtype=torch.long))  # a hook that is never reached is an error
    assert torch.equal(model.W_E, before)


def test_a_model_is_sent_with_its_narrowed_mask_and_answers_as_it_did(tmp_path):
    case = toys.load("facts")
    tokens = case.task.draw(4).clean
    student = write(tmp_path, "def f(model, tokens):\n    return model(tokens)")
    with torch.no_grad():
        torch.testing.assert_close(student.call("f", case.model, tokens), case.model(tokens))


def test_seeds_differ_between_learners_and_repeat_for_one(tmp_path):
    source = "def f():\n    return 1"
    first, again, other = (write(tmp_path, source, base_seed=seed).seeds(50) for seed in (1, 1, 2))
    assert first == again
    assert len(set(first) | set(other)) == 100
    assert first[:3] == write(tmp_path, source, base_seed=1).seeds(3)


def test_the_file_runs_once_and_leaves_sys_modules_alone(tmp_path):
    before = set(sys.modules)
    student = write(tmp_path, "calls = []\ndef f():\n    calls.append(1)\n    return len(calls)")
    assert [student.call("f"), student.call("f")] == [1, 2]
    assert {name for name in set(sys.modules) - before if "ex01" in name} == set()


def test_a_stub_is_not_written_yet(tmp_path):
    student = write(
        tmp_path, 'def f(x):\n    """Task."""\n    raise NotImplementedError("f: not written yet")'
    )
    with pytest.raises(NotWrittenError, match=r"^f: not written yet$"):
        student.call("f", 1)


@pytest.mark.parametrize("body", ["pass", "...", '"""Another string."""'])
def test_a_stub_with_a_statement_that_does_nothing_is_still_a_stub(tmp_path, body):
    student = write(
        tmp_path, f'def f(x):\n    """Task."""\n    {body}\n    raise NotImplementedError("f")'
    )
    with pytest.raises(NotWrittenError):
        student.call("f", 1)


def test_of_a_stub_and_an_answer_of_the_same_name_the_later_one_counts(tmp_path):
    stub, answer = "def f(x):\n    raise NotImplementedError\n", "def f(x):\n    return x\n"
    assert write(tmp_path, stub + answer).call("f", 5) == 5
    with pytest.raises(NotWrittenError):
        write(tmp_path, answer + stub).call("f", 5)


@pytest.mark.parametrize(
    "body",
    [
        '    return 2 * x\n    raise NotImplementedError("f")',
        '    raise NotImplementedError("f")\n    return 2 * x',
        "    y = 2 * x\n    raise NotImplementedError\n    return y",
    ],
)
def test_a_leftover_raise_costs_nothing_and_is_remarked(tmp_path, body):
    student = write(tmp_path, f'def f(x):\n    """Task."""\n{body}\n')
    assert student.call("f", 4) == 8
    line = 3 + [part.strip()[:5] for part in body.splitlines()].index("raise")
    assert student.file.remarks == {
        "f": f"line {line} still has `raise NotImplementedError`: delete it"
    }


def test_a_raise_inside_a_branch_is_kept(tmp_path):
    student = write(
        tmp_path, "def f(x):\n    if x:\n        raise NotImplementedError('later')\n    return 1"
    )
    assert student.call("f", 0) == 1
    with pytest.raises(StudentError, match="f needs something that is not written yet: later"):
        student.call("f", 1)


def test_overrides_take_the_place_of_the_files_own_functions(tmp_path):
    source = "def f(x):\n    raise NotImplementedError\ndef g(x):\n    return f(x) + 1"
    student = write(tmp_path, source, overrides={"f": lambda x: 10 * x})
    assert (student.call("f", 1), student.call("g", 1)) == (10, 11)


def test_prints_are_kept_up_to_twenty_lines(tmp_path, capfd):
    student = write(
        tmp_path,
        "print('import')\ndef f():\n    for i in range(10_000):\n        print(i)\n    return 1",
    )
    student.call("f")
    shown = student.file.output.show()
    assert shown == ["import", *map(str, range(19)), "... and 9981 more lines"]
    assert capfd.readouterr() == ("", "")


def test_a_learners_code_leaves_torch_as_it_was(tmp_path):
    source = """
import torch
def f():
    torch.manual_seed(7); torch.set_num_threads(3)
    torch.set_default_dtype(torch.float64); torch.set_grad_enabled(False)
    raise ValueError("and then fails")
"""
    student = write(tmp_path, source)
    torch.manual_seed(1)
    before = (
        torch.get_rng_state(),
        torch.get_num_threads(),
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
    )
    with pytest.raises(StudentError, match="and then fails"):
        student.call("f")
    after = (
        torch.get_rng_state(),
        torch.get_num_threads(),
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
    )
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


def test_after_a_call_no_alarm_is_left_ticking(tmp_path):
    before = signal.getsignal(signal.SIGALRM)
    write(tmp_path, "def f():\n    return 1", seconds=5.0).call("f")
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGALRM) == before


def test_random_answers_are_graded_the_same_twice(tmp_path):
    student = write(tmp_path, "import torch\ndef f():\n    return torch.rand(3)")
    with torch.random.fork_rng():
        torch.manual_seed(1)
        first = student.call("f")
        torch.manual_seed(2)
        assert torch.equal(student.call("f"), first)


def test_warnings_in_a_learners_code_are_not_errors(tmp_path):
    student = write(
        tmp_path, "import warnings\ndef f():\n    warnings.warn('careful')\n    return 1"
    )
    assert student.call("f") == 1
    assert student.file.output.show() == ["line 3: UserWarning: careful"]


def test_names_that_helpers_and_classes_of_the_file_look_up_are_found(tmp_path):
    source = (
        "import contextlib, copy\nclass Kept:\n"
        "    def __init__(self, x):\n        copy.deepcopy(x)\n"
        "@contextlib.contextmanager\ndef opened(x):\n    yield Kept(x)\n"
        "def quiet(function):\n    return lambda x: function(x)\n"
        "@quiet\ndef f(x):\n    with opened(x):\n        return 1\n"
    )
    called = write(tmp_path, source).find_called("f")
    assert {"opened", "Kept", "deepcopy"} <= set(called)
    assert "_GeneratorContextManager" not in called


def test_the_function_of_a_line_is_named_if_it_is_another_one(tmp_path):
    student = write(tmp_path, "def g(x):\n    return 1 / x\ndef f(x):\n    return g(x)\n")
    with pytest.raises(StudentError, match=r"^f line 2 \(in g\) fails when called with"):
        student.call("f", 0)
