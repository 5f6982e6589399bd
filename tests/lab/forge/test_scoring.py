"""Scores of answers to blind models: right, wrong, empty, and such that cannot be read."""

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from mini_transformer import cli, forge
from mini_transformer.board.metrics.circuit import compare_sets
from mini_transformer.edges import list_edges, list_writers, mask_of
from mini_transformer.forge import blind, scoring
from mini_transformer.forge.scoring import Interval, score_blind

Answers = dict[str, Any]
ABLATIONS = ("zero", "mean", "resample")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exam") / "public"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("secrets.token_bytes", lambda n: bytes(range(n)))
        forge.write_blind(
            folder, folder.with_name("key.json"), n=3, size=2, redundancy="second way"
        )
    return folder


@pytest.fixture(scope="module")
def key(folder: Path) -> dict[str, Any]:
    return blind.read_key(folder.with_name("key.json"))


@pytest.fixture
def right(key: dict[str, Any]) -> Answers:
    """The last minimal circuit of each model, with values of variables named otherwise."""
    answers: Answers = {"commitment": blind.commit(key)}
    for name, truth in copy.deepcopy(key["models"]).items():
        answers[name] = {
            "edges": {ablation: truth["circuits"][ablation][-1] for ablation in ABLATIONS},
            "roles": truth["roles"],
            "variables": truth["variables"],
        }
        for variable in answers[name]["variables"]:
            variable["values"] = [7 - value for value in variable["values"]]
    return answers


@pytest.fixture
def score(folder: Path, tmp_path: Path) -> Callable[..., forge.BlindScore]:
    def run(answers: Any, check: bool = True) -> forge.BlindScore:
        file = tmp_path / "answers.json"
        file.write_text(answers if isinstance(answers, str) else json.dumps(answers))
        return score_blind(file, folder.with_name("key.json"), folder if check else None)

    return run


def test_right_answers_earn_everything(score: Callable, right: Answers) -> None:
    found = score(right)
    assert found.notes == []
    union = found.metrics.pop("union").mean
    assert 0.5 < union < 1.0  # of several circuits one was named
    assert set(found.metrics.values()) == {Interval(1.0, 1.0, 1.0)}
    each = {f"f1 {ablation}" for ablation in ABLATIONS}
    assert found.metrics.keys() == each | {"f1", "exact", "roles", "variables"}
    assert found.models.keys() == {"model_00", "model_01", "model_02"}


def test_f1_is_that_of_the_board(folder: Path, key: dict[str, Any], score: Callable) -> None:
    generator = torch.Generator().manual_seed(0)
    answers: Answers = {}
    expected = []
    for name, (model, _) in forge.read_blind(folder).items():
        circuits = key["models"][name]["circuits"]["zero"]
        masks = torch.stack([mask_of(model, circuit) for circuit in circuits]).bool()
        kept = masks[0] ^ (torch.rand(len(masks[0]), generator=generator) < 0.01)
        edges = [edge for edge, on in zip(list_edges(model), kept, strict=True) if on]
        answers[name] = {"edges": {"zero": edges}}
        expected.append(max(compare_sets(kept, mask)["f1"] for mask in masks))
    found = score(answers)
    assert [found.models[name]["f1 zero"] for name in answers] == pytest.approx(expected)
    assert 0.1 < found.metrics["f1 zero"].mean < 0.9
    assert found.metrics["f1"].mean == pytest.approx(found.metrics["f1 zero"].mean / 3)
    assert found.metrics["exact"].mean == 0.0


def answer_all(
    folder: Path, choose: Callable[[list[str]], list[str]], role: str | None = None
) -> Answers:
    """The same kind of answer to every model."""
    return {
        name: {
            "edges": {ablation: choose(list_edges(model)) for ablation in ABLATIONS},
            "roles": {node: list(blind.ROLES) for node in list_writers(model)} if role else {},
        }
        for name, (model, _) in forge.read_blind(folder).items()
    }


def test_nothing_everything_and_constants_earn_nothing(folder: Path, score: Callable) -> None:
    for choose in (lambda edges: [], lambda edges: edges, lambda edges: edges[:20]):
        found = score(answer_all(folder, choose, role="all"))
        assert found.metrics["f1"].mean < 0.1
        assert found.metrics["exact"].mean == 0.0
        assert found.metrics["roles"].mean < 0.1
        assert found.metrics["variables"].mean == 0.0


