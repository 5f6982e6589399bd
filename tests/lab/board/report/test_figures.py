"""The pictures of the page, read back from their axes."""

from sample_board import make_row, make_summary

from mini_transformer.board.report.figures import (
    WIDEST,
    draw_costs,
    draw_heat_map,
    draw_means,
    write_svg,
)
from mini_transformer.board.report.summary import Summary, summarize


def test_the_heat_map_shows_each_headline_each_failure_and_each_fall() -> None:
    summary = make_summary()
    ax = draw_heat_map(summary, "circuit").axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == [
        "good",
        "[bold]mine[/bold]",
        "of nodes",
        "shy",
        "empty",
        "oracle",
        "random",
    ]
    shown = {round(text.get_position()[1]): text.get_text() for text in ax.texts}
    assert [shown[i] for i in range(7)] == ["0.90", "x", "1.00", "1.00", "", "1.00", "0.50"]
    assert ax.images[0].get_array().mask.sum() == 1
    dots = draw_heat_map(summary, "probe").axes[0].lines
    assert len(dots) == 1
    assert round(dots[0].get_ydata()[0]) == 0  # the first row: fooled


def test_the_costs_of_methods_are_drawn_and_of_nothing_else() -> None:
    summary = make_summary()
    figure = draw_costs(summary, "circuit")
    labels = [line.get_label() for line in figure.axes[0].lines]
    assert labels == ["good", "[bold]mine[/bold]", "shy", "of nodes"]
    assert figure.axes[1].lines[0].get_xdata()[0] == 6
    assert len(draw_costs(summary, "probe").axes) == 1  # no model runs there
    assert write_svg(figure).startswith("<svg")


def test_problems_stand_down_where_they_are_too_many_for_the_page() -> None:
    def draw(n: int) -> tuple[int, int]:
        rows = [make_row(("circuit", f"p{i}"), "mine", 0) for i in range(n)]
        return draw_heat_map(summarize(rows), "circuit").axes[0].images[0].get_array().shape

    assert draw(WIDEST) == (1, WIDEST)
    assert draw(WIDEST + 1) == (WIDEST + 1, 1)


def test_the_same_figure_is_written_the_same_and_without_a_date() -> None:
    one, other = (write_svg(draw_costs(make_summary(), "circuit")) for _ in range(2))
    assert one == other
    assert "<dc:date>" not in one


def test_where_no_method_has_a_score_the_picture_says_so() -> None:
    figure = draw_costs(Summary([], [], []), "circuit")
    assert [text.get_text() for text in figure.axes[0].texts] == ["no method has a score here"]


def test_means_stand_with_their_intervals_the_best_on_top_and_references_in_grey() -> None:
    ax = draw_means(make_summary(), "circuit").axes[0]
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == ["good", "[bold]mine[/bold]", "of nodes", "shy", "oracle", "random"]
    ends = ax.lines[0].get_xdata()
    assert [round(float(end), 6) for end in ends] == [0.8, 1.0]
    assert ax.lines[-1].get_color() == "#888888" != ax.lines[0].get_color()
