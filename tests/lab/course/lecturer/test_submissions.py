import io
import json
import os
import zipfile

import pytest
from sample_batch import ANSWER, put_folder

from mini_transformer.course.lecturer.submissions import find_students, read_submission

FUNCTIONS = {"01_samples": ["double", "add_halves"], "02_hooks": ["cache"]}
DOUBLE, CACHE = b"def double(x):\n    return 2 * x\n", b"def cache():\n    return 1\n"


def read(folder, functions=FUNCTIONS):
    """Every submission in a folder, by student."""
    students, _ = find_students(folder, functions)
    return {handed.student: read_submission(handed, functions) for handed in students}


def hand_in(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return read(folder)


def zip_up(files):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


NAMES = {
    "jane/ex01_samples.py": "jane",
    "jane/deep/inside/ex01_samples.py": "jane",
    "jane_ex01_samples.py": "jane",
    "ex01_samples_jane.py": "jane",
    "jane-ex01.py": "jane",
    "Jane Doe - ex01_samples (2).py": "Jane Doe",
    "jane.doe_ex01_samples.py": "jane.doe",
    "doejane_12345_678_ex01_samples.py": "doejane_12345",
    "doejane_12345_678_ex01_samples-1.py": "doejane_12345",
    "doejane_LATE_12345_678_ex01_samples-2.py": "doejane_12345",
    "Jane Doe_12345_assignsubmission_file_/ex01_samples.py": "Jane Doe_12345",
    "Jane Doe_12345_assignsubmission_file/ex01_samples.py": "Jane Doe_12345",
    "Jane Doe_12345_assignsubmission_file_ex01_samples.py": "Jane Doe_12345",
    "submission_307/ex01_samples.py.txt": "submission_307",
    "jane/EX1.PY": "jane",
    "jane/Exercise 1 - final.py": "jane",
}


@pytest.mark.parametrize(("name", "student"), NAMES.items(), ids=range(len(NAMES)))
def test_the_student_and_the_lesson_are_read_from_every_kind_of_name(tmp_path, name, student):
    found = hand_in(tmp_path, {name: DOUBLE})
    assert list(found) == [student]
    assert found[student].sources == {"01_samples": DOUBLE}
    assert found[student].missing == ["02_hooks"]


def test_a_file_without_a_students_name_belongs_to_the_folder(tmp_path):
    assert list(hand_in(tmp_path / "jane", {"ex01_samples.py": DOUBLE})) == ["jane"]


def test_all_that_a_student_handed_in_is_put_together(tmp_path):
    files = {
        "jane/ex01_samples.py": DOUBLE,
        "jane_ex02_hooks.py": CACHE,
        "joe.zip": zip_up({"ex02_hooks.py": CACHE}),
    }
    found = hand_in(tmp_path, files)
    assert found["jane"].sources == {"01_samples": DOUBLE, "02_hooks": CACHE}
    assert found["joe"].sources == {"02_hooks": CACHE}


def test_names_that_only_look_alike_are_two_students_and_that_is_said(tmp_path):
    twice = ("Zo\u0065\u0308/ex01_samples.py", "Zo\u00eb/ex01_samples.py")  # spelled in two ways
    found = hand_in(tmp_path, dict(zip(twice, (DOUBLE, DOUBLE + b"# mine\n"), strict=True)))
    assert len(found) == len({one.sources["01_samples"] for one in found.values()}) == 2
    doubts = [doubt for one in found.values() for doubt in one.looks.get("01_samples", [])]
    assert doubts == ["another student's name looks like Zo\u00eb"]


# Exports as platforms write them: who handed in what, who was late, which file counts.
STUB = b"def double(\n    x,\n):\n    raise NotImplementedError\n"
OWN_TEST = b"from ex01_samples import double\n\ndef test_double():\n    assert double(1) == 2\n"
EXPORTS = {
    "canvas, anonymous": (
        {"anon_x9K2f_2001_ex01_samples.py": DOUBLE, "LATE_anon_Qa1Zz_2003_ex01_samples.py": CACHE},
        {"anon_x9K2f": DOUBLE},
    ),
    "canvas, groups": (
        {
            "team_alpha3_55_2009_ex01_samples.py": DOUBLE,
            "team_alpha3_55_2010_ex02_hooks.py": CACHE,
        },
        {"team_alpha3_55": DOUBLE},
    ),
    "blackboard, two attempts": (
        {
            "Lab 1_jdoe_attempt_2024-11-29-12-34-56_ex01_samples.py": DOUBLE,
            "Lab 1_jdoe_attempt_2024-11-28-12-34-56_ex01_samples.py": STUB + b"# earlier\n",
            "Lab 1_jdoe_attempt_2024-11-28-12-34-56.txt": b"Name: Jane",
        },
        {"jdoe": DOUBLE},  # and a file that Blackboard adds is hers, too
    ),
    "brightspace, two attempts": (
        {
            "12-678 - Jane Doe - Dec 1, 2024 105 AM - ex01_samples.py": DOUBLE,
            "12-678 - Jane Doe - Nov 30, 2024 1155 PM - ex01_samples.py": DOUBLE + b"# old\n",
        },
        {"Jane Doe": DOUBLE},
    ),
    "google classroom, nobody's names": (
        {"ex01_samples.py": DOUBLE, "ex01_samples (1).py": STUB, "Ann - ex01_samples.py": CACHE},
        {"ex01_samples": DOUBLE, "ex01_samples (1)": STUB},
    ),
    "gradescope's container": (
        {"work/ex01_samples.py": DOUBLE, "work/helpers.py": b"x = 1\n"},
        {"work": DOUBLE},
    ),
    "an own test beside it": (
        {"ann/ex01_samples.py": DOUBLE, "ann/test_ex01_samples.py": OWN_TEST},
        {"ann": DOUBLE},
    ),
    "an old version beside it": (
        {"ann/ex01_samples.py": DOUBLE, "ann/ex01_samples_old.py": DOUBLE + b"# old\n"},
        {"ann": DOUBLE},
    ),
    "a stub beside what is solved": (
        {"ann/ex01_samples.py": STUB, "ann/ex01_final.py": DOUBLE},
        {"ann": DOUBLE},
    ),
    "the whole clone, solutions and all": (
        {"eve/solutions/ex01_samples.py": DOUBLE, "eve/exercises/ex01_samples.py": STUB},
        {"eve": STUB},
    ),
    "joiners and wide spaces in names": (
        {"\u0639\u0644\u06cc\u200c\u0631/ex01.py": DOUBLE, "\u5c71\u3000\u592a/ex01.py": DOUBLE},
        {"\u0639\u0644\u06cc\u200c\u0631": DOUBLE, "\u5c71\u3000\u592a": DOUBLE},
    ),
}


@pytest.mark.parametrize("export", EXPORTS)
def test_exports_of_platforms_are_read_as_they_are_written(tmp_path, export):
    files, expected = EXPORTS[export]
    found = hand_in(tmp_path, files)
    sources = {student: one.sources.get("01_samples") for student, one in found.items()}
    assert {student: source for student, source in sources.items() if source} == expected


def test_a_zip_of_the_whole_clone_is_not_graded_by_its_solutions(tmp_path):
    packed = {
        "clone/solutions/ex01_samples.py": DOUBLE,
        "clone/exercises/ex01_samples.py": STUB,
        "clone/exercises/.ipynb_checkpoints/ex01_samples-checkpoint.py": DOUBLE,
    }
    found = hand_in(tmp_path, {"eve.zip": zip_up(packed)})["eve"]
    assert found.sources["01_samples"] == STUB
    assert any("the course's own solutions" in remark for remark in found.remarks)


def test_what_to_look_at_is_said_for_its_lesson_and_a_notebook_is_no_doubt(tmp_path):
    files = {"ann/ex01.py": DOUBLE, "ann/ex01_samples_2.py": DOUBLE + b"# b\n"}
    found = hand_in(tmp_path, files)["ann"]
    why = "ex01_samples_2.py was graded for ex01_samples.py, and not ex01.py"
    assert found.looks == {"01_samples": [why]}


def test_late_submissions_are_remarked(tmp_path):
    found = hand_in(tmp_path, {"doejane_LATE_1_2_ex01_samples.py": DOUBLE})
    assert found["doejane_1"].remarks == ["handed in late, says the file's name"]
    again = hand_in(tmp_path, {"roejim_1_2_ex01_samples.py": DOUBLE})
    assert again["roejim_1"].remarks == []


def test_the_latest_of_several_copies_counts_and_the_others_are_named(tmp_path):
    old = DOUBLE.replace(b"2", b"3")
    names = [
        "doejane_1_4_ex01_samples.py",
        "doejane_1_5_ex01_samples-1.py",
        "doejane_1_6_ex01_samples-2.py",
    ]
    found = hand_in(tmp_path, dict(zip(names, (old, old, DOUBLE), strict=True)))["doejane_1"]
    assert found.sources == {"01_samples": DOUBLE}
    assert (
        "ex01_samples-2.py was graded for ex01_samples.py, and not ex01_samples-1.py, "
        "ex01_samples.py" in found.remarks
    )
    assert found.looks == {}  # that is how Canvas names what is handed in again
    other = {"doejane_1_7_ex01_samples_final.py": DOUBLE + b"# c\n"}
    assert len(hand_in(tmp_path, other)["doejane_1"].looks["01_samples"]) == 1


def test_the_tenth_download_is_later_than_the_second(tmp_path):
    old = DOUBLE.replace(b"2", b"3")
    names = ["ex01_samples (10).py", "ex01_samples (2).py", "ex01_samples.py"]
    found = hand_in(
        tmp_path,
        {f"jane/{name}": text for name, text in zip(names, (DOUBLE, old, old), strict=True)},
    )
    assert found["jane"].sources["01_samples"] == DOUBLE


def test_equal_copies_need_no_remark(tmp_path):
    found = hand_in(tmp_path, {"jane/ex01_samples.py": DOUBLE, "jane/old/ex01_samples.py": DOUBLE})
    assert found["jane"].remarks == []


def test_the_right_name_comes_before_the_right_number_and_that_before_the_right_functions(tmp_path):
    files = {
        "jane/a.py": DOUBLE + b"# a\n",
        "jane/ex01.py": DOUBLE + b"# b\n",
        "jane/ex01_samples.py": DOUBLE,
    }
    found = hand_in(tmp_path, files)["jane"]
    assert found.sources["01_samples"] == DOUBLE
    assert found.remarks == ["ex01_samples.py was graded for ex01_samples.py, and not ex01.py"]


def test_a_file_of_any_name_is_found_by_the_functions_that_it_defines(tmp_path):
    found = hand_in(tmp_path, {"jane/homework.py": DOUBLE + CACHE, "jane/other.py": b"x = 1\n"})[
        "jane"
    ]
    assert found.sources == dict.fromkeys(FUNCTIONS, DOUBLE + CACHE)
    assert "homework.py was taken for ex01_samples.py" in found.remarks
    assert found.looks["01_samples"] == ["homework.py was taken for ex01_samples.py"]


def test_an_untouched_stub_beside_answers_of_another_name_is_to_be_looked_at(tmp_path):
    files = {"jane/ex01_samples.py": STUB, "jane/answers.py": DOUBLE}
    found = hand_in(tmp_path, files)["jane"]
    assert found.sources["01_samples"] == STUB
    doubt = "ex01_samples.py was graded for ex01_samples.py, and not answers.py"
    assert found.looks == {"01_samples": [doubt]}
    assert found.forms["01_samples"]["double"] == ()  # a stub is like no other


def test_a_file_that_names_its_lesson_needs_no_remark(tmp_path):
    found = hand_in(tmp_path, {"doejane_1_2_ex01_samples-1.py": DOUBLE})["doejane_1"]
    assert found.remarks == []


def test_a_file_named_for_the_wrong_lesson_is_found_by_its_functions(tmp_path):
    assert hand_in(tmp_path, {"jane/ex01.py": CACHE})["jane"].sources == {"02_hooks": CACHE}


def test_copies_that_minilab_reset_made_do_not_count(tmp_path):
    found = hand_in(
        tmp_path, {"jane/ex01_samples.before-reset-1.py": DOUBLE, "jane/ex02_hooks.py": CACHE}
    )["jane"]
    assert found.missing == ["01_samples"]


def test_a_whole_workspace_is_read_by_its_exercises_not_by_its_lessons(tmp_path):
    lesson = make_notebook(DOUBLE.decode() + "# from the lesson")
    files = {
        "w/exercises/ex01_samples.py": DOUBLE,
        "w/lessons/01_samples.ipynb": lesson,
        "w/progress.toml": b"",
    }
    assert hand_in(tmp_path, files)["w"].sources == {"01_samples": DOUBLE}


def make_notebook(*cells):
    written = [{"cell_type": "markdown", "source": ["def not_code"]}]
    written += [{"cell_type": "code", "source": cell.splitlines(keepends=True)} for cell in cells]
    return json.dumps({"cells": written, "metadata": {}}).encode()


def test_a_notebook_is_graded_by_its_code_cells(tmp_path):
    cells = [
        "%matplotlib inline\n!pip install torch",
        "%%bash\nls",
        "%%time\n" + DOUBLE.decode(),
        "x = 7 %2",
    ]
    found = hand_in(tmp_path, {"jane/ex01_samples.ipynb": make_notebook(*cells)})["jane"]
    names: dict = {}
    exec(found.sources["01_samples"], names)
    assert names["double"](4) == 8
    assert names["x"] == 1
    assert "not_code" not in found.sources["01_samples"].decode()
    assert "ex01_samples.ipynb is a notebook; its code cells were graded" in found.remarks


SOURCES = {
    "windows": (b"def double(x):\r\n    return 2 * x\r\n", DOUBLE),
    "old mac": (DOUBLE.replace(b"\n", b"\r"), DOUBLE),
    "bom": (b"\xef\xbb\xbf" + DOUBLE, DOUBLE),
    "utf-16": (DOUBLE.decode().encode("utf-16"), DOUBLE),
    "latin-1": (b"# caf\xe9\n" + DOUBLE, "# café\n".encode() + DOUBLE),
    "cookie": (
        b"# -*- coding: latin-1 -*-\nx = '\xe9'\n" + DOUBLE,
        "# -*- coding: utf-8 -*-\nx = 'é'\n".encode() + DOUBLE,
    ),
}


@pytest.mark.parametrize(("handed", "source"), SOURCES.values(), ids=SOURCES)
def test_every_encoding_and_line_end_becomes_plain_utf8(tmp_path, handed, source):
    assert (
        hand_in(tmp_path, {"jane/ex01_samples.py": handed})["jane"].sources["01_samples"] == source
    )


BROKEN = {
    "empty": (b" \n", "is empty"),
    "binary": (b"\x7fELF\0\0", "is not a text file"),
    "large": (b"x = 1\n" * 200_000, "has 1200000 bytes of source, at most 1048576 are read"),
}


@pytest.mark.parametrize(("content", "problem"), BROKEN.values(), ids=BROKEN)
def test_a_file_that_holds_no_source_is_a_problem_of_its_lesson(tmp_path, content, problem):
    found = hand_in(tmp_path, {"jane/ex01_samples.py": content, "jane/ex02_hooks.py": CACHE})[
        "jane"
    ]
    assert found.problems == {"01_samples": f"ex01_samples.py {problem}"}
    assert found.sources == {"02_hooks": CACHE}
    assert found.missing == []


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"cells": 3}', '{"cells": [{}]}', "[" * 100_000, '{"cells": []}']
)
def test_a_broken_notebook_is_a_problem(tmp_path, text):
    found = hand_in(tmp_path, {"jane/ex01_samples.ipynb": text.encode()})["jane"]
    assert found.problems["01_samples"].startswith("ex01_samples.ipynb is ")


