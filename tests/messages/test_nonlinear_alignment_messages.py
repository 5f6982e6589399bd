"""What bad input to the nonlinear alignment is answered with."""

import pytest
import torch

from mini_transformer import Config, Transformer, methods

MODEL = Transformer(Config(d_vocab=9, n_ctx=6, d_model=8, n_layers=1))
CLEAN, CORRUPT, ANSWERS = torch.tensor([[1, 2, 3]]), torch.tensor([[4, 5, 6]]), torch.tensor([7])
SITE = ("resid_post", 0)


def align(**changed):
    given = {
        "base": CLEAN,
        "source": CORRUPT,
        "answers": ANSWERS,
        "hook": SITE,
        "dim": 2,
        "steps": 1,
    }
    return methods.align_nonlinearly(MODEL, **(given | changed))


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (
            {"dim": 9},
            "dim is 9, but must be from 1 to the hook's width 8, which must be at least 2",
        ),
        ({"dim": 0}, "dim is 0, but must be from 1"),
        ({"n_layers": -1}, "n_layers is -1 and hidden 128, but must be at least 0 and 1"),
        ({"hidden": 0}, "n_layers is 4 and hidden 0, but must be at least 0 and 1"),
        ({"steps": 0}, "steps is 0 and lr 0.003, but both must be positive"),
        ({"source": CORRUPT[:, :2]}, "must be pairs of one shape"),
        ({"answers": torch.tensor([9])}, "answers run to 9, but must be from 0 to 8"),
        ({"answers": torch.tensor([1, 2])}, "must be one token per pair"),
        (
            {"base": CLEAN[:0], "source": CORRUPT[:0], "answers": ANSWERS[:0]},
            "must be one token per pair",
        ),
        ({"position": 3}, "position is 3, but the prompts have 3 tokens"),
        ({"hook": ("pattern", 0)}, "a hook with axes"),
    ],
    ids=range(11),
)
def test_what_cannot_be_aligned(changed, sentence):
    with pytest.raises(ValueError, match=sentence):
        align(**changed)


def test_a_map_of_another_width():
    found = methods.AlignmentMap(torch.eye(4), (), 2, torch.eye(4)[:2])
    with pytest.raises(ValueError, match="the map takes width 4, but the hook's width is 8"):
        methods.swap_by_map(MODEL, CLEAN, CORRUPT, found, SITE)
