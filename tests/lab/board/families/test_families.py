"""The families: found by import, problems and answers that fit, methods that are found by name."""

import functools
import inspect
from pathlib import Path
from types import SimpleNamespace

import misbehaving
import pytest
import torch

from mini_transformer.board import families
from mini_transformer.board.families import (
    check_cases,
    find_entrant,
    find_family,
    import_method,
    infer_family,
    list_entrants,
    load_families,
)
from mini_transformer.board.report.page import render_page
from mini_transformer.board.report.summary import summarize
from mini_transformer.board.running.answering import Answerer
from mini_transformer.board.running.jobs import Draw
from mini_transformer.board.running.judge import judge
from mini_transformer.board.running.run import list_jobs

FAMILIES = load_families()
ALL = [(family, name) for family, record in FAMILIES.items() for name in record.problems]
QUICK = [
    (family, name)
    for family, record in FAMILIES.items()
    for name in record.list_problems(quick=True)
]


def each(problems: list[tuple[str, str]]) -> pytest.MarkDecorator:
    ids = [f"{family}-{name}" for family, name in problems]
    return pytest.mark.parametrize(("family", "name"), problems, ids=ids)


@functools.cache
def build_once(family, name, seed):
    return FAMILIES[family].build(name, seed)


REPRESENTATIONS = [(family, name) for family, name in ALL if family != "circuit"]


@each(REPRESENTATIONS)
def test_the_oracle_is_right_on_two_seeds(family, name):
    record = FAMILIES[family]
    for seed in range(2):
        problem = build_once(family, name, seed)
        answer = record.check_answer(problem.oracle(), problem.arguments)
        assert problem.measure(answer)[record.headline] == pytest.approx(1, abs=1e-6)


@each(REPRESENTATIONS)
def test_a_random_answer_fits_and_is_not_right(family, name):
    record = FAMILIES[family]
    problem = build_once(family, name, 0)

    def draw(number):
        return record.check_answer(problem.random(number), problem.arguments)

    metrics = [problem.measure(draw(number)) for number in range(2)]
    assert all(torch.isfinite(torch.tensor(list(found.values()))).all() for found in metrics)
    assert all(0 <= found[record.headline] < 1 for found in metrics)
    assert problem.measure(draw(0)) == metrics[0]


@each(REPRESENTATIONS)
def test_a_problem_is_the_same_whenever_it_is_built_and_another_with_another_seed(family, name):
    record = FAMILIES[family]
    first, other = (build_once(family, name, seed) for seed in range(2))
    again = record.build(name, 0)
    assert all(torch.equal(a, b) for a, b in zip(flatten(first), flatten(again), strict=True))
    assert any(
        a.shape != b.shape or not torch.equal(a, b)
        for a, b in zip(flatten(first), flatten(other), strict=True)
    )
    assert len(first.note) > 20


def flatten(problem):
    """Every tensor that the method is given, models by their weights."""
    found, todo = [], list(problem.arguments)
    while todo:
        item = todo.pop(0)
        if isinstance(item, torch.Tensor):
            found.append(item)
        elif isinstance(item, torch.nn.Module):
            todo += list(item.state_dict().values())
        elif isinstance(item, dict):
            todo += list(item.values())
        elif hasattr(item, "base"):
            todo += [item.base, item.source, item.answers]
    return found


@each(QUICK)
def test_the_right_and_the_random_answer_of_a_quick_look_are_accepted(family, name):
    problem = build_once(family, name, 0)
    for answer in (problem.oracle(), problem.random(1)):
        FAMILIES[family].check_answer(answer, problem.arguments)
    found = problem.measure(problem.oracle())
    assert found[FAMILIES[family].headline] == pytest.approx(1, abs=1e-6)
    assert set(found) <= set(FAMILIES[family].metrics)


@each(QUICK)
def test_a_problem_knows_its_name_and_its_family_and_gives_what_a_method_takes(family, name):
    problem = build_once(family, name, 0)
    assert (problem.family, problem.name, problem.seed) == (family, name, 0)
    assert len(problem.arguments) == len(problem.untrained) == len(FAMILIES[family].parameters)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_entrant_can_be_called_with_what_its_family_gives(family):
    record = FAMILIES[family]
    given = record.parameters
    for name, method in {**record.entrants, **record.references}.items():
        inspect.signature(method).bind(*given), name


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_named_like_its_folder_and_its_quick_look_is_one_of_its_problems(family):
    record = FAMILIES[family]
    assert record.name == family
    assert (Path(families.__path__[0]) / family / "__init__.py").exists()
    assert set(record.quick) <= set(record.names)
    assert record.names == list(dict.fromkeys(record.names))


