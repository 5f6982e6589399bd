"""What a method must return: every answer that can be judged is read, and every other is one sentence."""

from types import SimpleNamespace

import misbehaving
import numpy as np
import pytest
import torch

from mini_transformer import Config, Transformer
from mini_transformer.board import entrants, problems
from mini_transformer.board.families import FAMILIES, check_answer, infer_family
from mini_transformer.board.run import find_families
from mini_transformer.edges import list_edges

MODEL = Transformer(Config(d_vocab=5, n_ctx=4, d_model=8, n_layers=1, n_heads=2))
CIRCUIT = (MODEL, None, None, None, "zero")
X, LABELS = (
    torch.randn(6, 3, generator=torch.Generator().manual_seed(0)),
    torch.tensor([0, 1, 0, 1, 0, 1]),
)


def test_scores_by_edge_are_put_in_the_order_of_the_edges() -> None:
    edges = list_edges(MODEL)
    scores = {edge: float(i) for i, edge in reversed(list(enumerate(edges)))}
    assert check_answer("circuit", scores, CIRCUIT).tolist() == list(range(len(edges)))


def test_what_a_dict_leaves_out_scores_lower_than_what_it_holds() -> None:
    found = check_answer("circuit", {"input->logits": -3.0, "a0.h1->logits": 2.0}, CIRCUIT)
    assert found.argmax() == list_edges(MODEL).index("a0.h1->logits")
    assert (found < -3).sum() == len(found) - 2
    nodes = check_answer("circuit", {"a0.h1": 1, "logits": 9}, CIRCUIT)
    assert nodes == {"input": 0.0, "a0.h0": 0.0, "a0.h1": 1.0}


def test_arrays_and_tensors_with_gradients_are_answers_too() -> None:
    n = len(list_edges(MODEL))
    assert not check_answer("circuit", torch.zeros(n, requires_grad=True), CIRCUIT).requires_grad
    assert check_answer("circuit", np.zeros(n), CIRCUIT).shape == (n,)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_right_and_the_random_answer_of_every_problem_are_accepted(family: str) -> None:
    for name in problems.list_problems(family, quick=True):
        problem = problems.build(family, name, 0)
        for answer in (problem.oracle(), problem.random(1)):
            check_answer(family, answer, problem.arguments)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_headline_of_every_family_is_a_metric_of_each_of_its_problems(family: str) -> None:
    for name in problems.list_problems(family, quick=True):
        problem = problems.build(family, name, 0)
        assert problem.measure(problem.oracle())[FAMILIES[family].headline] == pytest.approx(
            1, abs=1e-6
        )


BAD = [
    ("circuit", torch.zeros(3), r"shape is \(3,\), expected one score per edge.*: \(9\)"),
    ("circuit", {"input->a7.h0<q>": 1.0}, "no such edge: it has 'a0.h1->logits'"),
    ("circuit", {"a7.h0": 1.0}, "no such node: it has 'a0.h1'"),
    ("circuit", {}, "the answer is an empty dict"),
    ("circuit", torch.full((9,), float("inf")), "9 of 9 numbers are NaN or infinite"),
    ("circuit", None, "returned None: did you forget `return`"),
    ("features", X, "the answer is a Tensor without W_dec, expected W_dec and encode"),
    ("features", SimpleNamespace(W_dec=torch.ones(4, 3)), "without encode"),
    (
        "features",
        SimpleNamespace(W_dec=torch.ones(4, 2), encode=None),
        r"shape is \(4, 2\), expected W_dec.*\(any, 3\)",
    ),
    (
        "features",
        SimpleNamespace(W_dec=torch.ones(4, 3), encode=lambda x: x),
        r"shape is \(6, 3\), expected encode.*\(6, 4\)",
    ),
    ("probe", lambda x: x, "the answer is a function without directions"),
    (
        "probe",
        SimpleNamespace(directions=torch.ones(1, 3), predict=lambda x: x),
        r"shape is \(6, 3\), expected predict",
    ),
    (
        "probe",
        SimpleNamespace(directions=torch.ones(3), predict=lambda x: LABELS),
        r"shape is \(3,\), expected directions",
    ),
    ("variables", torch.ones(2, 8), "rows of the subspace are not orthonormal"),
    ("variables", torch.eye(7), r"shape is \(7, 7\), expected orthonormal rows: \(any, 8\)"),
    ("variables", torch.zeros(0, 8), "not orthonormal"),
    ("erasure", X, "the answer is a Tensor, expected a function of activations"),
    ("erasure", lambda x: x[:, :2], r"shape is \(6, 2\), expected erased activations"),
    ("erasure", lambda x: x / 0, "NaN or infinite in erased activations"),
    ("steering", torch.ones(3), r"the answer is a Tensor, expected a pair \(vector, hook\)"),
    ("steering", (torch.ones(3), "there"), "the hook is 'there', expected one of 'here'"),
    (
        "steering",
        (torch.ones(4), "here"),
        r"shape is \(4,\), expected a vector as wide as the hook: \(3\)",
    ),
    (
        "steering",
        ("up", "here"),
        "the answer has a str where a vector as wide as the hook is expected",
    ),
]


