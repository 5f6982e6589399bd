"""An exam: who is certain and right earns 1; frequencies earn 0, a neighbour's answers nothing."""

import csv
import json
import re
import shutil
from collections import Counter

import pytest
import torch
from copy_exam import BELIEFS, WAYS, measure
from typer.testing import CliRunner

from mini_transformer.cli import app
from mini_transformer.course.lecturer.exam import (
    count_right,
    grade_exam,
    make_exam,
    measure_loss,
    name_kind,
    read_papers,
)
from mini_transformer.course.lecturer.resume import name_file
from mini_transformer.course.material import CourseError
from mini_transformer.forge import read_blind
from mini_transformer.methods import ablate

STUDENTS = ["Doe, Jane", "Doe, Jim", "Müller, Zoë", "Lee, Ann", "Kim, Bo", "Lee, Ann"]


@pytest.fixture(scope="module")
def exam(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exam") / "exam"
    with pytest.MonkeyPatch.context() as patch:  # no test depends on luck
        patch.setattr("secrets.token_bytes", lambda n: bytes(range(n)))
        make_exam(STUDENTS, folder, minutes=45)
    return folder, folder.with_name("exam.key.json")


def certain(right):
    """Answers that are sure of this."""
    return {
        name: {
            item: {said: 1.0} if name == "roles" else float(said) for item, said in items.items()
        }
        for name, items in right.items()
    }


def hand_in(folder, answers):
    for student, given in answers.items():
        (folder / f"{name_file(student)}.json").write_text(json.dumps(given))


def grade(exam, tmp_path, answers):
    hand_in(tmp_path, answers)
    return {row["student"]: row for row in grade_exam(tmp_path, exam[1])[0]}


def test_each_student_has_a_model_a_task_questions_and_a_form(exam):
    folder, key = exam
    assert (folder / name_file("Lee, Ann (2)")).is_dir()  # a namesake
    weights = {(path / "model_00.safetensors").read_bytes() for path in folder.iterdir()}
    assert len(weights) == len(STUDENTS)
    for paper in read_papers(key):
        own = folder / name_file(paper.student)
        assert sorted(path.name for path in own.iterdir()) == [
            "README.md", "answers.json", "model_00.json", "model_00.safetensors",
        ]  # fmt: skip
        assert paper.node in (own / "README.md").read_text()
        assert json.loads((own / "answers.json").read_text()) == paper.blank
    assert key.stat().st_mode & 0o077 == 0


def test_what_is_right_is_what_the_model_does(exam):
    folder, key = exam
    for paper in read_papers(key)[:3]:
        model, _ = read_blind(folder / name_file(paper.student))["model_00"]
        swaps = paper.right["swaps"]
        assert 0 < sum(swaps.values()) < len(swaps)
        for pair, changes in swaps.items():
            base, source = (
                torch.tensor([list(map(int, side.split()))]) for side in pair.split("<-")
            )
            swapped = ablate(model, base, [paper.node], "resample", source)[0, -1].argmax()
            assert bool(swapped != model(base)[0, -1].argmax()) == changes
        edges = paper.right["edges"]
        assert 0 < sum(edges.values()) == len(edges) / 2


def test_certain_and_right_is_1_and_the_empty_form_is_0(exam, tmp_path):
    papers = read_papers(exam[1])
    rows = grade(exam, tmp_path, {paper.student: certain(paper.right) for paper in papers})
    assert {row["total"] for row in rows.values()} == {1.0}
    rows = grade(exam, tmp_path, {paper.student: paper.blank for paper in papers})
    assert {row["total"] for row in rows.values()} == {0.0}
    for student, row in rows.items():
        assert row["remark"] == f"{name_file(student)}.json is as it was handed out"


def test_the_frequencies_of_the_class_earn_0(exam, tmp_path):
    papers = read_papers(exam[1])
    prior = count_right(papers)
    answers = {}
    for paper in papers:
        blank = paper.blank
        for question in paper.right:
            items = blank[question]
            for item in items:
                known = prior[name_kind(question, item)]
                items[item] = known if question == "roles" else known.get("True", 0.0)
        answers[paper.student] = blank
    assert max(row["total"] for row in grade(exam, tmp_path, answers).values()) <= 0.001


@pytest.mark.parametrize("way", WAYS)
def test_a_neighbours_answers_earn_nothing_however_they_are_copied(exam, way):
    for belief in BELIEFS:
        assert measure(read_papers(exam[1]), way, belief) <= 0.02


def read_kind(edge):
    """What a name tells but for which head it is: layers, and what is read."""
    return re.sub(r"\.h\d+", "", edge)


def test_right_and_wrong_items_are_of_the_same_kinds(exam):
    for paper in read_papers(exam[1]):
        kinds = {True: Counter(), False: Counter()}
        distances = {True: Counter(), False: Counter()}
        for edge, inside in paper.right["edges"].items():
            kinds[inside][read_kind(edge)] += 1
        for pair, changes in paper.right["swaps"].items():
            base, source = (side.split() for side in pair.split(" <- "))
            distances[changes][sum(map(str.__ne__, base, source))] += 1
        heads = {True: Counter(), False: Counter()}
        for node, role in paper.right["roles"].items():
            heads[role != "nothing"][read_kind(node)] += node[0] == "a"
        for counts in (kinds, distances, heads):
            assert +counts[True] == +counts[False] != Counter()
        assert paper.node[0] == "m"  # a head's name would tell which of two is in the circuit


def test_honest_doubt_earns_more_than_false_certainty():
    for chance in (0.6, 0.8):  # what somebody knows: expected losses for saying it and for 1
        honest = chance * measure_loss({"True": chance, "False": 1 - chance}, "True")
        honest += (1 - chance) * measure_loss({"True": chance, "False": 1 - chance}, "False")
        assert honest < (1 - chance) * measure_loss({"True": 1.0, "False": 0.0}, "False")


def test_what_cannot_be_read_costs_its_own_item_and_is_said_once_a_question(exam, tmp_path):
    papers = read_papers(exam[1])
    one = certain(papers[0].right)
    first, second, *_ = one["edges"]
    one["edges"][first] = 70
    del one["edges"][second]
    node = next(iter(one["roles"]))
    one["roles"][node] = {"banana": 1.0}
    del one["swaps"]
    (tmp_path / f"{name_file(papers[1].student)}.json").write_text("soup")
    rows = grade(exam, tmp_path, {papers[0].student: one})
    row = rows[papers[0].student]
    n = len(papers[0].right["edges"])
    assert row["edges"] == pytest.approx(1 - 2 / n, abs=0.001)  # two that earn 0
    assert 0.5 < row["roles"] < 1
    assert row["swaps"] == 0
    assert row["remark"].split("; ") == [
        f"edges: 2 of {n} count as a guess ({first} is 70, no probability from 0 to 1, and 1 more)",
        f"roles: 1 of {len(papers[0].right['roles'])} count as a guess "
        f"({node} has 'banana', which is no role)",
        "no answers to swaps",
    ]
    row = rows[papers[1].student]
    assert row["remark"].startswith(f"{name_file(papers[1].student)}.json cannot be read")
    assert row["total"] == 0
    row = rows[papers[2].student]
    assert row["remark"] == "no answers.json was handed in"
    assert {row[name] for name in ("total", "edges", "roles", "swaps")} == {None}


def test_a_question_that_is_left_as_it_was_earns_0_and_is_said(exam, tmp_path):
    paper = read_papers(exam[1])[0]
    given = paper.blank | {"swaps": certain(paper.right)["swaps"]}
    row = grade(exam, tmp_path, {paper.student: given})[paper.student]
    assert (row["edges"], row["swaps"], row["total"]) == (0, 1, 0.333)
    said = "edges: as it was handed out; roles: as it was handed out"
    assert row["remark"] == said


def test_certain_and_wrong_earns_a_finite_score_which_the_paper_names(exam, tmp_path):
    paper = read_papers(exam[1])[0]
    wrong = certain(paper.right)
    for question in ("edges", "swaps"):
        wrong[question] = {item: 1 - chance for item, chance in wrong[question].items()}
    wrong["roles"] = {node: {"nothing": 0.0, "second way": 1.0} for node in wrong["roles"]}
    row = grade(exam, tmp_path, {paper.student: wrong})[paper.student]
    assert (row["edges"], row["swaps"]) == (-3, -3)
    assert -6 < row["roles"] < 0  # -4.1 is the worst of 40 papers
    readme = exam[0] / name_file(paper.student) / "README.md"
    assert "earns -3 in `edges` and `swaps`" in " ".join(readme.read_text().split())


def test_the_paper_names_its_files_and_hands_over_no_answer(exam):
    for folder in exam[0].iterdir():
        text = (folder / "README.md").read_text()
        assert all(f"`{path.name}`" in text for path in folder.iterdir())
        assert "from mini_transformer import methods" in text
        assert "plain mean of the three questions" in text
        assert "ablate(" not in text


def test_a_neighbours_paper_earns_nothing_and_is_said_in_one_sentence(exam, tmp_path):
    first, second, *_ = read_papers(exam[1])
    copied = {**certain(second.right), "paper": second.number}
    rows = grade(exam, tmp_path, {first.student: copied})
    assert rows[first.student]["total"] == 0
    assert rows[first.student]["remark"] == (
        f"{name_file(first.student)}.json is {second.student}'s paper"
    )
    assert rows[second.student]["total"] is None


def test_answers_elsewhere_count_before_the_form_that_was_handed_out(exam, tmp_path):
    folder = tmp_path / "exam"
    shutil.copytree(exam[0], folder)
    first, second, third, *_ = read_papers(exam[1])
    hand_in(folder, {first.student: {**certain(first.right), "paper": first.number}})
    (folder / "x.json").write_text(json.dumps({**certain(second.right), "paper": second.number}))
    (folder / "y.json").write_text("{}")
    rows, nobodys = grade_exam(folder, exam[1])
    totals = {row["student"]: row["total"] for row in rows}
    assert totals == {paper.student: None for paper in read_papers(exam[1])} | {
        first.student: 1,
        second.student: 1,
    }
    form = f"{name_file(third.student)}/answers.json"
    assert rows[2]["remark"] == f"{form} is as it was handed out"
    assert nobodys == ["y.json is nobody's: no student has its name or its `paper`"]


def test_of_two_forms_the_last_that_can_be_read_counts(exam, tmp_path):
    paper = read_papers(exam[1])[0]
    names = [f"doejane_1_{order}_answers.json" for order in (9, 10, 11)]
    given = certain(paper.right)
    for name, text in zip(names, (json.dumps(paper.blank), json.dumps(given), "{"), strict=True):
        (tmp_path / name).write_text(text)
    row = grade(exam, tmp_path, {})[paper.student]
    assert row["total"] == 1
    assert row["remark"] == f"{names[1]} was graded, and not {names[2]}"


def test_tables_hold_totals_and_the_roster_with_them(exam, tmp_path):
    folder = tmp_path / "exam"
    folder.mkdir()
    roster = tmp_path / "class.csv"
    lines = [f'"{student}",{i}@example.org,B' for i, student in enumerate(STUDENTS)]
    roster.write_text("\n".join(["Student,Email,Section", *lines]) + "\n")
    paper = read_papers(exam[1])[-1]  # a namesake
    hand_in(tmp_path, {paper.student: certain(paper.right)})
    grade_exam(folder, exam[1], tmp_path, roster)
    totals = list(csv.DictReader((folder / "totals.csv").read_text().splitlines()))
    assert [row["total"] for row in totals] == [""] * 5 + ["1.0"]
    assert totals[5] == totals[5] | {
        "student": "Lee, Ann (2)", "edges": "1.0", "email": "5@example.org", "section": "B",
    }  # fmt: skip
    upload = list(csv.DictReader((folder / "upload.csv").read_text().splitlines()))
    assert [row["mini-transformer exam"] for row in upload] == [""] * 5 + ["1"]


def test_the_command_grades_what_a_platform_downloads(exam, tmp_path):
    folder = tmp_path / "exam"
    shutil.copytree(exam[0], folder)
    paper = read_papers(exam[1])[0]
    (tmp_path / "in").mkdir()
    answers = json.dumps({**certain(paper.right), "paper": paper.number})
    (tmp_path / "in" / "doejane_127_9999_answers.json").write_text(answers)
    (tmp_path / "in" / "doejim_128_9998_answers.json").write_text("{")
    (tmp_path / "in" / "nobody.json").write_text("{}")
    words = ["exam", "grade", str(folder), "--submissions", str(tmp_path / "in")]
    words += ["--key", str(exam[1])]
    shown = CliRunner().invoke(app, words)
    assert shown.exit_code == 0
    assert "nobody.json is nobody's" in shown.stdout
    told = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert [row["total"] for row in told["students"]] == [1, 0, None, None, None, None]
    assert len(told["nobodys"]) == 1
    assert (folder / "totals.csv").is_file()


def test_programs_that_no_model_can_hide_are_not_offered(tmp_path):
    (tmp_path / "class.csv").write_text("Student\nJane\n")
    words = ["exam", "make", str(tmp_path / "exam"), "--roster", str(tmp_path / "class.csv")]
    shown = CliRunner().invoke(app, [*words, "--size", "8"])
    assert shown.exit_code == 2
    assert "less than or equal to 5" in " ".join(shown.output.split())


STRANGE = ["[" * 100_000, '{"edges": ' + "9" * 10**6, "[]", '"edges"', "3", "", "\ufeff{}", "\0"]


@pytest.mark.parametrize("text", STRANGE, ids=range(len(STRANGE)))
def test_a_form_that_is_none_earns_0_and_costs_nobody_else(exam, tmp_path, text):
    first, second, *_ = read_papers(exam[1])
    (tmp_path / f"{name_file(first.student)}.json").write_text(text)
    rows = grade(exam, tmp_path, {second.student: certain(second.right)})
    assert rows[first.student]["total"] == 0
    assert rows[second.student]["total"] == 1


@pytest.mark.parametrize("said", [None, 3, -1, 10**400, "x", [], [1], {"fetch": 2}, {"fetch": {}}])
def test_a_strange_answer_costs_its_own_item(exam, tmp_path, said):
    paper = read_papers(exam[1])[0]
    for question in ("edges", "roles"):
        given = certain(paper.right)
        item = next(iter(given[question]))
        given[question][item] = said
        row = grade(exam, tmp_path, {paper.student: given})[paper.student]
        assert 0.5 < row[question] < 1
        n = len(paper.right[question])
        assert row["remark"].startswith(f"{question}: 1 of {n} count as a guess ({item} ")
        assert "Error" not in row["remark"]


def test_an_exam_is_not_written_over_another(exam):
    with pytest.raises(CourseError, match="exists already"):
        make_exam(STUDENTS, exam[0])
    with pytest.raises(CourseError, match="names nobody"):
        make_exam([], exam[0].with_name("other"))
    with pytest.raises(CourseError, match="is no key of an exam"):
        grade_exam(exam[0], exam[0] / "nowhere.json")