NEW = '''
from mini_transformer.board.problem import Family, Problem


def build(name, seed):
    """Guess the number that seed gives."""
    return Problem(
        "numbers", name, seed, arguments=(seed, 10), untrained=(0, 10),
        measure=lambda answer: {"nearness": 1 - abs(answer - seed) / 10},
        oracle=lambda: seed, random=lambda draw: draw % 10, n_prompts=1, note="it is the seed",
    )


FAMILY = Family(
    name="numbers", parameters={"hint": "the number", "most": "the largest"}, returns="a number",
    headline="nearness", metrics={"nearness": "1 where it is right"}, models=2,
    references={"zero": lambda hint, most: 0}, problems={"toy/guess": build},
    read=lambda answer, hint, most: float(answer),
    quick=("toy/guess",),
    entrants={"hint": lambda hint, most: hint, "most": lambda hint, most: most},
)
'''


@pytest.fixture
def _numbers(tmp_path, monkeypatch):
    """A folder with a new family, where families are looked for; no other file is touched."""
    (tmp_path / "numbers").mkdir()
    (tmp_path / "numbers" / "__init__.py").write_text(NEW)
    monkeypatch.setattr(families, "__path__", [*families.__path__, str(tmp_path)])
    load_families.cache_clear()
    yield
    load_families.cache_clear()


@pytest.mark.usefixtures("_numbers")
def test_a_new_folder_is_a_new_family_that_is_listed_run_and_shown():
    assert list(load_families()) == [*FAMILIES, "numbers"]
    assert infer_family(lambda hint, most: 0) == "numbers"
    jobs = list_jobs("numbers")
    assert [job.row_name for job in jobs[:5]] == [
        "hint",
        "most",
        "zero",
        "random",
        "oracle",
    ]
    summary = summarize([judge(job, Draw("tuning"), Answerer().answer) for job in jobs])
    assert {score.entrant: score.headline for score in summary.scores} == {
        "hint": 1.0,
        "most": 0.05,
        "zero": 0.95,
        "random": pytest.approx(0.7),
        "oracle": 1.0,
        "hint (untrained)": 0.95,
    }
    assert all(score.errors == [] for score in summary.scores)
    page = render_page(summary)
    assert "method(hint, most) -&gt; a number" in page
    assert "it is the seed" in page


def test_a_family_that_is_not_there_is_said():
    with pytest.raises(KeyError, match="no family is called 'circus'; there are circuit, features"):
        find_family("circus")


def test_the_family_is_told_by_the_parameters() -> None:
    assert infer_family(misbehaving.honest) == "circuit"
    assert infer_family(lambda model, hook, pairs, steps=3: None) == "variables"
    assert infer_family(lambda positive, negative: None) == "steering"
    with pytest.raises(
        ValueError, match="can be of family probe or erasure: say which by `family`"
    ):
        infer_family(misbehaving.takes_activations)
    for method in (misbehaving.takes_nonsense, lambda model, hook, pairs, more: None):
        with pytest.raises(
            ValueError, match="has the parameters of no family: give `family`, one of circuit"
        ):
            infer_family(method)


def test_a_case_of_any_of_the_families_is_known() -> None:
    check_cases(["erasure", "circuit"], ["planted", "forge/zero"])
    check_cases(["erasure"], None)
    with pytest.raises(KeyError, match="no case of these families is called 'forge'"):
        check_cases(["erasure"], "forge")


def test_a_method_that_cannot_be_had_is_one_sentence() -> None:
    for name, sentence in (
        ("no_such_module:f", "no_such_module:f cannot be imported: ModuleNotFoundError"),
        ("misbehaving:nothing", "misbehaving:nothing cannot be imported: AttributeError"),
        ("misbehaving:HONEST", "misbehaving:HONEST is no function, but Tensor"),
    ):
        with pytest.raises(ValueError, match=sentence):
            import_method(name)
    with pytest.raises(KeyError, match="nearest: 'leace'"):
        find_entrant("erasure", "leac")


def test_an_installed_package_can_offer_a_method(monkeypatch: pytest.MonkeyPatch) -> None:
    point = SimpleNamespace(name="probe.theirs", load=lambda: misbehaving.takes_activations)

    def find_points(group: str, name: str | None = None) -> list:
        assert group == "mini_transformer.board"
        return [point] if name in (None, point.name) else []

    monkeypatch.setattr(families, "entry_points", find_points)
    assert list_entrants("probe")[-1] == "theirs"
    assert "theirs" not in list_entrants("erasure")
    assert find_entrant("probe", "theirs") is misbehaving.takes_activations
