"""One job: whatever a method does, there is a row that says it in one sentence, and a good method
is scored rightly.
"""

import json
import random

import misbehaving
import numpy as np
import pytest
import torch
from misbehaving import HONEST

from mini_transformer import toys
from mini_transformer.board.families import find_family
from mini_transformer.board.problem import Control, Problem, Trap
from mini_transformer.board.running.jobs import DRAWS, Job, answer_frame, explain, run_job
from mini_transformer.edges import EdgeScores

PROBLEM = "boolean_and/zero"
CIRCUIT = find_family("circuit")


def run(name: str, seed: int = 0) -> dict:
    return run_job(Job("circuit", PROBLEM, f"misbehaving:{name}", seed))


def test_a_method_is_measured_against_the_truth() -> None:
    row = run("honest")
    case = toys.load("boolean_and")
    (circuit,) = case.truth.circuits["zero"].edges
    scores = EdgeScores(case.model, HONEST)
    inside = [score.item() for edge, score in scores.items() if edge in circuit]
    outside = [score.item() for edge, score in scores.items() if edge not in circuit]
    auroc = np.mean([a > b for a in inside for b in outside])
    assert row["ok"]
    assert row["error"] is None
    assert row["metrics"]["auroc_best"] == pytest.approx(auroc)


def test_the_oracle_is_right_and_the_random_rows_auroc_is_one_half_on_every_circuit() -> None:
    for name in CIRCUIT.list_problems(quick=True):
        oracle = run_job(Job("circuit", name, "oracle", 1))
        assert oracle["metrics"]["auroc_best"] == oracle["metrics"]["auroc_union"] == 1
        assert run_job(Job("circuit", name, "random", 1))["metrics"][
            "auroc_union"
        ] == pytest.approx(0.5)


def test_the_random_row_is_the_mean_of_several_draws() -> None:
    problem = CIRCUIT.build(PROBLEM, 3)
    each = [problem.measure(problem.random(3 * DRAWS + i))["f1_best"] for i in range(DRAWS)]
    assert run_job(Job("circuit", PROBLEM, "random", 3))["metrics"]["f1_best"] == pytest.approx(
        np.mean(each)
    )
    assert len(set(each)) > 1


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("raises", "RuntimeError: no such thing (misbehaving.py, line"),
        ("complains", "ValueError: I do not like this model (misbehaving.py, line"),
        ("exits", "it stops Python (exit): return a value instead"),
        ("returns_nothing", "the method returned None: did you forget `return`?"),
        ("returns_nan", "NaN or infinite"),
        ("returns_wrong_shape", "the answer's shape is (7,), expected one score per edge"),
        ("returns_text", "the answer has a str where one score per edge"),
        (
            "scores_unknown_edge",
            "the answer scores 'a9.h9->logits', but this model has no such edge",
        ),
        ("is_not_there", "misbehaving:is_not_there cannot be imported: AttributeError"),
        ("HONEST", "misbehaving:HONEST is no function, but Tensor"),
    ],
)
def test_what_goes_wrong_is_said_in_one_sentence(name: str, sentence: str) -> None:
    row = run(name)
    assert not row["ok"]
    assert sentence in row["error"]
    assert "\n" not in row["error"]
    assert row["metrics"] == {}


def test_a_method_that_does_not_exist_is_answered_with_the_nearest() -> None:
    assert "nearest: 'eap'" in run_job(Job("circuit", PROBLEM, "epa", 0))["error"]
    assert (
        "nearest: 'boolean_and/zero'"
        in run_job(Job("circuit", "boolean_and/zro", "eap", 0))["error"]
    )


def test_what_a_method_changes_is_not_measured_with_and_does_not_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("os.chdir", lambda path: None)
    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    before = torch.random.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    honest, others = run("honest")["metrics"], run_job(Job("circuit", PROBLEM, "eap", 0))["metrics"]
    assert run("changes_everything")["metrics"] == honest
    assert run_job(Job("circuit", PROBLEM, "eap", 0))["metrics"] == others
    assert torch.get_default_dtype() == torch.float32
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before[1:]


def test_a_method_that_draws_from_the_global_seed_gets_the_same_score_twice() -> None:
    first = run("random_by_global_seed")["metrics"]
    torch.rand(3), np.random.rand(3), random.random()
    assert run("random_by_global_seed")["metrics"] == first


def test_costs_are_counted_per_batch_of_the_problem() -> None:
    def method(model, clean, corrupt, metric, ablation):
        metric(model(clean)).sum().backward()
        model(corrupt[:2])  # half of the four prompts
        return HONEST

    row = run_job(Job("circuit", PROBLEM, "mine", 0), method)
    assert (row["forward"], row["backward"]) == (1.5, 1.0)
    assert row["seconds"] > 0


def test_the_untrained_row_asks_the_method_about_the_untrained_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    problem = CIRCUIT.build(PROBLEM, 0)
    seen = []

    def look(model, clean, corrupt, metric, ablation):
        seen.append(model.W_E.clone())
        return HONEST

    row = run_job(Job("circuit", PROBLEM, "look", 0, untrained=True), look)
    assert torch.equal(seen[0], problem.untrained[0].W_E)
    assert not torch.equal(seen[0], problem.arguments[0].W_E)
    assert row["entrant"] == "look (untrained)"


