"""The figure of the tour: four panels, whose words are those of the finding."""

import pytest

from mini_transformer import toys
from mini_transformer.tour.circuit import align, find_circuit, map_information
from mini_transformer.tour.figure import draw_tour, find_formation
from mini_transformer.train import History


@pytest.mark.parametrize("history", [None, History(loss=[3.0, 1.0], accuracy=[0.1, 0.7])])
def test_four_panels_say_what_was_found(history):
    case = toys.load("induction_by_hand")
    batch = case.task.draw(64, seed=4, corrupt="source")
    circuit = find_circuit(case.model, batch)
    aligned = align(batch)
    moved = map_information(case.model, aligned)
    figure = draw_tour(case, circuit, batch, aligned, moved, history)
    titles = [ax.get_title() for ax in figure.axes if ax.get_title()]
    assert titles == [
        "Head a0.h0 looks at the token before",
        "Head a1.h0 looks at what came next last time",
        "Training: nothing, then everything" if history else "Accuracy with one head removed",
        "Where the answer is on its way to the end",
    ]
    notes = [text.get_text() for ax in figure.axes for text in ax.texts]
    assert {"head a0.h0", "head a1.h0", "from here on, all repeats"} <= set(notes)
    assert ("the circuit forms:\nstep 1" in notes) == (history is not None)


def test_the_circuit_forms_at_the_first_step_at_which_half_is_copied():
    assert find_formation(History(loss=[1.0, 1.0, 1.0], accuracy=[0.4, 0.5, 0.2])) == 1
    assert find_formation(History(loss=[1.0], accuracy=[0.4])) is None
