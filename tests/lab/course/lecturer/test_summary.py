"""What a lecturer reads first: how the class did, common mistakes, what to look at."""

from sample_batch import KEY, SQUARES, make_report

from mini_transformer.course.grading.grade import ExerciseResult, Report
from mini_transformer.course.lecturer.batch import Graded
from mini_transformer.course.lecturer.summary import (
    describe_distribution,
    describe_summary,
    summarize,
)


def test_the_summary_counts_what_happened(graded, exercises):
    summary = summarize(graded, exercises, ["index.html"], seed=3)
    assert (summary["students"], summary["of"], summary["seed"]) == (5, 5, 3)
    assert summary["distribution"] == [2, 0, 1, 0, 0, 0, 1, 0, 0, 1]
    assert summary["quartiles"] == [0.0, 0.2, 0.6]
    double, halves = summary["exercises"]
    assert (double["solved"], double["mean"], double["missing"], double["unwritten"]) == (
        1,
        1.0,
        1,
        0,
    )
    assert (halves["solved"], halves["unwritten"]) == (2, 1)
    assert summary["mistakes"] == [
        {"exercise": "double", "mistake": "squares", "students": 2, "sentence": SQUARES}
    ]
    assert summary["solved_by_nobody"] == []
    looks = [(look["student"], look["points_at_stake"]) for look in summary["looks"]]
    assert looks == [("Eve/../x", 5), ("Bob", 2)]  # a file that is lost, and one of another name
    assert summarize(graded[1:], exercises)["solved_by_nobody"] == ["double"]


def test_a_share_of_exactly_two_tenths_stands_in_the_third_bar(exercises):
    report = Report(
        KEY, [ExerciseResult("1.1", "double", 0.6, 3)]
    )  # 0.6 / 3 is a little less than 0.2 in floats
    assert summarize([Graded("Ann", {KEY: report})], exercises)["distribution"].index(1) == 2


def test_a_student_who_makes_a_mistake_in_two_checks_counts_once(exercises):
    report = make_report(1.0)
    first = report.exercises[0]
    twice = Report(
        KEY, [ExerciseResult("1.1", "double", 0.0, 3, (first.checks[1], first.checks[1]))]
    )
    assert summarize([Graded("Ann", {KEY: twice})], exercises)["mistakes"][0]["students"] == 1


def test_the_summary_reads_well(graded, exercises):
    text = describe_summary(
        summarize(
            graded[1:], exercises, ["index.html"], sandbox="bubblewrap", left_out=["02_hooks"]
        )
    )
    for line in (
        "4 students, 5 points can be had. Sandbox: bubblewrap.",
        "Half of them have between 0% and 30% of the points; the median is 10%.",
        "1.1 double                                     0     0.5    3          0        1",
        "Left out, since nobody handed them in: 02_hooks.",
        "Solved by nobody: double.",
        "    2  double: squares",
        "      2  Bob, ex01: ex01.py was taken for it",
        "  index.html",
    ):
        assert line in text.splitlines()
    assert "NOT GRADED" not in text


def test_who_is_late_or_not_in_the_roster_is_listed(exercises):
    late = Graded("Ann", {KEY: make_report(3.0)}, late=True)
    facts = {"unknown": ["Eve"], "several": ["Jane"]}
    lines = describe_summary(summarize([late], exercises, **facts)).splitlines()
    for title, name in (
        ("Handed in late", "Ann"),
        ("Not in the roster", "Eve"),
        ("Fits more than one in the roster", "Jane"),
    ):
        assert lines[lines.index(f"{title}:") + 1] == f"  {name}"


def test_what_could_not_be_graded_is_loud(graded, exercises):
    why = {KEY: "the sandbox does not start"}
    summary = summarize([Graded("Ann", failed=why), *graded[1:]], exercises)
    assert summary["quartiles"] == [0.0, 0.1, 0.3]  # of those that could be graded
    assert describe_summary(summary).splitlines()[2:4] == [
        "NOT GRADED, give the same command again:",
        "  Ann: ex01_samples.py (the sandbox does not start)",
    ]


def test_a_long_list_is_cut_in_the_text_only(exercises):
    odd = {KEY: ["odd"]}
    many = [Graded(f"s{i:02}", {KEY: make_report(3.0)}, looks=odd) for i in range(29)]
    worst = Graded("zoe", {KEY: make_report(1.0)}, looks=odd)
    summary = summarize([*many, worst], exercises)
    assert len(summary["looks"]) == 30
    assert summary["looks"][0]["student"] == "zoe"  # most is at stake
    assert "  and 18 more, in summary.txt" in describe_summary(summary).splitlines()
    assert "s28" in describe_summary(summary, most=None)


def test_students_with_the_same_shipped_functions_share_a_line(exercises):
    rows = [{"student": name, "lesson": KEY, "functions": ["double"]} for name in ("Ann", "Bob")]
    every = {"student": "Cid", "lesson": KEY, "functions": ["double", "add_halves"]}
    text = describe_summary(summarize([], exercises, shipped=[*rows, every]))
    assert "  ex01, all of it: Cid" in text.splitlines()
    assert "  ex01, double: Ann, Bob" in text.splitlines()


def test_mistakes_of_one_student_are_no_common_ones(exercises):
    twice = [Graded(name, {KEY: make_report(1.0)}) for name in ("Ann", "Bob")]
    once = Graded("Cid", {KEY: make_report(1.0, mistake="cubes")})
    text = describe_summary(summarize([*twice, once], exercises))
    assert "    2  double: squares" in text.splitlines()
    assert "cubes" not in text
    assert "    1  double: cubes" in describe_summary(summarize([once], exercises)).splitlines()


def test_an_empty_class_has_a_summary(exercises):
    assert describe_summary(summarize([], exercises)).startswith("0 students")


def test_the_longest_bar_is_the_largest_count():
    assert [line.count("#") for line in describe_distribution([1, 4, 0, 2])] == [10, 40, 0, 20]
