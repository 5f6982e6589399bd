"""What docs/foreign_methods.md and docs/coming_from.md show is what was run, and runs."""

import ast
import importlib.util
import json
import re

import both_spellings
import enter_board
import pytest
import torch
from pages import ROOT, read_foreign_rows

from mini_transformer.board.families import find_family

PEERS = ROOT / "tests" / "peers"
SECTIONS = enter_board.list_sections()
FUNCTIONS = {
    node.name: (section, node)
    for section in SECTIONS
    for block in enter_board.read_blocks(section)
    for node in ast.parse(block).body
    if isinstance(node, ast.FunctionDef)
}


def list_imports(block: str) -> list[str]:
    """List the packages that a block imports, without those of this one's environment."""
    nodes = [node for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Import)]
    found = [alias.name for node in nodes for alias in node.names]
    nodes = [node for node in ast.walk(ast.parse(block)) if isinstance(node, ast.ImportFrom)]
    found += [node.module for node in nodes]
    return [name for name in found if importlib.util.find_spec(name.split(".")[0]) is None]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_foreign_method_takes_at_most_ten_lines(name):
    _, node = FUNCTIONS[name]
    assert node.end_lineno - node.lineno + 1 <= 10


def test_every_foreign_method_is_scored_on_all_its_problems_without_error():
    assert set(FUNCTIONS) == set(enter_board.METHODS)
    scored = {}
    for row in read_foreign_rows():
        assert row["errors"] == []
        assert len(row["values"]) == len(row["models"]) == enter_board.MODELS
        assert all(len(values) == len(row["values"]) for values in row["ours"].values())
        scored.setdefault(row["method"], []).append(row["problem"])
    assert {name: sorted(cases) for name, cases in scored.items()} == {
        name: sorted(cases) for name, (_, cases, _, _) in enter_board.METHODS.items()
    }


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_foreign_method_answers_where_its_library_is_installed(name):
    section, _ = FUNCTIONS[name]
    if missing := list_imports("\n".join(enter_board.read_blocks(section))):
        pytest.skip(f"{missing[0]} is not installed; tests/peers/run.py runs it")
    kind, cases, _, _ = enter_board.METHODS[name]
    family = find_family(kind)
    problem = family.build(cases[0])
    method = enter_board.load_methods(section)[name]
    named = {key: one for key, one in problem.options.items() if kind == "probe"}
    answer = method(*problem.arguments, **named)
    metrics = problem.measure(family.check_answer(answer, problem.arguments))
    assert 0 <= metrics[family.headline] <= 1


def test_a_missing_library_is_one_sentence_with_the_command():
    with pytest.raises(SystemExit) as found:
        enter_board.check_version("a-library-of-nobody==1.2.3")
    assert str(found.value) == (
        "a-library-of-nobody 1.2.3 is needed, none is installed: "
        "pip install 'a-library-of-nobody==1.2.3'"
    )
    with pytest.raises(SystemExit, match=r"torch 0.1 is needed, 2.* is installed: pip install"):
        enter_board.check_version("torch==0.1")


def test_our_scores_beside_theirs_are_those_of_the_board_today():
    """The cheapest of the stored rows, computed again."""
    (row,) = [
        row
        for row in read_foreign_rows()
        if (row["method"], row["problem"]) == ("hannamw_eap", "cancelling/resample")
    ]
    circuit = find_family("circuit")
    found = []
    for number in row["models"]:
        problem = circuit.build(row["problem"], number)
        scores = circuit.entrants["eap"](*problem.arguments)
        found.append(problem.measure(scores.values)["auprc_best"])
    assert found == pytest.approx(row["ours"]["eap"], abs=1e-3)


def test_eap_is_theirs_edge_by_edge_and_eap_ig_is_at_their_points():
    rows = json.loads((PEERS / "eap_edges.json").read_text())["rows"]
    resampled = [row for row in rows if "eap" in row]
    assert len(resampled) == 12
    for row in resampled:
        assert row["eap"] < 1e-5
        assert row["eap_ig_at_left_ends"] < 1e-5 < 1e-3 < row["eap_ig_at_midpoints"] < 0.2
    for row in rows[len(resampled) :]:
        assert row["eap_of_others"] < 1e-5 < row["eap_from_input"] < 0.02


def test_our_ten_things_run_as_the_page_spells_them():
    names = {}
    for block in both_spellings.read_blocks("Here").values():
        names |= both_spellings.run(block, names)
    assert len(both_spellings.read_blocks("Here")) == 10
    assert names["right"] > 0.9  # the probe
    assert not torch.allclose(names["half"], names["logits"])
    assert not torch.allclose(names["steered"], names["logits"])
    assert not torch.allclose(names["without"], names["logits"])
    assert names["codes"].count_nonzero() > 0


@pytest.mark.parametrize("library", both_spellings.LIBRARIES)
def test_the_other_spelling_gave_the_same(library):
    data = json.loads((PEERS / f"spelt_{library.lower()}.json").read_text())
    assert both_spellings.LIBRARIES[library] in data["versions"]
    told = {row["section"] for row in data["rows"]}
    assert told == both_spellings.read_blocks(library).keys()
    assert all(row["difference"] < 1e-4 for row in data["rows"])


def test_every_thing_is_spelt_for_another_library_too():
    wanted = dict.fromkeys(both_spellings.read_blocks("Here"), 0)
    for library in both_spellings.LIBRARIES:
        for section in both_spellings.read_blocks(library):
            wanted[section] += 1
    assert min(wanted.values()) >= 1
    assert re.search(r"^## ARENA$", both_spellings.PAGE.read_text(), re.MULTILINE)