def test_links_and_pipes_are_not_followed(tmp_path):
    (tmp_path / "solutions").mkdir()
    (tmp_path / "solutions" / "ex01_samples.py").write_bytes(DOUBLE)
    handed = tmp_path / "handed"
    (handed / "jane").mkdir(parents=True)
    (handed / "jane" / "ex01_samples.py").symlink_to(tmp_path / "solutions" / "ex01_samples.py")
    (handed / "jane" / "more").symlink_to(tmp_path / "solutions", target_is_directory=True)
    (handed / "joe").symlink_to(tmp_path / "solutions", target_is_directory=True)
    (handed / "ann").mkdir()
    os.mkfifo(handed / "ann" / "ex01_samples.py")
    found = read(handed)
    assert [one.sources for one in found.values()] == [{}, {}, {}]
    assert found["jane"].remarks == [
        "more was left out: it is a symbolic link",
        "ex01_samples.py was left out: it is a symbolic link",
    ]
    assert found["joe"].remarks == ["joe was left out: it is a symbolic link"]
    assert found["ann"].remarks == ["ex01_samples.py was left out: it is not a file"]


def test_an_unreadable_or_empty_folder_is_a_student_without_answers(tmp_path):
    (tmp_path / "jane").mkdir()
    (tmp_path / "joe").mkdir()
    (tmp_path / "joe" / "notes.pdf").write_bytes(b"%PDF")
    found = read(tmp_path)
    assert found["jane"].problems["01_samples"] == "no ex01_samples.py was handed in"
    assert (
        found["joe"].problems["01_samples"]
        == "no ex01_samples.py was handed in; there were notes.pdf"
    )