def test_guesses_are_scored_as_answers_are(folder: Path, score: Callable) -> None:
    found = score(answer_all(folder, lambda edges: edges, role="all"))
    everything = {name: one for name, one in found.metrics.items() if name != "variables"}
    guessed = found.baselines["everything"]
    assert {name: guessed[name] for name in everything} == everything
    assert list(found.baselines)[:3] == ["nothing", "everything", "random"]
    assert max(one["f1"].mean for one in found.baselines.values()) < 0.3
    assert found.baselines == score({}).baselines  # they depend on the key alone


def test_all_circuits_together_are_not_one_of_them(
    key: dict[str, Any], right: Answers, score: Callable
) -> None:
    for name, truth in key["models"].items():
        for ablation, circuits in truth["circuits"].items():
            right[name]["edges"][ablation] = sorted(set().union(*circuits))
    found = score(right)
    assert found.metrics["union"].mean == 1.0
    assert found.metrics["exact"].mean < 1.0
    assert found.metrics["f1"].mean < 1.0


def test_a_missing_model_costs_its_share(right: Answers, score: Callable) -> None:
    del right["model_01"]
    found = score(right)
    assert found.notes == ["1 of 3 models has no answer, which counts 0: model_01"]
    assert found.metrics["f1"].mean == pytest.approx(2 / 3)
    assert found.metrics["f1"].low < 2 / 3 < found.metrics["f1"].high


@pytest.mark.parametrize(
    ("change", "words", "lost"),
    [
        ({"model_01": ["m0->logits"]}, "model_01 is a list, expected a dict with edges", "f1"),
        ({"model_01/edges": "all"}, "model_01: edges is a str, expected a dict", "f1"),
        ({"model_01/edge": {}}, "model_01 has 'edge', which is not asked; nearest: 'edges'", ""),
        (
            {"model_01/edges/Zero": []},
            "model_01, edges: 'Zero' is no ablation of this model; nearest: 'zero'",
            "",
        ),
        ({"model_01/edges/zero": {"m0": 1}}, "model_01, zero: a list of names", "f1 zero"),
        ({"model_01/edges/zero": [1]}, "model_01, zero: a list of names", "f1 zero"),
        (
            {"model_01/edges/zero": ["input->a0h1<q>", "x"]},
            "model_01, zero: 'input->a0h1<q>' is no edge of this model (and 1 more); nearest: 'inp",
            "f1 zero",
        ),
        (
            {"model_01/roles/m9": ["copy"]},
            "model_01, roles: 'm9' is no node of this model; nearest: 'm",
            "",
        ),
        (
            {"model_01/roles": {"m0": ["lookup"]}},
            "model_01, m0: 'lookup' is no role of this model; nearest: 'look_up'",
            "roles",
        ),
        ({"model_01/roles": {"m0": "copy"}}, "model_01, m0: a list of names", "roles"),
        ({"model_01/variables": [3]}, "model_01: a variable needs a site", "variables"),
        (
            {"model_01/variables": [{"site": "m0", "position": 1, "values": [True]}]},
            "model_01: a variable needs a site",
            "variables",
        ),
        ({"model_09": {}}, "'model_09' is no model of this key; nearest: 'model_0", ""),
    ],
)
def test_what_cannot_be_read_is_told_and_costs_nothing_else(
    right: Answers, score: Callable, change: dict[str, Any], words: str, lost: str
) -> None:
    (path, value), *_ = change.items()
    *above, last = path.split("/")
    at = right
    for name in above:
        at = at[name]
    at[last] = value
    found = score(right)
    (note,) = found.notes
    assert words in note
    for name in ("model_00", "model_02"):
        assert found.models[name]["f1"] == found.models[name]["roles"] == 1.0
    for metric in ("f1 zero", "f1 mean", "roles", "variables"):
        if metric != lost and path not in ("model_01", "model_01/edges"):
            assert found.models["model_01"][metric] == 1.0, metric
    if lost:
        assert found.models["model_01"][lost] < 0.5


