"""What is drawn: the numbers, the scale that is white at zero, and the reader's words on the
axes.
"""

import itertools

import numpy as np
import pytest
import torch
from matplotlib import pyplot
from matplotlib.colors import to_hex, to_rgb

from mini_transformer import Config, Transformer, plots
from mini_transformer.edges import Edge, EdgeScores, list_edges

VALUES = np.array([[0.5, -0.25, 0.0], [2.0, 1.0, -1.0]])
LABELS = ["first", "second"], ["A", "B", "C"]


@pytest.fixture(autouse=True)
def close_figures():
    yield
    pyplot.close("all")


def shown(ax) -> np.ndarray:
    (image,) = ax.get_images()
    return np.asarray(image.get_array())


DRAWINGS = {
    "attention": lambda ax: plots.plot_attention(np.eye(3), LABELS[1], ax),
    "heads": lambda ax: plots.plot_heads(VALUES, ax),
    "patching": lambda ax: plots.plot_patching(VALUES, *LABELS, ax),
    "contributions": lambda ax: plots.plot_contributions({"embed": 1.0, "a0.h0": -2.0}, ax),
    "curves": lambda ax: plots.plot_curves(
        [0, 1, 2], {"loss": [3.0, 1.0, 0.5]}, ax, moment=(1, "here")
    ),
}


@pytest.mark.parametrize("draw", DRAWINGS.values(), ids=DRAWINGS.keys())
def test_a_plot_draws_on_the_axes_it_is_given_or_makes_its_own(draw):
    _, given = pyplot.subplots()
    assert draw(given) is given
    assert draw(None) is not given
    assert given.get_xlabel()
    pyplot.gcf().canvas.draw()


@pytest.mark.parametrize("name", ["heads", "patching", "attention"])
def test_the_colour_scale_is_white_at_zero_and_symmetric(name):
    ax = DRAWINGS[name](None)
    (image,) = ax.get_images()
    low, high = image.get_clim()
    assert low == -high < 0
    assert image.cmap(image.norm(0.0))[:3] == pytest.approx((1, 1, 1), abs=0.02)


def test_a_patching_map_shows_its_numbers_with_the_first_layer_at_the_bottom():
    ax = plots.plot_patching(VALUES, *LABELS)
    assert shown(ax).tolist() == VALUES.tolist()
    assert [label.get_text() for label in ax.get_yticklabels()] == LABELS[0]
    bottom, top = ax.get_ylim()
    assert bottom < top  # row 0 is drawn lowest


def test_heads_carry_their_numbers():
    ax = plots.plot_heads(VALUES)
    assert [text.get_text() for text in ax.texts] == [
        "0.50",
        "-0.25",
        "0.00",
        "2.00",
        "1.00",
        "-1.00",
    ]


def test_attention_has_queries_as_rows():
    pattern = torch.tensor([[1.0, 0.0, 0.0], [0.9, 0.1, 0.0], [0.2, 0.3, 0.5]], requires_grad=True)
    ax = plots.plot_attention(pattern, LABELS[1], title="a head")
    assert shown(ax) == pytest.approx(pattern.detach().numpy())
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_title()) == ("looks at", "token", "a head")


def test_contributions_are_bars_of_their_mean_in_the_given_order():
    ax = plots.plot_contributions(
        {"embed": torch.tensor([1.0, 3.0], requires_grad=True), "a0.h0": -1.5, "m0": 0}
    )
    bars = ax.containers[0].patches
    assert [bar.get_width() for bar in bars] == [2.0, -1.5, 0.0]
    assert [bar.get_facecolor()[:3] for bar in bars[:2]] == [
        to_rgb(plots.BLUE),
        to_rgb(plots.ORANGE),
    ]
    bottom, top = ax.get_ylim()
    assert bottom > top  # the first component is drawn highest


def test_curves_mark_the_moment():
    ax = plots.plot_curves(
        [0, 50, 100], {"loss": [3.0, 2.0, 0.1], "accuracy": [0.0, 0.1, 1.0]}, moment=(50, "formed")
    )
    loss, accuracy, moment = ax.get_lines()
    assert list(loss.get_ydata()) == [3.0, 2.0, 0.1]
    assert accuracy.get_label() == "accuracy"
    assert list(moment.get_xdata()) == [50, 50]
    assert ax.texts[0].get_text() == "formed"


NAN = float("nan")


def draw(ax):
    ax.figure.canvas.draw()
    return ax


@pytest.mark.parametrize("count", [1, 5, 6, 7, 23])
def test_every_curve_is_drawn_named_and_distinct(count):
    curves = {f"seed {i}": [0, i] for i in range(count)}
    ax = draw(plots.plot_curves([0, 1], curves))
    looks = {(line.get_color(), line.get_linestyle()) for line in ax.get_lines()}
    assert len(ax.get_lines()) == count
    assert len(looks) == min(count, len(plots.LINES) * len(plots.STYLES))
    assert [text.get_text() for text in ax.get_legend().get_texts()] == list(curves)


def test_names_with_underscores_and_dollars_stand_in_the_legend():
    ax = draw(plots.plot_curves([0, 1], {"_mine": [0, 1], "$a_$": [1, 2]}))
    assert [text.get_text().strip() for text in ax.get_legend().get_texts()] == ["_mine", "$a_$"]


def test_a_value_between_two_that_are_missing_is_a_dot():
    ax = plots.plot_curves([0, 1, 2, 3, 4], {"a": [NAN, 1, NAN, 2, 3]})
    (line,) = ax.get_lines()
    assert (line.get_marker(), line.get_markevery()) == ("o", [1])
    assert plots.plot_curves([5], {"a": [1.0]}).get_lines()[0].get_markevery() == [0]


