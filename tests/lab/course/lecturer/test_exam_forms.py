"""Forms of an exam are found under every name that a platform or a lecturer gives them."""

import json

import pytest

from mini_transformer.course.lecturer.exam_forms import find_forms
from mini_transformer.course.lecturer.resume import name_file
from mini_transformer.course.lecturer.roster import load_roster
from mini_transformer.course.material import CourseError

IVAN, ANN, ANN2 = "Petrov, Ivan", "Lee, Ann", "Lee, Ann (2)"
NUMBERS = {"a" * 16: IVAN, "b" * 16: ANN, "c" * 16: ANN2}
NUMBER = {student: number for number, student in NUMBERS.items()}


def find(folder, people=None):
    return find_forms(folder, NUMBERS, people)


def put(folder, name, given):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(given if isinstance(given, str) else json.dumps(given))


@pytest.mark.parametrize(
    "name",
    [
        "Petrov, Ivan.json",
        "Petrov, Ivan (1).json",
        "Petrov, Ivan.json.txt",
        "Ivan Petrov/answers.json",
        "Petrov_ Ivan-2d1f8a3c/answers.json",
        "petrovivan_127_9999_answers.json",
        "petrovivan_LATE_127_9999_answers-1.json",
        "Ivan Petrov_127_assignsubmission_file_/answers.json",
        "Exam_Ivan Petrov_attempt_2026-11-29-12-34-56_answers.json",
        "12-34 - Ivan Petrov - Nov 29, 2026 1155 PM - answers.json",
        "all of them/Petrov, Ivan.json",
    ],
)
def test_a_form_without_a_number_is_known_by_its_name(tmp_path, name):
    put(tmp_path, name.replace("Petrov_ Ivan-2d1f8a3c", name_file(IVAN)), {"edges": {}})
    forms, nobodys = find(tmp_path)
    assert [*forms] == [IVAN]
    assert forms[IVAN][0].late == ("LATE" in name)
    assert nobodys == []


@pytest.mark.parametrize("name", ["answers.json", "x/y/answers (3).json", "anon_x9_12_a.json"])
def test_a_form_with_a_number_is_known_whatever_its_name(tmp_path, name):
    put(tmp_path, name, {"paper": NUMBER[ANN2]})
    forms, nobodys = find(tmp_path)
    assert [*forms] == [ANN2]
    assert forms[ANN2][0].owner == ""
    assert nobodys == []


def test_a_name_and_a_number_of_two_students_is_a_neighbours_form(tmp_path):
    put(tmp_path, "Petrov, Ivan/answers.json", {"paper": NUMBER[ANN]})
    put(tmp_path, "Petrov, Ivan/Lee, Ann/answers.json", {"paper": NUMBER[ANN]})
    forms, _ = find(tmp_path)
    assert [*forms] == [IVAN]
    assert [form.owner for form in forms[IVAN]] == [ANN, ANN]


def test_the_number_tells_namesakes_apart(tmp_path):
    put(tmp_path, "Lee, Ann.json", {"paper": NUMBER[ANN2]})
    put(tmp_path, f"{name_file(ANN)}.json", {"paper": NUMBER[ANN2]})
    put(tmp_path, "leeann_5_6_answers.json", {"paper": NUMBER[ANN]})
    put(tmp_path, "leeann_7_8_answers.json", {})
    forms, nobodys = find(tmp_path)
    assert {student: one[0].owner for student, one in forms.items()} == {ANN: "", ANN2: ""}
    assert nobodys == [
        "leeann_7_8_answers.json is nobody's: no student has its name or its `paper`"
    ]


def test_a_rosters_numbers_and_addresses_are_names(tmp_path):
    roster = tmp_path / "class.csv"
    roster.write_text('Student,ID,Email\n"Petrov, Ivan",127,ip@example.org\n')
    people = {IVAN: load_roster(roster).enrolled[0]}
    folder = tmp_path / "in"
    put(folder, "anybody_127_1_answers.json", {})
    put(folder, "ip/answers.json", {})
    assert len(find(folder, people)[0][IVAN]) == 2


def test_what_is_no_form_is_passed_over_or_said(tmp_path):
    put(tmp_path, "Petrov, Ivan/model_00.json", {})
    put(tmp_path, "Petrov, Ivan/README.md", "")
    put(tmp_path, "Petrov, Ivan/.ipynb_checkpoints/answers-checkpoint.json", {})
    put(tmp_path, "Petrov, Ivan.zip", "")
    put(tmp_path, "totals.csv", "")
    (tmp_path / "Lee, Ann.json").symlink_to(tmp_path / "totals.csv")
    forms, nobodys = find(tmp_path)
    assert forms == {}
    assert nobodys == [
        "Petrov, Ivan.zip is packed: unpack it, and grade again",
        "Lee, Ann.json was left out: it is a symbolic link",
    ]


@pytest.mark.parametrize("paper", [[], {}, None, 3, "d" * 16])
def test_a_strange_number_is_none(tmp_path, paper):
    put(tmp_path, "Petrov, Ivan.json", {"paper": paper})
    put(tmp_path, "x.json", {"paper": paper})
    forms, nobodys = find(tmp_path)
    assert forms[IVAN][0].owner == ""
    assert len(nobodys) == 1


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(CourseError, match="is no folder"):
        find(tmp_path / "nowhere")