def test_what_is_named_twice_counts_once(right: Answers, score: Callable) -> None:
    edges = right["model_00"]["edges"]["zero"]
    edges += edges[:1] * 2
    found = score(right)
    assert found.notes == [f"model_00, zero: {edges[0]!r} is named 3 times, and counts once"]
    assert found.metrics["f1"].mean == 1.0
    text = json.dumps(right).replace('"model_01": ', '"model_00": {}, "model_01": ')
    found = score(text)
    assert "'model_00' is given 2 times in one object: the last one counts" in found.notes
    assert found.models["model_00"]["f1"] == 0.0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "cannot read .*Expecting value"),
        ("[" * 100_000, "cannot read"),
        ("[]", "is a list, expected an object like example.json"),
        ('{"commitment": "abc"}', "the answers are for 'abc', but .*key.json is the key of"),
    ],
)
def test_a_file_that_holds_no_answers_is_told(score: Callable, text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        score(text)


def test_a_key_or_model_that_was_changed_is_told(
    folder: Path, right: Answers, tmp_path: Path
) -> None:
    answers = tmp_path / "answers.json"
    answers.write_text(json.dumps(right))
    changed = tmp_path / "key.json"
    text = folder.with_name("key.json").read_text()
    changed.write_text(text.replace('"fetch"', '"match"'))
    with pytest.raises(ValueError, match="give the key of their folder"):
        score_blind(answers, changed)
    with pytest.raises(ValueError, match=r"the key is not the one that .* was sealed with"):
        score_blind(answers, changed, folder)
    shutil.copytree(folder, tmp_path / "public")
    shutil.copy(folder / "model_00.json", tmp_path / "public" / "model_01.json")
    with pytest.raises(ValueError, match=r"a model or task in .* is not the one"):
        score_blind(answers, folder.with_name("key.json"), tmp_path / "public")
    with pytest.raises(ValueError, match="cannot read the commitment"):
        score_blind(answers, folder.with_name("key.json"), tmp_path / "nowhere")


def test_answers_without_a_commitment_are_scored_and_that_is_said(
    right: Answers, score: Callable
) -> None:
    del right["commitment"]
    found = score(right, check=False)
    assert "no commitment" in found.notes[0]
    assert found.metrics["f1"].mean == 1.0


def test_a_score_is_data_that_others_can_compute_again(right: Answers, score: Callable) -> None:
    one, again = score(right), score(right)
    assert json.dumps(one.as_data()) == json.dumps(again.as_data())
    assert one.commitment == right["commitment"]
    right["model_00"]["edges"]["zero"] = []
    assert score(right).answers != one.answers


def test_one_model_has_no_interval_and_the_interval_holds_the_mean() -> None:
    assert scoring.summarize([{"f1": 0.25}]) == {"f1": Interval(0.25, None, None)}
    found = scoring.summarize([{"f1": value} for value in (0.0, 0.5, 1.0, 0.5)])["f1"]
    assert found.mean == 0.5
    assert 0.0 < found.low < 0.5 < found.high < 1.0


def type_command(*words: str | Path, status: int = 0) -> str:
    ran = CliRunner().invoke(cli.app, ["forge", *map(str, words)])
    assert ran.exit_code == status, ran.output
    return ran.output


def test_an_exam_from_the_terminal(tmp_path: Path) -> None:
    exam, result = tmp_path / "exam", tmp_path / "result.json"
    said = type_command("--blind", exam, "--n", "2", "--size", "1", "--redundancy", "none")
    assert f"written: {exam}, to hand out, and its key {exam}.key.json, to keep" in said
    key = blind.read_key(f"{exam}.key.json")
    assert key["knobs"]["redundancy"] == "none"
    assert len(forge.read_blind(exam)) == key["n"] == 2

    asked = ["--score", exam / "example.json"]
    said = type_command(*asked, "--blind", exam, "--out", result)
    assert "1 of 2 models has no answer" in said
    assert "models and key are as they were sealed" in said
    assert "f1 resample" in said
    assert "everything" in said
    found = json.loads(result.read_text())
    assert found["commitment"] == blind.commit(key)
    said = type_command(*asked, "--key", f"{exam}.key.json", "--json")
    assert json.loads(said) == found
    assert "--score needs the key" in type_command(*asked, status=2)
    assert "exists already" in type_command("--blind", exam, status=2)


def test_the_example_says_how_answers_look_and_is_not_true(folder: Path, score: Callable) -> None:
    found = score((folder / "example.json").read_text())
    assert [note.split(" needs")[0] for note in found.notes] == [
        "2 of 3 models have no answer, which counts 0: model_01, model_02",
        "model_00: a variable",
    ]
    assert found.metrics["exact"].mean == 0.0
    assert (folder / "example.json").read_text().strip() in (folder / "README.md").read_text()
