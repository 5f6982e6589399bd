"""Does faithfulness follow truth: a rank correlation per ablation, and a figure."""

from mini_transformer.board.families import find_family
from mini_transformer.board.report.faithfulness import draw_faithfulness, make_section
from mini_transformer.board.report.summary import Summary, summarize


def make_summary(sign: int) -> Summary:
    """CPR goes with the truth, or against it; CMD is the rest of CPR."""
    rows = [
        {
            "family": "circuit",
            "problem": "forge/zero",
            "entrant": entrant,
            "number": number,
            "ok": True,
            "error": None,
            "level": "edges",
            "fell": None,
            "forward": 0,
            "backward": 0,
            "seconds": 0,
            "metrics": {
                "auprc_best": i / 10,
                "cpr": 0.5 + sign * i / 20,
                "cmd": 0.5 - sign * i / 20,
            },
        }
        for i, entrant in enumerate(list(find_family("circuit").entrants)[:6])
        for number in range(3)
    ]
    return summarize(rows)


def test_the_correlation_is_that_of_the_ranks_and_low_cmd_is_good() -> None:
    for sign in (1, -1):
        section = make_section(make_summary(sign))
        assert section is not None
        assert [row[1][: len(f"{sign}.00")] for row in section.rows[:2]] == [f"{sign}.00"] * 2
        assert section.rows[2][1] == ""  # nothing is known with the mean


def test_each_method_on_a_model_is_a_point() -> None:
    axes = draw_faithfulness(make_summary(1)).axes
    assert sum(len(points.get_offsets()) for points in axes[0].collections) == 18
    assert not axes[1].collections
    assert make_section(summarize([])) is None
