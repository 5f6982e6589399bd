"""What is drawn of a model: every part once, numbers and edges where they were given."""

import pytest
from matplotlib import pyplot
from matplotlib.colors import to_hex

from mini_transformer import Config, Transformer, diagrams, plots

MODEL = Transformer(Config(d_vocab=5, n_ctx=4, d_model=8, n_layers=2, n_heads=2, d_mlp=8), seed=0)


@pytest.fixture(autouse=True)
def close_figures():
    yield
    pyplot.close("all")


def read_words(ax) -> list[str]:
    return [text.get_text() for text in ax.texts if text.get_text()]


def list_colours(ax) -> list[str]:
    arrows = [text.arrow_patch for text in ax.texts if getattr(text, "arrow_patch", None)]
    return [to_hex(arrow.get_edgecolor()) for arrow in arrows]


def test_the_stream_has_every_writer_once_and_the_numbers_that_were_given():
    ax = diagrams.draw_stream(MODEL, {"embed": 0.0, "a1.h0": 2.5, "m1": -1.0}, title="pushes")
    words = read_words(ax)
    writers = ["embed", "pos_embed", "a0.h0", "a0.h1", "m0", "a1.h0", "a1.h1", "m1"]
    assert [word for word in words if word in writers] == writers
    assert [word for word in words if word in ("0", "2.5", "-1")] == ["0", "2.5", "-1"]
    assert "stream: 8 numbers" in words
    assert list_colours(ax).count(plots.BLUE) == list_colours(ax).count(plots.ORANGE) == 1
    assert ax.get_title() == "pushes"


def test_a_head_is_drawn_with_its_widths_and_the_attention_that_was_measured():
    _, given = pyplot.subplots()
    ax = diagrams.draw_head(MODEL, 1, 0, key="c", query="m", attention=0.123, ax=given)
    assert ax is given
    assert ax.get_title() == "a1.h0"
    assert {"W_Q\n8 to 4", "W_O\n4 to 8", "at the key\nc"} <= set(read_words(ax))
    assert sum("0.12" in word for word in read_words(ax)) == 2


def test_a_prompt_has_every_token_at_its_place_and_an_arc_of_its_own_colour_per_jump():
    ax = diagrams.draw_arcs(["|", "e", "f", "e"], {"notes": (1, 2), "copies": (2, 3)})
    assert read_words(ax) == ["|", "e", "f", "e"]
    arrows = [text for text in ax.texts if getattr(text, "arrow_patch", None)]
    assert [(text.get_position()[0], text.xy[0]) for text in arrows] == [(1, 2), (2, 3)]
    assert list_colours(ax) == [plots.BLUE, plots.ORANGE]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["notes", "copies"]