def make_problem(**changes: object) -> Problem:
    given = {
        "family": "erasure",
        "name": "a/b",
        "seed": 0,
        "arguments": (torch.ones(4, 2), torch.tensor([0, 1, 0, 1])),
        "untrained": (torch.zeros(4, 2), torch.tensor([0, 1, 0, 1])),
        "measure": lambda answer: {
            "balance": answer(torch.ones(1, 2)).sum().item(),
            "undefined": None,
        },
        "oracle": lambda: lambda x: x,
        "random": lambda seed: lambda x: x * seed,
        "n_prompts": 4,
    }
    return Problem(**{**given, **changes})


def run_on(
    problem: Problem, method: object, monkeypatch: pytest.MonkeyPatch, **job: object
) -> dict:
    monkeypatch.setattr("mini_transformer.board.running.jobs._build", lambda *names: problem)
    return run_job(Job("erasure", "a/b", "mine", 0, **job), method)


def test_what_is_not_defined_is_left_out_and_nan_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert run_on(make_problem(), lambda x, labels: lambda x: x, monkeypatch)["metrics"] == {
        "balance": 2.0
    }
    bad = make_problem(measure=lambda answer: {"balance": float("nan")})
    assert (
        run_on(bad, lambda x, labels: lambda x: x, monkeypatch)["error"]
        == "balance came out as nan: the answer cannot be measured"
    )
    none = make_problem(measure=lambda answer: {"balance": None, "change": 1.0})
    assert (
        run_on(none, lambda x, labels: lambda x: x, monkeypatch)["error"]
        == "balance is not defined for this answer"
    )


def test_a_method_that_has_nothing_to_say_leaves_an_empty_row_and_is_no_failure() -> None:
    row = run_job(Job("circuit", PROBLEM, "edge_patching_denoise", 0))
    assert (row["ok"], row["metrics"], row["error"]) == (True, {}, None)
    assert run_job(Job("circuit", "boolean_and/resample", "edge_patching_denoise", 0))["metrics"]


def test_a_trap_says_whether_the_method_fell_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    trap = Trap("why", "what", lambda metrics: metrics["balance"] > 1)
    for factor, fell in ((1, True), (0, False)):
        row = run_on(
            make_problem(trap=trap), lambda x, labels, f=factor: lambda x: f * x, monkeypatch
        )
        assert row["fell"] is fell
    assert run_on(make_problem(), lambda x, labels: lambda x: x, monkeypatch)["fell"] is None


def test_the_control_runs_the_same_method_again_and_costs_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = []

    def method(x, labels):
        calls.append(labels.tolist())
        return lambda x: x

    control = Control(
        (torch.ones(4, 2), torch.tensor([1, 1, 0, 0])),
        lambda metrics, answer: {**metrics, "control": 1.0},
    )
    row = run_on(make_problem(control=control), method, monkeypatch)
    assert calls == [[0, 1, 0, 1], [1, 1, 0, 0]]
    assert row["metrics"] == {"balance": 2.0, "control": 1.0}


def test_an_answer_about_the_untrained_model_is_measured_in_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    problem = make_problem(measure_untrained=lambda answer: {"balance": 0.25})
    assert run_on(problem, lambda x, labels: lambda x: x, monkeypatch, untrained=True)[
        "metrics"
    ] == {"balance": 0.25}
    assert run_on(problem, lambda x, labels: lambda x: x, monkeypatch)["metrics"] == {
        "balance": 2.0
    }


def test_a_request_to_the_child_is_answered_with_a_row_a_family_or_nothing() -> None:
    job = {"family": "circuit", "problem": PROBLEM, "entrant": "oracle", "seed": 1}
    row = json.loads(answer_frame(json.dumps(job).encode()))
    assert row == json.loads(json.dumps(run_job(Job(**job))))
    asked = json.dumps({"infer_family": "misbehaving:takes_nonsense"}).encode()
    assert "has the parameters of no family" in json.loads(answer_frame(asked))["error"]
    assert answer_frame(b"") == b""


def test_an_error_within_a_library_names_the_line_that_called_it() -> None:
    with pytest.raises(np.linalg.LinAlgError) as caught:
        np.linalg.inv(np.zeros((2, 2)))
    assert "Singular matrix (test_jobs.py, line " in explain(caught.value)


def test_an_error_of_the_method_s_own_code_names_its_line_and_one_of_ours_does_not() -> None:
    with pytest.raises(ValueError) as own:  # noqa: PT011
        misbehaving.complains(None, None, None, None, None)
    assert "(misbehaving.py, line " in explain(own.value)
    with pytest.raises(KeyError) as ours:
        CIRCUIT.build("no/such")
    ours.value.__traceback__ = ours.value.__traceback__.tb_next  # without the line of this test
    assert explain(ours.value).startswith("the family 'circuit' has no problem 'no/such'")