@pytest.mark.parametrize("missing", [NAN, float("inf")])
def test_one_number_that_is_not_finite_does_not_blank_the_others(missing):
    values = np.array([[missing, 1.0], [-2.0, 0.5]])
    for ax in (plots.plot_heads(values), plots.plot_patching(values, ["a", "b"], ["c", "d"])):
        assert draw(ax).get_images()[0].get_clim() == (-2.0, 2.0)


def test_a_square_without_a_number_is_grey_and_says_so():
    ax = draw(plots.plot_heads(np.array([[NAN, 1.0]])))
    (image,) = ax.get_images()
    shade = image.cmap(image.norm(np.ma.masked_invalid([NAN])))[0]
    assert np.ptp(shade[:3]) < 0.01
    assert shade[0] < 0.9
    assert ax.texts[0].get_text() == "nan"


def test_bars_show_small_and_missing_numbers():
    ax = draw(
        plots.plot_contributions({"a": 3e-5, "b": NAN, "c": torch.tensor([1.0, 2.0]).bfloat16()})
    )
    assert [text.get_text() for text in ax.texts] == ["3e-05", "nan", "1.50"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b", "c"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.int64, torch.bool])
def test_tensors_of_every_dtype_are_drawn(dtype):
    draw(plots.plot_heads(torch.tensor([[0, 1], [1, 0]], dtype=dtype)))


def test_long_names_do_not_lie_on_each_other():
    names = ["a long token", "another long token", "$x_$"]
    ax = draw(plots.plot_attention(np.eye(3), names))
    boxes = [label.get_window_extent() for label in ax.get_xticklabels()]
    assert [label.get_text() for label in ax.get_xticklabels()] == names
    assert not any(left.overlaps(right) for left, right in itertools.pairwise(boxes))
    left = ax.get_yticklabels()[1].get_window_extent().x0
    top = ax.figure.bbox.height
    assert left >= 0
    assert boxes[1].y0 >= 0
    assert boxes[1].height < top


EMPTY = {
    "no curve": lambda: plots.plot_curves([0, 1], {}),
    "a curve of another length": lambda: plots.plot_curves([0, 1], {"a": [1.0]}),
    "no bar": lambda: plots.plot_contributions({}),
    "no head": lambda: plots.plot_heads(np.zeros((0, 2))),
}


@pytest.mark.parametrize("make", EMPTY.values(), ids=EMPTY)
def test_nothing_to_draw_is_said_in_one_sentence(make):
    with pytest.raises(ValueError, match=r"at least one|one value per step"):
        make()


MODEL = Transformer(Config(d_vocab=5, n_ctx=4, d_model=8, n_layers=2, n_heads=2, d_mlp=8), seed=0)


def list_lines(ax) -> list[tuple[str, float]]:
    return [(to_hex(line.get_edgecolor()), line.get_linewidth()) for line in ax.patches]


def test_a_circuit_has_a_line_per_edge_and_pale_nodes_that_are_not_in_it():
    edges = ["input->a1.h1<v>", "a1.h1->logits"]
    ax = plots.plot_circuit(MODEL, edges, roles={"a1.h1": "copies"})
    assert list_lines(ax) == [(plots.BLUE, 1.8), (plots.GREEN, 1.8)]
    assert {"v", "copies"} <= {text.get_text() for text in ax.texts}
    boxes = {text.get_text(): text.get_bbox_patch() for text in ax.texts if text.get_bbox_patch()}
    pale = {name for name, box in boxes.items() if to_hex(box.get_edgecolor()) == plots.NOTHING}
    assert pale == {"a0.h0", "a0.h1", "a1.h0", "m0", "m1"}


def test_scores_are_widths_dashed_below_zero_and_the_truth_lies_behind():
    scores = EdgeScores(MODEL, torch.zeros(len(list_edges(MODEL)), 3))
    scores["input->m0"][1] = 4.0
    scores["m0->a1.h0<q>"][:] = torch.tensor([0.0, 1.0, -3.0])
    scores["m1->logits"][0] = 0.01  # too little to be drawn
    ax = plots.plot_circuit(MODEL, scores, truth=["m1->logits"])
    assert list_lines(ax) == [(plots.GREEN, 9.0), (plots.GREEN, 3.5), (plots.ORANGE, 2.0)]
    assert [line.get_linestyle() for line in ax.patches[1:]] == ["-", "--"]


def test_every_edge_starts_at_its_writer_and_ends_before_its_reader():
    ax = plots.plot_circuit(MODEL, list_edges(MODEL))
    places = plots.place_nodes(MODEL)
    for name, line in zip(list_edges(MODEL), ax.patches, strict=True):
        edge = Edge.parse(name)
        start, end = line.get_path().vertices[[0, -1]]
        assert start.tolist() == list(places[str(edge.writer)])
        x, y = places[str(edge.reader)]
        assert x - 0.5 < end[0] < x
        assert abs(end[1] - y) < 0.2


def test_an_edge_that_the_model_does_not_have_is_named():
    for given in ({"edges": ["a1.h0->a0.h1<q>"]}, {"edges": [], "truth": ["a1.h0->a0.h1<q>"]}):
        with pytest.raises(KeyError, match=r"the model has no edge 'a1.h0->a0.h1<q>'"):
            plots.plot_circuit(MODEL, **given)
