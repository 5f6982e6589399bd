"""An exam: who is certain and right earns 1; frequencies, or a neighbour's answers, earn 0."""

import json

import pytest
import torch

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

STUDENTS = ["Doe, Jane", "Doe, Jim", "Müller, Zoë", "Lee, Ann", "Kim, Bo", "Roe, Cy"]


@pytest.fixture(scope="module")
def exam(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exam") / "exam"
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
    return {row["student"]: row for row in grade_exam(tmp_path, exam[1])}


def test_each_student_has_a_model_a_task_questions_and_a_form(exam):
    folder, key = exam
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
        assert 0 < sum(edges.values()) <= len(edges) / 2


def test_certain_and_right_is_1_and_the_empty_form_is_0(exam, tmp_path):
    papers = read_papers(exam[1])
    rows = grade(exam, tmp_path, {paper.student: certain(paper.right) for paper in papers})
    assert {row["total"] for row in rows.values()} == {1.0}
    rows = grade(exam, tmp_path, {paper.student: paper.blank for paper in papers})
    assert max(row["total"] for row in rows.values()) <= 0.02


def test_the_frequencies_of_the_class_earn_0(exam, tmp_path):
    papers = read_papers(exam[1])
    prior = count_right(papers)
    answers = {}
    for paper in papers:
        blank = paper.blank
        for question, items in blank.items():
            for item in items:
                known = prior[name_kind(question, item)]
                items[item] = known if question == "roles" else known.get("True", 0.0)
        answers[paper.student] = blank
    assert max(row["total"] for row in grade(exam, tmp_path, answers).values()) <= 0.001


def test_a_neighbours_answers_earn_nothing(exam, tmp_path):
    papers = read_papers(exam[1])
    totals = []
    for shift in range(1, len(papers)):
        answers = {}
        for i, paper in enumerate(papers):
            other = certain(papers[(i + shift) % len(papers)].right)
            answers[paper.student] = {
                name: dict(zip(items, other[name].values(), strict=False))
                for name, items in paper.right.items()
            }
        totals += [row["total"] for row in grade(exam, tmp_path, answers).values()]
    assert sum(totals) / len(totals) <= 0.1
    assert sum(total > 0.4 for total in totals) <= 1


def test_honest_doubt_earns_more_than_false_certainty():
    for chance in (0.6, 0.8):  # what somebody knows: expected losses for saying it and for 1
        honest = chance * measure_loss({"True": chance, "False": 1 - chance}, "True")
        honest += (1 - chance) * measure_loss({"True": chance, "False": 1 - chance}, "False")
        assert honest < (1 - chance) * measure_loss({"True": 1.0, "False": 0.0}, "False")


def test_what_cannot_be_read_costs_its_own_item_and_is_said(exam, tmp_path):
    papers = read_papers(exam[1])
    one = certain(papers[0].right)
    edge = next(iter(one["edges"]))
    one["edges"][edge] = "yes"
    del one["swaps"]
    (tmp_path / f"{name_file(papers[1].student)}.json").write_text("soup")
    rows = grade(exam, tmp_path, {papers[0].student: one})
    first = rows[papers[0].student]
    assert 0.5 < first["edges"] < 1
    assert first["swaps"] == 0
    assert "no answers to swaps" in first["remark"]
    assert f"edges, {edge}: no probability" in first["remark"]
    assert "cannot be read" in rows[papers[1].student]["remark"]
    assert rows[papers[2].student]["remark"] == "no answers.json was handed in"


def test_an_exam_is_not_written_over_another(exam):
    with pytest.raises(CourseError, match="exists already"):
        make_exam(STUDENTS, exam[0])
    with pytest.raises(CourseError, match="names nobody"):
        make_exam([], exam[0].with_name("other"))
    with pytest.raises(CourseError, match="is no key of an exam"):
        grade_exam(exam[0], exam[0] / "nowhere.json")
