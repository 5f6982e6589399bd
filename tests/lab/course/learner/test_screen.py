from pathlib import Path

from mini_transformer.course.learner.screen import show_map


def row_of(number, points=0.0, solved="", **facts):
    row = {
        "exercise": number,
        "name": f"e{number}",
        "lesson": f"0{number[0]}_x",
        "points": points,
        "of": 3,
    }
    return row | {"minutes": 20, "hints": 0, "solved": solved, "revealed": ""} | facts


MAP = [
    row_of("1.1", 3.0, "2026-01-01"),
    row_of("2.1", 1.5, hints=2, revealed="2026-01-02"),
    row_of("2.2"),
    row_of("3.1"),
]
TITLES = {"01_x": "One", "02_x": "Two", "03_x": "Three"}


def test_the_map_adds_up(capsys):
    show_map(MAP, TITLES, Path("here"), set())
    assert (
        "1 of 4 exercises, 4.5 of 12 points, 60 minutes to go, in here" in capsys.readouterr().out
    )


def test_the_map_opens_the_lesson_at_hand_and_points_at_what_is_next(capsys):
    show_map(MAP, TITLES, Path("here"), set())
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:5]] == ["01", "02", "→", "·", "03"]
    assert lines[2].endswith("20 minutes, 2 hints, solution revealed")
    assert "✓" in lines[0]
    assert lines[0].endswith("done")


def test_the_map_opens_a_lesson_that_was_asked_for(capsys):
    show_map(MAP, TITLES, Path("here"), {"03_x"})
    assert "3.1 e3.1" in capsys.readouterr().out
