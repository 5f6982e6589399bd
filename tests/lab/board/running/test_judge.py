"""One job: whatever a method does, there is a row that says it in one sentence, and a good method
is scored rightly.
"""

import json

import misbehaving
import numpy as np
import pytest
import torch
from misbehaving import HONEST
from sample_problem import RIGHT, make_problem, run_on

from mini_transformer.board.families import find_family
from mini_transformer.board.problem import Control, NotApplicable, Trap
from mini_transformer.board.running.answering import Answerer
from mini_transformer.board.running.jobs import Draw, Job
from mini_transformer.board.running.judge import DRAWS, answer_frame, build_problem, judge

HEADLINE = find_family("circuit").headline


def run(name: str) -> dict:
    return run_on(make_problem(), name=f"misbehaving:{name}")


def test_a_method_is_measured_against_the_truth() -> None:
    row = run("honest")
    scores = misbehaving.honest(make_problem().arguments[0], *[None] * 4).tolist()
    inside = [scores[i] for i in RIGHT]
    outside = [score for i, score in enumerate(scores) if i not in RIGHT]
    assert row["ok"]
    assert row["error"] is None
    assert row["level"] == "edges"
    auroc = np.mean([a > b for a in inside for b in outside])
    assert row["metrics"]["auroc_best"] == pytest.approx(auroc)


def test_the_right_answer_is_right_and_the_random_row_is_the_mean_of_several_draws() -> None:
    problem = make_problem(seed=3)
    oracle = run_on(problem, name="oracle")
    assert oracle["metrics"][HEADLINE] == 1
    assert oracle["about"] == {"note": "five edges are called right", "trap": None}
    each = [problem.measure(problem.random(3 * DRAWS + i))["f1_best"] for i in range(DRAWS)]
    found = run_on(problem, name="random")["metrics"]["f1_best"]
    assert found == pytest.approx(np.mean(each))
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
        ("returns_object", "the answer has a Stranger where one score per edge"),
        ("returns_objects", "a Stranger cannot be sent"),
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


def test_what_is_not_there_is_answered_with_the_nearest() -> None:
    assert "nearest: 'eap'" in run_on(make_problem(), name="epa")["error"]
    row = judge(Job("circuit", "forge/zro", "oracle", 0), Draw(), bytes)
    assert "nearest: 'forge/zero'" in row["error"]


def test_what_a_method_changes_is_not_measured_with() -> None:
    problem = make_problem()
    honest = run_on(problem, name="misbehaving:honest")["metrics"]
    assert run_on(problem, name="misbehaving:changes_everything")["metrics"] == honest
    assert run_on(problem, name="misbehaving:honest")["metrics"] == honest
    assert torch.get_default_dtype() == torch.float32


def test_costs_are_counted_per_batch_of_the_problem() -> None:
    def method(model, clean, corrupt, metric, ablation):
        metric(model(clean)).sum().backward()
        model(corrupt[:2])  # half of the four prompts
        return HONEST

    row = run_on(make_problem(), method)
    assert (row["forward"], row["backward"]) == (1.5, 1.0)
    assert row["seconds"] > 0


def test_the_untrained_row_asks_the_method_about_the_untrained_model() -> None:
    problem, seen = make_problem(), []

    def look(model, clean, corrupt, metric, ablation):
        seen.append(model.W_E.clone())
        return HONEST

    row = run_on(problem, look, untrained=True)
    assert torch.equal(seen[0], problem.untrained[0].W_E)
    assert row["entrant"] == "mine (untrained)"


def test_a_method_gets_those_options_that_it_names() -> None:
    problem = make_problem(
        options={"hint": 5, "unit": "m"}, untrained_options={"hint": 6, "unit": "m"}
    )

    def method(model, clean, corrupt, metric, ablation, hint=None):
        return HONEST * hint

    def greedy(model, clean, corrupt, metric, ablation, **options):
        return HONEST * len(options)

    assert all(run_on(problem, one)["ok"] for one in (method, greedy, misbehaving.honest))
    seen = []
    run_on(problem, lambda *arguments, hint: seen.append(hint), untrained=True)
    assert seen == [6]


def test_what_is_not_defined_is_left_out_and_nan_is_an_error() -> None:
    row = run_on(make_problem(measure=lambda answer: {HEADLINE: 2.0, "undefined": None}), honest)
    assert row["metrics"] == {HEADLINE: 2.0}
    bad = make_problem(measure=lambda answer: {HEADLINE: float("nan")})
    says = f"{HEADLINE} came out as nan: the answer cannot be measured"
    assert run_on(bad, honest)["error"] == says
    none = make_problem(measure=lambda answer: {HEADLINE: None, "change": 1.0})
    assert run_on(none, honest)["error"] == f"{HEADLINE} is not defined for this answer"


def honest(model, clean, corrupt, metric, ablation):
    return HONEST


def test_a_method_that_has_nothing_to_say_leaves_an_empty_row_and_is_no_failure() -> None:
    def shy(model, clean, corrupt, metric, ablation):
        raise NotApplicable

    row = run_on(make_problem(), shy)
    assert (row["ok"], row["metrics"], row["error"]) == (True, {}, None)


def test_a_trap_says_whether_the_method_fell_for_it() -> None:
    trap = Trap("why", "what", lambda metrics: metrics["recall_best"] < 0.9)
    assert run_on(make_problem(trap=trap), honest)["fell"] is True
    assert run_on(make_problem(trap=trap), name="oracle")["fell"] is False
    assert run_on(make_problem(), honest)["fell"] is None


def test_the_control_runs_the_same_method_again_and_costs_nothing() -> None:
    calls = []

    def method(model, clean, corrupt, metric, ablation):
        calls.append(ablation)
        return HONEST

    problem = make_problem()
    control = Control(
        (*problem.arguments[:4], "mean"),
        lambda metrics, answer: {HEADLINE: 0.5, "control": answer.sum().item()},
    )
    row = run_on(make_problem(control=control), method)
    assert calls == ["zero", "mean"]
    assert row["metrics"] == {HEADLINE: 0.5, "control": pytest.approx(HONEST.sum().item())}


def test_what_an_object_can_do_is_done_where_it_was_returned() -> None:
    problem = build_problem(Job("erasure", "planted/apart", "mine", 0), Draw("tuning"))
    sizes = []

    def method(activations, labels):
        class Eraser:
            def __call__(self, rows):
                sizes.append(len(rows))
                return rows - rows.mean()

        return Eraser()

    row = run_on(problem, method)
    assert row["error"] is None or "row" in row["error"]
    assert len(sizes) > 1


def test_a_request_to_the_child_is_answered_with_a_row_or_a_draw() -> None:
    job = {"family": "erasure", "problem": "planted/apart", "entrant": "oracle", "number": 1}
    draw = {"split": "held-out", "seed": 3}
    answer = json.loads(answer_frame(json.dumps({"job": job, "draw": draw}).encode(), bytes))
    assert answer == json.loads(json.dumps(judge(Job(**job), Draw(**draw), bytes)))
    own = json.dumps({"draw": {"split": "held-out", "seed": None}}).encode()
    told = json.loads(answer_frame(own, bytes))["seed"]
    assert told > 2**32
    assert json.loads(answer_frame(own, bytes))["seed"] == told
    assert answer_frame(b"", bytes) == b""
    assert Answerer().answer(b"") == b""
