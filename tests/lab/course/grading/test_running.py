"""A statement that fails, or never ends, costs only what depends on it."""

import pytest
from learner_file import ANSWER, load

FAILING = {
    "1 / 0": "line 1 fails when it is imported: ZeroDivisionError: division by zero",
    "exit()": "line 1 stops Python (exit) when it is imported",
    "import nothing_like_this": "line 1 fails when it is imported: ModuleNotFoundError: "
    "No module named 'nothing_like_this'",
    "a = 1; 1 / 0; b = 2\nassert b == 2": "line 1 fails when it is imported: ZeroDivisionError: "
    "division by zero",
    "input()": "line 1 fails when it is imported: EOFError: EOF when reading a line",
    "import warnings; warnings.simplefilter('error'); warnings.warn('a')": "line 1 fails when it "
    "is imported: "
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


def test_every_statement_runs_once(tmp_path):
    student = load(
        tmp_path, "n = []\nn.append(1)\n1 / 0\nn.append(2)\n[][1]; n.append(3)\n" + ANSWER
    )
    assert student.file.names["n"] == [1, 2, 3]
    assert len(student.file.failures) == 2


def test_an_endless_loop_outside_costs_nothing_and_is_waited_for_twice_at_most(tmp_path):
    loops = "while True: pass\n"
    student = load(tmp_path, loops * 2 + "a = 1\n" + ANSWER + loops, seconds=0.3)
    assert student.call("f", 2) == 4
    assert "a" not in student.file.names
    assert [sentence.split(" runs")[0] for sentence in student.file.failures] == [
        "ex01.py line 1",
        "ex01.py line 2",
    ]


def test_a_leftover_raise_in_a_file_with_a_long_sum_is_still_dropped(tmp_path):
    answer = "def f(x):\n    raise NotImplementedError(\n        'f'\n    )\n    return 2 * x\n"
    student = load(tmp_path, answer + f"t = {'+'.join(['1'] * 2500)}\n1 / 0\n")
    assert student.call("f", 2) == 4
    assert student.remarks == {"f": "line 2 still has `raise NotImplementedError`: delete it"}