@pytest.mark.parametrize(
    ("family", "answer", "sentence"), BAD, ids=[f"{b[0]}-{i}" for i, b in enumerate(BAD)]
)
def test_an_answer_that_cannot_be_judged_is_one_sentence(
    family: str, answer: object, sentence: str
) -> None:
    arguments = {
        "circuit": CIRCUIT,
        "features": (X, 4),
        "variables": (MODEL, "blocks.0.hook_resid_post", None),
        "steering": ({"here": X}, {"here": X}),
    }
    with pytest.raises(ValueError, match=sentence) as caught:
        check_answer(family, answer, arguments.get(family, (X, LABELS)))
    assert "\n" not in str(caught.value)


def test_the_family_is_told_by_the_parameters() -> None:
    assert infer_family(misbehaving.honest) == "circuit"
    assert infer_family(lambda model, hook, pairs, steps=3: None) == "variables"
    assert infer_family(lambda positive, negative: None) == "steering"
    with pytest.raises(
        ValueError, match="can be of family probe or erasure: say which with --family"
    ):
        infer_family(misbehaving.takes_activations)
    for method in (misbehaving.takes_nonsense, lambda model, hook, pairs, more: None):
        with pytest.raises(
            ValueError, match="has the parameters of no family: give --family, one of circuit"
        ):
            infer_family(method)


def test_a_family_can_be_given_and_must_exist() -> None:
    assert find_families("probe", "misbehaving:takes_activations") == ["probe"]
    assert find_families(None) == list(FAMILIES)
    with pytest.raises(ValueError, match="must be given as module:function"):
        find_families(None, "misbehaving")
    with pytest.raises(
        ValueError, match="no family is called 'circus'; there are circuit, features"
    ):
        find_families("circus")


def test_a_method_that_cannot_be_had_is_one_sentence() -> None:
    for name, sentence in (
        ("no_such_module:f", "no_such_module:f cannot be imported: ModuleNotFoundError"),
        ("misbehaving:nothing", "misbehaving:nothing cannot be imported: AttributeError"),
        ("misbehaving:HONEST", "misbehaving:HONEST is no function, but Tensor"),
    ):
        with pytest.raises(ValueError, match=sentence):
            entrants.import_method(name)
    with pytest.raises(KeyError, match="nearest: 'leace'"):
        entrants.find("erasure", "leac")


def test_an_installed_package_can_offer_a_method(monkeypatch: pytest.MonkeyPatch) -> None:
    point = SimpleNamespace(name="probe.theirs", load=lambda: misbehaving.takes_activations)

    def find_points(group: str, name: str | None = None) -> list:
        assert group == "mini_transformer.board"
        return [point] if name in (None, point.name) else []

    monkeypatch.setattr(entrants, "entry_points", find_points)
    assert entrants.list_entrants("probe")[-1] == "theirs"
    assert "theirs" not in entrants.list_entrants("erasure")
    assert entrants.find("probe", "theirs") is misbehaving.takes_activations