def test_what_belongs_to_nobody_is_listed_and_the_results_folder_is_no_student(tmp_path):
    hand_in(
        tmp_path,
        {
            "jane/ex01_samples.py": DOUBLE,
            "index.html": b"",
            "grades/x.csv": b"",
            "__MACOSX/a.py": b"",
            ".DS_Store": b"",
            "..hidden/ex01_samples.py": DOUBLE,
        },
    )
    students, nobodys = find_students(
        tmp_path, FUNCTIONS, leave_out=tmp_path / "x" / ".." / "grades"
    )
    assert [handed.student for handed in students] == ["jane"]
    assert nobodys == ["..hidden", "index.html"]  # nothing vanishes unsaid but what systems add


def test_hostile_names_cannot_break_a_line_or_a_terminal(tmp_path):
    found = hand_in(tmp_path, {"\x1b[31mjane\nroot/a\nb\x1b.pdf": b""})
    (student,) = found
    assert student == "?[31mjane root"
    assert all(text.isprintable() for text in found[student].problems.values())


ONE_LESSON = {"01_samples": ["double", "add_halves"]}


def test_names_that_cannot_be_shown_are_different_students(tmp_path):
    for name in (b"jos\xe9", b"jos\xe8", b"a\x01", b"a\x02", b"a?"):
        put_folder(tmp_path, name)
    names = [handed.student for handed in find_students(tmp_path, ONE_LESSON)[0]]
    assert len(set(names)) == 5
    assert {"josé", "josè"} <= set(names)
    assert all(name.isprintable() for name in names)


def test_links_that_lead_nowhere_or_in_circles_are_left_out(tmp_path):
    put_folder(tmp_path, "ann")
    for name, target in {
        "loop": "loop",
        "long": "x" * 300,
        "ex01.py": "nowhere",
        "self": ".",
    }.items():
        (tmp_path / name).symlink_to(target)
        (tmp_path / "ann" / name).symlink_to(target)
    students = {
        handed.student: read_submission(handed, ONE_LESSON)
        for handed in find_students(tmp_path, ONE_LESSON)[0]
    }
    assert students["ann"].sources == {"01_samples": ANSWER}
    assert len(students["ann"].remarks) == 4
