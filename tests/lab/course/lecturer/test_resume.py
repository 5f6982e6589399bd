"""What is kept in OUT: files that two students never share, and the course's seed."""

import pytest
from sample_course import write_course

from mini_transformer.course.lecturer.resume import find_settings, hash_graders, name_file
from mini_transformer.course.material import write_file


@pytest.mark.parametrize(
    "name",
    ["\u738b" * 85, "x" * 255, "\u00e9" * 127, "\U0001f600" * 63, "-rf", "con", "a\nb", " ", "%s"],
)
def test_every_name_that_a_folder_may_have_leaves_room_for_an_ending(tmp_path, name):
    for ending in (".json", ".txt"):
        path = tmp_path / f"{name_file(name)}{ending}"
        write_file(path, "x")
        assert path.read_text() == "x"
    assert name_file(name).lower() != "con"


def test_names_that_begin_alike_share_no_file():
    assert name_file("\u738b" * 84 + "a") != name_file("\u738b" * 84 + "b")


def test_the_courses_seed_and_variants_are_kept(tmp_path):
    seed, by_student = find_settings(tmp_path / "out")
    assert seed >= 2**40
    assert by_student is False
    assert find_settings(tmp_path / "out") == (seed, False)
    assert find_settings(tmp_path / "elsewhere")[0] != seed
    assert find_settings(tmp_path / "out", 5, True) == (5, True)
    assert find_settings(tmp_path / "out") == (5, True)
    assert find_settings(tmp_path / "out", by_student=False) == (5, False)


@pytest.mark.parametrize("name", ["jane", "Jane Doe_12", "zoë", "a.b"])
def test_plain_names_name_their_files(name):
    assert name_file(name) == name


def test_names_that_differ_never_share_a_file():
    names = ["../x", "..\\x", "/x", "x/", "x:", "x?", ".", "..", "", " ", 200 * "x", 201 * "x", "x"]
    files = [name_file(name) for name in names]
    assert len(set(files)) == len(names)
    assert all("/" not in file and not file.startswith(".") and len(file) < 100 for file in files)


def test_a_verdict_is_judged_anew_when_its_grader_or_its_mutants_change(tmp_path):
    material = write_course(tmp_path)
    mutants = tmp_path / "mutants" / "ex01_samples.py"
    hashes = [hash_graders.__wrapped__(material, "01_samples")]
    mutants.parent.mkdir()
    for path in (mutants, material.graders / "test_ex01_samples.py"):
        path.write_text("MUTANTS = []\n")
        hashes.append(hash_graders.__wrapped__(material, "01_samples"))
    assert len(set(hashes)) == 3
