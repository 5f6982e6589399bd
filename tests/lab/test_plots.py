"""What is drawn: the numbers, the scale that is white at zero, and the reader's words on the axes."""

import numpy as np
import pytest
import torch
from matplotlib import pyplot
from matplotlib.colors import to_rgb

from mini_transformer import plots

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
